//go:build !race

// The race detector allocates for itself.

package proxy

import (
	"testing"

	"pgpoold/test/canned"
)

// TestAllocations runs whole transactions from a client's socket to a server's
// and back. Once a client has been there, they take no memory: neither of the
// two pumps, the attach, the ledger nor the pool allocates.
func TestAllocations(t *testing.T) {
	px, client := between(t)
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
