package backend

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/puddle/v2"
)

// Callbacks are what a pool asks of its consumer. They are called without
// locks held.
type Callbacks struct {
	// NewHandler makes the handler of a server that has just logged in. It
	// must not use the pool.
	NewHandler func(*Server) Handler
	// Closed tells that a server has ended.
	Closed func(*Server, CloseReason)
	// Dialled tells the outcome of an attempt to connect.
	Dialled func(p *Pool, took time.Duration, err error)
}

// Pool keeps the servers of one (database, server user). puddle creates,
// counts and destroys them; which session gets which server is decided here:
// idle servers are taken last in, first out (first in, first out with
// RoundRobin), those with the session's label first; sessions wait in the
// order in which they came, and a server that becomes free goes to the first
// of them directly.
type Pool struct {
	// Immutable after NewPool.
	opts   PoolOptions
	cb     Callbacks
	puddle *puddle.Pool[*Server]
	target atomic.Pointer[PoolOptions] // opts, with what Retarget has changed
	made   time.Time
	ctx    context.Context // done when Close begins: ends dials
	cancel context.CancelFunc

	pumps sync.WaitGroup // server pumps and dials

	mu          sync.Mutex
	idle        []*Server            // guarded by mu: the oldest first
	all         map[*Server]struct{} // guarded by mu: every server but the gone
	leaving     int                  // guarded by mu: gone from all, but its pump has not ended
	dialling    int                  // guarded by mu
	waiting     waiters              // guarded by mu
	retry       backoff              // guarded by mu
	lastErr     error                // guarded by mu: of the last dial; nil after a success
	base        *Server              // guarded by mu: the server that logged in last
	limits      Limits               // guarded by mu
	size        int                  // guarded by mu: limits.Size, or very many
	minSize     int                  // guarded by mu
	shrunk      bool                 // guarded by mu: there may be more servers than size since it was lowered
	pausedAt    time.Time            // guarded by mu
	paused      bool                 // guarded by mu: nothing is handed out or dialled
	eraEnd      CloseReason          // guarded by mu: and why those end
	era         uint64               // guarded by mu: raised when servers dialled before are not wanted any more
	marked      int                  // guarded by mu: servers of leaving that were marked with Reconnect
	closed      bool                 // guarded by mu
	closeErr    error                // guarded by mu
	dials       uint64               // guarded by mu
	dialErrs    uint64               // guarded by mu
	granted     uint64               // guarded by mu: servers handed out
	waited      time.Duration        // guarded by mu: total time in the queue
	waits       Histogram            // guarded by mu: of those that were queued and got a server
	connects    Histogram            // guarded by mu: how long connecting took, where it worked
	connectTime time.Duration        // guarded by mu: and together
	picker      Picker               // guarded by mu
	elsewhere   int                  // guarded by mu: servers that another process has
	yields      bool                 // guarded by mu: a server that becomes free may have to make room for another pool
}

// Picker, when set with SetPicker, decides instead of the pool. Tests use it
// to play an adversary. It returns the index of the idle server that goes to
// a session whose last server was last, or -1 to let the session wait.
type Picker func(idle []*Server, last *Server) int

// NewPool makes a pool without servers. It dials when somebody waits and when
// Tick finds it below its minimum.
func NewPool(opts PoolOptions, cb Callbacks) (*Pool, error) {
	p := &Pool{opts: opts, cb: cb, all: map[*Server]struct{}{}, made: time.Now()}
	p.target.Store(&p.opts)
	p.limitLocked(opts.Limits())
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var err error
	p.puddle, err = puddle.NewPool(&puddle.Config[*Server]{
		Constructor: p.connect,
		Destructor:  func(*Server) {}, // the pump has closed the connection
		MaxSize:     math.MaxInt32,    // the limits are ours
	})
	if err == nil && opts.Shares != nil {
		opts.Shares.join(p, opts.Caps)
	}
	return p, err
}

// Options are what the pool was made with.
func (p *Pool) Options() *PoolOptions { return &p.opts }

// SetPicker sets the picker; nil gives the choice back to the pool.
func (p *Pool) SetPicker(pick Picker) {
	p.mu.Lock()
	p.picker = pick
	p.mu.Unlock()
}

// Acquire gives t a server, or refuses it, or queues it and returns neither a
// server nor an error: then t.W hears from the pool later, exactly once,
// unless Leave takes it out before.
func (p *Pool) Acquire(t *Ticket, now time.Time) (*Server, error) {
	t.Since = now
	p.mu.Lock()
	if p.closed {
		defer p.mu.Unlock()
		return nil, p.closeErr
	}
	if t0 := p.waiting.first; (t0 == nil || t0.Without != 0) && !p.paused {
		// What is idle while somebody waits will not do for them.
		if s := p.takeIdleLocked(t, now); s != nil {
			p.granted++
			p.mu.Unlock()
			return s, nil
		}
	}
	if err := p.refuseLocked(); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	p.waiting.push(t)
	check := p.checkLocked(now)
	unfit := p.unfitIdleLocked(now)
	p.dialLocked()
	p.mu.Unlock()
	if unfit != nil {
		unfit.Close(CloseEvicted)
	}
	if check != nil {
		check.Handler.Check()
	}
	return nil, nil
}

// spareAfter is how long a server must have been idle to be spare: who asks for
// one every few seconds is not in anybody's way then.
const spareAfter = time.Second

// Spare returns a server that nobody needs just now, or nil. Of several it is the
// last used one, so that the others can go.
func (p *Pool) Spare() *Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.paused || p.waiting.first != nil {
		return nil
	}
	now := time.Now()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if s := p.idle[i]; now.Sub(s.idleSince) >= spareAfter && !p.staleLocked(s, now) {
			p.unidleLocked(i, serverActive)
			return s
		}
	}
	return nil
}

// Leave takes t out of the queue. It returns false if t is not in it any
// more: then its waiter has heard, or hears, from the pool.
func (p *Pool) Leave(t *Ticket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.queued {
		return false
	}
	p.waiting.remove(t)
	return true
}

// takeIdleLocked takes the idle server that suits t best, or nil. Servers
// that were idle for long are left for checkLocked.
func (p *Pool) takeIdleLocked(t *Ticket, now time.Time) *Server {
	if len(p.idle) == 0 {
		return nil
	}
	i := -1
	switch {
	case t.Without != 0:
		i = p.fitLocked(t, now)
	case p.picker != nil:
		i = p.picker(p.idle, t.Last)
	case p.limits.RoundRobin:
		i = 0
	default:
		i = len(p.idle) - 1
		for j := i; j >= 0; j-- {
			if p.idle[j].label == t.Label {
				if !p.staleLocked(p.idle[j], now) {
					i = j
				}
				break
			}
		}
	}
	if i < 0 || p.staleLocked(p.idle[i], now) {
		return nil
	}
	s := p.idle[i]
	p.unidleLocked(i, serverActive)
	return s
}

// fitLocked is the index of the idle server that suits best a ticket for which
// not all will do, or -1.
func (p *Pool) fitLocked(t *Ticket, now time.Time) int {
	best := -1
	for i := len(p.idle) - 1; i >= 0; i-- {
		s := p.idle[i]
		if !t.takes(s) || p.staleLocked(s, now) || p.picker != nil && p.picker([]*Server{s}, t.Last) < 0 {
			continue
		}
		if s.label == t.Label && p.picker == nil && !p.limits.RoundRobin {
			return i
		}
		if best < 0 || p.limits.RoundRobin {
			best = i
		}
	}
	return best
}

// Mark notes what has been done on a server. Its session calls it before it
// gives the server back.
func (p *Pool) Mark(s *Server, used Used) {
	p.mu.Lock()
	s.used |= used
	p.mu.Unlock()
}

// crampedLocked reports whether the first who waits can only be helped by the
// place of a server that will not do: no other is on its way to become free.
func (p *Pool) crampedLocked(now time.Time) bool {
	t := p.waiting.first
	return t != nil && t.Without != 0 && !p.paused && p.dialling == 0 && p.leaving == 0 &&
		(p.roomLocked(now) <= 0 || p.opts.Shares != nil && now.Sub(t.Since) > unfitPatience)
}

// unfitPatience is how long a place under limits that pools have in common is
// hoped for, before the pool gives up a server of its own.
const unfitPatience = time.Second

// unfitIdleLocked takes an idle server out of the pool whose place the first
// who waits needs.
func (p *Pool) unfitIdleLocked(now time.Time) *Server {
	if !p.crampedLocked(now) {
		return nil
	}
	for _, s := range p.idle {
		if !p.waiting.first.takes(s) {
			p.goneLocked(s)
			return s
		}
	}
	return nil
}

// staleLocked reports whether s was idle for so long that it must show that
// it lives before it is used.
func (p *Pool) staleLocked(s *Server, now time.Time) bool {
	return p.limits.CheckDelay > 0 && now.Sub(s.idleSince) > p.limits.CheckDelay
}

// checkLocked takes an idle server that must show that it lives before it is
// used, if somebody waits for one.
func (p *Pool) checkLocked(now time.Time) *Server {
	if p.waiting.first == nil || p.paused || p.limits.CheckDelay <= 0 {
		return nil
	}
	for i := len(p.idle) - 1; i >= 0; i-- {
		if s := p.idle[i]; now.Sub(s.idleSince) > p.limits.CheckDelay {
			p.unidleLocked(i, serverTested)
			s.idleSince = now
			return s
		}
	}
	return nil
}

func (p *Pool) unidleLocked(i int, state serverState) {
	s := p.idle[i]
	copy(p.idle[i:], p.idle[i+1:])
	p.idle[len(p.idle)-1] = nil
	p.idle = p.idle[:len(p.idle)-1]
	s.state = state
}

// Release gives a clean server back; label is what is in force on it. If
// somebody waits, the server is theirs at once: Release returns their ticket
// and the caller must call its W.Granted, without locks held.
func (p *Pool) Release(s *Server, label any, now time.Time) *Ticket {
	p.mu.Lock()
	s.label = label
	if s.state == serverGone {
		p.mu.Unlock()
		return nil
	}
	reason := p.unwantedLocked(s, now)
	if reason == "" && (p.evictedLocked() || p.crampedLocked(now) && !p.waiting.first.takes(s)) {
		reason = CloseEvicted
	}
	if reason != "" {
		p.goneLocked(s)
		p.mu.Unlock()
		s.Close(reason)
		return nil
	}
	t := p.offerLocked(s, now)
	p.mu.Unlock()
	return t
}

// offerLocked gives s to the first waiter, or makes it idle.
func (p *Pool) offerLocked(s *Server, now time.Time) *Ticket {
	for t := p.waiting.first; t != nil && !p.paused; t = t.next {
		if !t.takes(s) || p.picker != nil && p.picker([]*Server{s}, t.Last) < 0 {
			continue
		}
		p.waiting.remove(t)
		s.state = serverActive
		s.used |= UsedBefore
		p.grantedLocked(t, now)
		return t
	}
	s.state = serverIdle
	s.used |= UsedBefore
	s.idleSince = now
	p.idle = append(p.idle, s)
	if p.opts.Shares != nil {
		p.opts.Shares.spare()
	}
	return nil
}

// Canceled tells that s is clean but waits for a cancel request to end; it is
// for the console only.
func (p *Pool) Canceled(s *Server) {
	p.mu.Lock()
	if s.state != serverGone {
		s.state = serverCanceled
	}
	p.mu.Unlock()
}

// Waiting reports whether somebody waits for a server.
func (p *Pool) Waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting.first != nil
}

// Newest returns the server that logged in last, which may have ended since,
// or nil if none ever has. What it reported at login is what the next will.
func (p *Pool) Newest() *Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.base
}

// Ready reports whether a server is connected, or the last attempt to connect
// one succeeded; err is why not.
func (p *Pool) Ready() (ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all) > 0 || (p.base != nil || p.elsewhere > 0) && p.lastErr == nil, p.lastErr
}

// goneLocked takes s out of the pool's account of usable servers.
func (p *Pool) goneLocked(s *Server) {
	if s.state == serverGone {
		return
	}
	if s.state == serverIdle {
		for i, o := range p.idle {
			if o == s {
				p.unidleLocked(i, serverGone)
				break
			}
		}
	}
	s.state = serverGone
	delete(p.all, s)
	p.leaving++
	if s.close {
		p.marked++
	}
	p.fitsLocked()
}

// remove is the pump's: s has ended.
func (p *Pool) remove(s *Server) {
	p.mu.Lock()
	p.goneLocked(s)
	p.mu.Unlock()
}

// removed is the pump's: the place of a server that has ended is free.
func (p *Pool) removed(s *Server) {
	p.mu.Lock()
	p.leaving--
	if s.close {
		p.marked--
	}
	p.fitsLocked()
	lent := s.lent
	if lent != nil {
		p.elsewhere++
	}
	if p.opts.Shares != nil {
		p.opts.Shares.leave(p, lent != nil)
	}
	p.dialLocked()
	p.mu.Unlock()
	if lent != nil {
		lent()
	}
}

// Discard closes a server that its session cannot give back.
func (p *Pool) Discard(s *Server, reason CloseReason) {
	p.mu.Lock()
	p.goneLocked(s)
	p.mu.Unlock()
	s.Close(reason)
}

// Close refuses all waiters with err, closes idle servers, and those in use
// when they are released. Wait joins them.
func (p *Pool) Close(err error) {
	p.mu.Lock()
	p.closed, p.closeErr = true, err
	p.cancel()
	idle := append([]*Server(nil), p.idle...)
	for _, s := range idle {
		p.goneLocked(s)
	}
	refused := p.waiting.takeAll()
	p.mu.Unlock()
	if p.opts.Shares != nil {
		p.opts.Shares.part(p)
	}
	for _, s := range idle {
		s.Close(CloseDrain)
	}
	for _, t := range refused {
		t.W.Refused(err)
	}
}

// Kill closes every server now, in use or not. The pool must be closed.
func (p *Pool) Kill() {
	p.mu.Lock()
	all := make([]*Server, 0, len(p.all))
	for s := range p.all {
		all = append(all, s)
	}
	p.mu.Unlock()
	for _, s := range all {
		s.Close(CloseDrain)
		s.Conn.Interrupt()
	}
}

// Wait returns when every server and every dial of a closed pool has ended.
func (p *Pool) Wait() {
	p.pumps.Wait()
	p.puddle.Close()
}
