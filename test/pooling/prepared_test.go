package pooling_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

func execute(name string, values ...string) []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{bind(name, values...), &pgproto3.Execute{}, &pgproto3.Sync{}}
}

// ask sends messages that end with one Sync and reads the reply.
func (c *peer) ask(msgs ...pgproto3.FrontendMessage) reply {
	c.t.Helper()
	c.send(msgs...)
	return c.read()
}

// TestManyStatements: one client has more statements than a server holds, and
// all of them work on every server.
func TestManyStatements(t *testing.T) {
	p, _, db := start(t, 2)
	c := login(t, p.Addr(), "app", db)
	const n = 1000
	for i := range n {
		if r := c.ask(parse(fmt.Sprintf("s%d", i), fmt.Sprintf("select %d + $1::int", i)), &pgproto3.Sync{}); r.types != "1Z" {
			t.Fatalf("statement %d: %s", i, r)
		}
	}
	for range 3000 {
		i, add := rand.IntN(n), rand.IntN(1000)
		if r := c.ask(execute(fmt.Sprintf("s%d", i), fmt.Sprint(add))...); r.types != "2DCZ" || r.cell() != fmt.Sprint(i+add) {
			t.Fatalf("statement %d: %s", i, r)
		}
	}
	// Many of them in one batch, and in many batches at once.
	var m []pgproto3.FrontendMessage
	for i := range n {
		m = append(m, bind(fmt.Sprintf("s%d", i), "1"), &pgproto3.Execute{})
	}
	r := c.ask(append(m, &pgproto3.Sync{})...)
	if len(r.rows) != n || r.err != nil {
		t.Fatalf("a batch of all: %d rows %v", len(r.rows), r.err)
	}
	for i, row := range r.rows {
		if row[0] != fmt.Sprint(i+1) {
			t.Fatalf("a batch of all: row %d is %s", i, row[0])
		}
	}
	m = nil
	for i := range n {
		m = append(m, execute(fmt.Sprintf("s%d", i), "2")...)
	}
	go c.send(m...)
	for i := range n {
		if r := c.read(); r.cell() != fmt.Sprint(i+2) {
			t.Fatalf("batches at once: statement %d: %s", i, r)
		}
	}
	for range 4 {
		c.ask(execute("s1", "1")...) // eviction comes with the next batch
	}
	few := func() {
		t.Helper()
		for _, s := range p.Server().Snapshot().Servers {
			if s.PreparedStatements > 210 {
				t.Errorf("a server holds %d statements", s.PreparedStatements)
			}
		}
	}
	few()
	// Who lists them sees them all, and then they are too many again.
	if got := c.must("select count(*) from pg_prepared_statements").cell(); got != fmt.Sprint(n) {
		t.Errorf("the session has %s statements", got)
	}
	for range 8 {
		c.ask(execute("s1", "1")...)
	}
	few()
	p.RequireSwitched(t)
}

// TestStatementsEnd: Close, DEALLOCATE ALL and DISCARD ALL end the client's
// statements on every server, and nobody else's.
func TestStatementsEnd(t *testing.T) {
	p, _, db := start(t, 3)
	c, other := login(t, p.Addr(), "app", db), login(t, p.Addr(), "other", db)
	other.ask(parse("mine", "select 7"), &pgproto3.Sync{})
	for name, end := range map[string][]pgproto3.FrontendMessage{
		"Close":          {&pgproto3.Close{ObjectType: 'S', Name: "mine"}, &pgproto3.Sync{}},
		"DEALLOCATE ALL": {sql("deallocate all")},
		"DISCARD ALL":    {sql("discard all")},
		"by Execute":     append(batch("deallocate all"), &pgproto3.Sync{}),
	} {
		c.ask(parse("mine", "select 7"), &pgproto3.Sync{})
		for range 3 {
			if r := c.ask(execute("mine")...); r.cell() != "7" {
				t.Fatalf("%s: before: %s", name, r)
			}
		}
		if r := c.ask(end...); r.code() != "" {
			t.Fatalf("%s: %s", name, r)
		}
		for range 3 {
			if r := c.ask(execute("mine")...); r.code() != "26000" || r.types != "EZ" || r.err.Message != `prepared statement "mine" does not exist` {
				t.Errorf("%s: after: %s", name, r)
			}
			if r := other.ask(execute("mine")...); r.cell() != "7" {
				t.Errorf("%s: another client's: %s", name, r)
			}
		}
		if r := c.ask(append([]pgproto3.FrontendMessage{parse("mine", "select 8")}, execute("mine")...)...); r.types != "12DCZ" || r.cell() != "8" {
			t.Errorf("%s: anew: %s", name, r)
		}
		c.ask(&pgproto3.Close{ObjectType: 'S', Name: "mine"}, &pgproto3.Sync{})
	}
}

// TestStatementErrors are PostgreSQL's own, in the client's words, and they
// fail the transaction as PostgreSQL's do.
func TestStatementErrors(t *testing.T) {
	p, c, db := start(t, 2)
	pooled, direct := login(t, p.Addr(), "app", db), login(t, c.Addr(), postgres.Superuser, db)
	describe := func(name string) *pgproto3.Describe { return &pgproto3.Describe{ObjectType: 'S', Name: name} }
	sync := &pgproto3.Sync{}
	for name, steps := range map[string][][]pgproto3.FrontendMessage{
		"unknown Bind":              {execute("none")},
		"unknown Describe":          {{describe("none"), sync}},
		"unknown unnamed":           {{sql("select 1")}, execute("")},
		"unknown, in a transaction": {{sql("begin")}, execute("none"), {sql("select 1")}, {sql("commit")}},
		"unknown behind others":     {append(batch("select 1"), execute("none")...)},
		"twice":                     {{parse("a", "select 1"), sync}, {parse("a", "select 2"), sync}, execute("a"), {&pgproto3.Close{ObjectType: 'S', Name: "a"}, sync}},
		"twice in a batch":          {{parse("b", "select 1"), parse("b", "select 2"), sync}, execute("b")},
		"twice, in a transaction":   {{parse("c", "select 1"), sync}, {sql("begin")}, {parse("c", "select 2"), sync}, {sql("commit")}, execute("c")},
		"twice, and wrong":          {{parse("d", "select 1"), sync}, {parse("d", "selec 2"), sync}, execute("d")},
		"wrong":                     {{parse("e", "selec 2"), sync}, execute("e"), {parse("e", "select 5"), sync}, execute("e")},
		"wrong in a batch":          {append([]pgproto3.FrontendMessage{parse("f", "select no_such_column"), bind("f")}, execute("f")...), execute("f")},
		"error in the middle":       {append(append(batch("select 1"), batch("select 1/0")...), append(batch("select 2"), sync)...), {sql("select 3")}},
		"too few parameters":        {{parse("g", "select $1::int"), sync}, execute("g"), execute("g", "1", "2"), execute("g", "x"), execute("g", "4")},
		"in a failed transaction":   {{parse("h", "select 1"), sync}, {sql("begin")}, {sql("select 1/0")}, execute("h"), {parse("i", "select 1"), sync}, {sql("rollback")}, execute("h"), execute("i")},
		"Close of nothing":          {{&pgproto3.Close{ObjectType: 'S', Name: "none"}, &pgproto3.Close{ObjectType: 'P', Name: "none"}, sync}},
		"Parse in a failed batch":   {{bind("none"), parse("j", "select 1"), sync}, execute("j")},
		"Close in a failed batch":   {{parse("k", "select 1"), sync}, {bind("none"), &pgproto3.Close{ObjectType: 'S', Name: "k"}, sync}, execute("k")},
		"described":                 {{parse("l", "select $1::int as a, 'x'::text as b"), describe("l"), sync}, {describe("l"), sync}},
	} {
		for i, step := range steps {
			got, want := pooled.ask(step...), direct.ask(step...)
			if got.String() != want.String() || got.status != want.status {
				t.Errorf("%s, step %d:\n %s %c\ndirectly:\n %s %c", name, i, got, got.status, want, want.status)
			}
		}
	}
}

// TestPlansAfterDDL: what a statement's table becomes, its users see as on a
// connection of their own.
func TestPlansAfterDDL(t *testing.T) {
	p, c, db := start(t, 2, "create table t (a int); insert into t values (1)")
	pooled, direct := login(t, p.Addr(), "app", db), login(t, c.Addr(), postgres.Superuser, db)
	both := func(what string, msgs ...pgproto3.FrontendMessage) {
		t.Helper()
		for range 3 {
			got, want := pooled.ask(msgs...), direct.ask(msgs...)
			if got.String() != want.String() {
				t.Errorf("%s:\n %s\ndirectly:\n %s", what, got, want)
			}
		}
	}
	for _, s := range []*peer{pooled, direct} {
		s.ask(parse("all", "select * from t"), &pgproto3.Sync{})
		s.ask(parse("a", "select a from t"), &pgproto3.Sync{})
	}
	both("before", execute("all")...)
	both("before", execute("a")...)
	value(t, c, db, "alter table t add b int default 2")
	both("the same columns", execute("a")...)
	both("other columns", execute("all")...)
	fresh := login(t, p.Addr(), "app", db)
	for range 4 {
		r := fresh.ask(append([]pgproto3.FrontendMessage{parse("all", "select * from t")}, execute("all")...)...)
		if r.types != "12DCZ" || strings.Join(r.rows[0], " ") != "1 2" {
			t.Errorf("a new client's statement of the same text: %s", r)
		}
		fresh.ask(&pgproto3.Close{ObjectType: 'S', Name: "all"}, &pgproto3.Sync{})
	}
	for _, s := range []*peer{pooled, direct} {
		s.ask(&pgproto3.Close{ObjectType: 'S', Name: "all"}, parse("all", "select * from t"), &pgproto3.Sync{})
	}
	both("prepared again", execute("all")...)
	value(t, c, db, "drop table t; create table t (c text); insert into t values ('new')")
	both("dropped and made anew", execute("all")...)
}

// TestLiteralsKeepTheirMeaning: statements are shared only between clients to
// whom their text means the same (A2).
func TestLiteralsKeepTheirMeaning(t *testing.T) {
	p, _, db := start(t, 2, "create schema one; create table one.t as select 'one' as a; create schema two; create table two.t as select 'two' as a")
	text := "select '01/02/2020'::date - '2020-01-01'::date || ' ' || extract(epoch from '2020-01-01'::timestamptz)::bigint || ' ' || a from t"
	first := login(t, p.Addr(), "app", db, "datestyle", "ISO, MDY", "timezone", "UTC", "search_path", "one")
	second := login(t, p.Addr(), "app", db, "datestyle", "ISO, DMY", "timezone", "Europe/Berlin", "search_path", "two")
	for range 5 {
		for c, want := range map[*peer]string{first: "1 1577836800 one", second: "31 1577833200 two"} {
			for _, name := range []string{"s", ""} {
				c.ask(&pgproto3.Close{ObjectType: 'S', Name: name}, parse(name, text), &pgproto3.Sync{})
				for range 2 {
					if r := c.ask(execute(name)...); r.cell() != want {
						t.Errorf("got %s, want %s", r, want)
					}
				}
			}
		}
	}
}

// TestBatchStaysOnItsServer: Parse, Describe and Flush, then Bind, Execute and
// Sync, as asyncpg sends them, are one server's.
func TestBatchStaysOnItsServer(t *testing.T) {
	p, _, db := start(t, 3)
	c, other := login(t, p.Addr(), "app", db), login(t, p.Addr(), "other", db)
	for i := range 20 {
		name := fmt.Sprintf("__asyncpg_stmt_%d__", i%3)
		c.send(parse(name, fmt.Sprintf("select %d, pg_backend_pid()", i)), &pgproto3.Describe{ObjectType: 'S', Name: name}, &pgproto3.Flush{})
		if r := c.until('T'); r.types != "1tT" {
			t.Fatalf("got %s", r)
		}
		before, _ := clientOf(p, c.pid)
		if before.ServerID == 0 {
			t.Fatal("the session has lost its server after Flush")
		}
		other.must("select 1")
		c.send(execute(name)...)
		r := c.read()
		if r.types != "2DCZ" || r.cell() != fmt.Sprint(i) {
			t.Fatalf("got %s", r)
		}
		for _, s := range p.Server().Snapshot().Servers {
			if s.ID == before.ServerID && fmt.Sprint(s.PID) != r.rows[0][1] {
				t.Errorf("Bind went to %s, Parse to %d", r.rows[0][1], s.PID)
			}
		}
		c.ask(&pgproto3.Close{ObjectType: 'S', Name: name}, &pgproto3.Sync{})
	}
	p.RequireSwitched(t)
}

// TestDeepPipelines: thousands of batches before the first reply is read.
func TestDeepPipelines(t *testing.T) {
	p, _, db := start(t, 2)
	const n = 5000
	for _, pad := range []int{0, 500} {
		conn, err := pgconn.Connect(within(t), p.DSN("app", db))
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		pipe := conn.StartPipeline(within(t))
		padding := strings.Repeat("x", pad)
		for i := range n {
			if i%100 == 0 {
				pipe.SendPrepare(fmt.Sprintf("s%d", i), "select $1::int, $2::text", nil)
			}
			pipe.SendQueryPrepared(fmt.Sprintf("s%d", i-i%100), [][]byte{[]byte(fmt.Sprint(i)), []byte(padding)}, nil, nil)
			if i%7 == 0 {
				pipe.SendQueryParams("select 1/$1::int", [][]byte{[]byte("0")}, nil, nil, nil)
				pipe.SendQueryParams("select 'never'", nil, nil, nil, nil)
			}
			if i%700 != 699 { // now and then two in a batch
				if err := pipe.Sync(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := pipe.Flush(); err != nil {
			t.Fatal(err)
		}
		next, failed := 0, 0
		for next < n {
			res, err := pipe.GetResults()
			if err != nil {
				if code(err) != "22012" {
					t.Fatalf("at %d: %v", next, err)
				}
				failed++
				continue
			}
			rows, ok := res.(*pgconn.ResultReader)
			if !ok {
				continue
			}
			for rows.NextRow() {
				got := string(rows.Values()[0])
				if got != fmt.Sprint(next) || len(rows.Values()[1]) != pad {
					t.Fatalf("got %s, want %d", got, next)
				}
				next++
			}
			if _, err := rows.Close(); err != nil && code(err) != "22012" {
				t.Fatalf("at %d: %v", next, err)
			} else if err != nil {
				failed++
			}
		}
		if failed < n/7 {
			t.Errorf("%d batches failed, want %d", failed, n/7+1)
		}
		_ = conn.Close(ctx)
	}
}

// TestParseBehindDDLInTransaction: a Parse is not made up with a plan from
// before an ALTER TABLE, where the error about that could not be healed.
func TestParseBehindDDLInTransaction(t *testing.T) {
	sync := &pgproto3.Sync{}
	rvSame(t, 1, []string{"create table changing (a int)"}, func(t *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		a.send(parse("mine", "select * from changing"), sync)
		lines = append(lines, rvGist(a.read()))
		for _, text := range []string{"alter table changing add b int", "alter table changing drop b"} {
			lines = append(lines, rvGist(a.query(text)), rvGist(b.query("begin")))
			b.send(parse("", "select 1"), bind(""), sync) // the server has answered in this transaction
			lines = append(lines, rvGist(b.read()))
			b.send(parse("mine", "select * from changing"), rvDescribe("mine"), sync)
			lines = append(lines, rvGist(b.read()))
			b.send(rvClose("mine"), sync)
			lines = append(lines, rvGist(b.read()), rvGist(b.query("rollback")))
		}
		return lines
	})
}

// TestStatementsAreForgotten: what no client and no server has any more is not
// counted any more.
func TestStatementsAreForgotten(t *testing.T) {
	p, _, db := start(t, 1)
	a := login(t, p.Addr(), "app", db)
	for i := range 20 {
		name := fmt.Sprint("s", i)
		a.send(parse(name, fmt.Sprintf("select %d", i)), rvClose(name), &pgproto3.Sync{})
		if r := a.read(); r.types != "13Z" {
			t.Fatalf("got %s", r)
		}
	}
	if n := p.Server().Snapshot().Totals.StatementsKept; n != 20 {
		t.Errorf("the server holds 20 statements, and %d are kept", n)
	}
	a.must("begin; deallocate all; commit") // on the server, too
	eventually(t, func() string {
		if n := p.Server().Snapshot().Totals.StatementsKept; n != 0 {
			return fmt.Sprintf("%d statements are kept", n)
		}
		return ""
	})
}

// TestDescribeTellsItsOwnParameters: also where the Describe is refused, and the
// client's Parse was made up behind that of another statement.
func TestDescribeTellsItsOwnParameters(t *testing.T) {
	describe := func(name string) *pgproto3.Describe { return &pgproto3.Describe{ObjectType: 'S', Name: name} }
	const text = "select * from t where a = $1"
	rvSame(t, 3, []string{"create table t (a int)"}, func(t *testing.T, open rvOpen) (lines []string) {
		other, client, one, two, three := open(), open(), open(), open(), open()
		one.must("begin")
		two.must("begin")
		other.ask(parse("s", text), describe("s"), &pgproto3.Sync{}) // on the third server
		client.ask(parse("o", "select $1::text, $2::date"), describe("o"), parse("s", text), describe("s"), &pgproto3.Sync{})
		other.must(fmt.Sprintf("alter table t add b%d int", databases.Add(1)))
		three.must("begin")
		one.must("commit") // now another one is free, which lacks s
		client.send(describe("s"), &pgproto3.Sync{})
		for _, line := range client.rvFrames(1) {
			if line[0] != 'E' { // where it stands in PostgreSQL's source
				lines = append(lines, line)
			}
		}
		return lines
	})
}
