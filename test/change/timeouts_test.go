package change

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// one runs pgpoold with a pool of one server.
func one(t *testing.T, pool, more string) (*harness.Pgpoold, *postgres.Cluster, string) {
	t.Helper()
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	return start(t, fmt.Sprintf("pool: {size: 1, %s}\n%s\ndatabases: {%s: {dsn: %q}}\n", pool, more, db, c.SuperDSN(db))), c, db
}

// active is what PostgreSQL runs in a database.
func active(t *testing.T, c *postgres.Cluster, db string) string {
	t.Helper()
	rows, err := c.Query(within(t), "postgres", fmt.Sprintf("select query from pg_stat_activity where datname = '%s' and backend_type = 'client backend' and state <> 'idle'", db))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(rows)
}

// TestQueryTimeout: a query that runs for too long is cancelled on the server,
// its client is told why and goes on, and another user's own limit is nearer.
func TestQueryTimeout(t *testing.T) {
	p, c, db := one(t, "query_timeout: 500ms", "users: {report: {query_timeout: 0}}")
	a := connect(t, p, "app", db)
	pid := a.PgConn().PID()
	_, err := a.Exec(within(t), "select pg_sleep(50)")
	refused(t, err, "ERROR", "57014", "query_timeout", "pool.query_timeout")
	until(t, "the query has ended on the server", func() bool { return active(t, c, db) == "[]" })
	exec(t, a, "begin")
	_, err = a.Exec(within(t), "select pg_sleep(50)")
	refused(t, err, "ERROR", "57014", "query_timeout", "pool.query_timeout")
	if _, err := a.Exec(within(t), "select 1"); told(err).Code != "25P02" {
		t.Errorf("the transaction is not failed: %v", err)
	}
	exec(t, a, "rollback")
	exec(t, a, "select 1")
	if a.PgConn().PID() != pid || a.IsClosed() {
		t.Error("the session did not survive")
	}
	r := connect(t, p, "report", db)
	exec(t, r, "select pg_sleep(1.5)")
}

// TestQueryTimeoutHitsNobodyElse: while long queries are cancelled all the
// time, no short one is, of the same session or another.
func TestQueryTimeoutHitsNobodyElse(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := start(t, fmt.Sprintf("pool: {size: 2, query_timeout: 500ms}\ndatabases: {%s: {dsn: %q}}\n", db, c.SuperDSN(db)))
	var clients sync.WaitGroup
	for i := range 4 {
		conn := connect(t, p, "app", db)
		clients.Add(1)
		go func() {
			defer clients.Done()
			ctx := within(t)
			for round := range 3 {
				if i%2 == 0 {
					if _, err := conn.Exec(ctx, "begin"); err != nil {
						t.Errorf("client %d: begin: %v", i, err)
					}
				}
				if _, err := conn.Exec(ctx, "select pg_sleep(40)"); told(err).Code != "57014" {
					t.Errorf("client %d: the long query: %v", i, err)
				}
				if i%2 == 0 {
					if _, err := conn.Exec(ctx, "rollback"); err != nil {
						t.Errorf("client %d: rollback: %v", i, err)
					}
				}
				for n := range 50 {
					var got int
					if err := conn.QueryRow(ctx, "select $1::int", 1000*i+n).Scan(&got); err != nil || got != 1000*i+n {
						t.Errorf("client %d, round %d, query %d: %d, %v", i, round, n, got, err)
						return
					}
				}
			}
		}()
	}
	clients.Wait()
}

// TestQueryTimeoutOfCopy: a client that stops in the middle of its COPY data
// cannot be cancelled, so it is ended, and the COPY with it.
func TestQueryTimeoutOfCopy(t *testing.T) {
	p, c, db := one(t, "query_timeout: 500ms", "")
	if err := c.Exec(within(t), db, "create table t (i int)"); err != nil {
		t.Fatal(err)
	}
	a := connect(t, p, "app", db)
	reader, writer := io.Pipe()
	defer writer.Close()
	done := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := a.PgConn().CopyFrom(ctx, reader, "copy t from stdin")
		done <- err
	}()
	if _, err := writer.Write([]byte("1\n")); err != nil {
		t.Fatal(err)
	}
	until(t, "the COPY runs", func() bool { return strings.Contains(active(t, c, db), "copy t from stdin") })
	until(t, "the client has been ended", func() bool { return len(p.Server().Snapshot().Clients) == 0 })
	_ = writer.Close()
	refused(t, ended(t, "the COPY", done), "FATAL", "57014", "query_timeout", "pool.query_timeout")
	if rows, err := c.Query(within(t), db, "select count(*) from t"); err != nil || rows[0][0] != "0" {
		t.Errorf("%v rows, %v", rows, err)
	}
	exec(t, connect(t, p, "app", db), "select 1")
}

// TestIdleTransactionTimeout: a client that leaves a transaction open is
// ended, its transaction rolled back and the server free.
func TestIdleTransactionTimeout(t *testing.T) {
	p, c, db := one(t, "idle_transaction_timeout: 1s", "")
	if err := c.Exec(within(t), db, "create table t (i int)"); err != nil {
		t.Fatal(err)
	}
	a, b := connect(t, p, "app", db), connect(t, p, "app", db)
	exec(t, a, "begin")
	exec(t, a, "insert into t values (1)")
	for range 4 { // a client that is slow, but not idle
		time.Sleep(400 * time.Millisecond)
		exec(t, a, "select 1")
	}
	exec(t, b, "insert into t values (2)") // waits for the server
	_, err := a.Exec(within(t), "select 1")
	refused(t, err, "FATAL", "25P03", "idle_transaction_timeout", "pool.idle_transaction_timeout")
	if rows, err := c.Query(within(t), db, "select i from t"); err != nil || fmt.Sprint(rows) != "[[2]]" {
		t.Errorf("%v, %v", rows, err)
	}
}

// TestTransactionTimeout: a transaction that takes too long is ended, though
// it is never idle, and what it runs does not go on on the server.
func TestTransactionTimeout(t *testing.T) {
	p, c, db := one(t, "transaction_timeout: 1s, client_gone: finish", "")
	a := connect(t, p, "app", db)
	exec(t, a, "begin")
	var err error
	for err == nil {
		_, err = a.Exec(within(t), "select pg_sleep(0.05)")
	}
	refused(t, err, "FATAL", "25P04", "transaction_timeout", "pool.transaction_timeout")
	a = connect(t, p, "app", db)
	exec(t, a, "begin")
	_, err = a.Exec(within(t), "select pg_sleep(50)")
	refused(t, err, "FATAL", "25P04", "transaction_timeout", "pool.transaction_timeout")
	until(t, "the query has ended on the server", func() bool { return active(t, c, db) == "[]" })
	exec(t, connect(t, p, "app", db), "select 1")
}

// TestClientIdleTimeout: a client that asks nothing is ended; one that works,
// waits or has a transaction open is not.
func TestClientIdleTimeout(t *testing.T) {
	postgres.SkipBrief(t)
	p, _, db := one(t, "client_idle_timeout: 1s", "users: {report: {client_idle_timeout: 0}}")
	idle, busy, patient := connect(t, p, "app", db), connect(t, p, "app", db), connect(t, p, "report", db)
	exec(t, busy, "begin")
	done := later(t, idle, "select 1") // in the queue
	exec(t, busy, "select pg_sleep(2)")
	time.Sleep(1500 * time.Millisecond)
	exec(t, busy, "commit")
	if err := ended(t, "the waiting query", done); err != nil {
		t.Fatal(err)
	}
	until(t, "idle clients have gone", func() bool { return len(p.Server().Snapshot().Clients) == 1 })
	_, err := idle.Exec(within(t), "select 1")
	refused(t, err, "FATAL", "57P05", "client_idle_timeout", "pool.client_idle_timeout")
	exec(t, patient, "select 1")
}

// TestClientIdleBehindALongQuery: the time of a query is no idle time, though the client
// says nothing meanwhile.
func TestClientIdleBehindALongQuery(t *testing.T) {
	postgres.SkipBrief(t)
	p, _, db := one(t, "client_idle_timeout: 4s", "")
	s := connect(t, p, "app", db)
	exec(t, s, "select pg_sleep(5)")
	time.Sleep(time.Second) // the clock has looked
	exec(t, s, "select 1")
}

// TestClientIdleOfTheParked: who is parked already gets a timeout that is reloaded, too.
func TestClientIdleOfTheParked(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	yaml := func(pool string) string {
		return fmt.Sprintf("pool: {size: 1%s}\ndatabases: {%s: {dsn: %q}}\n", pool, db, c.SuperDSN(db))
	}
	p := start(t, yaml(""))
	exec(t, connect(t, p, "app", db), "select 1")
	time.Sleep(3 * time.Second) // the clock does not look at it any more
	reload(t, p, yaml(", client_idle_timeout: 1s"))
	until(t, "the idle client has gone", func() bool { return len(p.Server().Snapshot().Clients) == 0 })
}

// TestQueryWaitNotify: a client that waits is told so, once a wait.
func TestQueryWaitNotify(t *testing.T) {
	p, _, db := one(t, "query_wait_notify: 500ms", "")
	holder := connect(t, p, "app", db)
	exec(t, holder, "begin")
	cfg, err := pgx.ParseConfig(p.DSN("app:app", db))
	if err != nil {
		t.Fatal(err)
	}
	notices := make(chan *pgconn.Notice, 10)
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices <- n }
	waiter, err := pgx.ConnectConfig(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close(context.Background())
	for range 2 {
		done := later(t, waiter, "select 1")
		time.Sleep(1500 * time.Millisecond)
		exec(t, holder, "commit")
		if err := ended(t, "the query", done); err != nil {
			t.Fatal(err)
		}
		if len(notices) != 1 {
			t.Fatalf("%d notices", len(notices))
		}
		n := <-notices
		if n.Severity != "NOTICE" || n.Message != "No server connection available in postgres backend, client being queued" || !strings.Contains(n.Detail, "query_wait_notify") {
			t.Errorf("%+v", n)
		}
		exec(t, holder, "begin")
	}
}

// TestClientWriteTimeout: a client that does not read what it has asked for
// does not keep its server, and one that reads slowly does.
func TestClientWriteTimeout(t *testing.T) {
	postgres.SkipBrief(t)
	const large = "select repeat('x', 1000000) from generate_series(1, 40)"
	p, _, db := one(t, "client_write_timeout: 1s", "")
	slow, stuck := dialRaw(t, p, db), dialRaw(t, p, db)
	slow.ask(large)
	stopped := make(chan struct{})
	go func() { // 40 MB in three seconds, with pauses
		defer close(stopped)
		for range 15 {
			time.Sleep(200 * time.Millisecond)
			if _, err := io.CopyN(io.Discard, slow.nc, 2_500_000); err != nil {
				t.Errorf("the slow client: %v", err)
				return
			}
		}
	}()
	<-stopped
	_, _ = io.CopyN(io.Discard, slow.nc, 2_500_000)
	slow.nc.Close()
	stuck.ask(large)
	exec(t, connect(t, p, "app", db), "select 1") // the server is there again
	until(t, "the stuck client is closed", func() bool { return !strings.Contains(fmt.Sprint(clientIDs(p)), fmt.Sprint(stuck.pid)) })
	if !strings.Contains(p.Log(), "client_write_timeout") {
		t.Error("the log does not say why")
	}
}

func clientIDs(p *harness.Pgpoold) (pids []uint32) {
	for _, c := range p.Server().Snapshot().Clients {
		pids = append(pids, c.PID)
	}
	return pids
}

// rawClient is a client that reads when it wants to.
type rawClient struct {
	t   *testing.T
	nc  net.Conn
	pid uint32
}

func dialRaw(t *testing.T, p *harness.Pgpoold, db string) *rawClient {
	t.Helper()
	conn := connect(t, p, "app", db)
	h, err := conn.PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	if tcp, ok := h.Conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(64 << 10)
	}
	t.Cleanup(func() { _ = h.Conn.Close() })
	return &rawClient{t: t, nc: h.Conn, pid: h.PID}
}

func (r *rawClient) ask(sql string) {
	r.t.Helper()
	b, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.nc.Write(b); err != nil {
		r.t.Fatal(err)
	}
}
