package pooling_test

import (
	"fmt"
	"testing"
)

// TestStillNoticed: what docs/compatibility.md says that a session can notice.
func TestStillNoticed(t *testing.T) {
	p, c, db := start(t, 2)
	s := login(t, p.Addr(), "app", db, "application_name", "me")
	seen := map[string]bool{}
	for range 4 {
		seen[s.must("select pg_backend_pid()").cell()] = true
	}
	if len(seen) != 2 {
		t.Errorf("pg_backend_pid() tells %v over four transactions", seen)
	}
	s.must("begin")
	pid := s.must("select pg_backend_pid()").cell()
	if again := s.must("select pg_backend_pid()").cell(); again != pid {
		t.Errorf("pg_backend_pid() changes from %s to %s within a transaction", pid, again)
	}
	if seen[fmt.Sprint(s.pid)] {
		t.Error("the PID that the client was told is a server's")
	}
	if got := value(t, c, "postgres", "select application_name from pg_stat_activity where pid = "+pid); got != "me" {
		t.Errorf("pg_stat_activity tells application_name %q", got)
	}
	if n := s.must("select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'").cell(); n != "2" {
		t.Errorf("pg_stat_activity has %s rows for one client and two servers", n)
	}
	port := s.must("select inet_client_port()").cell()
	for _, server := range p.Server().Snapshot().Servers {
		if fmt.Sprint(server.PID) == pid && fmt.Sprint(server.LocalPort) != port {
			t.Errorf("inet_client_port() is %s, the server's connection has %d", port, server.LocalPort)
		}
	}
	s.must("commit")
	if got := s.must("select current_setting('app.noticed', true) is null").cell(); got != "t" {
		t.Errorf("a custom setting that nobody has named is null: %s", got)
	}
	other := login(t, p.Addr(), "other", db)
	for range 4 {
		other.must("begin; set local app.noticed = 'x'; commit")
	}
	if got := s.must("select current_setting('app.noticed', true)").cell(); got != "" {
		t.Errorf("a custom setting that another session has named reads %q", got)
	}
}
