package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// run is one execution of a named statement, in a batch of its own.
func (c *peer) run(name string) string {
	c.send(bind(name), &pgproto3.Execute{}, &pgproto3.Sync{})
	return rvGist(c.read())
}

// TestLiteralsInTransactionsThatSet: a literal is parsed in a transaction, or in
// a batch, that changes what it is read under. It means the same on every server.
func TestLiteralsInTransactionsThatSet(t *testing.T) {
	sync := &pgproto3.Sync{}
	const date, array = "select '01/02/2003'::date", "select '{null,x}'::text[]"
	const dmy, mdy = "set datestyle = 'ISO, DMY'", "set datestyle = 'ISO, MDY'"
	literal := func(text string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{parse("s", text)}
	}
	for _, test := range []struct {
		name  string
		steps [][]pgproto3.FrontendMessage
	}{
		{"SET in the batch", [][]pgproto3.FrontendMessage{append(batch(dmy), literal(date)...)}},
		{"SET in the batch, in a transaction", [][]pgproto3.FrontendMessage{batch("begin"), append(batch(dmy), literal(date)...), batch("commit")}},
		{"SET in the batch, and again in the transaction", [][]pgproto3.FrontendMessage{batch("begin"), append(batch(dmy), literal(date)...), batch(mdy), batch("commit")}},
		{"a transaction in the batch", [][]pgproto3.FrontendMessage{append(append(append(batch("begin"), batch(dmy)...), literal(date)...), batch("commit")...)}},
		{"a transaction in the batch, rolled back", [][]pgproto3.FrontendMessage{append(append(append(batch("begin"), batch(dmy)...), literal(date)...), batch("rollback")...)}},
		{"SET in a batch that fails", [][]pgproto3.FrontendMessage{append(append(batch(dmy), literal(date)...), batch("select 1/0")...)}},
		{"SET LOCAL in the batch", [][]pgproto3.FrontendMessage{append(batch("set local datestyle = 'ISO, DMY'"), literal(date)...)}},
		{"set_config in the batch", [][]pgproto3.FrontendMessage{append(batch("select set_config('datestyle', 'ISO, DMY', true)"), literal(date)...)}},
		{"SET around it in the batch", [][]pgproto3.FrontendMessage{append(append(batch(dmy), literal(date)...), batch(mdy)...)}},
		{"Parse between Bind and Execute of a SET", [][]pgproto3.FrontendMessage{{parse("", dmy), bind(""), parse("s", date), &pgproto3.Execute{}}}},
		{"and of a SET by a named portal, behind another", [][]pgproto3.FrontendMessage{
			batch("begin"),
			{parse("dmy", dmy), parse("mdy", mdy), &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "dmy"},
				bind("mdy"), &pgproto3.Execute{}, parse("s", date), &pgproto3.Execute{Portal: "p"}},
			batch("commit")}},
		{"and of one bound in an earlier batch", [][]pgproto3.FrontendMessage{
			batch("begin"),
			{parse("dmy", dmy), &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "dmy"}},
			append(batch("set local intervalstyle = 'sql_standard'"), parse("s", date), &pgproto3.Execute{Portal: "p"}),
			batch("commit")}},
		{"SET LOCAL of one that is not reported", [][]pgproto3.FrontendMessage{batch("begin"), batch("set local array_nulls = off"), literal(array), batch("commit")}},
		{"SET twice of one that is not reported", [][]pgproto3.FrontendMessage{batch("begin"), batch("set array_nulls = off"), literal(array), batch("set array_nulls = on"), batch("commit")}},
		{"SET of one that is not reported, rolled back", [][]pgproto3.FrontendMessage{batch("begin"), batch("set array_nulls = off"), literal(array), batch("rollback")}},
		{"SET behind it of one that is not reported", [][]pgproto3.FrontendMessage{batch("begin"), batch(dmy), literal(array), batch("set array_nulls = off"), batch("commit")}},
		{"and by a Query", [][]pgproto3.FrontendMessage{batch("begin"), batch(dmy), literal(array), {&pgproto3.Query{String: "set array_nulls = off"}}, batch("commit")}},
		{"PREPARE behind SET in the batch", [][]pgproto3.FrontendMessage{append(batch(dmy), batch("prepare s as "+date)...)}},
		{"PREPARE behind SET LOCAL", [][]pgproto3.FrontendMessage{batch("begin"), batch("set local array_nulls = off"), batch("prepare s as " + array), batch("commit")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rvSame(t, 2, nil, func(_ *testing.T, open rvOpen) (lines []string) {
				a, b := open(), open()
				for _, msgs := range test.steps {
					a.send(append(msgs, sync)...)
					lines = append(lines, rvGist(a.read()))
				}
				return append(lines, onBoth(a, b)...)
			})
		})
	}
}

// onBoth runs s on each of two servers, twice: a gets the one that b does not keep.
func onBoth(a, b *peer) (lines []string) {
	for range 2 {
		lines = append(lines, a.run("s"))
		b.must("begin")
		lines = append(lines, a.run("s"))
		b.must("commit")
	}
	return lines
}

// TestFrozenUnderLostRole: a literal was parsed under a role that is gone. What
// does not use the statement runs, on the server that the session has had; what
// uses it where it is not held is refused, and a session that keeps its server has
// what it had there.
func TestFrozenUnderLostRole(t *testing.T) {
	postgres.SkipBrief(t)
	sync := &pgproto3.Sync{}
	c := postgres.ForTest(t)
	begin := func(t *testing.T, first ...string) (a *peer, db string) {
		role := fmt.Sprintf("frozen_%d", databases.Add(1))
		db = newDB(t, c, "create role "+role)
		p := harness.Start(t, harness.Options{DSN: c.DSN(postgres.Superuser, db), Size: 1})
		a = login(t, p.Addr(), "app", db)
		for _, sql := range first {
			a.must(sql)
		}
		a.must("set role " + role)
		a.send(parse("s", "select 'x'::text"), sync)
		a.read()
		a.must("reset role")
		a.must("drop role " + role)
		a.must("do $$ begin execute 'deallocate all'; end $$")
		return a, db
	}
	t.Run("unused", func(t *testing.T) {
		a, _ := begin(t)
		pid := a.must("select pg_backend_pid()").cell()
		for range 3 {
			if now := a.must("select pg_backend_pid()").cell(); now != pid {
				t.Fatalf("server %s, and then %s", pid, now)
			}
		}
		for range 2 {
			a.send(bind("s"), &pgproto3.Execute{}, sync)
			if r := a.read(); r.err == nil || r.err.Code != "22023" || r.types != "EZ" {
				t.Fatalf("the statement: %s", r)
			}
		}
		if now := a.must("select pg_backend_pid()").cell(); now != pid {
			t.Fatalf("server %s, and then %s", pid, now)
		}
	})
	t.Run("pinned", func(t *testing.T) {
		a, db := begin(t, "select pg_advisory_lock(7)")
		a.send(bind("s"), &pgproto3.Execute{}, sync)
		if r := a.read(); r.err == nil || r.err.Code != "22023" || r.types != "EZ" {
			t.Errorf("the statement: %s", r)
		}
		if got := value(t, c, db, "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"); got != "1" {
			t.Errorf("%s locks", got)
		}
		a.must("select 1")
	})
}

// TestFrozenUnnamedIsGone: a server does not hold any more what an unnamed
// statement with a literal is called there: the batch is run again.
func TestFrozenUnnamedIsGone(t *testing.T) {
	p, _, db := start(t, 1, "create function gone(text) returns void language plpgsql as 'begin execute $1; end'")
	a := login(t, p.Addr(), "app", db)
	run := func(name string) reply {
		a.send(bind(name), &pgproto3.Execute{}, &pgproto3.Sync{})
		return a.read()
	}
	a.send(parse("set", "set datestyle = 'ISO, DMY'"),
		parse("gone", "select gone('deal' || 'locate all')"), parse("", "select '01/02/2003'::date"), &pgproto3.Sync{})
	a.read()
	for _, name := range []string{"set", "", "gone", ""} {
		if r := run(name); r.err != nil || name == "" && r.cell() != "2003-01-02" {
			t.Fatalf("%q: %s", name, r)
		}
	}
}

// TestLiteralsBehindUnreported: a server has lost a statement with a literal, and
// the transaction has changed what that is read under, which PostgreSQL does not
// report. It is read as it was.
func TestLiteralsBehindUnreported(t *testing.T) {
	p, _, db := start(t, 1)
	a := login(t, p.Addr(), postgres.Superuser, db)
	a.send(parse("s", "select '{NULL,x}'::text[]"), &pgproto3.Sync{})
	a.read()
	for _, test := range []struct {
		use  func() reply
		want string
	}{
		{func() reply { a.send(bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{}); return a.read() }, "{NULL,x}"},
		{func() reply { return a.query("execute s") }, "{NULL,x}"},
		{func() reply { return a.query("select name from pg_prepared_statements") }, "s"},
	} {
		a.must("do $$ begin execute 'deallocate all'; end $$")
		a.must("begin")
		a.must("set local array_nulls = off")
		if r := test.use(); r.err != nil || r.cell() != test.want {
			t.Errorf("in the transaction: %s", r)
		}
		if r := a.query("select '{NULL,x}'::text[]"); r.cell() != `{"NULL",x}` {
			t.Errorf("what is parsed there: %s", r)
		}
		a.must("rollback")
	}
	if r := a.query("execute s"); r.err != nil || r.cell() != "{NULL,x}" {
		t.Errorf("behind it: %s", r)
	}
}

// TestFrozenIsAnalyzedAgain: PostgreSQL analyzes a statement again when its table has
// changed, under the settings of whoever uses it. Others who have the same statement
// find it as it was parsed.
func TestFrozenIsAnalyzedAgain(t *testing.T) {
	for _, pipelined := range []bool{false, true} {
		t.Run(fmt.Sprintf("pipelined=%v", pipelined), func(t *testing.T) {
			p, c, db := start(t, 1, "create table again (a int)", "insert into again values (1)")
			sync := &pgproto3.Sync{}
			a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
			for _, one := range []*peer{a, b} {
				one.send(parse("s", "select '01/02/2003'::date::text from again"), sync)
				one.read()
				one.run("s")
			}
			if pipelined {
				b.send(sql("set datestyle = 'ISO, DMY'"), sql("begin"))
				b.read()
				b.read()
			} else {
				b.must("set datestyle = 'ISO, DMY'")
				b.must("begin")
			}
			if err := c.Exec(within(t), db, "alter table again alter column a set statistics 7"); err != nil {
				t.Fatal(err)
			}
			b.run("s")
			b.must("commit")
			for range 2 {
				a.send(bind("s"), &pgproto3.Execute{}, sync)
				if r := a.read(); r.cell() != "2003-01-02" {
					t.Errorf("got %s", r)
				}
			}
		})
	}
}

// TestFrozenBehindSetIsAnalyzedAgain: the server has a statement from another session,
// and its table has changed since. It is used in one go with a SET in front: PostgreSQL
// would analyze it under that.
func TestFrozenBehindSetIsAnalyzedAgain(t *testing.T) {
	sync := &pgproto3.Sync{}
	for _, first := range []string{"", "begin"} {
		t.Run("in a transaction: "+fmt.Sprint(first != ""), func(t *testing.T) {
			p, c, db := start(t, 1, "create table again (a int)", "insert into again values (1)")
			a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
			a.send(parse("s", "select '01/02/2003'::date::text from again"), sync)
			a.read()
			a.run("s")
			if err := c.Exec(within(t), db, "alter table again alter column a set statistics 7"); err != nil {
				t.Fatal(err)
			}
			b.send(parse("s", "select '01/02/2003'::date::text from again"), sync)
			b.read()
			b.must(first)
			for range 2 {
				b.send(sql("set datestyle = 'ISO, DMY'"), bind("s"), &pgproto3.Execute{}, sync)
				b.read()
				if r := b.read(); r.cell() != "2003-01-02" {
					t.Errorf("got %s", r)
				}
			}
		})
	}
}

// TestFrozenBehindRollbackTo: in a transaction that changes what a literal was read
// under, a ROLLBACK TO runs by the extended protocol, and then what has the literal, on
// a server that lacks it.
func TestFrozenBehindRollbackTo(t *testing.T) {
	sync := &pgproto3.Sync{}
	rvSame(t, 2, nil, func(_ *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		a.send(parse("s", "select '01/02/2003'::date::text"), sync)
		a.read()
		for range 2 {
			for _, text := range []string{"begin", "set local datestyle = 'ISO, DMY'", "savepoint sp", "rollback to sp"} {
				a.send(append(batch(text), sync)...)
				lines = append(lines, rvGist(a.read()))
			}
			lines = append(lines, a.run("s"))
			a.must("commit")
			b.must("begin")
		}
		return lines
	})
}

// TestFrozenBehindBoundCommit: a portal is bound in one batch and ends the transaction
// in the next, and behind it stands what cannot be parsed as it was in the middle of a
// batch. That is what the client is told, where the server lacks it.
func TestFrozenBehindBoundCommit(t *testing.T) {
	sync := &pgproto3.Sync{}
	for _, portal := range []string{"", "p"} {
		t.Run("portal "+portal, func(t *testing.T) {
			p, _, db := start(t, 2)
			a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
			a.send(parse("s", "select '01/02/2003'::date::text"), parse("c", "commit"), sync)
			a.read()
			refused := false
			for range 2 {
				a.must("begin")
				a.must("set local datestyle = 'ISO, DMY'")
				a.send(&pgproto3.Bind{DestinationPortal: portal, PreparedStatement: "c"}, sync)
				a.read()
				a.send(&pgproto3.Execute{Portal: portal}, bind("s"), &pgproto3.Execute{}, sync)
				switch r := a.read(); {
				case r.code() == "0A000":
					refused = true
				case r.cell() != "2003-01-02":
					t.Errorf("got %s", r)
				}
				b.must("begin")
			}
			if !refused {
				t.Error("both servers have had the statement")
			}
		})
	}
}

// TestUnnamedOfATransactionThatSet: the unnamed statement has been parsed in a
// transaction that has changed what its literal is read under, and is used in a
// later one.
func TestUnnamedOfATransactionThatSet(t *testing.T) {
	sync := &pgproto3.Sync{}
	rvSame(t, 2, nil, func(_ *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		for _, text := range []string{"begin", "rollback", "set datestyle = 'ISO, DMY'"} {
			a.send(parse(text, text), sync)
			a.read()
		}
		run := func(name string) { lines = append(lines, a.run(name)) }
		run("begin")
		run("set datestyle = 'ISO, DMY'")
		a.send(parse("", "select '01/02/2003'::date"), sync)
		lines = append(lines, rvGist(a.read()))
		run("rollback")
		for range 3 {
			run("begin")
			run("")
			run("rollback")
			b.must("begin")
			run("begin")
			run("")
			run("rollback")
			run("")
			b.must("commit")
		}
		return lines
	})
}

// TestUnnamedOfAKeptSession: a literal of the unnamed statement is read in a session that
// keeps its server, and behind it, before it is asked what is in force, what is not
// reported is changed. It is used as it was read, or refused.
func TestUnnamedOfAKeptSession(t *testing.T) {
	p, _, db := start(t, 1)
	a := login(t, p.Addr(), "app", db, "application_name", "kept")
	sync, query := &pgproto3.Sync{}, func(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }
	a.send(parse("off", "set array_nulls = off"), parse("on", "set array_nulls = on"), sync)
	a.read()
	a.send(query("set timezone = 'Asia/Tokyo'"), &pgproto3.Close{ObjectType: 'S', Name: "s"}, parse("s", "select '{NULL}'::text[]"), sync)
	a.send(append(batch("set array_nulls = on"), sync)...)
	for range 3 {
		a.read()
	}
	for range 3 {
		a.send(query("set extra_float_digits = 1"), query("set datestyle = 'ISO, DMY'"), &pgproto3.Close{ObjectType: 'S'},
			parse("", "select ('{NULL}'::text[])[1] is null"), bind("off"), &pgproto3.Execute{}, sync)
		for range 3 {
			a.read()
		}
		a.send(bind(""), &pgproto3.Execute{}, sync)
		if r := a.read(); r.code() != "0A000" && r.cell() != "t" {
			t.Errorf("the literal is read as %s", r)
		}
		a.run("on")
	}
}

// TestUnnamedBehindUnreported: behind a literal of the unnamed statement, in the same
// transaction, a setting that it was read under and that is not reported is changed, and
// the server is asked what is in force. The literal is used as it was read, or refused.
func TestUnnamedBehindUnreported(t *testing.T) {
	sync := &pgproto3.Sync{}
	for _, mode := range []string{"session", "transaction"} {
		c := postgres.ForTest(t)
		db := newDB(t, c)
		p := startYAML(t, poolYAML(c, db, "size: 10, mode: "+mode, ""))
		for _, change := range []string{"reset array_nulls", "set array_nulls = on", "select set_config('array_nulls', 'on', false)", "reset all", "set array_nulls to default"} {
			for _, kept := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, kept=%v", mode, change, kept), func(t *testing.T) {
					a := login(t, p.Addr(), "app", db, "application_name", "me")
					if kept {
						a.send(sql("set timezone = 'Asia/Tokyo'"), &pgproto3.Close{ObjectType: 'S', Name: "s"}, parse("s", "select '{NULL}'::text[]"), sync)
						a.send(append(batch("set array_nulls = on"), sync)...)
						for range 3 {
							a.read()
						}
					}
					a.must("set array_nulls = off")
					a.send(parse("x", "set extra_float_digits = 1"), parse("r", change), parse("b", "begin"), parse("c", "commit"), sync)
					a.read()
					a.run("b")
					a.run("x")
					a.send(parse("", "select ('{NULL}'::text[])[1] is null"), &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "r"}, &pgproto3.Execute{Portal: "p"}, sync)
					a.read()
					a.send(&pgproto3.Bind{DestinationPortal: "q", PreparedStatement: "c"}, &pgproto3.Execute{Portal: "q"}, sync)
					a.read()
					a.send(bind(""), &pgproto3.Execute{}, sync)
					if r := a.read(); r.code() != "0A000" && r.cell() != "f" {
						t.Errorf("the literal is read as %s", r)
					}
				})
			}
		}
	}
}

// TestSetIsNotSentAhead: a SET that is itself the unnamed statement is not brought to
// where the next one takes its place.
func TestSetIsNotSentAhead(t *testing.T) {
	p, _, db := start(t, 1)
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	one := func(text string) {
		a.send(append(batch(text), &pgproto3.Sync{})...)
		if r := a.read(); r.code() != "" {
			t.Fatalf("%s: %s", text, r)
		}
	}
	parses := func() (n uint64) {
		for _, pool := range p.Server().Snapshot().Pools {
			n += pool.Stats.ServerParses
		}
		return n
	}
	before := parses()
	for range 3 {
		for _, zone := range []string{"Asia/Tokyo", "UTC"} {
			one("set timezone = '" + zone + "'")
			b.must("select 1") // which takes the unnamed statement with it
			one("select 1")
		}
	}
	if n := parses() - before; n != 0 {
		t.Errorf("%d statements have been sent by name", n)
	}
}

// TestSetByParameter: set_config is told by a parameter what it sets, around the Parse
// of a literal.
func TestSetByParameter(t *testing.T) {
	sync := &pgproto3.Sync{}
	set := func(name, value string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{&pgproto3.Bind{PreparedStatement: "set", Parameters: [][]byte{[]byte(name), []byte(value)}}, &pgproto3.Execute{}}
	}
	steps := func(msgs ...[]pgproto3.FrontendMessage) (all []pgproto3.FrontendMessage) {
		for _, m := range msgs {
			all = append(all, m...)
		}
		return append(all, sync)
	}
	date := []pgproto3.FrontendMessage{parse("s", "select '01/02/2003'::date")}
	array := []pgproto3.FrontendMessage{parse("s", "select '{null,x}'::text[]")}
	for name, msgs := range map[string][][]pgproto3.FrontendMessage{
		"reported":                        {steps(set("DateStyle", "ISO, DMY"), date, set("DateStyle", "ISO, MDY"))},
		"bound in front, executed behind": {steps(set("DateStyle", "ISO, DMY")[:1], date, []pgproto3.FrontendMessage{&pgproto3.Execute{}})},
		"not reported":                    {steps(batch("begin")), steps(set("Array_Nulls", "off")), steps(array), steps(set("array_nulls", "on")), steps(batch("commit"))},
		"not reported, behind it":         {steps(batch("begin")), steps(batch("set datestyle = 'ISO, DMY'")), steps(array), steps(set("array_nulls", "off")), steps(batch("commit"))},
	} {
		t.Run(name, func(t *testing.T) {
			rvSame(t, 2, nil, func(_ *testing.T, open rvOpen) (lines []string) {
				a, b := open(), open()
				a.send(parse("set", "select set_config($1, $2, false)"), sync)
				a.read()
				for _, m := range msgs {
					a.send(m...)
					lines = append(lines, rvGist(a.read()))
				}
				return append(lines, onBoth(a, b)...)
			})
		})
	}
}

// TestXMLInAValue: what a custom setting is set to says nothing of what literals are
// read under. A statement that the server has lost is sent again, and no server is
// kept.
func TestXMLInAValue(t *testing.T) {
	p, _, db := start(t, 1)
	a := login(t, p.Addr(), "app", db)
	b := login(t, p.Addr(), "app", db)
	a.send(parse("s", "select 'x'::text"), &pgproto3.Sync{})
	a.read()
	a.must("do $$ begin execute 'deallocate all'; end $$")
	a.must("begin")
	a.must("set local app.format = 'xml'")
	a.send(parse("t", "select 'y'::text"), &pgproto3.Sync{})
	a.read()
	if r := a.run("s"); r != "2DCZ [[x]] [SELECT 1] T" {
		t.Error(r)
	}
	a.must("commit")
	b.must("select 1") // on the only server there is
}

// TestFrozenBehindReplay: a transaction begins on a server whose settings must be
// brought in line first, and the answer to that is waited for, since a timeout is in
// force there. A statement that was parsed under other settings is sent ahead all
// the same.
func TestFrozenBehindReplay(t *testing.T) {
	rvSame(t, 1, nil, func(_ *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		a.send(parse("s", "select '01/02/2003'::date"), &pgproto3.Sync{})
		a.read()
		a.must("set datestyle = 'ISO, DMY'")
		b.must("deallocate all")
		b.must("set statement_timeout = '1min'")
		a.send(sql("begin"), parse("", "select 1"), bind(""), &pgproto3.Execute{}, bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{})
		lines = append(lines, rvGist(a.read()), rvGist(a.read()))
		a.must("rollback")
		// Nothing can be sent ahead here, and the server has it.
		b.must("select 1")
		a.send(sql("set intervalstyle = 'sql_standard'"), sql("begin"), parse("", "select 1"), bind(""), &pgproto3.Execute{},
			bind("s"), &pgproto3.Execute{}, bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{})
		lines = append(lines, rvGist(a.read()), rvGist(a.read()), rvGist(a.read()))
		a.must("rollback")
		return lines
	})
}

// TestPlansDiscardedByOthers: DISCARD PLANS has PostgreSQL analyze again all that the
// server holds, and not only what the session has prepared.
func TestPlansDiscardedByOthers(t *testing.T) {
	rvSame(t, 1, nil, func(_ *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		a.must("prepare s as select '01/02/2003'::date")
		a.must("set datestyle = 'ISO, DMY'")
		lines = append(lines, rvGist(a.query("execute s")))
		b.must("discard plans")
		lines = append(lines, rvGist(a.query("execute s")))
		b.must("discard plans")
		a.must("begin")
		lines = append(lines, a.run("s"))
		a.must("commit")
		return lines
	})
}
