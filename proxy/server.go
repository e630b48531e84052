package proxy

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

// Server accepts clients and pairs them with servers.
type Server struct {
	// Immutable after New.
	opts    Options         // but for what live has
	ctx     context.Context // done when Close begins
	cancel  context.CancelFunc
	started time.Time

	parker *stream.Parker // set by Start, before anybody is served; nil: every session keeps its goroutine

	// Any goroutine; each guards itself.
	statements  statementTable
	keys        cancelKeys
	logins      loginQueue
	shares      backend.Shares
	consoles    connSet
	counts      counters
	control     control
	inherited   inherited
	frozen      atomic.Pointer[handover] // not nil: no pool may grow
	handover    atomic.Pointer[handover] // not nil: another process takes over
	peer        atomic.Pointer[Peer]     // the other process, while there is one
	prints      fingerprints
	current     atomic.Pointer[liveOptions]
	lastSession atomic.Uint64
	admitted    atomic.Int64
	draining    atomic.Bool
	following   atomic.Bool                       // names are being looked up
	namesAt     time.Time                         // the clock's: when they were last
	refusing    atomic.Bool                       // nobody waits for a server any more
	trace       atomic.Pointer[wire.Trace]        // of the servers' ledgers, for tests
	watch       atomic.Pointer[func(Transaction)] // for tests

	clock    clock
	workers  workers
	sessions sync.WaitGroup // logins and sessions
	helpers  sync.WaitGroup // cancel requests and the clock

	mu           sync.Mutex
	pools        map[poolKey]*pool         // guarded by mu
	clients      map[uint64]*session       // guarded by mu
	listeners    map[net.Listener]struct{} // guarded by mu
	clientCounts clientCounts              // guarded by mu
	closed       bool                      // guarded by mu
	picker       backend.Picker            // guarded by mu
}

// New checks the options and makes a Server that serves nobody yet.
func New(opts Options) (*Server, error) {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.CancelWaitTimeout <= 0 {
		opts.CancelWaitTimeout = 10 * time.Second
	}
	if opts.RecoverTimeout <= 0 {
		opts.RecoverTimeout = 10 * time.Second
	}
	live, err := newLive(&opts)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	px := &Server{
		opts: opts, ctx: ctx, cancel: cancel, started: time.Now(),
		pools: map[poolKey]*pool{}, clients: map[uint64]*session{}, listeners: map[net.Listener]struct{}{},
	}
	px.workers.run = px.serve
	px.current.Store(live)
	return px, nil
}

// Start begins what time brings, and connects the first servers of those
// pools that are known in advance. It does not wait for them.
func (px *Server) Start(context.Context) error {
	if err := px.openKnown(); err != nil {
		return err
	}
	var err error
	if px.parker, err = stream.NewParker(); err != nil {
		return err
	}
	px.helpers.Add(1)
	go px.tick()
	return nil
}

// Serve accepts clients from l until it is closed. It returns nil after
// Shutdown or Close.
func (px *Server) Serve(l net.Listener) error {
	px.mu.Lock()
	if px.closed || px.draining.Load() {
		px.mu.Unlock()
		_ = l.Close()
		return nil
	}
	px.listeners[l] = struct{}{}
	px.mu.Unlock()
	px.opts.Keepalive.Inherit(l)
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			px.accepted(nc)
			continue
		}
		if px.draining.Load() || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if !temporary(err) {
			return err
		}
		// Out of descriptors, most likely: those who are in keep working.
		if stream.CloseDescriptors() > 0 {
			continue
		}
		px.counts.acceptPauses.Add(1)
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		px.opts.Log.Warn("accepting is paused", zap.Error(err))
		select {
		case <-time.After(pause):
		case <-px.ctx.Done():
			return nil
		}
	}
}

// temporary tells accept errors that pass by themselves: all that are not about
// the listening socket itself, also those of a client or the network that accept
// passes on.
func temporary(err error) bool {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		switch errno {
		case syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK, syscall.EFAULT, syscall.EOPNOTSUPP:
			return false
		}
		return true
	}
	var ne interface{ Temporary() bool }
	return errors.As(err, &ne) && ne.Temporary()
}

// accepted starts a client's login.
func (px *Server) accepted(nc net.Conn) {
	px.counts.accepted.Add(1)
	px.mu.Lock()
	if px.closed || px.draining.Load() {
		px.mu.Unlock()
		_ = nc.Close()
		return
	}
	px.sessions.Add(1)
	px.mu.Unlock()
	slot, evicted := px.logins.add(nc, px.opts.MaxLoginConn)
	if evicted {
		px.counts.refused.Add(1)
	}
	px.workers.do(job{nc: nc, slot: slot})
}

// admit counts a client that is about to be logged in, unless
// max_client_conn is reached.
func (px *Server) admit() bool {
	n := px.admitted.Add(1)
	if most := px.live().maxClientConn; most > 0 && n > int64(most) {
		px.admitted.Add(-1)
		px.counts.refused.Add(1)
		return false
	}
	return true
}

func (px *Server) unadmit() { px.admitted.Add(-1) }

// database is the entry that answers for a name.
func (px *Server) database(name string) *Database {
	all := px.live().databases
	if db := all[name]; db != nil {
		return db
	}
	if any := all["*"]; any != nil {
		db := *any
		db.Name = name
		return &db
	}
	return nil
}

// begin puts a session on the books. Its run follows.
func (px *Server) begin(s *session) {
	px.mu.Lock()
	px.clients[s.id] = s
	s.pool.clients.Add(1)
	closed := px.closed
	px.sessions.Add(1)
	px.mu.Unlock()
	px.clock.woke(s)
	px.renewTimeouts(s) // Reconfigure may have missed it
	if closed || px.draining.Load() {
		s.end(errShutdown)
	}
	if px.handover.Load() != nil {
		s.conn.Wake() // it moves as soon as it can
	}
}

// forget takes an ended session off the books.
func (px *Server) forget(s *session) {
	px.keys.forget(s)
	px.mu.Lock()
	delete(px.clients, s.id)
	px.mu.Unlock()
	px.clock.ended(s)
	s.pool.clients.Add(-1)
	px.forgetPool(s)
	px.uncountClient(s.db.Name, s.user)
	px.unadmit()
}

// forgetPool parts a session and its pool, and closes the pool of one that
// has it for itself.
func (px *Server) forgetPool(s *session) {
	px.letGo(s.pool)
	if s.pool.key.session == 0 {
		return
	}
	px.closePool(s.pool)
}

func (px *Server) allPools() []*pool {
	px.mu.Lock()
	defer px.mu.Unlock()
	all := make([]*pool, 0, len(px.pools))
	for _, p := range px.pools {
		all = append(all, p)
	}
	return all
}

func (px *Server) allSessions() []*session { return px.appendSessions(nil) }

// appendSessions is allSessions into a slice that there is already.
func (px *Server) appendSessions(all []*session) []*session {
	px.mu.Lock()
	defer px.mu.Unlock()
	all = slices.Grow(all, len(px.clients))
	for _, s := range px.clients {
		all = append(all, s)
	}
	return all
}

// upstreamTurn reports whether a session must wait for its replies before it
// sends more, because the server is itself a pooler.
func (px *Server) upstreamTurn(l *link) bool { return l.pool.opts.UpstreamPooler }

// Ready reports whether clients can be served, and if not, why.
func (px *Server) Ready() (bool, string) {
	if px.Draining() {
		return false, "draining"
	}
	for _, p := range px.allPools() {
		if !p.main {
			continue
		}
		if ok, err := p.servers.Ready(); !ok {
			if err != nil {
				return false, p.key.database + ": " + err.Error()
			}
			return false, p.key.database + ": not connected yet"
		}
	}
	return true, ""
}

// SetPicker lets f choose servers instead of the pools, for tests.
func (px *Server) SetPicker(f backend.Picker) {
	px.mu.Lock()
	px.picker = f
	px.mu.Unlock()
	for _, p := range px.allPools() {
		p.servers.SetPicker(f)
	}
}

// Transaction is one of a client's that has ended.
type Transaction struct {
	Session, Server uint64
	Application     string // application_name
	Pin             string // why the session had kept its server already; "" if it had not
}

// SetWatch has f told of every transaction, for tests. It must not wait.
func (px *Server) SetWatch(f func(Transaction)) { px.watch.Store(&f) }

// tellWatch tells of a transaction that has ended. mu is held.
func (l *link) tellWatch(s *session) {
	if f := l.px.watch.Load(); f != nil {
		name, _ := s.told.get("application_name")
		(*f)(Transaction{Session: s.id, Server: l.srv.ID, Application: name, Pin: s.pin})
	}
}

// SetTrace counts what the ledgers of the servers do from the next attach on,
// for tests.
func (px *Server) SetTrace(t *wire.Trace) { px.trace.Store(t) }
