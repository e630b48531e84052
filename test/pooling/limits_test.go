package pooling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// startLimited is start with one server and settings of the pool's, and
// others.
func startLimited(t *testing.T, pool, global string) (*harness.Pgpoold, string) {
	t.Helper()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	return startYAML(t, fmt.Sprintf("pool: {size: 1%s}\n%s\ndatabases: {%q: {dsn: %q}}\n", pool, global, db, c.SuperDSN(db))), db
}

// onServer is how many prepared statements the only server holds, as
// PostgreSQL counts them for somebody whom pgpoold does not prepare for.
func onServer(t *testing.T, p *harness.Pgpoold) int {
	t.Helper()
	servers := p.Server().Snapshot().Servers
	if len(servers) != 1 {
		t.Fatalf("%d servers", len(servers))
	}
	return servers[0].PreparedStatements
}

// TestServerKeepsFewStatements: a server holds no more than it may, by number
// and by bytes, and the session does not notice.
func TestServerKeepsFewStatements(t *testing.T) {
	for name, limit := range map[string]struct {
		pool string
		most int
	}{
		"number": {", max_prepared_statements: 5", 5},
		"bytes":  {", max_prepared_bytes: 64KiB", 6}, // of 10 KB each
	} {
		t.Run(name, func(t *testing.T) {
			p, db := startLimited(t, limit.pool, "")
			c := login(t, p.Addr(), "app", db)
			text := func(i int) string { return fmt.Sprintf("select %d /* %s */", i, strings.Repeat("x", 10000)) }
			for i := range 20 {
				c.send(parse(fmt.Sprint("s", i), text(i)), &pgproto3.Sync{})
				if r := c.read(); r.code() != "" {
					t.Fatal(r)
				}
			}
			for round := range 2 {
				for i := range 20 {
					c.send(bind(fmt.Sprint("s", i)), &pgproto3.Execute{}, &pgproto3.Sync{})
					if r := c.read(); r.cell() != fmt.Sprint(i) {
						t.Fatalf("round %d, statement %d: %s", round, i, r)
					}
				}
			}
			// One more than it may, whose place is made before the next.
			if n := onServer(t, p); n > limit.most+1 || n < limit.most-1 {
				t.Errorf("the server holds %d statements", n)
			}
			c.send(append(batch("select count(*) from pg_prepared_statements"), &pgproto3.Sync{})...)
			if r := c.read(); r.cell() != "20" {
				t.Errorf("the session has %s", r)
			}
		})
	}
}

// TestStatementMemory: a session, and all of them together, keep no more
// text than they may; what is over gets an error and everything else goes on.
func TestStatementMemory(t *testing.T) {
	for name, limit := range map[string]struct{ pool, global, setting string }{
		"session": {", max_client_prepared_bytes: 64KiB", "", "max_client_prepared_bytes"},
		"all":     {"", "prepared_statement_memory: 1MiB", "prepared_statement_memory"},
	} {
		t.Run(name, func(t *testing.T) {
			p, db := startLimited(t, limit.pool, limit.global)
			c := login(t, p.Addr(), "app", db)
			text := func(i int) string { return fmt.Sprintf("select %d /* %s */", i, strings.Repeat("x", 10000)) }
			var refused reply
			n := 0
			for ; n < 200 && refused.err == nil; n++ {
				c.send(parse(fmt.Sprint("s", n), text(n)), &pgproto3.Sync{})
				refused = c.read()
			}
			if refused.code() != "53200" || !strings.Contains(refused.err.Message, limit.setting) {
				t.Fatalf("after %d statements: %s", n, refused)
			}
			if r := c.query("prepare another as " + text(n)); r.code() != "53200" || r.status != 'I' {
				t.Errorf("PREPARE: %s", r)
			}
			c.must("begin")
			c.send(parse("more", text(n)), &pgproto3.Sync{})
			if r := c.read(); r.code() != "53200" || r.status != 'E' {
				t.Errorf("in a transaction: %s", r)
			}
			c.must("rollback")
			c.send(rvClose("s0"), parse("instead", text(n)), bind("instead"), &pgproto3.Execute{}, bind("s1"), &pgproto3.Execute{}, &pgproto3.Sync{})
			if r := c.read(); fmt.Sprint(r.rows) != fmt.Sprintf("[[%d] [1]]", n) {
				t.Errorf("with one closed: %s", r)
			}
			c.must("deallocate all")
			for i := range n - 1 {
				c.send(parse(fmt.Sprint("s", i), text(1000+i)), &pgproto3.Sync{})
				if r := c.read(); r.code() != "" {
					t.Fatalf("after DEALLOCATE ALL, statement %d: %s", i, r)
				}
			}
		})
	}
}
