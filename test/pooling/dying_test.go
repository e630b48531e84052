package pooling_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// backends are the PIDs of the servers of db that nobody uses.
func backends(p *harness.Pgpoold, db string) []int {
	var pids []int
	for _, s := range p.Server().Snapshot().Servers {
		if s.Database == db {
			pids = append(pids, int(s.PID))
		}
	}
	return pids
}

// endUnread ends servers with 57P01 after a client has sent something to one
// of them, which none of them will read: they are stopped meanwhile.
func endUnread(t testing.TB, p *harness.Pgpoold, db string, send func()) {
	t.Helper()
	var pids []int
	eventually(t, func() string {
		if pids = backends(p, db); len(pids) < 2 {
			return "a server is missing"
		}
		return ""
	})
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	send()
	// The query is in a stopped server's socket once pgpoold has attached it.
	eventually(t, func() string {
		for _, s := range p.Server().Snapshot().Servers {
			if s.Database == db && s.State == "active" {
				return ""
			}
		}
		return "no server is active"
	})
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// TestEndedBeforeItRead: a server that was told to end while it was idle has
// not read the query that pgpoold sent it a moment later; another one runs it
// and the client sees nothing of that.
func TestEndedBeforeItRead(t *testing.T) {
	text := "insert into t values (7) returning a"
	named := []pgproto3.FrontendMessage{bind("mine"), &pgproto3.Execute{}, &pgproto3.Sync{}}
	for _, test := range []struct {
		name  string
		setup func(c *peer)
		msgs  []pgproto3.FrontendMessage
		types string
	}{
		{"Query", nil, []pgproto3.FrontendMessage{sql(text)}, "TDCZ"},
		{"BEGIN", nil, []pgproto3.FrontendMessage{sql("begin")}, "CZ"},
		{"PREPARE", nil, []pgproto3.FrontendMessage{sql("prepare px as select 7")}, "CZ"},
		{"batch", nil, append(batch(text), &pgproto3.Sync{}), "12DCZ"},
		{"batch with Describe", nil, []pgproto3.FrontendMessage{parse("", text), &pgproto3.Describe{ObjectType: 'S'}, bind(""), &pgproto3.Execute{}, &pgproto3.Sync{}}, "1tT2DCZ"},
		{"named statement", func(c *peer) { c.send(parse("mine", text), &pgproto3.Sync{}); c.read() }, named, "2DCZ"},
		{"unnamed statement of before", func(c *peer) { c.send(parse("", text), &pgproto3.Sync{}); c.read() },
			[]pgproto3.FrontendMessage{bind(""), &pgproto3.Execute{}, &pgproto3.Sync{}}, "2DCZ"},
		{"Parse that others have made", func(c *peer) {
			// Every server has it, so its ParseComplete is made up.
			for range 4 {
				c.send(parse("other", text), &pgproto3.Sync{})
				c.read()
				c.send(&pgproto3.Close{ObjectType: 'S', Name: "other"}, &pgproto3.Sync{})
				c.read()
			}
		}, append([]pgproto3.FrontendMessage{parse("mine", text)}, named...), "12DCZ"},
		{"with settings to bring", func(c *peer) { c.must("set timezone = 'Asia/Tokyo'") }, []pgproto3.FrontendMessage{sql(text)}, "TDCZ"},
		{"batch with settings to bring", func(c *peer) { c.must("set datestyle = 'German'") }, append(batch(text), &pgproto3.Sync{}), "12DCZ"},
		{"named statement with settings", func(c *peer) {
			c.must("set datestyle = 'German'")
			c.send(parse("mine", text), &pgproto3.Sync{})
			c.read()
		}, named, "2DCZ"},
		{"Flush", nil, append(batch(text), &pgproto3.Flush{}, &pgproto3.Sync{}), "12DCZ"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, c, db := start(t, 2, "create table t (a int)")
			client := login(t, p.Addr(), "app", db)
			if test.setup != nil {
				test.setup(client)
			}
			other := login(t, p.Addr(), "other", db)
			other.must("select 1")
			for range 3 {
				before := len(client.must("select a from t").rows)
				if test.name == "unnamed statement of before" {
					test.setup(client)
				}
				resting(t, p, c, db)
				endUnread(t, p, db, func() { client.send(test.msgs...) })
				r := client.read()
				if after := map[string]string{"BEGIN": "commit", "PREPARE": "deallocate px"}[test.name]; after != "" && r.types == test.types {
					client.must(text)
					client.must(after)
				} else if r.types != test.types || r.cell() != "7" {
					t.Fatalf("got %s, want %s", r, test.types)
				}
				if r := other.query("select 1"); r.code() != "" {
					t.Fatalf("another client got %s", r)
				}
				if n := len(client.must("select a from t").rows); n != before+1 {
					t.Fatalf("%d rows more", n-before)
				}
				if strings.HasPrefix(test.name, "Parse") {
					client.send(&pgproto3.Close{ObjectType: 'S', Name: "mine"}, &pgproto3.Sync{})
					client.read()
				}
			}
			if want := map[bool]string{true: "Asia/Tokyo"}[test.name == "with settings to bring"]; want != "" && client.show("timezone") != want {
				t.Errorf("the setting is lost")
			}
		})
	}
}

// TestEndedAfterItRead: what a server may have begun is not run again.
func TestEndedAfterItRead(t *testing.T) {
	p, c, db := start(t, 2, "create table t (a int)")
	for name, msgs := range map[string][]pgproto3.FrontendMessage{
		"Query":                 {sql("insert into t values (1); commit; select pg_sleep(300)")},
		"batch":                 append(batch("insert into t select 1 from pg_sleep(300)"), &pgproto3.Sync{}),
		"pipeline, half unread": {sql("insert into t values (1); commit; select pg_sleep(300)"), sql("insert into t values (1)")},
	} {
		value(t, c, db, "truncate t")
		client := login(t, p.Addr(), "app", db)
		client.send(msgs[0])
		if len(msgs) > 1 && name == "batch" {
			client.send(msgs[1:]...)
		}
		running(t, c, db, "pg_sleep")
		if name == "pipeline, half unread" {
			client.send(msgs[1])
			sleepUntil(within(t), 50*time.Millisecond) // usually it is in the server's socket then
		}
		value(t, c, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+db+"' and state = 'active'")
		r := client.read()
		if r.code() != "57P01" || r.err.Severity != "FATAL" || r.status != 0 {
			t.Errorf("%s: got %s", name, r)
		}
		clients(t, p, 0)
		resting(t, p, c, db)
		if n := value(t, c, db, "select count(*) from t"); n > "1" {
			t.Errorf("%s: it ran %s times", name, n)
		}
	}
}

// TestServerDies: in a transaction its client gets PostgreSQL's own word, and
// 08006 if there was none; others notice nothing.
func TestServerDies(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	r := newRelay(t, c.Addr())
	p := startYAML(t, fmt.Sprintf("pool: {size: 2}\ndatabases: {%q: {dsn: %q}}\n", db, r.dsn(c, db)))
	other := login(t, p.Addr(), "other", db)
	for _, test := range []struct {
		name, code string
		die        func(pid string)
	}{
		{"terminated", "57P01", func(pid string) { value(t, c, "postgres", "select pg_terminate_backend("+pid+")") }},
		{"cut", "08006", func(string) { r.cut((*net.TCPConn).Close) }},
		{"reset", "08006", func(string) {
			r.cut(func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() })
		}},
	} {
		for _, busy := range []bool{false, true} {
			client := login(t, p.Addr(), "app", db)
			client.must("begin")
			pid := client.must("select pg_backend_pid()").cell()
			if busy {
				client.send(sql("select pg_sleep(300)"))
				running(t, c, db, "pg_sleep")
			}
			test.die(pid)
			got := client.read()
			if got.code() != test.code || got.err.Severity != "FATAL" {
				t.Errorf("%s, busy=%v: got %s, want FATAL %s", test.name, busy, got, test.code)
			}
			if got := other.query("select 1"); got.code() != "" {
				t.Errorf("%s, busy=%v: another client got %s", test.name, busy, got)
			}
		}
		value(t, c, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+db+"' and query like '%pg_sleep(300)%'")
	}
}

// TestIdleServersTerminated: all idle servers end while many clients are about
// to begin: none of them sees an error. In each round the signals are sent
// first, so no server reads a query of the round.
func TestIdleServersTerminated(t *testing.T) {
	n, rounds := 200, 15
	if testing.Short() {
		n = 50
	}
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (a int)")
	p := startYAML(t, fmt.Sprintf("pool: {size: 10, min_size: 10, round_robin: true, server_login_retry: 1s}\ndatabases: {%q: {dsn: %q}}\n", db, c.SuperDSN(db)))
	var turn sync.WaitGroup
	ctx := within(t)
	begin := make([]chan struct{}, n)
	var failed atomic.Int64
	for i := range n {
		begin[i] = make(chan struct{}, 1)
		dsn := p.DSN(fmt.Sprintf("app%d", i), db)
		if i%3 == 0 {
			dsn += "&timezone=Asia/Tokyo"
		}
		if i%5 == 0 {
			dsn += "&application_name=app" + fmt.Sprint(i)
		}
		if i%4 == 0 {
			dsn += "&default_query_exec_mode=simple_protocol"
		}
		if i%4 == 1 {
			dsn += "&default_query_exec_mode=exec"
		}
		conn := connect(t, dsn)
		go func() {
			for range begin[i] {
				for q := range 3 {
					var err error
					var got int
					switch (i + q) % 3 {
					case 0:
						err = conn.QueryRow(ctx, "select $1::int", i).Scan(&got)
					case 1:
						err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return tx.QueryRow(ctx, "select $1::int + 0", i).Scan(&got) })
					case 2:
						err = conn.QueryRow(ctx, "insert into t values ($1) returning a", i).Scan(&got)
					}
					if err == nil && got != i {
						err = fmt.Errorf("asked for %d, got %d", i, got)
					}
					if err != nil {
						if failed.Add(1) < 10 {
							t.Errorf("client %d, query %d: %v", i, q, err)
						}
						break
					}
				}
				turn.Done()
			}
		}()
	}
	inserts := 0
	for round := range rounds {
		killed := value(t, c, "postgres", "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '"+db+"' and state = 'idle'")
		turn.Add(n)
		for i := range n {
			begin[i] <- struct{}{}
		}
		turn.Wait()
		inserts += n
		if killed == "0" {
			t.Errorf("round %d: no server was there to be terminated", round)
		}
		if t.Failed() {
			break
		}
	}
	for i := range n {
		close(begin[i])
	}
	if got := value(t, c, db, "select count(*) from t"); !t.Failed() && got != fmt.Sprint(inserts) {
		t.Errorf("%s rows, want %d", got, inserts)
	}
	if got := closes(p, "server_error"); got < uint64(rounds) {
		t.Errorf("only %d servers ended", got)
	}
}

// TestNotThere: pgpoold starts without PostgreSQL, says why it is not ready,
// and serves when PostgreSQL comes.
func TestNotThere(t *testing.T) {
	postgres.SkipBrief(t)
	c := postgres.StartForTest(t, postgres.Config{})
	c.Halt(postgres.Fast)
	p := startYAML(t, fmt.Sprintf("pool: {size: 2, server_login_retry: 1s}\ndatabases: {postgres: {dsn: %q}}\n", c.SuperDSN("postgres")))
	eventually(t, func() string {
		ok, reason := p.Server().Ready()
		if ok || !strings.Contains(reason, "refused") {
			return fmt.Sprintf("ready: %v, %s", ok, reason)
		}
		return ""
	})
	_, r := tryLogin(t, p.Addr(), "app", "postgres")
	if r.code() != "57P03" || !strings.Contains(r.err.Message, "refused") || r.err.Severity != "FATAL" {
		t.Errorf("got %s", r)
	}
	if err := c.Resume(within(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if ok, reason := p.Server().Ready(); !ok {
			return reason
		}
		return ""
	})
	s := login(t, p.Addr(), "app", "postgres")
	s.must("select 1")
	// Away again: the session survives and hears the cause, then works.
	c.Halt(postgres.Fast)
	eventually(t, func() string {
		r := s.query("select 1")
		if r.code() != "57P03" || r.err.Severity != "ERROR" || r.status != 'I' {
			return "got " + r.String()
		}
		return ""
	})
	if err := c.Resume(within(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if r := s.query("select 1"); r.code() != "" {
			return "got " + r.String()
		}
		return ""
	})
	if n := strings.Count(p.Log(), "cannot connect to the server"); n > 6 {
		t.Errorf("the cause was logged %d times", n)
	}
}

// TestRestartUnderLoad: clients see nothing but the errors of a restart, and
// work again afterwards.
func TestRestartUnderLoad(t *testing.T) {
	postgres.SkipBrief(t)
	c := postgres.StartForTest(t, postgres.Config{Durable: true})
	if err := c.Exec(within(t), "postgres", "create table t (a int)"); err != nil {
		t.Fatal(err)
	}
	p := startYAML(t, fmt.Sprintf("pool: {size: 5, server_login_retry: 1s}\ndatabases: {postgres: {dsn: %q}}\n", c.SuperDSN("postgres")))
	allowed := map[string]bool{"57P01": true, "57P02": true, "57P03": true, "08006": true}
	ctx, cancel := context.WithCancel(within(t))
	var wg sync.WaitGroup
	var good atomic.Int64
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var conn *pgx.Conn
			for ctx.Err() == nil {
				var err error
				if conn == nil || conn.IsClosed() {
					if conn, err = pgx.Connect(context.Background(), p.DSN("app", "postgres")); err != nil {
						if !allowed[code(err)] {
							t.Errorf("login: %v", err)
							return
						}
						continue
					}
				}
				_, err = conn.Exec(context.Background(), "insert into t values ($1)", i)
				switch {
				case err == nil:
					good.Add(1)
				case allowed[code(err)]:
				default:
					t.Errorf("query: %v", err)
					return
				}
			}
			if conn != nil {
				_ = conn.Close(context.Background())
			}
		}()
	}
	enough := func() {
		from := good.Load()
		eventually(t, func() string {
			if good.Load() < from+200 {
				return fmt.Sprintf("%d queries", good.Load()-from)
			}
			return ""
		})
	}
	for _, how := range []postgres.HaltMode{postgres.Fast, postgres.Immediate} {
		enough()
		c.Halt(how)
		if err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
	}
	enough()
	cancel()
	wg.Wait()
	var rows int64
	if _, err := fmt.Sscan(value(t, c, "postgres", "select count(*) from t"), &rows); err != nil || rows < good.Load() {
		t.Errorf("%d rows of %d inserts that succeeded", rows, good.Load())
	}
}

// TestSwallowedPackets: a server connection that is silently dead is found out
// by the check before it is used.
func TestSwallowedPackets(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	r := newRelay(t, c.Addr())
	p := startYAML(t, fmt.Sprintf("pool: {size: 1, server_check_delay: 1ms}\ndatabases: {%q: {dsn: %q}}\n", db, r.dsn(c, db)))
	s := login(t, p.Addr(), "app", db)
	pid := s.must("select pg_backend_pid()").cell()
	sleepUntil(within(t), 10*time.Millisecond) // longer than server_check_delay
	if got := s.must("select pg_backend_pid()").cell(); got != pid {
		t.Errorf("a server that lives was replaced")
	}
	r.swallow()
	sleepUntil(within(t), 10*time.Millisecond)
	if got := s.must("select pg_backend_pid()").cell(); got == pid {
		t.Errorf("the server has answered through a relay that passes nothing on")
	}
}

// relay stands between pgpoold and PostgreSQL and passes bytes on until it is
// told to misbehave. Its goroutines end with the test.
type relay struct {
	ln net.Listener
	to string
	wg sync.WaitGroup

	mu    sync.Mutex
	pairs [][2]*net.TCPConn // guarded by mu: pgpoold's side, PostgreSQL's side
	mute  []*atomic.Bool    // guarded by mu: one for each pair
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{ln: ln, to: to}
	r.wg.Add(1)
	go r.accept()
	t.Cleanup(func() {
		_ = ln.Close()
		r.cut((*net.TCPConn).Close)
		r.wg.Wait()
	})
	return r
}

func (r *relay) dsn(c *postgres.Cluster, db string) string {
	return strings.Replace(c.SuperDSN(db), r.to, r.ln.Addr().String(), 1)
}

func (r *relay) accept() {
	defer r.wg.Done()
	for {
		a, err := r.ln.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", r.to)
		if err != nil {
			_ = a.Close()
			continue
		}
		left, right, mute := a.(*net.TCPConn), b.(*net.TCPConn), new(atomic.Bool)
		r.mu.Lock()
		r.pairs = append(r.pairs, [2]*net.TCPConn{left, right})
		r.mute = append(r.mute, mute)
		r.mu.Unlock()
		r.wg.Add(2)
		go r.pass(right, left, mute)
		go r.pass(left, right, mute)
	}
}

func (r *relay) pass(to, from *net.TCPConn, mute *atomic.Bool) {
	defer r.wg.Done()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !mute.Load() {
			if _, err := to.Write(b[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = to.CloseWrite()
			} else {
				_ = to.Close()
			}
			return
		}
	}
}

// swallow makes the connections of now pass nothing on any more.
func (r *relay) swallow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.mute {
		m.Store(true)
	}
}

// cut ends every connection on pgpoold's side with end, and PostgreSQL's.
func (r *relay) cut(end func(*net.TCPConn) error) {
	r.mu.Lock()
	pairs := r.pairs
	r.pairs, r.mute = nil, nil
	r.mu.Unlock()
	for _, p := range pairs {
		_ = end(p[0])
		_ = p[1].Close()
	}
}
