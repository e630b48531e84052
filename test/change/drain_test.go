package change

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgpoold/test/postgres"
)

// TestDrainWithPins: a drain ends idle clients at once, lets transactions end,
// and waits for an idle client that keeps its server as long as
// pin_drain_timeout; all are told 57P01.
func TestDrainWithPins(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	if err := c.Exec(within(t), db, "create table t (i int)"); err != nil {
		t.Fatal(err)
	}
	p := start(t, fmt.Sprintf("pin_drain_timeout: 2s\npool: {size: 6}\ndatabases: {%s: {dsn: %q}}\n", db, c.SuperDSN(db)))
	idle, pinned, busy := connect(t, p, "app", db), connect(t, p, "app", db), connect(t, p, "app", db)
	exec(t, idle, "select 1")
	exec(t, pinned, "listen news")
	exec(t, busy, "begin")
	exec(t, busy, "insert into t values (1)")
	gone := func(conn *pgx.Conn) func() bool {
		return func() bool {
			for _, s := range p.Server().Snapshot().Clients {
				if s.PID == conn.PgConn().PID() {
					return false
				}
			}
			return true
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- p.Server().Shutdown(ctx) }()
	until(t, "the idle client is ended", gone(idle))
	if ready, why := p.Server().Ready(); ready || why != "draining" {
		t.Errorf("ready: %v, %s", ready, why)
	}
	if gone(pinned)() {
		t.Error("the pinned client was ended at once")
	}
	if !strings.Contains(p.Log(), "waiting for a session that keeps its server") {
		t.Error("the log does not say whom it waits for")
	}
	until(t, "the pinned client is ended", gone(pinned))
	exec(t, busy, "insert into t values (2)")
	exec(t, busy, "commit")
	select {
	case err := <-drained:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the drain does not end")
	}
	for _, conn := range []*pgx.Conn{idle, pinned, busy} {
		if _, err := conn.Exec(within(t), "select 1"); told(err).Code != "57P01" {
			t.Errorf("told %v", err)
		}
	}
	if rows, err := c.Query(within(t), db, "select count(*) from t"); err != nil || rows[0][0] != "2" {
		t.Errorf("%v, %v", rows, err)
	}
}
