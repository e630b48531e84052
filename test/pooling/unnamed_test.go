package pooling_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestUnnamedStatement: what becomes of the unnamed statement when the next
// one fails, is skipped, or is refused by a failed transaction.
func TestUnnamedStatement(t *testing.T) {
	sync := &pgproto3.Sync{}
	use := []pgproto3.FrontendMessage{bind(""), &pgproto3.Execute{}, sync}
	for _, test := range []struct {
		name  string
		steps [][]pgproto3.FrontendMessage
	}{
		{"Parse fails", [][]pgproto3.FrontendMessage{{parse("", "selec 1"), sync}}},
		{"Parse fails, all at once", [][]pgproto3.FrontendMessage{{parse("", "selec 1"), sync, bind(""), sync}}},
		{"Parse of what is not there fails", [][]pgproto3.FrontendMessage{{parse("", "select * from nothing"), sync}}},
		{"Parse is skipped", [][]pgproto3.FrontendMessage{{bind("none"), parse("", "select 2"), sync}}},
		{"Parse fails and is skipped", [][]pgproto3.FrontendMessage{{parse("", "selec 1"), parse("", "select 2"), sync}}},
		{"Parse in a failed transaction", [][]pgproto3.FrontendMessage{{sql("begin")}, {parse("", "select 3"), sync}, {parse("e", "select 1/0"), bind("e"), sync}, {parse("", "select 2"), sync}, {parse("", "rollback"), bind(""), &pgproto3.Execute{}, sync}}},
		{"Parse fails in a transaction", [][]pgproto3.FrontendMessage{{parse("", "begin"), bind(""), &pgproto3.Execute{}, sync}, {parse("", "selec 1"), sync}, {parse("n", "rollback"), sync}, {bind("n"), &pgproto3.Execute{}, sync}}},
		{"named Parse fails", [][]pgproto3.FrontendMessage{{parse("n", "selec 1"), sync}}},
		{"Query fails", [][]pgproto3.FrontendMessage{{sql("selec 1")}}},
		{"Query is skipped", [][]pgproto3.FrontendMessage{{bind("none"), sql("select 2"), sync}}},
		{"Close", [][]pgproto3.FrontendMessage{{rvClose(""), sync}}},
		{"Close is skipped", [][]pgproto3.FrontendMessage{{bind("none"), rvClose(""), sync}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rvSame(t, 2, nil, func(t *testing.T, open rvOpen) (lines []string) {
				c := open()
				steps := append([][]pgproto3.FrontendMessage{{parse("", "select 1"), sync}, use}, test.steps...)
				for _, msgs := range append(steps, use, use, []pgproto3.FrontendMessage{parse("", "select 5"), sync}, use) {
					c.send(msgs...)
					skipped := false // up to the Sync
					for _, m := range msgs {
						if b, ok := m.(*pgproto3.Bind); ok && b.PreparedStatement == "none" {
							skipped = true
						}
						_, isQuery := m.(*pgproto3.Query)
						if _, isSync := m.(*pgproto3.Sync); isSync || isQuery && !skipped {
							lines = append(lines, rvGist(c.read()))
						}
					}
				}
				return lines
			})
		})
	}
}

// TestUnnamedBehindReplay: the Query that brings a session's settings to a server
// takes away the unnamed statement that was left there, whoever's it is.
func TestUnnamedBehindReplay(t *testing.T) {
	p, _, db := start(t, 1)
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	a.must("set work_mem = '5MB'")
	a.ask(parse("", "select 7"), &pgproto3.Sync{})
	b.ask(parse("n", "select 8"), &pgproto3.Sync{})
	for range 2 {
		if r := b.ask(execute("n")...); r.cell() != "8" {
			t.Errorf("the other session's: %s", r)
		}
		if r := a.ask(execute("")...); r.cell() != "7" {
			t.Errorf("got %s", r)
		}
	}
}
