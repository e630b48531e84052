package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRunningTakesWhatItCan(t *testing.T) {
	env := environ{}
	const before = `
pool: {size: 5}
auth: {users: {app: a}}
databases: {search: {dsn: 'postgres://o:p@h/d', size: 3}, gone: {dsn: 'postgres://o:p@h/e'}, self: {dsn: 'postgres://h/e'}}
`
	const after = `
listen: {addr: 127.0.0.1:7000, max_client_conn: 77}
pool: {size: 6, query_wait_timeout: 7s, session_state: ignore}
auth: {users: {app: b, report: c}}
databases: {search: {dsn: 'postgres://o:p@elsewhere/d', size: 4, users: [app]}, come: {dsn: 'postgres://o:p@h/f', session_state: strict}, self: {dsn: 'postgres://o:p@h/e', size: 9, session_state: strict}}
`
	was := load(t, env, before)
	got, notes := was.Running(load(t, env, after))
	if got.Pool.Size != 6 || got.Pool.QueryWaitTimeout != 7*time.Second || got.Listen.MaxClientConn != 77 || got.Auth.Users["report"] != "c" ||
		got.Effective("search", "").Size != 4 || len(got.Databases["search"].Users) != 1 ||
		got.Databases["search"].Hosts[0].Host != "elsewhere" || got.Databases["gone"] != nil || got.Databases["come"] == nil || got.Effective("self", "").Size != 9 {
		t.Errorf("not taken: %+v", got)
	}
	if got.Listen.addr[0] != was.Listen.addr[0] || got.Pool.SessionState != "preserve" || got.Databases["self"].User != "" || got.Effective("self", "").SessionState != "preserve" || got.Effective("come", "").SessionState != "strict" {
		t.Errorf("taken although it needs a restart: %+v", got)
	}
	all := strings.Join(notes, "\n")
	for _, want := range []string{"listen_addr (listen.addr) was changed", "session_state (pool.session_state) was changed", "databases.self: whether clients are themselves on the server", "session_state (databases.self.session_state) was changed"} {
		if !strings.Contains(all, want) {
			t.Errorf("no word of %q in %q", want, all)
		}
	}
	if len(notes) != 4 {
		t.Errorf("%d notes: %q", len(notes), notes)
	}
	if was.Pool.Size != 5 || was.Effective("search", "").Size != 3 {
		t.Error("the old configuration has changed")
	}
	if _, notes := was.Running(load(t, env, before)); len(notes) > 0 {
		t.Errorf("nothing was changed, but %q", notes)
	}
}

func TestWith(t *testing.T) {
	c := load(t, environ{}, "databases: {search: {dsn: 'postgres://o:p@h/d'}}")
	next, err := c.With("query_wait_timeout", "30")
	if err != nil || next.Pool.QueryWaitTimeout != 30*time.Second || c.Pool.QueryWaitTimeout == 30*time.Second {
		t.Errorf("%v %v %v", err, next.Pool.QueryWaitTimeout, c.Pool.QueryWaitTimeout)
	}
	for _, tt := range []struct {
		name, value string
		restart     bool
	}{
		{"listen_addr", ":1", true}, {"session_state", "ignore", true}, {"default_pool_size", "many", false}, {"min_pool_size", "21", false}, {"fish", "1", false}, {"dbname", "x", false},
	} {
		if _, err := c.With(tt.name, tt.value); err == nil || errors.Is(err, ErrRestart) != tt.restart {
			t.Errorf("%s=%s: %v", tt.name, tt.value, err)
		}
	}
}
