package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Statements are counted without what their callers put in, whichever way
// they come; slow ones to the call, fast ones by a sample.
func TestStatements(t *testing.T) {
	s := set(t, "size: 1", "")
	c := s.client("a")
	const calls = 640
	for _, tt := range []struct {
		mode pgx.QueryExecMode
		sql  string // of call i
		text string
	}{
		{pgx.QueryExecModeSimpleProtocol, "select 'secret', %d as simple", "select ? as simple"},
		{pgx.QueryExecModeExec, "select 'secret', %d as unnamed", "select ? as unnamed"},
		{pgx.QueryExecModeCacheStatement, "select 'secret' as named", "select ? as named"},
	} {
		for i := range calls {
			sql := tt.sql
			if strings.Contains(sql, "%d") {
				sql = fmt.Sprintf(sql, i)
			}
			if _, err := c.Exec(within(t), sql, tt.mode); err != nil {
				t.Fatal(err)
			}
		}
		row := s.one("STATEMENTS", "statement", tt.text)
		if row["database"] != "search" {
			t.Errorf("%q is not there: %v", tt.text, s.show("STATEMENTS"))
			continue
		}
		// One in 32 of one server's queries is looked at.
		if n := row.int(t, "calls"); n < calls-64 || n > calls+64 {
			t.Errorf("%q: %d calls of %d", tt.text, n, calls)
		}
	}
	for range 3 {
		exec(t, c, "select pg_sleep(0.11)")
	}
	row := s.one("STATEMENTS", "statement", "select pg_sleep(?)")
	if row["calls"] != "3" || row.int(t, "max_time") < 110_000 || row.int(t, "total_time") < 330_000 || row.int(t, "avg_time") < 110_000 {
		t.Errorf("a slow one: %v", row)
	}
	for _, row := range s.show("STATEMENTS") {
		if strings.Contains(row["statement"], "secret") {
			t.Errorf("%q tells what its caller put in", row["statement"])
		}
	}
}

func TestPinsWaitingAndErrors(t *testing.T) {
	s := set(t, "size: 1", "")
	c := s.client("holder")
	exec(t, c, "listen here")
	pin := s.one("PINS", "application_name", "holder")
	if pin["reason"] == "" || pin["database"] != "search" || pin["server"] == "0" || pin["client"] != s.one("CLIENTS", "application_name", "holder")["id"] {
		t.Errorf("pin %v", pin)
	}
	waiter := later(t, s.client("queued"), "select 1")
	s.expect("WAITING", "application_name", "queued", record{"database": "search", "user": "app"})
	if _, err := c.Exec(within(t), "select 1/0"); code(err) != "22012" {
		t.Fatal(err)
	}
	s.expect("ERRORS", "sqlstate", "22012", record{"side": "server", "count": "1"})
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := ended(t, "the waiter", waiter); err != nil {
		t.Fatal(err)
	}
	if rows := s.show("WAITING"); len(rows) != 0 {
		t.Errorf("they still wait: %v", rows)
	}
	// What holds unread rows shows itself among the active sockets.
	if rows := s.show("ACTIVE_SOCKETS"); len(rows) != 0 {
		t.Errorf("active sockets %v", rows)
	}
}
