package proxy

import (
	"context"
	"net"
	"sync"
	"time"

	"pgpoold/wire/stream"
)

// drainInterval is how often a drain looks for sessions that can end.
const drainInterval = 20 * time.Millisecond

// Shutdown drains: no client is accepted any more, idle ones are told to go,
// others when their transaction has ended. When all have gone, or when ctx is
// done, it closes what is left; then the error is ctx's.
func (px *Server) Shutdown(ctx context.Context) error {
	defer px.Close()
	px.stopAccepting()
	began := time.Now()
	t := time.NewTicker(drainInterval)
	defer t.Stop()
	for {
		left := 0
		for _, s := range px.allSessions() {
			left++
			if s.drainable(began, time.Now()) {
				s.end(errShutdown)
			}
		}
		if left == 0 && px.logins.count() == 0 {
			return nil
		}
		if px.refusing.Load() {
			px.RefuseWaiters()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (px *Server) stopAccepting() {
	px.closeListeners()
	px.consoles.closeAll()
}

func (px *Server) closeListeners() {
	px.mu.Lock()
	px.draining.Store(true)
	listeners := px.listeners
	px.listeners = map[net.Listener]struct{}{}
	px.mu.Unlock()
	for l := range listeners {
		_ = l.Close()
	}
}

// idle reports whether the session could end without anybody missing
// anything: no transaction is open and nothing has been asked.
func (s *session) idle() bool {
	s.in.Lock()
	defer s.in.Unlock()
	if s.waiting || s.pass > 0 || s.big != nil || s.buf != nil && s.n > s.pos {
		return false
	}
	l := s.link.Load()
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sess != s || l.ledger.Releasable() && !l.half
}

// Close ends every session and every server connection now, and waits until
// they have ended.
func (px *Server) Close() {
	px.stopAccepting()
	px.mu.Lock()
	closed := px.closed
	px.closed = true
	px.mu.Unlock()
	if closed {
		return
	}
	px.cancel()
	px.logins.closeAll()
	for _, p := range px.allPools() {
		p.servers.Close(errShutdown)
	}
	for _, s := range px.allSessions() {
		s.end(errShutdown)
	}
	ended := make(chan struct{})
	go px.join(ended)
	select {
	case <-ended:
	case <-time.After(2 * farewell):
		// Those that are stuck in a write to a peer that does not read.
		for _, s := range px.allSessions() {
			s.conn.Interrupt()
		}
		for _, p := range px.allPools() {
			p.servers.Kill()
		}
		<-ended
	}
	for _, p := range px.allPools() {
		p.servers.Kill()
	}
	for _, p := range px.allPools() {
		p.servers.Wait()
	}
	px.helpers.Wait()
	px.workers.close()
	stream.CloseDescriptors()
	if px.parker != nil {
		px.parker.Close()
	}
	px.shares.Stop()
}

// join waits for the sessions; owned by Close, which waits for it.
func (px *Server) join(ended chan<- struct{}) {
	px.sessions.Wait()
	close(ended)
}

// loginQueue holds the clients that are not logged in yet, the oldest first.
type loginQueue struct {
	mu    sync.Mutex
	first *loginSlot // guarded by mu
	last  *loginSlot // guarded by mu
	n     int        // guarded by mu
}

// loginSlot is one client's place among those that log in.
type loginSlot struct {
	q          *loginQueue
	nc         net.Conn
	next, prev *loginSlot // guarded by q.mu
	in         bool       // guarded by q.mu
}

// add takes a client in. If more than limit would be logging in, the one that
// has tried for longest is closed: an honest login is over in a moment.
func (q *loginQueue) add(nc net.Conn, limit int) (slot *loginSlot, evicted bool) {
	slot = &loginSlot{q: q, nc: nc, in: true}
	var out *loginSlot
	q.mu.Lock()
	if limit > 0 && q.n >= limit {
		out = q.first
		q.removeLocked(out)
	}
	slot.prev = q.last
	if q.last != nil {
		q.last.next = slot
	} else {
		q.first = slot
	}
	q.last = slot
	q.n++
	if out != nil {
		_ = out.nc.Close() // under mu: it cannot have logged in meanwhile
	}
	q.mu.Unlock()
	return slot, out != nil
}

// done takes the client out; it may be called again.
func (s *loginSlot) done() {
	s.q.mu.Lock()
	s.q.removeLocked(s)
	s.q.mu.Unlock()
}

func (q *loginQueue) removeLocked(s *loginSlot) {
	if !s.in {
		return
	}
	s.in = false
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		q.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		q.last = s.prev
	}
	q.n--
}

func (q *loginQueue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

func (q *loginQueue) closeAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for s := q.first; s != nil; s = s.next {
		_ = s.nc.Close()
	}
}

// connSet is a set of connections that can be closed together.
type connSet struct {
	mu     sync.Mutex
	m      map[net.Conn]struct{} // guarded by mu
	closed bool                  // guarded by mu
}

func (c *connSet) add(nc net.Conn) {
	c.mu.Lock()
	if c.closed {
		_ = nc.Close()
	}
	if c.m == nil {
		c.m = map[net.Conn]struct{}{}
	}
	c.m[nc] = struct{}{}
	c.mu.Unlock()
}

// open admits connections again.
func (c *connSet) open() {
	c.mu.Lock()
	c.closed = false
	c.mu.Unlock()
}

func (c *connSet) remove(nc net.Conn) {
	c.mu.Lock()
	delete(c.m, nc)
	c.mu.Unlock()
}

func (c *connSet) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for nc := range c.m {
		_ = nc.Close()
	}
}
