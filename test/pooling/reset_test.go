package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestResetReturnsToStartup: RESET and its like return to what the client said
// at login, as on a connection of its own, however they are sent and whatever
// the value was before. Others with the same startup parameters keep theirs.
func TestResetReturnsToStartup(t *testing.T) {
	run := func(msgs ...pgproto3.FrontendMessage) func(*peer) []string {
		ready := 0
		for _, m := range msgs {
			switch m.(type) {
			case *pgproto3.Query, *pgproto3.Sync:
				ready++
			}
		}
		return func(c *peer) (lines []string) {
			c.send(msgs...)
			for range ready {
				lines = append(lines, rvGist(c.read()))
			}
			return lines
		}
	}
	do := func(texts ...string) func(*peer) []string {
		return func(c *peer) (lines []string) {
			for _, s := range texts {
				lines = append(lines, rvGist(c.query(s)))
			}
			return lines
		}
	}
	sync := &pgproto3.Sync{}
	for _, test := range []struct {
		name string
		do   func(*peer) []string
	}{
		{"RESET ALL, Parse and Execute apart", func(c *peer) []string {
			return append(run(parse("", "reset all"), sync)(c), run(bind(""), &pgproto3.Execute{}, sync)(c)...)
		}},
		{"RESET ALL, Parse and Execute apart, pipelined", run(parse("", "reset all"), sync, bind(""), &pgproto3.Execute{}, sync)},
		{"RESET ALL, named", func(c *peer) []string {
			return append(run(parse("r", "reset all"), sync)(c), run(bind("r"), &pgproto3.Execute{}, sync)(c)...)
		}},
		{"RESET, pipelined behind a query", run(sql("select 1"), sql("reset timezone"))},
		{"RESET, pipelined between queries", run(sql("set timezone = 'CET'"), sql("select 1"), sql("reset timezone"), sql("select 2"))},
		{"RESET ALL, pipelined in batches", run(append(append(batch("select 1"), sync), append(batch("reset all"), sync)...)...)},
		{"SET to the server's value, RESET ALL", do("set timezone = 'utc'", "reset all")},
		{"SET to the server's value, DISCARD ALL", do("set timezone = 'utc'", "discard all")},
		{"in a transaction that is rolled back", do("set timezone = 'utc'", "begin", "reset timezone", "rollback")},
		{"in one string", do("begin; set timezone = 'utc'; reset timezone; commit")},
		{"SET to the server's value and left so", do("set timezone = 'utc'", "reset datestyle")},
		{"SET to another value and left so", do("set timezone = 'CET'", "reset datestyle")},
		{"in a transaction, Parse and Execute", func(c *peer) []string {
			lines := do("begin", "set timezone = 'CET'", "savepoint one")(c)
			lines = append(lines, run(append(append(append(batch("reset timezone"), batch("show timezone")...), batch("select 'x'")...), sync)...)(c)...)
			lines = append(lines, do("show timezone", "rollback to one", "show timezone")(c)...)
			lines = append(lines, run(append(batch("set timezone to default"), sync)...)(c)...)
			return append(lines, do("show timezone", "commit")(c)...)
		}},
		{"in a transaction, named, and its portal twice", func(c *peer) []string {
			lines := run(parse("all", "reset all"), sync)(c)
			lines = append(lines, do("begin", "set datestyle = 'SQL'", "set search_path = pg_catalog")(c)...)
			lines = append(lines, run(bind("all"), &pgproto3.Execute{}, sync)(c)...)
			lines = append(lines, do("show datestyle", "show search_path", "set datestyle = 'SQL'")(c)...)
			lines = append(lines, run(&pgproto3.Bind{PreparedStatement: "all", DestinationPortal: "p"}, &pgproto3.Execute{Portal: "p"}, &pgproto3.Execute{Portal: "p"}, sync)(c)...)
			return append(lines, do("select 1", "rollback", "show datestyle")(c)...)
		}},
		{"in a batch without a transaction", run(append(append(append(batch("set timezone = 'CET'"), batch("reset timezone")...), batch("show timezone")...), sync)...)},
		{"in a batch that fails", run(append(append(append(batch("reset timezone"), batch("show timezone")...), batch("select 1/0")...), sync)...)},
		{"behind a failure in its batch", run(append(append(append(batch("set timezone = 'CET'"), sync), append(batch("select 1/0"), batch("reset timezone")...)...), sync)...)},
		{"a portal's second run", func(c *peer) []string {
			lines := do("begin", "set timezone = 'CET'")(c)
			lines = append(lines, run(parse("", "reset timezone"), &pgproto3.Bind{DestinationPortal: "p"}, &pgproto3.Bind{}, &pgproto3.Execute{Portal: "p"}, sync)(c)...)
			lines = append(lines, do("show timezone", "set timezone = 'CET'")(c)...)
			return append(append(lines, run(parse("", "show timezone"), &pgproto3.Bind{DestinationPortal: "q"}, &pgproto3.Execute{Portal: "q"}, sync)(c)...), do("commit")(c)...)
		}},
		{"SET LOCAL TO DEFAULT, Parse and Execute", func(c *peer) []string {
			lines := do("set timezone = 'CET'", "begin")(c)
			lines = append(lines, run(append(append(batch("set local timezone to default"), batch("show timezone")...), sync)...)(c)...)
			return append(append(lines, do("commit", "show timezone")(c)...), run(append(batch("set local timezone to default"), sync)...)(c)...)
		}},
		{"SET LOCAL TO DEFAULT, outside and pipelined", run(sql("set timezone = 'CET'"), sql("set local timezone to default"), sql("show timezone"))},
		{"pipelined in a transaction", run(sql("begin"), sql("set timezone = 'CET'"), sql("reset timezone"), sql("show timezone"), sql("commit"), sql("show timezone"))},
		{"pipelined in a transaction that fails", run(sql("begin"), sql("select 1/0"), sql("reset timezone"), sql("rollback"), sql("show timezone"))},
		{"pipelined without a transaction", run(sql("set timezone = 'CET'"), sql("reset timezone"), sql("show timezone"), sql("reset all"), sql("show datestyle"))},
		{"of what there is not, pipelined", run(sql("reset nonesuch"), sql("reset timezone"), sql("reset nonesuch"), sql("show timezone"))},
		{"Parse and Execute, SET to the server's value behind it", func(c *peer) []string {
			lines := append(do("begin")(c), run(append(batch("reset timezone"), sync)...)(c)...)
			return append(lines, do("set timezone = 'UTC'", "commit", "show timezone")(c)...)
		}},
		{"SET to the server's value behind it", run(sql("begin"), sql("reset timezone"), sql("set timezone = 'UTC'"), sql("commit"), sql("show timezone"))},
		{"the isolation level behind it", do("begin", "reset timezone", "set transaction isolation level serializable", "show transaction_isolation", "rollback")},
		{"the isolation level behind it, Parse and Execute", func(c *peer) []string {
			lines := append(do("begin")(c), run(append(batch("reset timezone"), sync)...)(c)...)
			return append(lines, do("set transaction isolation level serializable", "show transaction_isolation", "rollback")(c)...)
		}},
		{"BEGIN with an isolation level behind it, in one batch", func(c *peer) []string {
			return append(run(append(append(batch("reset datestyle"), batch("begin isolation level serializable")...), sync)...)(c), do("rollback")(c)...)
		}},
		{"nothing but RESET", do("reset timezone", "reset search_path", "reset all")},
		{"RESET of another's word", do("set timezone = 'CET'", "select 'reset timezone'")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rvSame(t, 2, nil, func(t *testing.T, open rvOpen) []string {
				with := []string{"timezone", "Asia/Tokyo", "search_path", "information_schema", "datestyle", "German"}
				c, other, plain := open(with...), open(with...), open()
				lines := test.do(c)
				for range 3 {
					for _, one := range []*peer{c, other, plain} {
						for _, name := range []string{"timezone", "search_path", "datestyle"} {
							lines = append(lines, name+" is "+one.show(name))
						}
						lines = append(lines, "told "+one.params["TimeZone"]+" "+one.params["DateStyle"])
					}
				}
				return lines
			})
		})
	}
}

// TestResetWhilePinned: RESET ALL and DISCARD ALL return to what the client
// said at login also where its session keeps its server.
func TestResetWhilePinned(t *testing.T) {
	texts := []string{"set work_mem = '6MB'", "set timezone = 'CET'", "reset all", "show timezone", "show datestyle", "show work_mem", "show extra_float_digits",
		"set work_mem = '7MB'", "reset timezone", "show timezone", "show work_mem", "discard all", "show timezone", "set timezone = 'utc'", "show timezone", "reset all", "show timezone"}
	script := func(t *testing.T, open rvOpen) (lines []string) {
		a := open("timezone", "Asia/Tokyo", "datestyle", "SQL, DMY", "extra_float_digits", "2")
		a.query("prepare kept as select 1")
		for _, text := range texts {
			lines = append(lines, rvGist(a.query(text)))
		}
		return lines
	}
	t.Run("in transaction mode", func(t *testing.T) { rvSame(t, 1, nil, script) })
	t.Run("in session mode", func(t *testing.T) {
		c := postgres.ForTest(t)
		db := newDB(t, c)
		p := startYAML(t, fmt.Sprintf("databases: {%q: {dsn: %q, size: 1, mode: session}}\n", db, c.SuperDSN(db)))
		through := func(addr string) []string {
			return script(t, func(params ...string) *peer { return login(t, addr, postgres.Superuser, db, params...) })
		}
		rvEqual(t, through(p.Addr()), through(c.Addr()))
	})
}

// TestResetInSessionMode: a RESET returns one setting, and leaves what else the
// client has set.
func TestResetInSessionMode(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, fmt.Sprintf("databases: {%q: {dsn: %q, size: 1, mode: session}}\n", db, c.SuperDSN(db)))
	for name, reset := range map[string]func(*peer) reply{
		"Query":             func(a *peer) reply { return a.query("reset timezone") },
		"Parse and Execute": func(a *peer) reply { return a.ask(append(batch("reset timezone"), &pgproto3.Sync{})...) },
		"named": func(a *peer) reply {
			a.ask(parse("r", "set timezone to default"), &pgproto3.Sync{})
			return a.ask(execute("r")...)
		},
		"among others": func(a *peer) reply { return a.query("select 1; reset timezone") },
		"in a DO":      func(a *peer) reply { return a.query("do $$ begin execute 'reset timezone'; end $$") },
	} {
		t.Run(name, func(t *testing.T) {
			through := func(addr string) (lines []string) {
				a := login(t, addr, postgres.Superuser, db, "timezone", "Asia/Tokyo", "search_path", "information_schema", "extra_float_digits", "2")
				a.must("set search_path = public")
				a.must("set extra_float_digits = 1")
				a.must("set timezone = 'CET'")
				lines = append(lines, rvGist(reset(a)))
				for _, name := range []string{"search_path", "extra_float_digits", "timezone"} {
					lines = append(lines, a.show(name))
				}
				a.vanish()
				return lines
			}
			rvEqual(t, through(p.Addr()), through(c.Addr()))
		})
	}
}

// TestResetWhereNothingIsRead: DISCARD ALL and RESET ALL return to the startup
// parameters also where the session keeps its server to the end, so that nobody
// asks PostgreSQL what is in force.
func TestResetWhereNothingIsRead(t *testing.T) {
	for _, reset := range []string{"discard all", "reset all", "select 1; reset all"} {
		for _, by := range []string{"Query", "Execute"} {
			if by == "Execute" && reset[0] == 's' {
				continue
			}
			t.Run(reset+" by "+by, func(t *testing.T) {
				t.Parallel()
				rvSame(t, 2, nil, func(t *testing.T, open rvOpen) (lines []string) {
					a := open("timezone", "Asia/Tokyo", "datestyle", "SQL, DMY", "work_mem", "5MB")
					for _, text := range []string{"set work_mem = '6MB'", "select setseed(0.5)", "set work_mem = '7MB'", "set datestyle = 'German'", "set extra_float_digits = 0"} {
						a.must(text)
					}
					if by == "Query" {
						lines = append(lines, rvGist(a.query(reset)))
					} else {
						lines = append(lines, rvGist(a.ask(append(batch(reset), &pgproto3.Sync{})...)))
					}
					for _, name := range []string{"timezone", "datestyle", "work_mem", "extra_float_digits"} {
						lines = append(lines, a.show(name))
					}
					a.must("set datestyle = 'ISO, MDY'")
					return append(lines, a.params["DateStyle"], a.show("datestyle"))
				})
			})
		}
	}
}
