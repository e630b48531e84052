package pooling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestToldAtAttach: a server that reports something else than the client was
// told, because it was started later, has it told before it answers.
func TestToldAtAttach(t *testing.T) {
	p, c, db := start(t, 1)
	a := login(t, p.Addr(), "app", db)
	if r := a.must("select 1"); len(r.params) != 0 {
		t.Fatalf("got %v", r.params)
	}
	old := p.Server().Snapshot().Servers[0].PID
	for _, text := range []string{
		fmt.Sprintf(`alter database %q set datestyle = 'German'`, db),
		fmt.Sprintf(`select pg_terminate_backend(pid) from pg_stat_activity where datname = '%s'`, db),
	} {
		if err := c.Exec(within(t), "postgres", text); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() string {
		for _, s := range p.Server().Snapshot().Servers { // another may be there already
			if s.PID == old {
				return "the server is left"
			}
		}
		return ""
	})
	r := a.must("select make_date(2003, 2, 1)")
	if r.cell() != "01.02.2003" || !strings.HasPrefix(r.params["DateStyle"], "German") {
		t.Errorf("got %s, and was told %v", r, r.params)
	}
}

// TestOwnNotification: who notifies itself sees its own process ID, the one it
// was given at login.
func TestOwnNotification(t *testing.T) {
	p, c, db := start(t, 2)
	for _, addr := range []string{c.Addr(), p.Addr()} {
		a := login(t, addr, postgres.Superuser, db)
		a.must("listen here")
		a.send(sql("notify here, 'me'"))
		for got := uint32(0); got == 0; {
			m, err := a.fe.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if n, ok := m.(*pgproto3.NotificationResponse); ok {
				if got = n.PID; got != a.pid {
					t.Errorf("%s: notified by %d, and is %d itself", addr, got, a.pid)
				}
			}
		}
	}
}
