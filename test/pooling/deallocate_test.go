package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestDeallocateOfAnother: one client drops, by DEALLOCATE, the names that
// statements have on the servers. Those whose statements they are lose
// nothing.
func TestDeallocateOfAnother(t *testing.T) {
	for name, run := range map[string]func(c *peer, text string) reply{
		"Query": (*peer).query,
		"batch": func(c *peer, text string) reply {
			c.send(append(batch(text), &pgproto3.Sync{})...)
			return c.read()
		},
		"in a transaction": func(c *peer, text string) reply {
			c.must("begin")
			r := c.query(text)
			c.must("end")
			return r
		},
		"among others": func(c *peer, text string) reply { return c.query("select 1; " + text + "; select 2") },
	} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/all=%v", name, all), func(t *testing.T) {
				t.Parallel()
				p, _, db := start(t, 1)
				a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
				a.send(parse("s", "select 42"), parse("t", "select 43"), &pgproto3.Sync{})
				if r := a.read(); r.code() != "" {
					t.Fatal(r)
				}
				if all {
					if r := run(b, "deallocate all"); r.code() != "" {
						t.Fatal(r)
					}
				}
				for i := range 5 {
					// What the servers call them is nobody's name.
					if r := run(b, fmt.Sprintf("deallocate pgpoold_%d", i+1)); !all && r.code() != "26000" {
						t.Errorf("got %s", r)
					}
				}
				for range 2 {
					a.send(bind("s"), &pgproto3.Execute{}, rvDescribe("t"), bind("t"), &pgproto3.Execute{}, &pgproto3.Sync{})
					if r := a.read(); rvGist(r) != "2DCtT2DCZ [[42] [43]] [SELECT 1 SELECT 1] I" {
						t.Errorf("got %s", r)
					}
				}
			})
		}
	}
}

// TestEvictedInTheSameBatch: a batch makes the server give up the statement
// that it uses next, which another client had sent in a batch of the same
// number.
func TestEvictedInTheSameBatch(t *testing.T) {
	p, _, db := start(t, 1)
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	many := func(c *peer, prefix string, n int) {
		t.Helper()
		var m []pgproto3.FrontendMessage
		for i := range n {
			m = append(m, parse(fmt.Sprint(prefix, i), fmt.Sprintf("select '%s', %d", prefix, i)))
		}
		c.send(append(m, &pgproto3.Sync{})...)
		if r := c.read(); r.code() != "" {
			t.Fatal(r)
		}
	}
	const x = "select 'x'"
	a.send(parse("x", x), &pgproto3.Sync{}) // a's batch 0
	a.read()
	many(b, "f", 300)                                                       // b's 0
	many(b, "more", 1)                                                      // 1: x is evicted
	b.send(parse("x", x), bind("x"), &pgproto3.Execute{}, &pgproto3.Sync{}) // 2: and held again
	if r := b.read(); r.cell() != "x" {
		t.Fatal(r)
	}
	many(b, "g", 300)
	a.send(&pgproto3.Sync{}) // a's 1
	a.read()
	a.send(parse("new", "select 'new'"), bind("x"), &pgproto3.Execute{}, &pgproto3.Sync{}) // 2
	if r := a.read(); rvGist(r) != "12DCZ [[x]] [SELECT 1] I" {
		t.Errorf("got %s", r)
	}
}

// TestDeallocateAllThenNames: a session that has dropped its names prepares
// them again, on a server whose settings are another session's each time. Its
// batch takes the server once: if it gave it back to wait for what is settled
// long ago, two such sessions could keep each other waiting for ever.
func TestDeallocateAllThenNames(t *testing.T) {
	for _, text := range []string{"deallocate all", "discard all"} {
		t.Run(text, func(t *testing.T) {
			p, _, db := start(t, 1)
			a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
			a.must("set timezone to 'Asia/Tokyo'")
			b.must("set timezone to 'Europe/Berlin'")
			a.must(text)
			for range 2 {
				b.must("select 1")
				before := rvAssignments(p)
				a.send(parse("s", "select 42"), bind("s"), &pgproto3.Execute{}, rvClose("s"), &pgproto3.Sync{})
				if r := a.read(); rvGist(r) != "12DC3Z [[42]] [SELECT 1] I" {
					t.Errorf("got %s", r)
				}
				if n := rvAssignments(p) - before; n != 1 {
					t.Errorf("the batch took a server %d times", n)
				}
			}
		})
	}
}

// TestNamesOfTheGone: what a client that has left still has the server do to
// the names of statements is known when the next client gets the server.
func TestNamesOfTheGone(t *testing.T) {
	for name, do := range map[string]func(c *peer, sql string){
		"Query": func(c *peer, text string) { c.send(sql("select from t; " + text)) },
		"batch": func(c *peer, text string) {
			c.send(append(append(batch("select from t"), batch(text)...), &pgproto3.Sync{})...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := postgres.ForTest(t)
			db := newDB(t, c, "create table t (a int)")
			p := startYAML(t, fmt.Sprintf("pool: {size: 1, client_gone: finish}\ndatabases: {%q: {dsn: %q}}\n", db, c.SuperDSN(db)))
			run := func(text string) {
				t.Helper()
				block := connect(t, c.SuperDSN(db))
				if _, err := block.Exec(within(t), "begin; lock t"); err != nil {
					t.Fatal(err)
				}
				before := len(p.Server().Snapshot().Clients)
				gone := login(t, p.Addr(), "app", db)
				do(gone, text)
				running(t, c, db, "select from t")
				gone.vanish()
				clients(t, p, before)
				if _, err := block.Exec(within(t), "end"); err != nil {
					t.Fatal(err)
				}
			}
			run("prepare secret as select 'of the one who has left'")
			b := login(t, p.Addr(), "app", db)
			if r := b.query("execute secret"); r.code() != "26000" {
				t.Errorf("got %s", r)
			}
			if r := b.query("prepare secret as select 'mine'; execute secret"); r.code() != "" || r.cell() != "mine" {
				t.Errorf("got %s", r)
			}
			b.send(parse("s", "select 42"), &pgproto3.Sync{})
			b.read()
			run("deallocate all")
			b.send(bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{})
			if r := b.read(); rvGist(r) != "2DCZ [[42]] [SELECT 1] I" {
				t.Errorf("got %s", r)
			}
		})
	}
}
