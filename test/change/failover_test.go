package change

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgpoold/proxy"
	"pgpoold/test/postgres"
)

// operator is a client of the console.
func operator(t testing.TB, p pooler) func(command string) {
	t.Helper()
	conn := console(t, p)
	return func(command string) {
		t.Helper()
		exec(t, conn, command)
	}
}

// command gives one command over a connection of its own.
func command(t testing.TB, p pooler, command string) {
	t.Helper()
	conn := console(t, p)
	exec(t, conn, command)
	_ = conn.Close(context.Background())
}

func console(t testing.TB, p pooler) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(p.DSN("ops:ops", "pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestRestartUnderPause: PostgreSQL is restarted behind a PAUSE, and no client
// hears of it.
func TestRestartUnderPause(t *testing.T) {
	t.Parallel()
	c := postgres.StartForTest(t, postgres.Config{})
	db := newDB(t, c)
	p := start(t, fmt.Sprintf("pool: {size: 3}\ndatabases: {%s: {dsn: %q}}\n", db, c.SuperDSN(db)))
	console := operator(t, p)
	b := keep(t, p, c, db, 8)
	for range 3 {
		b.goOn(100)
		console("PAUSE")
		if n := servers(p, ""); n != 0 {
			t.Errorf("%d servers after PAUSE", n)
		}
		if err := c.Restart(within(t)); err != nil {
			t.Fatal(err)
		}
		console("RESUME")
	}
	b.goOn(100)
	b.clean()
}

// TestRestartWithoutPause: those who are in a transaction when PostgreSQL goes
// see an error, once. Those who wait for a server, and those who come while
// there is none, wait until it is there again.
func TestRestartWithoutPause(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.StartForTest(t, postgres.Config{})
	db := newDB(t, c)
	p := start(t, fmt.Sprintf("pool: {size: 2}\ndatabases: {%s: {dsn: %q}}\n", db, c.SuperDSN(db)))
	inside, waits, comes := connect(t, p, "app", db), connect(t, p, "app", db), connect(t, p, "app", db)
	for _, mode := range []postgres.HaltMode{postgres.Fast, postgres.Immediate} {
		second := connect(t, p, "app", db)
		exec(t, inside, "begin")
		exec(t, second, "begin")
		queued := later(t, waits, "select 1")
		until(t, "a client waits", func() bool { return waiting(p) == 1 })
		c.Halt(mode)
		until(t, "the servers are gone", func() bool { return servers(p, db) == 0 })
		late := later(t, comes, "select 2")
		until(t, "two clients wait", func() bool { return waiting(p) == 2 })
		time.Sleep(2 * time.Second) // attempts to connect fail meanwhile
		if n := waiting(p); n != 2 {
			t.Errorf("%d clients wait", n)
		}
		if err := c.Resume(within(t)); err != nil {
			t.Fatal(err)
		}
		for what, done := range map[string]<-chan error{"the client that waited": queued, "the client that came": late} {
			if err := ended(t, what, done); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, conn := range []*pgx.Conn{inside, second} {
			if _, err := conn.Exec(within(t), "select 1"); !strings.HasPrefix(told(err).Code, "57P0") && told(err).Code != "08006" {
				t.Errorf("the client in a transaction: %v", err)
			}
		}
		inside = connect(t, p, "app", db)
	}
	// Under load each client sees at most one error for each restart.
	b := keep(t, p, c, db, 6)
	b.goOn(100)
	if err := c.Restart(within(t)); err != nil {
		t.Fatal(err)
	}
	b.goOn(100)
	errs := b.close()
	seen := map[string]int{}
	for _, err := range errs {
		who, _, _ := strings.Cut(err.Error(), ",")
		if seen[who]++; seen[who] > 1 {
			t.Errorf("%s sees more than one error: %v", who, errs)
			break
		}
	}
	if len(seen) > 2 {
		t.Errorf("%d clients see an error, but only two can have had a server: %v", len(seen), errs)
	}
}

// TestFailover: with two hosts and target_session_attrs the pool follows the
// primary to where a standby has been promoted. Under PAUSE nobody notices;
// without it only those see an error who had a server.
func TestFailover(t *testing.T) {
	for name, pause := range map[string]bool{"paused": true, "unannounced": false} {
		t.Run(name, func(t *testing.T) { failOver(t, pause) })
	}
}

func failOver(t *testing.T, pause bool) {
	t.Parallel()
	first := postgres.StartForTest(t, postgres.Config{Settings: map[string]string{"wal_level": "replica", "hot_standby": "on", "synchronous_commit": "remote_apply"}})
	db := newDB(t, first)
	second, err := first.Standby(within(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Stop() })
	// What was acknowledged is on both, or it could be lost with the first.
	for _, sql := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		if err := first.Exec(within(t), "postgres", sql); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the standby follows", func() bool {
		rows, err := first.Query(within(t), "postgres", "select sync_state from pg_stat_replication")
		return err == nil && len(rows) == 1 && rows[0][0] == "sync"
	})
	dsn := func(attrs string) string {
		return fmt.Sprintf("postgres://%s@%s,%s/%s?sslmode=disable&target_session_attrs=%s", postgres.Superuser, second.Addr(), first.Addr(), db, attrs)
	}
	p := start(t, fmt.Sprintf("pool: {size: 3}\ndatabases:\n  %s: {dsn: %q}\n  readers: {dsn: %q}\n", db, dsn("read-write"), dsn("standby")))
	var standby bool
	if err := connect(t, p, "app", "readers").QueryRow(within(t), "select pg_is_in_recovery()").Scan(&standby); err != nil || !standby {
		t.Errorf("the reader's server: standby %v, %v", standby, err)
	}
	b := keep(t, p, first, db, 6)
	b.goOn(100)
	console := operator(t, p)
	// fail moves the primary from one to the other, without a word or under
	// PAUSE.
	fail := func(from, to *postgres.Cluster) {
		t.Helper()
		from.Halt(postgres.Fast)
		for _, sql := range []string{"alter system reset synchronous_standby_names", "select pg_promote()", "select pg_reload_conf()"} {
			if err := to.Exec(within(t), "postgres", sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	if pause {
		console("PAUSE " + db)
	}
	fail(first, second)
	if pause {
		console("RESUME " + db)
	}
	b.cluster = second
	b.goOn(100)
	errs := b.close()
	if most := map[bool]int{true: 0, false: 3}[pause]; len(errs) > most {
		t.Errorf("clients saw %d errors, at most %d can have had a server: %v", len(errs), most, errs)
	}
	addrs := []string{}
	for _, s := range p.Server().Snapshot().Servers {
		if s.Database == db {
			addrs = append(addrs, fmt.Sprint(s.Port))
		}
	}
	slices.Sort(addrs)
	if addrs = slices.Compact(addrs); len(addrs) != 1 || addrs[0] != fmt.Sprint(second.Port()) {
		t.Errorf("servers at %v, not %d", addrs, second.Port())
	}
}

// isPID finds a client as pgpoold sees it.
func isPID(conn *pgx.Conn) func(proxy.ClientSnapshot) bool {
	return func(c proxy.ClientSnapshot) bool { return c.PID == conn.PgConn().PID() }
}

// TestPinsDoNotHoldThePause: a client that keeps its server and asks nothing
// is told to go after pin_drain_timeout, by PAUSE, RECONNECT and a reload
// alike; one in a transaction may end it.
func TestPinsDoNotHoldThePause(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := start(t, fmt.Sprintf("pin_drain_timeout: 1s\npool: {size: 6}\ndatabases: {%s: {dsn: %q}}\n", db, c.SuperDSN(db)))
	console := operator(t, p)
	for _, command := range []string{"PAUSE", "RECONNECT"} {
		t.Run(command, func(t *testing.T) {
			pinned, busy := connect(t, p, "app", db), connect(t, p, "app", db)
			exec(t, pinned, "listen news")
			exec(t, busy, "listen news")
			exec(t, busy, "begin")
			done := make(chan struct{})
			go func() {
				defer close(done)
				console(command)
				if command == "RECONNECT" {
					console("WAIT_CLOSE")
				}
			}()
			var err error
			until(t, "the pinned client is ended", func() bool {
				return !slices.ContainsFunc(p.Server().Snapshot().Clients, isPID(pinned))
			})
			if _, err = pinned.Exec(within(t), "select 1"); told(err).Code != "57P01" || !strings.Contains(told(err).Detail, "pin_drain_timeout") {
				t.Errorf("the pinned client: %v, %s", err, told(err).Detail)
			}
			exec(t, busy, "select 1")
			exec(t, busy, "commit")
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatalf("%s does not end", command)
			}
			if command == "PAUSE" {
				console("RESUME")
			}
			if !strings.Contains(p.Log(), "waiting for a session that keeps its server") {
				t.Error("the log does not say whom it waits for")
			}
			exec(t, connect(t, p, "app", db), "select 1")
		})
	}
}
