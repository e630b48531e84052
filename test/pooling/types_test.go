package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestTypesOfParameters: what types a statement's parameters have is found out at
// the client's Parse, and it keeps them when the types of its columns change.
func TestTypesOfParameters(t *testing.T) {
	const insert, look = "insert into t (k) values ($1)", "select k::text from t where k = $1"
	binary := func(name string, v byte) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{
			&pgproto3.Bind{PreparedStatement: name, ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 0, v}}}, &pgproto3.Execute{}, &pgproto3.Sync{}}
	}
	for name, test := range map[string]struct {
		size    int
		changes func(a, b *peer, text string)
	}{
		"by the session": {3, func(a, _ *peer, text string) { a.must(text) }},
		"by another":     {3, func(_, b *peer, text string) { b.must(text) }},
		"on one server":  {1, func(a, _ *peer, text string) { a.must(text) }},
	} {
		t.Run(name, func(t *testing.T) {
			rvSame(t, test.size, []string{"create table t (k int)"}, func(t *testing.T, open rvOpen) (lines []string) {
				a, b, c := open(), open(), open()
				c.must("truncate t; alter table t alter k type int")
				say := func(r reply) { lines = append(lines, fmt.Sprint(rvGist(r), r.oids)) }
				for _, text := range []string{insert, look} {
					name := text[:6]
					say(a.ask(parse(name, text), rvDescribe(name), &pgproto3.Sync{}))
				}
				say(a.ask(parse("untold", insert), &pgproto3.Sync{}))
				say(c.ask(parse("insert", insert), &pgproto3.Sync{}))
				say(a.ask(parse("", insert), rvDescribe(""), &pgproto3.Sync{}))
				test.changes(a, b, "alter table t alter k type bigint")
				for i := range byte(4) {
					say(a.ask(binary("insert", i)...))
					say(a.ask(binary("select", i)...))
					say(a.ask(binary("untold", i)...))
					say(a.ask(bind("insert", "3000000000"), &pgproto3.Execute{}, &pgproto3.Sync{}))
					say(a.ask(rvDescribe("insert"), &pgproto3.Sync{}))
					say(b.ask(rvClose("s"), parse("s", insert), rvDescribe("s"), bind("s", fmt.Sprint(3000000000+int(i))), &pgproto3.Execute{}, &pgproto3.Sync{}))
					say(c.ask(binary("insert", i)...))
					say(b.ask(bind("s", "4000000000"), &pgproto3.Execute{}, &pgproto3.Sync{}))
				}
				say(a.query("execute insert(1)"))
				say(a.query("execute insert(3000000000)"))
				say(a.query("select parameter_types from pg_prepared_statements where name = 'insert'"))
				return lines
			})
		})
	}
}

// TestTypesOfUnnamed: likewise of the unnamed statement, of which the client was told.
func TestTypesOfUnnamed(t *testing.T) {
	rvSame(t, 3, []string{"create table t (k int)"}, func(t *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		b.must("alter table t alter k type int")
		a.ask(parse("", "insert into t (k) values ($1) returning 1"), rvDescribe(""), &pgproto3.Sync{})
		b.must("alter table t alter k type bigint")
		for range 4 {
			r := a.ask(&pgproto3.Bind{ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 0, 1}}}, &pgproto3.Execute{}, rvDescribe(""), &pgproto3.Sync{})
			lines = append(lines, fmt.Sprint(rvGist(r), r.oids))
		}
		return lines
	})
}
