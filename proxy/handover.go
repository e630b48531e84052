package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

// The process that leaves when another takes over: sessions that are between
// transactions move there, the others stay until they can or have left. What
// servers it does not need it gives up.

// Peer is the other of two processes of which one takes over.
type Peer interface {
	// Cancel passes a CancelRequest on. It returns when the other process has
	// done with it.
	Cancel(ctx context.Context, pid uint32, secret []byte)
}

// Successor is the process that takes over.
type Successor interface {
	Peer
	// Move gives it a session with its socket. The session is its own when the
	// error is nil, and else this process's.
	Move(m *Moved, conn *stream.Conn) error
	// Held tells it which servers this process keeps.
	Held([]Held)
	// Want asks it for a place of a pool; it answers by Granted.
	Want(PoolKey)
	// Lost is closed when it is gone.
	Lost() <-chan struct{}
}

// ErrLost says that a process has ended while it took over.
var ErrLost = errors.New("the successor has ended")

var errUpgraded = &wire.Error{Severity: wire.SeverityFatal, Code: "57P01", Message: "terminating connection due to administrator command",
	Detail: "pgpoold was upgraded, and this session could not move to the new process.", Hint: "Connect again."}

// handover is what the process that leaves knows of it.
type handover struct {
	to    Successor
	began time.Time
	kick  chan struct{} // holds a token when there may be something to tell

	moving atomic.Int64 // sessions that are on their way
	moved  atomic.Int64

	mu      sync.Mutex
	came    []PoolKey // guarded by mu: places that were granted
	starved []Held    // guarded by mu: pools of the other process that lack servers which this one has

	// Owned by HandOver.
	had  map[*pool]int // servers when it began
	was  map[*pool]backend.Limits
	keep map[*pool]int // servers that the pool may still have; more only by a grant
	told []Held
	got  map[*pool]uint64    // places that were granted
	asks map[*pool]time.Time // since when one is asked for
	gave map[*pool]time.Time // when a server in use was given up last
}

// SetPeer says which other process knows sessions; nil: none.
func (px *Server) SetPeer(p Peer) {
	if p == nil {
		px.peer.Store(nil)
		return
	}
	px.peer.Store(&p)
}

// How often HandOver looks what can go, and how long before its end those that
// cannot move are ended between transactions.
const (
	handoverInterval = 10 * time.Millisecond // for as long as handoverBegin
	handoverBegin    = 2 * time.Second
	handoverLater    = 50 * time.Millisecond
	lastCall         = 5 * time.Second
)

// maxMoving bounds the sessions that are on their way at once without having
// asked for anything: those that have go first.
const maxMoving = 32

// Freeze lets no pool have more servers than now, and says how many those are.
// HandOver or Thaw follows.
func (px *Server) Freeze() []Held {
	h := &handover{kick: make(chan struct{}, 1), had: map[*pool]int{}, keep: map[*pool]int{}, was: map[*pool]backend.Limits{},
		got: map[*pool]uint64{}, asks: map[*pool]time.Time{}, gave: map[*pool]time.Time{}}
	px.frozen.Store(h) // pools that are made from now on have none
	for _, p := range px.allPools() {
		h.was[p] = p.servers.Limits()
		n := p.servers.Freeze()
		h.had[p], h.keep[p] = n, n
		if n > 0 {
			h.told = append(h.told, p.held(n))
		}
	}
	sortHeld(h.told)
	return h.told
}

// Thaw undoes Freeze.
func (px *Server) Thaw() {
	h := px.frozen.Swap(nil)
	live := px.live()
	for _, p := range px.allPools() {
		if limits, ok := h.was[p]; ok {
			p.servers.SetLimits(limits)
		} else if p.key.session != 0 {
			p.servers.SetLimits(p.opts.Limits())
		} else if db := px.database(p.key.database); db != nil {
			p.servers.SetLimits(p.limits(live, db)) // it was made meanwhile
		}
	}
}

func (p *pool) held(n int) Held {
	return Held{Pool: p.key.exported(), Places: n, Caps: p.servers.Target().Caps}
}

func sortHeld(held []Held) {
	slices.SortFunc(held, func(a, b Held) int { return a.Pool.compare(b.Pool) })
}

// LoginsUnderWay is how many clients are on their way to a session.
func (px *Server) LoginsUnderWay() int {
	px.mu.Lock()
	in := len(px.clients)
	px.mu.Unlock()
	return max(0, px.Clients()-in)
}

// HandOver gives everything to another process that serves already, and
// returns when nothing is left, or ctx is done. Freeze has gone before. With ErrLost this process has
// still what it has, and TakeBack lets it go on; else Close ends it.
func (px *Server) HandOver(ctx context.Context, to Successor) (moved int, err error) {
	h := px.frozen.Load()
	h.to, h.began = to, time.Now()
	for _, s := range px.allSessions() {
		s.in.Lock()
		s.stays = false
		s.in.Unlock()
	}
	px.handover.Store(h)
	px.consoles.closeAll()
	last := time.Time{}
	if deadline, ok := ctx.Deadline(); ok {
		last = deadline.Add(-min(lastCall, time.Until(deadline)/4))
	}
	t := time.NewTicker(handoverInterval)
	defer t.Stop()
	for {
		now := time.Now()
		px.letMove(h, now, !last.IsZero() && now.After(last))
		if places := px.yield(h, now); places == 0 && px.Clients() == 0 {
			return int(h.moved.Load()), nil
		}
		if now.Sub(h.began) > handoverBegin {
			t.Reset(handoverLater)
		}
		select {
		case <-ctx.Done():
			return int(h.moved.Load()), ctx.Err()
		case <-to.Lost():
			return int(h.moved.Load()), ErrLost
		case <-h.kick:
		case <-t.C:
		}
	}
}

// TakeBack lets this process go on after HandOver has failed with ErrLost.
func (px *Server) TakeBack() {
	px.handover.Store(nil)
	px.consoles.open()
	px.Thaw()
	for _, s := range px.allSessions() {
		s.conn.Wake() // it may have waited to move
	}
}

// letMove wakes as many sessions that may be able to move as may be on their way, and ends those that
// have been waited for long enough.
func (px *Server) letMove(h *handover, now time.Time, last bool) {
	room := maxMoving - h.moving.Load()
	for _, s := range px.allSessions() {
		if s.link.Load() == nil && s.willMove() {
			if room > 0 {
				s.conn.Wake()
				room--
			}
			continue
		}
		if pinned, _, _ := s.pinnedIdle(); (pinned || last) && s.drainable(h.began, now) {
			s.end(errUpgraded)
		}
	}
}

// willMove reports whether the session is of the kind that can move, once it
// is between transactions.
func (s *session) willMove() bool {
	s.in.Lock()
	defer s.in.Unlock()
	return s.mayMove()
}

// mayMove is willMove where in is held.
func (s *session) mayMove() bool {
	return s.conn.TLS() == nil && s.pool.repl == "" && !s.stays && !s.torn.Load()
}

// movable reports whether the session can move now, but for what is still to
// be written to its client. in is held.
func (s *session) movable() bool {
	if !s.mayMove() || s.gone || s.link.Load() != nil || s.ending.Load() != nil || s.orderly || s.terminate || s.canceled || s.pass > 0 {
		return false
	}
	if s.pin != "" || s.held != 0 || s.cancel != nil || s.suspicious() || len(s.unnamed.versions()) > 1 {
		return false
	}
	for e := range s.names.all() {
		if e.pending() {
			return false
		}
	}
	return true
}

// waitsToMove reports whether the session, which wants a server, is to move
// instead and want it there. in is held.
func (s *session) waitsToMove() bool {
	if s.px.handover.Load() == nil || !s.movable() {
		return false
	}
	if s.conn.Quiet() {
		s.conn.Wake()
	} // else HandOver wakes it
	return true
}

// departs reports whether the session is to leave now. It is held up then:
// nobody does anything with it. The pump calls it, with in held.
func (s *session) departs() bool {
	h := s.px.handover.Load()
	if h == nil || !s.movable() || len(s.reply) > 0 || !s.conn.Quiet() {
		return false
	}
	if len(s.input()) == 0 && h.moving.Load() >= maxMoving {
		return false // it is woken again
	}
	if s.waiting {
		if !s.pool.servers.Leave(s.ticket) {
			return false // a server is on its way
		}
		s.waiting = false
		s.state.Store(uint32(stateIdle))
	}
	s.gone, s.departing = true, true
	h.moving.Add(1)
	return true
}

// move takes a session that departs has held up to the other process. If it
// returns false the session goes on here.
func (s *session) move() (moved bool) {
	err := ErrLost
	h := s.px.handover.Load()
	if h != nil {
		err = h.to.Move(s.pack(), s.conn)
		if h.moving.Add(-1) == maxMoving/4 {
			h.changed()
		}
	}
	if err == nil {
		s.parted()
		h.moved.Add(1)
		return true
	}
	s.px.opts.Log.Info("a session could not move and stays until it ends", zap.Uint64("session", s.id), zap.String("user", s.user),
		zap.String("database", s.db.Name), zap.Error(err))
	s.in.Lock()
	s.gone, s.departing = false, false
	s.stays = true
	s.in.Unlock()
	s.conn.Wake() // to what has come meanwhile
	return false
}

// changed has HandOver look again at once.
func (h *handover) changed() {
	select {
	case h.kick <- struct{}{}:
	default: // it will
	}
}

// parted takes a session off the books that is another process's now. Its
// socket goes on there.
func (s *session) parted() {
	s.conn.Close(0)
	s.in.Lock()
	s.clear()
	s.in.Unlock()
	s.px.forget(s)
	s.px.opts.Log.Debug("session moved", zap.Uint64("session", s.id), zap.String("user", s.user), zap.String("database", s.db.Name))
}
