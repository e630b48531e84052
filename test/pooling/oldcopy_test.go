package pooling_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestOlderCopy: a server holds a statement from before its table was changed. The
// client's Parse of now is made up by another server, and the table changes back
// before its first use.
func TestOlderCopy(t *testing.T) {
	rvSame(t, 2, []string{"create table t (a int)"}, func(_ *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		other := func() { b.must("begin") } // on the server that b has not had last: a gets the one that is left
		other()
		a.send(parse("s", "select * from t"), &pgproto3.Sync{})
		a.read()
		b.must("commit")
		other()
		a.must("alter table t add b int")
		lines = append(lines, a.run("s"))
		a.send(rvClose("s"), parse("s", "select * from t"), &pgproto3.Sync{}) // made up
		a.read()
		b.must("commit")
		other()
		a.send(sql("alter table t drop b"), bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{})
		lines = append(lines, rvGist(a.read()), rvGist(a.read()))
		b.must("commit")
		return append(lines, a.run("s"))
	})
}

// TestExecuteBehindRefusal: a batch is refused because a table has changed, and one
// that executes the statement by SQL stands behind it in the pipeline.
func TestExecuteBehindRefusal(t *testing.T) {
	rvSame(t, 1, []string{"create table t (a int)"}, func(_ *testing.T, open rvOpen) (lines []string) {
		a := open()
		a.send(parse("s", "select * from t"), &pgproto3.Sync{})
		a.read()
		a.must("alter table t add b int")
		a.send(bind("s"), &pgproto3.Execute{}, &pgproto3.Sync{}, parse("", "execute s"), bind(""), &pgproto3.Execute{}, &pgproto3.Sync{})
		lines = append(lines, rvGist(a.read()), rvGist(a.read()))
		a.must("alter table t drop b") // for the other run
		return lines
	})
}

// TestParseAgainIsSkipped: a statement is sent again, because its table has changed,
// in a batch that has failed in front of that. What the server holds is still the
// old one.
func TestParseAgainIsSkipped(t *testing.T) {
	sync := &pgproto3.Sync{}
	rvSame(t, 1, []string{"create table skipped (k int primary key, v text)", "insert into skipped values (1, 'one')"}, func(t *testing.T, open rvOpen) (lines []string) {
		a := open()
		const text = "select * from skipped order by k"
		a.send(slices.Concat([]pgproto3.FrontendMessage{parse("s3", text)}, batch("alter table skipped add column more int"), []pgproto3.FrontendMessage{
			parse("s1", text), &pgproto3.Query{String: "alter table skipped drop column more; select 1"},
			&pgproto3.Execute{Portal: "none"}, bind("s3"), sync, bind("s3"), &pgproto3.Execute{}, sync})...)
		for range 3 {
			lines = append(lines, rvGist(a.read()))
		}
		return append(lines, a.run("s3"))
	})
}
