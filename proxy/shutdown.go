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
