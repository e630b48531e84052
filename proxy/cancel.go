package proxy

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
	"time"

	"pgpoold/wire"
)

// firstPID is the least PID that clients are told. It lies above the largest
// PID Linux gives a process, so that it never names a real backend.
const firstPID = 1 << 22

// cancelKeys finds the session that a CancelRequest means.
type cancelKeys struct {
	mu      sync.Mutex
	pid     map[uint32]*session       // guarded by mu
	console map[uint32]*ConsoleClient // guarded by mu
}

// assign gives s a PID that no other session has, and a secret of size bytes.
func (k *cancelKeys) assign(s *session, size int) {
	secret := make([]byte, size)
	rand.Read(secret)
	s.secret = string(secret)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pid == nil {
		k.pid = map[uint32]*session{}
	}
	for {
		var b [4]byte
		rand.Read(b[:])
		pid := firstPID + binary.BigEndian.Uint32(b[:])%(1<<31-firstPID)
		if k.pid[pid] == nil && k.console[pid] == nil {
			s.pid = pid
			k.pid[pid] = s
			return
		}
	}
}

func (k *cancelKeys) forget(s *session) {
	k.mu.Lock()
	if k.pid[s.pid] == s {
		delete(k.pid, s.pid)
	}
	k.mu.Unlock()
}

// find returns the session with this PID if the secret is its own.
func (k *cancelKeys) find(pid uint32, secret []byte) *session {
	k.mu.Lock()
	s := k.pid[pid]
	k.mu.Unlock()
	if s == nil || subtle.ConstantTimeCompare([]byte(s.secret), secret) != 1 {
		return nil
	}
	return s
}

// cancelRequest does what a CancelRequest asks. It returns when the request
// has been passed on to PostgreSQL and has done there what it will, so that
// the requester, who waits for the connection to close, knows.
func (px *Server) cancelRequest(pid uint32, secret []byte) {
	s := px.keys.find(pid, secret)
	if s == nil {
		px.keys.cancelConsole(pid, secret)
		if other := px.peer.Load(); other != nil {
			(*other).Cancel(px.ctx, pid, secret)
		}
		return
	}
	px.cancelFor(s)
}

// CancelHere is cancelRequest for one that has reached another process.
func (px *Server) CancelHere(pid uint32, secret []byte) {
	if s := px.keys.find(pid, secret); s != nil {
		px.cancelFor(s)
	}
}

func (px *Server) cancelFor(s *session) {
	px.counts.cancelRequests.Add(1)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for range cancelLooks {
		if px.cancelSession(s) || !s.mayRead() {
			return
		}
		// It is about what the client has sent and its pump has not read yet.
		select {
		case <-look.C:
		case <-px.ctx.Done():
			return
		}
	}
}

// mayRead reports whether the client may have sent what the pump has not read.
// A client knows its key before its session has a stream.
func (s *session) mayRead() bool {
	s.in.Lock()
	conn := s.conn
	s.in.Unlock()
	return conn == nil || conn.Pending()
}

// cancelLooks is how often a cancel that has found nothing is tried again
// while its session has something to read.
const cancelLooks = 100

// cancelSession is cancelRequest for what the session has under way; it
// returns false if that is nothing.
func (px *Server) cancelSession(s *session) (found bool) {
	s.in.Lock()
	if s.waiting {
		if !s.pool.servers.Leave(s.ticket) {
			s.canceled = true // a server is on its way: what waits for it is not sent
			s.in.Unlock()
			return true
		}
		s.waiting = false
		wasFull := s.full()
		s.state.Store(uint32(stateIdle))
		s.answerHead(errCanceled)
		more := s.advance()
		s.tidyBuffer()
		s.in.Unlock()
		if !more || wasFull {
			s.conn.Wake()
		}
		return true
	}
	l := s.link.Load()
	s.in.Unlock()
	if l == nil {
		return false
	}
	l.mu.Lock()
	if l.sess != s || l.ledger.Len() == 0 && !s.blocked.Load() || l.dead {
		l.mu.Unlock()
		return false
	}
	if l.occupied() {
		// Sent when the client's own query is at the head.
		if s.cancel == nil {
			s.cancel = &pendingCancel{done: make(chan struct{}), early: l.ledger.OnlyOurs() && !s.blocked.Load()}
		}
		pending := s.cancel
		l.clearFront()
		l.mu.Unlock()
		select {
		case <-pending.done:
			// What may still be on its way is not to hit what comes next.
			l.mu.Lock()
			clearing := l.clearing
			l.mu.Unlock()
			if clearing != nil {
				<-clearing
			}
			return !pending.missed
		case <-px.ctx.Done():
			return true
		}
	}
	done := make(chan struct{})
	if l.late {
		px.sendCancel(l, done, l.whileRuns(s))
	} else {
		px.sendCancel(l, done, nil)
	}
	l.mu.Unlock()
	<-done
	return true
}

// pendingCancel is a cancel request that waits for the client's own query to be
// at the head.
type pendingCancel struct {
	done   chan struct{} // closed when it has been sent, or there is nothing to send it for
	early  bool          // when it came, nothing of the client's was under way
	missed bool          // nor has been since; valid once done is closed
}

// sendCancel passes a cancel on to the server; until its connection has
// closed the server is not reused. mu is held. done, if not nil, is closed
// when it has.
//
// again, if not nil, reports under mu whether what is meant still runs: a cancel
// that reaches a backend before it has read the message is lost, so it is
// repeated until that has ended.
func (px *Server) sendCancel(l *link, done chan struct{}, again func() bool) {
	l.cancels++
	px.counts.cancelsForwarded.Add(1)
	px.helpers.Add(1)
	go px.cancelServer(l, done, again)
}

// cancelServer is the goroutine of one cancel request to PostgreSQL, bounded
// by cancel_wait_timeout and joined by Server.Wait.
func (px *Server) cancelServer(l *link, done chan struct{}, again func() bool) {
	defer px.helpers.Done()
	if done != nil {
		defer close(done)
	}
	ctx, cancel := context.WithTimeout(px.ctx, px.opts.CancelWaitTimeout)
	defer cancel()
	err := l.srv.Cancel(ctx)
	l.mu.Lock()
	for pause := firstCancelAgain; again != nil && err == nil && again(); pause = min(2*pause, lastCancelAgain) {
		l.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil || !again() {
			break
		}
		l.mu.Unlock()
		err = l.srv.Cancel(ctx)
		l.mu.Lock()
	}
	l.cancels--
	if done == l.clearing {
		l.clearing = nil
	}
	if err != nil {
		l.tainted = true // it may still arrive
	}
	if l.cancels > 0 {
		l.mu.Unlock()
		return
	}
	l.overdueCancelled()
	switch {
	case l.state == linkOrphan && !l.dead:
		l.recover()
	case l.state == linkOurs && l.then != nil && l.ledger.Releasable():
		then := l.then
		l.then = nil
		l.mu.Unlock()
		then(l, nil)
	default:
		l.mu.Unlock()
	}
}

// The pauses between cancels of one query that was held back.
const (
	firstCancelAgain = 2 * time.Millisecond
	lastCancelAgain  = 50 * time.Millisecond
)

// whileRuns tells of the query that the server works on for s whether it has not
// ended. The link's mu is held, now and then.
func (l *link) whileRuns(s *session) func() bool {
	queries := l.stats.queries
	return func() bool { return l.sess == s && !l.dead && l.stats.queries == queries && l.ledger.Len() > 0 }
}

// occupied reports whether the server works on something of ours that a cancel
// must not hit, or that the session's own query waits for. mu is held.
func (l *link) occupied() bool { return l.ledger.OwnQuery() || l.asks > 0 || l.retrying != nil }

// inFront reports whether the server works on a statement that the client's
// own message needs, or waits for. That may wait for a lock, but not for one that
// the client's transaction has: what a PREPARE has made in a transaction block is
// described at once, and a cancel would fail the transaction. mu is held.
func (l *link) inFront() bool {
	e, ok := l.ledger.Head()
	if !ok || l.retrying != nil || describesMade(e) && l.ledger.Status() != wire.TxIdle {
		return false
	}
	return e.Action == wire.Mute || l.asks > 0 && !l.ledger.OwnQuery()
}

// clearFront cancels what stands in front of the client's query, for as long as
// the session has a cancel for that. mu is held.
func (l *link) clearFront() {
	s := l.sess
	if l.clearing != nil || !l.inFront() {
		return
	}
	l.clearing = make(chan struct{})
	l.px.sendCancel(l, l.clearing, func() bool { return l.sess == s && !l.dead && s.cancel != nil && l.inFront() })
}

// sendHeldCancel sends a cancel that came while a message of ours was at the
// head. mu is held.
func (l *link) sendHeldCancel() {
	s := l.sess
	if s == nil || s.cancel == nil {
		return
	}
	if l.occupied() {
		l.clearFront()
		return
	}
	if l.ledger.Len() == 0 {
		if !s.blocked.Load() { // else it is about what has not been sent yet
			s.cancel.missed = s.cancel.early
			s.dropCancel()
		}
		return
	}
	l.px.sendCancel(l, s.cancel.done, l.whileRuns(s))
	s.cancel = nil
}

// dropCancel ends cancel requests that have found nothing to cancel. The
// session's own guard is held.
func (s *session) dropCancel() {
	if s.cancel != nil {
		close(s.cancel.done)
		s.cancel = nil
	}
}

// cancelled reports whether an error is the end of the session's cancel: it is
// the client's own, or the client's own message will fail because of it.
func (l *link) cancelled(e wire.Entry, body []byte) bool {
	if string(wire.ErrorField(body, 'C')) != errCanceled.Code {
		return false
	}
	if e.Action == wire.Mute {
		switch ref := e.Ref.(type) {
		case *heldChange:
			return !ref.ahead
		case *described:
			return l.ledger.Status() == wire.TxOpen
		}
		return false
	}
	return true
}
