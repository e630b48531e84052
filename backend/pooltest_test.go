package backend

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"pgpoold/test/postgres"
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// patience bounds what would otherwise hang; no test depends on its length.
const patience = 30 * time.Second

var errStopped = errors.New("the pool is closed")

// link is a Handler that runs one query at a time.
type link struct {
	srv     *Server
	ready   chan byte     // status of each ReadyForQuery
	closed  chan struct{} // closed by Closed
	checks  atomic.Int32
	buf     []byte
	lastErr atomic.Pointer[string] // SQLSTATE
}

func newHandler(s *Server) Handler {
	return &link{srv: s, ready: make(chan byte, 16), closed: make(chan struct{})}
}

func (l *link) Readable() bool {
	var p [4096]byte
	for {
		n, drained, err := l.srv.Conn.TryRead(p[:])
		l.buf = append(l.buf, p[:n]...)
		for len(l.buf) >= wire.HeaderLen {
			typ, size := wire.Header(l.buf)
			if len(l.buf) < size {
				break
			}
			switch typ {
			case wire.MsgReady:
				l.ready <- l.buf[5]
			case wire.MsgError:
				code := string(wire.ErrorField(l.buf[5:size], 'C'))
				l.lastErr.Store(&code)
			}
			l.buf = l.buf[size:]
		}
		switch {
		case err == stream.ErrWouldBlock:
			return true
		case err != nil:
			return false
		case drained:
			return true
		}
	}
}

func (l *link) Woken() bool  { return l.srv.Closing() == "" }
func (l *link) Closed(error) { close(l.closed) }

func (l *link) Check() {
	l.checks.Add(1)
	_ = l.srv.Conn.Write(wire.AppendQuery(nil, ""), false)
	go func() {
		select {
		case <-l.ready:
			if t := l.srv.Pool.Release(l.srv, nil, time.Now()); t != nil {
				t.W.Granted(l.srv)
			}
		case <-l.closed:
		}
	}()
}

// query runs a query and returns the SQLSTATE of its error.
func (l *link) query(t *testing.T, sql string) (code string) {
	t.Helper()
	l.lastErr.Store(nil)
	if err := l.srv.Conn.Write(wire.AppendQuery(nil, sql), false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.ready:
	case <-l.closed:
		t.Fatal("the server was lost")
	case <-time.After(patience):
		t.Fatal("the query is not answered")
	}
	if code := l.lastErr.Load(); code != nil {
		return *code
	}
	return ""
}

// seat is a Waiter.
type seat struct {
	Ticket
	granted chan *Server
	refused chan error
}

func newSeat(label any) *seat {
	s := &seat{granted: make(chan *Server, 1), refused: make(chan error, 1)}
	s.W, s.Label = s, label
	return s
}

func (s *seat) Granted(srv *Server) { s.granted <- srv }
func (s *seat) Refused(err error)   { s.refused <- err }

// wait is what the seat hears.
func (s *seat) wait(t testing.TB) (*Server, error) {
	t.Helper()
	select {
	case srv := <-s.granted:
		return srv, nil
	case err := <-s.refused:
		return nil, err
	case <-time.After(patience):
		t.Fatal("the pool does not answer")
		return nil, nil
	}
}

// silent fails the test if the seat has heard anything.
func (s *seat) silent(t *testing.T) {
	t.Helper()
	select {
	case <-s.granted:
		t.Fatal("a server was granted out of turn")
	case err := <-s.refused:
		t.Fatalf("refused out of turn: %v", err)
	default:
	}
}

// testPool is a pool that is closed, and checked, at the test's end.
type testPool struct {
	*Pool
	t     testing.TB
	dials atomic.Int32 // attempts that have ended
	fails atomic.Int32
}

func newTestPool(t testing.TB, opts PoolOptions) *testPool {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	p := &testPool{t: t}
	var err error
	p.Pool, err = NewPool(opts, Callbacks{NewHandler: newHandler, Dialled: func(_ *Pool, _ time.Duration, err error) {
		p.dials.Add(1)
		if err != nil {
			p.fails.Add(1)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		p.Close(errStopped)
		p.Kill()
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.Wait()
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("the pool does not end")
		}
		if opts.Shares == nil { // else others are still there
			goleak.VerifyNone(t, leaks)
		}
	})
	return p
}

// ask gets a server or a place in the queue.
func (p *testPool) ask(s *seat) *Server {
	p.t.Helper()
	srv, err := p.Acquire(&s.Ticket, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	return srv
}

// get gets a server, waiting for it.
func (p *testPool) get(label any) *Server {
	p.t.Helper()
	s := newSeat(label)
	if srv := p.ask(s); srv != nil {
		return srv
	}
	srv, err := s.wait(p.t)
	if err != nil {
		p.t.Fatal(err)
	}
	return srv
}

// give gives a server back and passes it on.
func (p *testPool) give(srv *Server, label any) {
	if t := p.Release(srv, label, time.Now()); t != nil {
		t.W.Granted(srv)
	}
}

// until waits for a condition.
func (p *testPool) until(what string, ok func(State) bool) {
	p.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if ok(p.State(time.Now(), nil)) {
			return
		}
	}
	p.t.Fatalf("%s does not come: %+v", what, p.State(time.Now(), nil))
}

// fakePG is a PostgreSQL that logs everybody in and answers every query with
// nothing, or does what a test makes it do.
type fakePG struct {
	l        net.Listener
	attempts atomic.Int32           // connections
	gate     chan struct{}          // if not nil, each login takes one
	refuse   atomic.Pointer[string] // SQLSTATE for each login
	mute     atomic.Bool            // those who are in hear nothing any more
	all      sync.WaitGroup         // connections and the accept loop
	mu       sync.Mutex
	conns    map[net.Conn]struct{} // guarded by mu
}

func newFakePG(t testing.TB) *fakePG {
	t.Helper()
	f := &fakePG{conns: map[net.Conn]struct{}{}}
	var err error
	if f.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f.all.Add(1)
	go f.accept()
	t.Cleanup(func() {
		f.l.Close()
		f.mu.Lock()
		for nc := range f.conns {
			nc.Close()
		}
		f.mu.Unlock()
		f.all.Wait()
	})
	return f
}

func (f *fakePG) accept() {
	defer f.all.Done()
	for {
		nc, err := f.l.Accept()
		if err != nil {
			return
		}
		n := f.attempts.Add(1)
		f.mu.Lock()
		f.conns[nc] = struct{}{}
		f.mu.Unlock()
		f.all.Add(1)
		go f.serve(nc, uint32(n))
	}
}

func (f *fakePG) serve(nc net.Conn, pid uint32) {
	defer f.all.Done()
	defer func() {
		f.mu.Lock()
		delete(f.conns, nc)
		f.mu.Unlock()
		nc.Close()
	}()
	client := pgproto3.NewBackend(nc, nc)
	if _, err := client.ReceiveStartupMessage(); err != nil {
		return
	}
	if f.gate != nil {
		if _, open := <-f.gate; !open {
			return
		}
	}
	if code := f.refuse.Load(); code != nil {
		client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: *code, Message: "refused"})
		_ = client.Flush()
		return
	}
	client.Send(&pgproto3.AuthenticationOk{})
	client.Send(&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: binary.BigEndian.AppendUint32(nil, pid)})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if client.Flush() != nil {
		return
	}
	for muted := false; ; {
		msg, err := client.Receive()
		if err != nil {
			return
		}
		muted = muted || f.mute.Load()
		switch msg.(type) {
		case *pgproto3.Terminate:
			return
		case *pgproto3.Query:
			if muted {
				continue
			}
			client.Send(&pgproto3.EmptyQueryResponse{})
			client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if client.Flush() != nil {
				return
			}
		}
	}
}

// options are those of a pool on f.
func (f *fakePG) options(size int) PoolOptions {
	return onAddr(f.l.Addr(), size)
}

func onAddr(addr net.Addr, size int) PoolOptions {
	tcp := addr.(*net.TCPAddr)
	return PoolOptions{
		Database: "db", DBName: "db", Hosts: []Host{{Network: "tcp", Host: tcp.IP.String(), Port: uint16(tcp.Port)}},
		Credentials: Credentials{User: "u"}, TLS: TLSOptions{Mode: TLSDisable}, Size: size, LoginRetry: time.Hour,
	}
}

// onCluster are the options of a pool on PostgreSQL.
func onCluster(c *postgres.Cluster, user string, size int) PoolOptions {
	return PoolOptions{
		Database: "postgres", DBName: "postgres", Hosts: []Host{{Network: "tcp", Host: c.Host(), Port: uint16(c.Port())}},
		Credentials: Credentials{User: user}, TLS: TLSOptions{Mode: TLSDisable}, Size: size, LoginRetry: time.Hour,
	}
}
