package pooling_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/proxy"
	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) {
	code := postgres.Main(m)
	if program.dir != nil {
		if err := program.dir.Close(); err != nil && code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

// patience bounds waits that end at once where all is well.
const patience = 20 * time.Second

// within is a context that only guards against hanging.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var databases atomic.Int64

// newDB makes a database for one test, so that its servers can be told from
// those of others.
func newDB(t testing.TB, c *postgres.Cluster, sql ...string) string {
	t.Helper()
	name := fmt.Sprintf("%s_%d", strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "_")), databases.Add(1))
	if len(name) > 60 {
		name = name[len(name)-60:]
	}
	if err := c.Exec(within(t), "postgres", `create database "`+name+`"`); err != nil {
		t.Fatal(err)
	}
	for _, q := range sql {
		if err := c.Exec(within(t), name, q); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// start runs pgpoold with size servers in front of a database of the test's
// own. One server is always the same; of more the adversary never gives a
// session its last one.
func start(t testing.TB, size int, sql ...string) (*harness.Pgpoold, *postgres.Cluster, string) {
	t.Helper()
	c := postgres.ForTest(t)
	db := newDB(t, c, sql...)
	p := harness.Start(t, harness.Options{DSN: c.SuperDSN(db), Size: size, Lucky: size == 1})
	return p, c, db
}

// startYAML runs pgpoold with a configuration. The test's own part stands in
// text; auth, admin and log are added unless it has them.
func startYAML(t testing.TB, text string) *harness.Pgpoold {
	t.Helper()
	for _, part := range []string{"auth: {type: any}", "log: {level: debug}", "drain_timeout: 5s"} {
		key, _, _ := strings.Cut(part, ":")
		if !regexp.MustCompile(`(?m)^` + key + `:`).MatchString(text) {
			text = part + "\n" + text
		}
	}
	return harness.Start(t, harness.Options{YAML: text})
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(within(t), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// value is the first column of the first row.
func value(t testing.TB, c *postgres.Cluster, db, sql string) string {
	t.Helper()
	rows, err := c.Query(within(t), db, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(rows) == 0 {
		return ""
	}
	return rows[0][0]
}

// eventually waits until f returns "", which is what is still wrong.
func eventually(t testing.TB, f func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		wrong := f()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", patience, wrong)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// resting waits until no server works for anybody: on pgpoold's side every
// server is idle, on PostgreSQL's side too.
func resting(t testing.TB, p *harness.Pgpoold, c *postgres.Cluster, db string) {
	t.Helper()
	eventually(t, func() string {
		for _, s := range p.Server().Snapshot().Servers {
			if s.Database == db && s.State != "idle" {
				return fmt.Sprintf("server %d is %s", s.PID, s.State)
			}
		}
		return value(t, c, "postgres", fmt.Sprintf(
			"select state || ' ' || query from pg_stat_activity where datname = '%s' and backend_type = 'client backend' and state <> 'idle'", db))
	})
}

// waiting waits until n clients queue for a server.
func waiting(t testing.TB, p *harness.Pgpoold, n int) {
	t.Helper()
	eventually(t, func() string {
		got := 0
		for _, c := range p.Server().Snapshot().Clients {
			if c.State == "waiting" {
				got++
			}
		}
		if got != n {
			return fmt.Sprintf("%d clients wait, want %d", got, n)
		}
		return ""
	})
}

// clients waits until n clients are left.
func clients(t testing.TB, p *harness.Pgpoold, n int) {
	t.Helper()
	eventually(t, func() string {
		if got := len(p.Server().Snapshot().Clients); got != n {
			return fmt.Sprintf("%d clients, want %d", got, n)
		}
		return ""
	})
}

// running waits until the servers of db run a query that contains text.
func running(t testing.TB, c *postgres.Cluster, db, text string) {
	t.Helper()
	eventually(t, func() string {
		if value(t, c, "postgres", fmt.Sprintf(
			"select count(*) from pg_stat_activity where pid <> pg_backend_pid() and datname = '%s' and state = 'active' and query like '%%%s%%'", db, text)) == "0" {
			return text + " does not run"
		}
		return ""
	})
}

// closes is how many servers have been closed for a reason.
func closes(p *harness.Pgpoold, reason string) uint64 {
	return p.Server().Snapshot().Totals.ServerCloses[reason]
}

// clientOf is pgpoold's view of the client with this backend PID.
func clientOf(p *harness.Pgpoold, pid uint32) (proxy.ClientSnapshot, bool) {
	for _, c := range p.Server().Snapshot().Clients {
		if c.PID == pid {
			return c, true
		}
	}
	return proxy.ClientSnapshot{}, false
}

// code is the SQLSTATE of an error, or its text.
func code(err error) string {
	if err == nil {
		return ""
	}
	if pg := new(pgconn.PgError); asPg(err, &pg) {
		return pg.Code
	}
	return err.Error()
}
