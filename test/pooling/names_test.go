package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestDeallocateInAFunction: a function drops what the servers hold, which
// nothing in the text tells. Whoever executes a statement next gets its rows.
func TestDeallocateInAFunction(t *testing.T) {
	p, _, db := start(t, 1, `create function forget() returns void language plpgsql as 'begin execute ''deallocate all''; end'`)
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	a.send(parse("s", "select 42"), parse("t", "select 43"), &pgproto3.Sync{})
	a.read()
	a.must("prepare q as select 44")
	for range 3 {
		b.must("select forget()")
		a.send(bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{})
		if r := a.read(); rvGist(r) != "2DCZ [[42]] [SELECT 1] I" {
			t.Errorf("got %s", r)
		}
		b.must("select forget()")
		a.send(rvDescribe("t"), bind("t"), &pgproto3.Execute{}, &pgproto3.Flush{})
		if r := a.until('C'); rvGist(r) != "tT2DC [[43]] [SELECT 1] -" {
			t.Errorf("got %s", r)
		}
		a.send(&pgproto3.Sync{})
		a.read()
	}
}

// TestParseBehindForeignDDL: a client prepares a statement that a server
// holds already, from before its table was changed by somebody that pgpoold
// does not see. It gets what it would get from PostgreSQL, which parses now.
func TestParseBehindForeignDDL(t *testing.T) {
	for name, use := range map[string]func(c *peer) reply{
		"described at once": func(c *peer) reply {
			c.send(parse("s", "select * from t"), rvDescribe("s"), bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{})
			return c.read()
		},
		"described and flushed": func(c *peer) reply {
			c.send(parse("s", "select * from t"), rvDescribe("s"), &pgproto3.Flush{})
			r := c.until('T')
			c.send(bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{})
			rest := c.read()
			rest.types = r.types + rest.types
			return rest
		},
		"portal described": func(c *peer) reply {
			c.send(parse("s", "select * from t"), &pgproto3.Sync{})
			c.read()
			c.send(bind("s"), &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
			return c.read()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, c, db := start(t, 1, "create table t (a int); insert into t values (1)")
			old := login(t, p.Addr(), "app", db)
			old.send(parse("old", "select * from t"), bind("old"), &pgproto3.Execute{}, &pgproto3.Sync{})
			old.read()
			if err := c.Exec(within(t), db, "alter table t add b int default 2"); err != nil {
				t.Fatal(err)
			}
			r := use(login(t, p.Addr(), "app", db))
			if got := fmt.Sprint(r.rows); got != "[[1 2]]" || r.err != nil {
				t.Errorf("got %s, %s", got, r)
			}
			old.send(bind("old"), &pgproto3.Execute{}, &pgproto3.Sync{})
			if r := old.read(); r.code() != "0A000" {
				t.Errorf("who has prepared before gets %s", r)
			}
		})
	}
}

// TestDeallocateWithoutServer: what only drops a name needs no server.
func TestDeallocateWithoutServer(t *testing.T) {
	p, _, db := start(t, 1)
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	a.send(parse("s", "select 1"), parse("t", "select 2"), parse("", "select 3"), &pgproto3.Sync{})
	a.read()
	b.must("begin") // has the only server
	for _, step := range []struct{ sql, want string }{
		{"deallocate s", "CZ"}, {"DEALLOCATE s;", "EZ"}, {"deallocate prepare t", "CZ"}, {"deallocate all", "CZ"},
	} {
		if r := a.query(step.sql); r.types != step.want || r.status != 'I' {
			t.Errorf("%s: %s", step.sql, r)
		}
	}
	b.must("end")
	a.send(bind(""), &pgproto3.Sync{})
	if r := a.read(); r.code() != "26000" {
		t.Errorf("the unnamed statement survived a Query: %s", r)
	}
}

// TestCancelWhileAsked: the server that lacks a statement is asked for its
// shape before the client's own message is sent. A cancel that comes meanwhile
// is about that message.
func TestCancelWhileAsked(t *testing.T) {
	p, c, db := start(t, 2)
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	for i := range 20 {
		name, marker := fmt.Sprint("s", i), fmt.Sprintf("marker %d.", i)
		a.send(parse(name, fmt.Sprintf("select pg_sleep(600) /* %s */", marker)), &pgproto3.Sync{})
		a.read()
		b.must("select 1")
		a.send(bind(name), &pgproto3.Execute{}, &pgproto3.Sync{})
		running(t, c, db, marker)
		if err := cancelRequest(p.Addr(), a.pid, a.key); err != nil {
			t.Fatal(err)
		}
		if r := a.read(); r.code() != "57014" {
			t.Fatalf("%d: %s", i, r)
		}
	}
}

// TestForgettingInTransactions: within a transaction nothing can be run again, so
// what a text with a function or a DO in it may have deallocated is not believed
// to be there.
func TestForgettingInTransactions(t *testing.T) {
	const do = "do 'begin execute ''deallocate all''; end'"
	for name, forget := range map[string][]pgproto3.FrontendMessage{
		"Query":                   {sql("select forget()")},
		"Query, a view":           {sql("select * from forgetting")},
		"DO":                      {sql(do)},
		"Execute":                 append(batch("select forget()"), &pgproto3.Sync{}),
		"Execute, of DO":          append(batch(do), &pgproto3.Sync{}),
		"Execute, by name":        append([]pgproto3.FrontendMessage{parse("f", "select forget()"), bind("f")}, &pgproto3.Execute{}, &pgproto3.Sync{}),
		"in the middle of a text": {sql("select 1; select forget(); select 2")},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, db := start(t, 1, `create function forget() returns int language plpgsql as 'begin execute ''deallocate all''; return 1; end'`,
				"create view forgetting as select forget()")
			a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
			a.ask(parse("s", "select 42"), parse("t", "select 43"), &pgproto3.Sync{})
			a.must("prepare q as select 44")
			use := func(when string) {
				t.Helper()
				for _, ask := range []func() reply{
					func() reply { return a.ask(execute("s")...) },
					func() reply { return a.query("execute q") },
					func() reply { return a.ask(append(batch("execute t"), &pgproto3.Sync{})...) },
				} {
					if r := ask(); r.code() != "" {
						t.Errorf("%s: %s", when, r)
					}
				}
			}
			a.must("begin")
			use("before")
			a.must("commit")
			if r := b.ask(forget...); r.code() != "" {
				t.Fatal(r)
			}
			a.must("begin")
			use("behind another session's")
			a.send(append(forget, execute("s")...)...)
			if r := a.read(); r.code() != "" {
				t.Errorf("its own: %s", r)
			}
			if r := a.read(); r.code() != "" {
				t.Errorf("sent right behind its own: %s", r)
			}
			use("behind its own")
			a.must("commit")
			c := login(t, p.Addr(), "app", db)
			c.send(append(forget, &pgproto3.Terminate{})...)
			c.read()
			a.must("begin")
			use("behind one that has left")
			a.must("commit")
		})
	}
}
