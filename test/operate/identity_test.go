package operate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUpgradeKeepsIdentities: where each client is itself on the server, it
// is so in the successor, which has never seen its proof; PAUSE and DISABLE
// stand; a client that keeps its server is told to go in time.
func TestUpgradeKeepsIdentities(t *testing.T) {
	_, cluster := table(t, "identities")
	if err := cluster.Exec(within(t), "postgres", "drop role if exists one, two; create role one login password 'first'; create role two login password 'second'"); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf("pin_drain_timeout: 300ms\nauth: {users: {one: first, two: second, ops: ops}}\nadmin: {users: [ops]}\ndatabases: {'*': {dsn: 'postgres://%s'}, shut: {dsn: 'postgres://one:first@%s/postgres'}}\n",
		cluster.Addr(), cluster.Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := run(t, nil, "--config", config)
	p.waitReady(t)
	one, two, pinned := p.mustDial(t, "one:first", "postgres"), p.mustDial(t, "two:second", "postgres"), p.mustDial(t, "one:first", "postgres")
	ask(t, one, "select 1")
	ask(t, pinned, "listen news")
	ask(t, p.mustDial(t, "ops:ops", "pgbouncer"), "DISABLE shut")
	if said, code := p.upgradeBy(t); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	h := p.successor(t)
	if got := lastWord(t, pinned); got != "57P01" {
		t.Errorf("a client that keeps its server was told %q", got)
	}
	select {
	case <-p.process.Done(): // long before drain_timeout
	case <-time.After(20 * time.Second):
		t.Error("the process that leaves waits for a client that keeps its server")
	}
	p.exit(t, 0)
	if got := ask(t, one, "select current_user"); got[0] != "one" {
		t.Errorf("one is %s", got)
	}
	if got := ask(t, two, "select current_user"); got[0] != "two" {
		t.Errorf("two is %s", got)
	}
	if _, err := p.dial(t, "one:first", "shut", ""); code(err) != "57P03" {
		t.Errorf("a disabled database: %v", err)
	}
	if strings.Contains(p.log(), "first") || strings.Contains(p.log(), "second\"") {
		t.Error("the log has a secret")
	}
	h.signal(t, syscall.SIGTERM)
	h.exit(t)
}
