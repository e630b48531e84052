package pooling_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// TestLastWordBehindReady: a server's FATAL comes in one piece with the end of
// a client's transaction. Neither that client nor the one that waits for the
// server hears of it.
func TestLastWordBehindReady(t *testing.T) {
	for _, sqlstate := range []string{"57P01", "25P03", "XX000"} {
		for _, settings := range [][]string{nil, {"timezone", "Asia/Tokyo"}} {
			t.Run(fmt.Sprintf("%s/settings=%v", sqlstate, settings != nil), func(t *testing.T) {
				t.Parallel()
				c := postgres.ForTest(t)
				db := newDB(t, c, "create table t (a int)")
				m := rvBetween(t, c)
				p := harness.Start(t, harness.Options{DSN: m.dsn(db), Size: 1, Lucky: true})
				a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db, settings...)
				a.must("begin")
				b.send(sql("insert into t values (1) returning 'from b'"))
				waiting(t, p, 1)
				fatal := rvError(t, 'E', "FATAL", sqlstate, "these are the last words")
				m.set(func() {
					m.down = func(in []byte, write func([]byte)) bool {
						if !rvIdle(in) {
							write(in)
							return false
						}
						m.set(func() { m.down = nil })
						write(append(bytes.Clone(in), fatal...))
						return true
					}
				})
				if r := a.query("commit"); r.code() != "" {
					t.Errorf("who had its reply got %s", r)
				}
				if r := b.read(); r.code() != "" || r.cell() != "from b" {
					t.Errorf("who waited got %s", r)
				}
				if got := a.must("select count(*) from t").cell(); got != "1" {
					t.Errorf("%s rows", got)
				}
				if n := closes(p, "server_error"); n != 1 {
					t.Errorf("%d servers were closed for their own errors", n)
				}
			})
		}
	}
}

// TestTerminatedWhileAsked: idle servers are terminated in the moment in which
// clients send them their queries. Nobody sees an error.
func TestTerminatedWhileAsked(t *testing.T) {
	p, c, db := start(t, 3, "create table t (a int)")
	var all []*peer
	for _, zone := range []string{"Asia/Tokyo", "UTC", "Europe/Berlin", "CET"} {
		all = append(all, login(t, p.Addr(), "app", db, "timezone", zone))
	}
	killer := login(t, c.Addr(), postgres.Superuser, "postgres")
	kill := sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = '" + db + "' and state = 'idle' and backend_type = 'client backend'")
	const rounds = 40
	for i := range rounds {
		killer.send(kill)
		for k, one := range all {
			// Nothing of a Query's reply comes before it has done something; of
			// a batch's, the server would have to be believed that it began.
			one.send(sql(fmt.Sprintf("insert into t values (%d)", k)))
		}
		for _, one := range all {
			if r := one.read(); r.code() != "" {
				t.Fatalf("round %d: %s", i, r)
			}
		}
		if r := killer.read(); r.code() != "" {
			t.Fatal(r)
		}
	}
	if got := value(t, c, db, "select count(*) from t"); got != fmt.Sprint(rounds*len(all)) {
		t.Errorf("%s rows, want %d: each insert runs once", got, rounds*len(all))
	}
}

// TestTerminatedWhileItRuns: who terminates a server that works means what it
// does. That is not run again, and its client hears of it.
func TestTerminatedWhileItRuns(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		ran  time.Duration
	}{
		"for long":    {"select pg_sleep(300)", 1500 * time.Millisecond},
		"a DO":        {"do $$ begin perform pg_sleep(300); end $$", 0},
		"a CALL":      {"call slow()", 0},
		"two at once": {"select 1; select pg_sleep(300)", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c, db := start(t, 1, "create procedure slow() language sql as 'select pg_sleep(300)'")
			for i, addr := range []string{c.Addr(), p.Addr()} {
				one := login(t, addr, postgres.Superuser, db)
				one.send(sql(test.text))
				eventually(t, func() string {
					since := fmt.Sprintf("now() - query_start > interval '%d ms'", test.ran.Milliseconds())
					if i == 0 {
						since = "true"
					}
					if value(t, c, "postgres", "select count(*) from pg_stat_activity where datname = '"+db+"' and wait_event = 'PgSleep' and "+since) == "0" {
						return "it does not run"
					}
					return ""
				})
				if value(t, c, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+db+"' and wait_event = 'PgSleep'") != "t" {
					t.Fatal("nothing to terminate")
				}
				if r := one.read(); r.err == nil || r.err.Severity != "FATAL" || r.err.Code != "57P01" {
					t.Errorf("%s: got %s", addr, r)
				}
			}
			eventually(t, func() string { // a backend says its last word before it has ended
				if value(t, c, "postgres", "select count(*) from pg_stat_activity where datname = '"+db+"' and state = 'active'") != "0" {
					return "it runs again"
				}
				return ""
			})
		})
	}
}
