package proxy

import (
	"fmt"
	"testing"
)

// BenchmarkIntern finds a statement that other sessions have, among a thousand.
func BenchmarkIntern(b *testing.B) {
	var table statementTable
	var bodies [][]byte
	for i := range 1000 {
		bodies = append(bodies, fmt.Appendf(nil, "SELECT abalance, %d FROM pgbench_accounts WHERE aid = $1\x00\x00\x00", i))
		table.intern(bodies[i], noSettings, 0)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.drop(table.intern(bodies[i%len(bodies)], noSettings, 0))
	}
}

// BenchmarkLookup finds a statement by the name that a session has for it,
// among a hundred.
func BenchmarkLookup(b *testing.B) {
	var table statementTable
	var n names
	var texts [][]byte
	for i := range 100 {
		texts = append(texts, fmt.Appendf(nil, "__asyncpg_stmt_%x__", i))
		st := table.intern(fmt.Appendf(nil, "SELECT %d\x00\x00\x00", i), noSettings, 0)
		n.settle(n.begin(texts[i], st, 1), true)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if st, ready := n.lookup(texts[i%len(texts)], 2); st == nil || !ready {
			b.Fatal("it is not known")
		}
	}
}

// BenchmarkParse is a session's Parse of a name, and its Close.
func BenchmarkParse(b *testing.B) {
	var table statementTable
	var n names
	body := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = $1\x00\x00\x00")
	table.intern(body, noSettings, 0)
	b.ReportAllocs()
	for b.Loop() {
		n.settle(n.begin([]byte("s"), table.intern(body, noSettings, 0), 1), true)
		if st := n.settle(n.begin([]byte("s"), nil, 1), true); st != nil {
			table.drop(st)
		}
	}
}
