//go:build !race

// The race detector allocates for itself.

package proxy

import (
	"net"
	"testing"

	"pgpoold/backend"
	"pgpoold/test/canned"
)

// TestAllocations runs whole transactions from a client's socket to a server's
// and back. Once a client has been there, they take no memory: neither of the
// two pumps, the attach, the ledger nor the pool allocates.
func TestAllocations(t *testing.T) {
	server, err := canned.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	px, err := New(Options{
		Auth: AuthOptions{Type: "any"},
		Databases: map[string]*Database{"db": {Name: "db", Pool: backend.PoolOptions{
			Hosts:       []backend.Host{{Network: "tcp", Host: "127.0.0.1", Port: uint16(server.Port())}},
			Credentials: backend.Credentials{User: "app"},
			TLS:         backend.TLSOptions{Mode: backend.TLSDisable},
			Size:        1,
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- px.Serve(ln) }()
	t.Cleanup(func() {
		px.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	client, err := canned.Dial(ln.Addr().String(), "app", "db")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, tx := range canned.Transactions() {
		run := func() {
			if err := client.Run(&tx); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			run() // what is kept for reuse is made
		}
		before := px.Snapshot()
		const runs = 500
		if n := testing.AllocsPerRun(runs, run); n != 0 {
			t.Errorf("%s takes %v allocations", tx.Name, n)
		}
		queries := 0
		for _, s := range tx.Steps {
			queries += s.Ready
		}
		after := px.Snapshot()
		if q := after.Pools[0].Stats.Queries - before.Pools[0].Stats.Queries; q < uint64(runs*queries) {
			t.Errorf("%s: only %d queries were run", tx.Name, q)
		}
	}
}
