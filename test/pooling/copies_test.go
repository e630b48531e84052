package pooling_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestMomentUnderTheSameName: two sessions have parsed the same text under the
// same name, and execute it by SQL. Each has the moment of its own Parse.
func TestMomentUnderTheSameName(t *testing.T) {
	rvSame(t, 1, nil, func(_ *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		const text = "select 'now'::timestamptz"
		of := func(c *peer) string {
			c.send(parse("s", text), &pgproto3.Sync{})
			c.read()
			return c.must("execute s").cell()
		}
		first := of(a)
		if of(b) == first {
			lines = append(lines, "the moment of another session")
		}
		return lines
	})
}

// TestCopyIsSentAgain: a literal is parsed in a transaction that has changed what it
// is read under, and SQL executes it there. The server loses that copy, which is sent
// again under other settings.
func TestCopyIsSentAgain(t *testing.T) {
	for _, begin := range []string{"", "begin"} {
		t.Run("in "+begin, func(t *testing.T) {
			rvSame(t, 1, nil, func(_ *testing.T, open rvOpen) (lines []string) {
				a := open()
				a.must("begin")
				a.must("set datestyle = 'ISO, DMY'")
				a.send(parse("s", "select '01/02/2003'::date"), &pgproto3.Sync{})
				a.read()
				lines = append(lines, rvGist(a.query("execute s")))
				a.must("rollback")
				if begin != "" {
					a.must(begin)
				}
				a.must("do $$ begin execute 'prepare z as select 1'; execute 'deallocate z'; end $$")
				r := a.query("execute s")
				if begin != "" && r.code() == "0A000" { // it cannot be read like that again
					return append(lines, "")
				}
				if lines = append(lines, rvGist(r)); begin != "" && r.cell() == "2003-02-01" {
					lines[len(lines)-1] = ""
				}
				return lines
			})
		})
	}
}

// TestExecuteBehindRollbackTo: a literal is parsed in a transaction that has changed
// what it is read under, and fails and goes back to before that. What SQL then
// executes is not read under what is in force again.
func TestExecuteBehindRollbackTo(t *testing.T) {
	rvSame(t, 1, nil, func(_ *testing.T, open rvOpen) (lines []string) {
		a := open()
		a.must("begin")
		a.must("savepoint x")
		a.must("set datestyle = 'ISO, DMY'")
		a.send(parse("s", "select '01/02/2003'::date"), &pgproto3.Sync{})
		a.read()
		a.query("select 1 / 0")
		a.must("rollback to x")
		if r := a.query("execute s"); r.code() != "0A000" && r.cell() != "2003-02-01" {
			lines = append(lines, rvGist(r))
		}
		return lines
	})
}
