package console

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// load is clients that run one transaction after the other and count what
// went wrong.
type load struct {
	stop   atomic.Bool
	runs   atomic.Int64
	errors atomic.Int64
	first  atomic.Pointer[error]
	wg     sync.WaitGroup
}

func (s *scene) load(clients int) *load {
	s.t.Helper()
	l := &load{}
	ctx := within(s.t)
	for range clients {
		conn := s.client("load")
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			for !l.stop.Load() {
				err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, "select 1")
					return err
				})
				if err != nil {
					l.errors.Add(1)
					l.first.CompareAndSwap(nil, &err)
					return
				}
				l.runs.Add(1)
			}
		}()
	}
	return l
}

// moved waits until the load has done more.
func (l *load) moved(t testing.TB) {
	t.Helper()
	was := l.runs.Load()
	until(t, "more transactions", func() bool { return l.runs.Load() > was+20 || l.errors.Load() > 0 })
}

func (l *load) end(t testing.TB) {
	t.Helper()
	l.stop.Store(true)
	l.wg.Wait()
	if n := l.errors.Load(); n > 0 {
		t.Errorf("%d clients failed; the first: %v", n, *l.first.Load())
	}
}

func TestPauseUnderLoad(t *testing.T) {
	s := set(t, "size: 3", "")
	l := s.load(6)
	l.moved(t)
	ops := s.console("ops")
	for _, cmd := range [][2]string{{"PAUSE", "RESUME"}, {"PAUSE search", "RESUME search"}, {"PAUSE search", "RESUME"}} {
		exec(t, ops, cmd[0])
		// Nothing is connected, and whoever asks waits.
		if n := s.one("DATABASES", "name", "search")["current_connections"]; n != "0" {
			t.Errorf("%s: %s servers are left", cmd[0], n)
		}
		until(t, "all wait", func() bool { return s.pool()["cl_waiting"] == "6" })
		if r := s.one("DATABASES", "name", "search"); r["paused"] != "1" || s.pool()["paused"] != "1" {
			t.Errorf("%s: paused %s", cmd[0], r["paused"])
		}
		was := l.runs.Load()
		time.Sleep(50 * time.Millisecond)
		if n := l.runs.Load(); n != was {
			t.Errorf("%s: %d transactions ran", cmd[0], n-was)
		}
		exec(t, ops, cmd[1])
		l.moved(t)
	}
	l.end(t)
	for _, cmd := range []string{"RESUME", "RESUME search"} {
		if _, err := ops.Exec(within(t), cmd); code(err) != "08P01" || !strings.Contains(err.Error(), "not paused") {
			t.Errorf("%s of what is not paused: %v", cmd, err)
		}
	}
}

// PAUSE waits for what is open, and only answers its own console.
func TestPauseWaitsForTransactions(t *testing.T) {
	s := set(t, "size: 2", "")
	busy, idle := s.client("busy"), s.client("idle")
	exec(t, busy, "begin")
	exec(t, idle, "select 1")
	pause := later(t, s.console("ops"), "PAUSE search")
	until(t, "paused", func() bool { return s.pool()["paused"] == "1" })
	exec(t, busy, "select 1") // its transaction goes on
	waiter := later(t, idle, "select 2")
	until(t, "a waiter", func() bool { return s.pool()["cl_waiting"] == "1" })
	other := s.console("ops")
	exec(t, other, "SHOW VERSION")
	if !pending(pause) || !pending(waiter) {
		t.Fatal("PAUSE did not wait")
	}
	exec(t, busy, "commit")
	if err := ended(t, "PAUSE", pause); err != nil {
		t.Fatal(err)
	}
	if !pending(waiter) {
		t.Fatal("somebody got a server")
	}
	exec(t, other, "RESUME search")
	if err := ended(t, "the waiter", waiter); err != nil {
		t.Fatal(err)
	}
}

// Ctrl-C on a PAUSE that waits undoes that PAUSE, and nothing else.
func TestCancelOfAPause(t *testing.T) {
	s := set(t, "size: 2", "  other: {dsn: 'postgres://x@127.0.0.1:1/x'}")
	busy := s.client("busy")
	exec(t, busy, "begin")
	first, second := s.console("ops"), s.console("ops")
	exec(t, second, "PAUSE other")
	pause := later(t, first, "PAUSE search")
	until(t, "paused", func() bool { return s.pool()["paused"] == "1" })
	if err := first.PgConn().CancelRequest(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := ended(t, "PAUSE", pause); code(err) != "57014" {
		t.Fatalf("a cancelled PAUSE: %v", err)
	}
	if s.pool()["paused"] != "0" {
		t.Error("search is still paused")
	}
	if s.one("DATABASES", "name", "other")["paused"] != "1" {
		t.Error("the other one is not paused any more")
	}
	exec(t, first, "SHOW VERSION") // the console lives
	exec(t, busy, "commit")
	exec(t, s.client("new"), "select 1")
	// RESUME from another console ends the one that waits.
	exec(t, busy, "begin")
	pause = later(t, first, "PAUSE search")
	until(t, "paused", func() bool { return s.pool()["paused"] == "1" })
	exec(t, second, "RESUME search")
	if err := ended(t, "PAUSE", pause); code(err) != "08P01" {
		t.Fatalf("an undone PAUSE: %v", err)
	}
	exec(t, busy, "commit")
}

func TestKillAndResume(t *testing.T) {
	s := set(t, "size: 2", "")
	ops := s.console("ops")
	for _, kill := range []string{"KILL search", "KILL"} {
		busy, idle := s.client("busy"), s.client("idle")
		running := later(t, busy, "select pg_sleep(60)")
		s.sleeps(1)
		exec(t, ops, kill)
		if err := ended(t, "the query", running); code(err) != "57P01" {
			t.Errorf("%s: a running query: %v", kill, err)
		}
		s.sleeps(0) // what they ran ends, too
		if err := idle.Ping(within(t)); err == nil {
			t.Errorf("%s: an idle client lives", kill)
		}
		until(t, "no servers", func() bool { return s.one("DATABASES", "name", "search")["current_connections"] == "0" })
		// A new client waits, until RESUME.
		connected := make(chan error, 1)
		go func() {
			conn, err := pgx.Connect(context.Background(), s.p.DSN("app:app", "search"))
			if err == nil {
				_, err = conn.Exec(context.Background(), "select 1")
				_ = conn.Close(context.Background())
			}
			connected <- err
		}()
		until(t, "it waits", func() bool { return s.pool()["cl_waiting"] == "1" })
		exec(t, ops, "RESUME")
		if err := ended(t, "the new client", connected); err != nil {
			t.Errorf("%s: after RESUME: %v", kill, err)
		}
	}
}

func TestReconnectUnderLoad(t *testing.T) {
	s := set(t, "size: 3, min_size: 3", "")
	l := s.load(4)
	l.moved(t)
	pids := func() map[string]bool {
		all := map[string]bool{}
		for _, r := range s.show("SERVERS") {
			all[r["remote_pid"]] = true
		}
		return all
	}
	before := pids()
	pinned := s.client("busy")
	exec(t, pinned, "begin")
	ops := s.console("ops")
	exec(t, ops, "RECONNECT search")
	wait := later(t, ops, "WAIT_CLOSE search")
	l.moved(t)
	if !pending(wait) {
		t.Error("WAIT_CLOSE did not wait for an open transaction")
	}
	if n := 0; s.one("SERVERS", "close_needed", "1")["type"] != "S" {
		t.Errorf("no server is marked (%d)", n)
	}
	exec(t, pinned, "commit")
	if err := ended(t, "WAIT_CLOSE", wait); err != nil {
		t.Fatal(err)
	}
	l.moved(t)
	for pid := range pids() {
		if before[pid] {
			t.Errorf("backend %s is still there", pid)
		}
	}
	l.end(t)
}

func TestDisableAndKillClient(t *testing.T) {
	s := set(t, "size: 2", "")
	in := s.client("in")
	ops := s.console("ops")
	exec(t, ops, "DISABLE search")
	if _, err := pgx.Connect(within(t), s.p.DSN("app:app", "search")); code(err) != "57P03" || !strings.Contains(err.Error(), `database "search" is disabled`) {
		t.Errorf("a new client: %v", err)
	}
	if s.one("DATABASES", "name", "search")["disabled"] != "1" {
		t.Error("SHOW DATABASES does not say so")
	}
	exec(t, in, "select 1")
	exec(t, ops, "ENABLE search")
	exec(t, s.client("new"), "select 1")
	id := s.one("CLIENTS", "application_name", "in")["id"]
	exec(t, ops, "KILL_CLIENT "+id)
	until(t, "it is closed", func() bool { return in.Ping(within(t)) != nil })
	for _, cmd := range []string{"PAUSE", "RESUME", "KILL", "DISABLE search", "RECONNECT", "RELOAD", "SHUTDOWN", "KILL_CLIENT 1", "SET log_level = debug", "WAIT_CLOSE"} {
		if _, err := s.console("grafana").Exec(within(t), cmd); code(err) != "08P01" || !strings.Contains(err.Error(), "admin access needed") {
			t.Errorf("a stats user's %s: %v", cmd, err)
		}
	}
}

func TestSetUnderLoad(t *testing.T) {
	s := set(t, "size: 4", "")
	l := s.load(4)
	l.moved(t)
	ops := s.console("ops")
	exec(t, ops, "SET default_pool_size = 1")
	until(t, "one server", func() bool { return s.one("DATABASES", "name", "search")["current_connections"] == "1" })
	if s.one("DATABASES", "name", "search")["pool_size"] != "1" || s.one("CONFIG", "key", "default_pool_size")["value"] != "1" {
		t.Error("the tables do not say so")
	}
	l.moved(t)
	exec(t, ops, "SET default_pool_size = 4")
	until(t, "more servers", func() bool { return s.one("DATABASES", "name", "search")["current_connections"] != "1" })
	_, err := ops.Exec(within(t), "SET listen_addr = ':1'")
	if code(err) != "08P01" || !strings.Contains(err.Error(), "SET failed") {
		t.Errorf("what needs a restart: %v", err)
	}
	exec(t, ops, "RELOAD") // the file's again
	l.end(t)
}

// Every way in which a driver asks does.
func TestConsoleForDrivers(t *testing.T) {
	s := set(t, "size: 1", "")
	c := s.console("ops")
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for _, table := range []string{"POOLS", "STATS", "LISTS", "EXTENDED SERVERS"} {
			rows, err := c.Query(within(t), "SHOW "+table, mode)
			if err != nil {
				t.Fatal(mode, table, err)
			}
			all, err := pgx.CollectRows(rows, pgx.RowToMap)
			if err != nil || len(all) == 0 && table != "EXTENDED SERVERS" {
				t.Errorf("%v: SHOW %s: %d rows, %v", mode, table, len(all), err)
			}
		}
		err := pgx.BeginFunc(within(t), c, func(tx pgx.Tx) error { // as drivers do it
			if _, err := tx.Exec(within(t), "SHOW VERSION", mode); err != nil {
				return err
			}
			_, err := tx.Exec(within(t), "SHOW fish", mode)
			return err
		})
		if code(err) != "08P01" || !strings.Contains(err.Error(), "invalid command 'SHOW fish', use SHOW HELP;") {
			t.Errorf("%v: %v", mode, err)
		}
		if mode == pgx.QueryExecModeSimpleProtocol {
			continue // pgx puts constants in, and the console takes names
		}
		for _, sql := range []string{"PAUSE $1", "RESUME $1", "RECONNECT $1", "DISABLE $1", "ENABLE $1"} {
			if _, err := c.Exec(within(t), sql, mode, "search"); err != nil {
				t.Errorf("%v: %s: %v", mode, sql, err)
			}
		}
		if _, err := c.Exec(within(t), "SET default_pool_size = $1", mode, "3"); err != nil {
			t.Errorf("%v: %v", mode, err)
		}
	}
	if n := s.one("DATABASES", "name", "search")["pool_size"]; n != "3" {
		t.Errorf("pool_size %s", n)
	}
}
