package pooling_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// full says whether tests that take long run at their full size.
func full() bool { return os.Getenv(postgres.EnvScope) == "full" }

func TestCancel(t *testing.T) {
	p, c, db := start(t, 2)
	client := login(t, p.Addr(), "app", db)
	other := login(t, p.Addr(), "other", db)
	for name, msgs := range map[string][]pgproto3.FrontendMessage{
		"Query": {sql("select pg_sleep(300)")},
		"batch": append(batch("select pg_sleep(300)"), &pgproto3.Sync{}),
	} {
		for _, begin := range []bool{false, true} {
			if begin {
				client.must("begin")
			}
			client.send(msgs...)
			running(t, c, db, "pg_sleep")
			if err := cancelRequest(p.Addr(), client.pid, client.key); err != nil {
				t.Fatal(err)
			}
			if r := client.read(); r.code() != "57014" || r.err.Severity != "ERROR" {
				t.Errorf("%s: got %s", name, r)
			}
			client.query("rollback")
			if r := client.query("select 1"); r.cell() != "1" {
				t.Errorf("%s: afterwards %s", name, r)
			}
		}
	}
	// Keys that are nobody's, or nobody's any more.
	other.send(sql("select pg_sleep(1)"))
	running(t, c, db, "pg_sleep")
	wrong := append([]byte(nil), other.key...)
	wrong[0] ^= 1
	for _, key := range [][]byte{wrong, other.key[:2], append(append([]byte(nil), other.key...), 0), client.key, {}} {
		if err := cancelRequest(p.Addr(), other.pid, key); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range p.Server().Snapshot().Servers {
		if err := cancelRequest(p.Addr(), s.PID, other.key); err != nil { // the backend's own
			t.Fatal(err)
		}
	}
	if r := other.read(); r.code() != "" {
		t.Errorf("cancelled by a wrong key: %s", r)
	}
	if n := p.Server().Snapshot().Totals.CancelRequests; n != 4 {
		t.Errorf("%d cancel requests counted, want the 4 that named a session", n)
	}
	if client.pid < 1<<22 || other.pid < 1<<22 {
		t.Errorf("PIDs %d and %d may be those of real processes", client.pid, other.pid)
	}
}

// TestCancelOverTLS: the connection of a cancel request ends as TLS wants it,
// with a close_notify. libpq takes the request for failed otherwise.
func TestCancelOverTLS(t *testing.T) {
	p, c, db := start(t, 1)
	client := login(t, p.Addr(), "app", db)
	client.send(sql("select pg_sleep(300)"))
	running(t, c, db, "pg_sleep")
	plain, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	nc := &recorder{Conn: plain}
	if _, err := requestTLS(nc); err != nil {
		t.Fatal(err)
	}
	nc.read = nil
	// In TLS 1.3 an alert looks like any record.
	secure := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err := cancelOver(secure, client.pid, client.key); err != nil {
		t.Error(err)
	}
	const alert = 21
	var last byte
	for rest := nc.read; len(rest) >= 5; rest = rest[5+int(binary.BigEndian.Uint16(rest[3:])):] {
		last = rest[0]
	}
	if last != alert {
		t.Errorf("the last record is of type %d, want an alert", last)
	}
	if r := client.read(); r.code() != "57014" {
		t.Errorf("got %s", r)
	}
}

// A recorder keeps what was read.
type recorder struct {
	net.Conn
	read []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.read = append(r.read, b[:n]...)
	return n, err
}

// TestCancelIdle: a cancel that finds nothing to cancel hits nothing later.
func TestCancelIdle(t *testing.T) {
	p, _, db := start(t, 1)
	client := login(t, p.Addr(), "app", db)
	for _, q := range []string{"select 1", "begin", "select 1", "commit", "create temp table mine (a int)", "select 1"} {
		client.must(q)
		if err := cancelRequest(p.Addr(), client.pid, client.key); err != nil {
			t.Fatal(err)
		}
		client.must("select pg_sleep(0.01)")
	}
}

// TestCancelWaiting: a client that waits for a server gets 57014, its session
// survives, and its query never runs.
func TestCancelWaiting(t *testing.T) {
	p, c, db := start(t, 1, "create table t (a int)")
	holder := login(t, p.Addr(), "holder", db)
	holder.must("begin")
	client := login(t, p.Addr(), "app", db)
	for name, msgs := range map[string][]pgproto3.FrontendMessage{
		"Query": {sql("insert into t values (1)")},
		"batch": append(batch("insert into t values (1)"), &pgproto3.Sync{}),
	} {
		client.send(msgs...)
		waiting(t, p, 1)
		if err := cancelRequest(p.Addr(), client.pid, client.key); err != nil {
			t.Fatal(err)
		}
		if r := client.read(); r.code() != "57014" || r.err.Severity != "ERROR" || r.status != 'I' || r.types != "EZ" {
			t.Errorf("%s: got %s", name, r)
		}
		waiting(t, p, 0)
	}
	// What comes behind what was cancelled still counts.
	client.send(sql("insert into t values (1)"), sql("select 7"))
	waiting(t, p, 1)
	if err := cancelRequest(p.Addr(), client.pid, client.key); err != nil {
		t.Fatal(err)
	}
	if r := client.read(); r.code() != "57014" {
		t.Errorf("got %s", r)
	}
	holder.must("commit")
	if r := client.read(); r.cell() != "7" {
		t.Errorf("the next query: %s", r)
	}
	if n := value(t, c, db, "select count(*) from t"); n != "0" {
		t.Errorf("%s cancelled queries ran", n)
	}
}

// TestCancelBehindReplay: a cancel that comes while the settings are brought
// to the server waits for the client's own query, and its connection with it.
func TestCancelBehindReplay(t *testing.T) {
	p, c, db := start(t, 1, "create table t (a int)")
	client := login(t, p.Addr(), "app", db)
	client.must("set timezone = 'Asia/Tokyo'")
	login(t, p.Addr(), "other", db).must("select 1")
	for range 20 {
		login(t, p.Addr(), "other", db).must("select 1") // takes the label away
		client.send(sql("begin"))
		cancelled := make(chan error, 1)
		go func() { cancelled <- cancelRequest(p.Addr(), client.pid, client.key) }()
		if err := <-cancelled; err != nil {
			t.Fatal(err)
		}
		r := client.read()
		if r.code() != "" && r.code() != "57014" {
			t.Fatalf("got %s", r)
		}
		// The cancel's connection has closed: nothing of now may be hit.
		for range 3 {
			if r := client.query("select pg_sleep(0.002)"); r.code() != "" {
				t.Fatalf("a query begun after the cancel got %s", r)
			}
		}
		client.query("rollback")
		if got := client.show("timezone"); got != "Asia/Tokyo" {
			t.Fatalf("timezone is %s", got)
		}
	}
	if n := closes(p, "server_error"); n > 0 {
		t.Errorf("%d servers died of a cancelled replay", n)
	}
	_ = c
}

// span is a time between two moments.
type span struct{ from, to time.Time }

// stormer is one client of the storm and the cancels of its own.
type stormer struct {
	*peer
	tls     bool
	addr    string
	mu      sync.Mutex
	cancels []span
}

// dialStorm logs a client in, through TLS if asked.
func dialStorm(t testing.TB, addr, db string, i int, secure bool) *stormer {
	t.Helper()
	nc, err := stormConn(addr, secure)
	if err != nil {
		t.Fatal(err)
	}
	s := &stormer{peer: newPeer(t, nc), tls: secure, addr: addr}
	_ = nc.SetDeadline(time.Now().Add(10 * time.Minute))
	m := &pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app", "database": db}}
	if i%3 == 0 {
		m.Parameters["timezone"] = "Asia/Tokyo"
	}
	s.send(m)
	if r := s.read(); r.code() != "" {
		t.Fatalf("login: %s", r)
	}
	return s
}

func stormConn(addr string, secure bool) (net.Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil || !secure {
		return nc, err
	}
	return requestTLS(nc)
}

// requestTLS asks for TLS as libpq does with sslmode=require.
func requestTLS(nc net.Conn) (net.Conn, error) {
	if _, err := nc.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(nc, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, fmt.Errorf("SSLRequest was answered with %q", answer[0])
	}
	return tls.Client(nc, &tls.Config{InsecureSkipVerify: true}), nil
}

// cancelOften sends n cancels of the client's own at random moments.
func (s *stormer) cancelOften(ctx context.Context, n int) error {
	for range n {
		if !sleepUntil(ctx, time.Duration(rand.IntN(4000))*time.Microsecond) {
			return nil
		}
		from := time.Now()
		nc, err := stormConn(s.addr, s.tls)
		if err != nil {
			return err
		}
		err = cancelOver(nc, s.pid, s.key)
		_ = nc.Close()
		s.mu.Lock()
		s.cancels = append(s.cancels, span{from, time.Now()})
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// mayBeCancelled reports whether a cancel of the client's own was under way
// at some time of the query.
func (s *stormer) mayBeCancelled(q span) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.cancels {
		if !c.to.Before(q.from) && !c.from.After(q.to) {
			return true
		}
	}
	return false
}

// TestCancelStorm: many cancels race with queries of 0 to 5 ms. A 57014
// without a cancel of one's own, or in a query that was begun after the
// cancel's connection had closed, fails.
func TestCancelStorm(t *testing.T) {
	const n = 50
	total := 500
	if full() {
		total = 10_000
	}
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, fmt.Sprintf("pool: {size: 5, min_size: 5, round_robin: true}\ndatabases: {%q: {dsn: %q}}\n", db, c.SuperDSN(db)))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var runners, cancellers sync.WaitGroup
	type hit struct {
		s *stormer
		q span
	}
	var mu sync.Mutex
	var hits []hit
	queries := 0
	for i := range n {
		s := dialStorm(t, p.Addr(), db, i, i%2 == 0)
		run := func(msgs ...pgproto3.FrontendMessage) bool {
			q := span{from: time.Now()}
			if _, err := s.nc.Write(encode(t, msgs...)); err != nil {
				t.Errorf("client %d: %v", i, err)
				return false
			}
			r := s.read()
			q.to = time.Now()
			switch r.code() {
			case "":
			case "57014":
				mu.Lock()
				hits = append(hits, hit{s, q})
				mu.Unlock()
			case "25P02": // behind a cancelled statement of the transaction
			default:
				t.Errorf("client %d: %s", i, r)
				return false
			}
			mu.Lock()
			queries++
			mu.Unlock()
			return r.status != 0
		}
		runners.Add(1)
		go func() {
			defer runners.Done()
			for ctx.Err() == nil {
				slow := fmt.Sprintf("select pg_sleep(%f)", rand.Float64()*0.005)
				ok := true
				switch rand.IntN(4) {
				case 0:
					ok = run(sql(slow))
				case 1:
					ok = run(append(batch(slow), &pgproto3.Sync{})...)
				case 2:
					ok = run(sql("select 1"))
				case 3:
					ok = run(sql("begin")) && run(sql(slow)) && run(sql("select 1")) && run(sql("rollback"))
				}
				if !ok {
					return
				}
			}
		}()
		if i%4 == 3 {
			continue // this one cancels nothing
		}
		cancellers.Add(1)
		go func() {
			defer cancellers.Done()
			if err := s.cancelOften(ctx, total*4/3/n); err != nil {
				t.Errorf("client %d: cancel: %v", i, err)
			}
		}()
	}
	cancellers.Wait()
	stop()
	runners.Wait()
	wrong := 0
	for _, h := range hits {
		if !h.s.mayBeCancelled(h.q) {
			if wrong++; wrong < 5 {
				t.Errorf("57014 in a query of %v without a cancel of its own", h.q.to.Sub(h.q.from))
			}
		}
	}
	t.Logf("%d queries, %d cancelled, %d of them wrongly", queries, len(hits), wrong)
	if len(hits) < total/50 {
		t.Errorf("only %d of %d cancels hit a query: the storm proves nothing", len(hits), total)
	}
}

// TestCancelWaitsForTheReplay: as long as pgpoold has not heard that its own
// Query is done, a cancel could hit that, and is not passed on.
func TestCancelWaitsForTheReplay(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	m := rvBetween(t, c)
	p := harness.Start(t, harness.Options{DSN: m.dsn(db), Size: 1, Lucky: true})
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	a.must("set timezone = 'Asia/Tokyo'")
	b.must("select 1") // takes the label away
	answered, pass := make(chan struct{}, 1), make(chan struct{})
	m.set(func() {
		m.down = func(in []byte, write func([]byte)) bool {
			select {
			case answered <- struct{}{}:
			default:
			}
			<-pass
			write(in)
			return false
		}
	})
	a.send(sql("select pg_sleep(600)"))
	<-answered
	cancelled := make(chan error, 1)
	go func() { cancelled <- cancelRequest(p.Addr(), a.pid, a.key) }()
	eventually(t, func() string {
		if p.Server().Snapshot().Totals.CancelRequests == 0 {
			return "the cancel has not come"
		}
		return ""
	})
	time.Sleep(50 * time.Millisecond) // for one that does not wait; nothing depends on it
	if n := p.Server().Snapshot().Totals.CancelsForwarded; n != 0 {
		t.Errorf("%d cancels were passed on while the replay was under way", n)
	}
	close(pass)
	if r := a.read(); r.code() != "57014" {
		t.Errorf("the query got %s", r)
	}
	if err := <-cancelled; err != nil {
		t.Error(err)
	}
}

// TestServerWaitsForItsCancel: a server goes to nobody else while a cancel for its
// last client is on its way, and the next client's query is not hit.
func TestServerWaitsForItsCancel(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	m := rvBetween(t, c)
	p := harness.Start(t, harness.Options{DSN: m.dsn(db), Size: 1, Lucky: true})
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	a.must("begin")
	held := make(chan chan struct{}, 1)
	m.set(func() { m.cancels = held })
	cancelled := make(chan error, 1)
	a.send(sql("select pg_sleep(0.2); commit"))
	go func() { cancelled <- cancelRequest(p.Addr(), a.pid, a.key) }()
	free := <-held
	if r := a.read(); r.code() != "" || r.status != 'I' {
		t.Fatalf("the first client's query got %s", r)
	}
	b.send(sql("select pg_sleep(1)"))
	eventually(t, func() string { // it waits, or, were it given the server, it runs
		if p.Server().Snapshot().Pools[0].ClWaiting == 0 && value(t, c, db, "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(1)%'") == "0" {
			return "the second client's query has not come"
		}
		return ""
	})
	close(free)
	if r := b.read(); r.code() != "" {
		t.Errorf("the second client's query got %s", r)
	}
	if err := <-cancelled; err != nil {
		t.Error(err)
	}
}
