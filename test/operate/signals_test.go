package operate

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

// table makes a table of the test's own, and its DSN.
func table(t *testing.T, name string) (dsn string, cluster *postgres.Cluster) {
	t.Helper()
	cluster = postgres.ForTest(t)
	if err := cluster.Exec(within(t), "postgres", "drop table if exists "+name+"; create table "+name+" (n int)"); err != nil {
		t.Fatal(err)
	}
	return cluster.DSN("postgres:secret", "postgres"), cluster
}

func count(t *testing.T, cluster *postgres.Cluster, name string) string {
	t.Helper()
	rows, err := cluster.Query(within(t), "postgres", "select count(*) from "+name)
	if err != nil {
		t.Fatal(err)
	}
	return rows[0][0]
}

// lastWord reads what an idle client is told.
func lastWord(t *testing.T, c *pgconn.PgConn) string {
	t.Helper()
	_, err := c.ReceiveMessage(within(t))
	for err == nil {
		_, err = c.ReceiveMessage(within(t))
	}
	return code(err)
}

func TestSIGTERMDrains(t *testing.T) {
	dsn, cluster := table(t, "drained")
	p := serve(t, dsn, nil)
	busy, idle := p.mustDial(t, "postgres:secret", "postgres"), p.mustDial(t, "postgres:secret", "postgres")
	ask(t, idle, "select 1")
	ask(t, busy, "begin; insert into drained values (1)")
	p.signal(t, syscall.SIGTERM)
	if got := lastWord(t, idle); got != "57P01" {
		t.Errorf("an idle client was told %q", got)
	}
	if c, err := p.dial(t, "postgres:secret", "postgres", ""); err == nil {
		t.Errorf("a new client was taken: %v", c.PID())
	}
	if status, why := p.get(t, "/readyz"); status != 503 || !strings.Contains(why, "drain") {
		t.Errorf("readiness while draining: %d %s", status, why)
	}
	ask(t, busy, "insert into drained values (2)")
	ask(t, busy, "commit")
	if got := lastWord(t, busy); got != "57P01" {
		t.Errorf("the client whose transaction ended was told %q", got)
	}
	p.exit(t, 0)
	if n := count(t, cluster, "drained"); n != "2" {
		t.Errorf("%s rows", n)
	}
	p.waitLine(t, "pgpoold ended")
}

func TestWhatEndsADrain(t *testing.T) {
	dsn, cluster := table(t, "undrained")
	for _, tt := range []struct {
		name    string
		env     map[string]string
		signals []syscall.Signal
	}{
		{"SIGTERM twice", nil, []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}},
		{"SIGINT twice", nil, []syscall.Signal{syscall.SIGINT, syscall.SIGINT}},
		{"SIGTERM, SIGQUIT", nil, []syscall.Signal{syscall.SIGTERM, syscall.SIGQUIT}},
		{"drain_timeout", map[string]string{"PGPOOLD_DRAIN_TIMEOUT": "200ms"}, []syscall.Signal{syscall.SIGTERM}},
		{"SIGQUIT", nil, []syscall.Signal{syscall.SIGQUIT}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := map[string]string{"PGPOOLD_DRAIN_TIMEOUT": "0"}
			for k, v := range tt.env {
				env[k] = v
			}
			p := serve(t, dsn, env)
			busy := p.mustDial(t, "postgres:secret", "postgres")
			ask(t, busy, "begin; insert into undrained values (1)")
			for i, sig := range tt.signals {
				if i > 0 {
					p.waitLine(t, "draining") // signals of one kind are not counted
				}
				p.signal(t, sig)
			}
			p.exit(t, 0)
			if got := lastWord(t, busy); got != "57P01" {
				t.Errorf("the client was told %q", got)
			}
			if n := count(t, cluster, "undrained"); n != "0" {
				t.Errorf("%s rows of a transaction that did not end", n)
			}
		})
	}
}

func TestSIGHUPReadsTheLogLevel(t *testing.T) {
	cluster := postgres.ForTest(t)
	file := filepath.Join(t.TempDir(), "config.yaml")
	write := func(level string) {
		t.Helper()
		text := "log: {level: " + level + "}\ndatabases: {postgres: {dsn: '" + cluster.DSN("postgres:secret", "postgres") + "'}}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("warn")
	p := run(t, nil, "--config", file)
	p.waitReady(t) // whatever the level
	if _, body := p.get(t, "/api/v1/log_level"); body != `{"level":"warn"}` {
		t.Fatalf("level %s", body)
	}
	write("loud")
	p.signal(t, syscall.SIGHUP)
	p.waitLine(t, "reload: the configuration has mistakes")
	if _, body := p.get(t, "/api/v1/log_level"); body != `{"level":"warn"}` {
		t.Fatalf("level %s after a bad file", body)
	}
	write("debug")
	p.signal(t, syscall.SIGHUP)
	p.waitLine(t, "the configuration was read again")
	if _, body := p.get(t, "/api/v1/log_level"); body != `{"level":"debug"}` {
		t.Fatalf("level %s", body)
	}
	c := p.mustDial(t, "postgres:secret", "postgres")
	ask(t, c, "select 1")
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
}

// A connection that is lost is not a drain's to wait for.
func TestADrainWithoutClientsIsOver(t *testing.T) {
	dsn, _ := table(t, "empty")
	p := serve(t, dsn, map[string]string{"PGPOOLD_DRAIN_TIMEOUT": "0"})
	c := p.mustDial(t, "postgres:secret", "postgres")
	ask(t, c, "begin")
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
}
