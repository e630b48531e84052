package pooling_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestTwoNamesInOneText: a text executes a name that another session has on the
// server, and one whose table has changed. PostgreSQL holds back its answer to the
// Close of the first until it is told to go on.
func TestTwoNamesInOneText(t *testing.T) {
	rvSame(t, 1, []string{"create table t (a int)"}, func(_ *testing.T, open rvOpen) (lines []string) {
		a, b := open(), open()
		a.must("prepare y as select * from t")
		a.must("alter table t add b int")
		b.must("prepare y as select 1")
		a.send(parse("", "execute y"), bind(""), &pgproto3.Execute{}, &pgproto3.Sync{})
		lines = append(lines, rvGist(a.read()))
		b.must("prepare x as select 1")
		a.send(sql("execute y; execute x"))
		lines = append(lines, rvGist(a.read()))
		a.send(sql("execute x; execute y"))
		lines = append(lines, rvGist(a.read()))
		a.must("alter table t drop b")
		return append(lines, rvGist(a.query("execute y")))
	})
}
