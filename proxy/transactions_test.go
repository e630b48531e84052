package proxy

import (
	"net"
	"testing"

	"pgpoold/backend"
	"pgpoold/test/canned"
	"pgpoold/wire/stream"
)

// between runs a proxy with one server, and one client of it, until the test
// ends.
func between(tb testing.TB) (*Server, *canned.Client) {
	tb.Helper()
	px, addr := serveCanned(tb)
	client, err := canned.Dial(addr, "app", "db")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close() })
	return px, client
}

// serveCanned runs a proxy with one server until the test ends, without a clock. It
// returns where it listens.
func serveCanned(tb testing.TB) (px *Server, addr string) {
	tb.Helper()
	server, err := canned.Listen()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Close)
	px, err = New(Options{
		Auth: AuthOptions{Type: "any"},
		Databases: map[string]*Database{"db": {Name: "db", Pool: backend.PoolOptions{
			Hosts:       []backend.Host{{Network: "tcp", Host: "127.0.0.1", Port: uint16(server.Port())}},
			Credentials: backend.Credentials{User: "app"},
			TLS:         backend.TLSOptions{Mode: backend.TLSDisable},
			Size:        1,
		}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- px.Serve(stream.NewListener(ln)) }()
	tb.Cleanup(func() {
		px.Close()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return px, ln.Addr().String()
}

// BenchmarkTransaction is TestAllocations' way with a clock. The client and the
// server, which are in the same process, are part of it.
func BenchmarkTransaction(b *testing.B) {
	_, client := between(b)
	for _, tx := range canned.Transactions() {
		b.Run(tx.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := client.Run(&tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
