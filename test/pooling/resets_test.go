package pooling_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestResets: what drivers send when a connection goes back to their pool is
// answered as PostgreSQL answers it, without a server where there is nothing
// to undo, and exactly where there is.
func TestResets(t *testing.T) {
	p, c, db := start(t, 2)
	attaches := func() (n uint64) {
		for _, pool := range p.Server().Snapshot().Pools {
			n += pool.Stats.ServerAssignments
		}
		return n
	}
	const asyncpg = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"
	b := loginBoth(t, c, p.Addr(), db, "application_name", "me", "timezone", "Asia/Tokyo")
	for _, q := range []string{asyncpg, "DISCARD ALL", "discard all;", "RESET ALL", "SET SESSION AUTHORIZATION DEFAULT", "UNLISTEN *; CLOSE ALL"} {
		before := attaches()
		b.do(q)
		if n := attaches() - before; n != 0 {
			t.Errorf("%s takes %d servers", q, n)
		}
	}
	for _, q := range []string{"DISCARD ALL; RESET ALL", "RESET ALL; SELECT 1", "CLOSE mine", "RESET nonesuch", "SELECT pg_advisory_unlock_all() AS a"} {
		b.do(q) // not these
	}
	b = loginBoth(t, c, p.Addr(), db)
	for _, do := range []string{"set work_mem = '5MB'", "set timezone = 'UTC'", "listen a", "select pg_advisory_lock_shared(1)", "declare mine cursor with hold for select 1"} {
		for _, undo := range []string{asyncpg, "DISCARD ALL"} {
			b.do(do)
			b.do(undo)
			for range 2 {
				if got, want := b.pooled.state(), b.direct.state(); got != want {
					t.Errorf("%s, %s: left\n%s, directly\n%s", do, undo, got, want)
				}
			}
			if cl, _ := clientOf(p, b.pooled.pid); cl.Pin != "" {
				t.Errorf("%s, %s: pin is %q", do, undo, cl.Pin)
			}
		}
	}
	for _, side := range []*peer{b.direct, b.pooled} { // DISCARD ALL forgets names
		side.send(&pgproto3.Parse{Name: "s", Query: "select 1"}, &pgproto3.Sync{})
		side.read()
		side.must("DISCARD ALL")
		side.send(&pgproto3.Bind{PreparedStatement: "s"}, &pgproto3.Sync{})
		if r := side.read(); r.code() != "26000" {
			t.Errorf("a statement behind DISCARD ALL: %s", r)
		}
	}
	b.do("begin")
	b.do("DISCARD ALL")
	b.do("rollback")
}
