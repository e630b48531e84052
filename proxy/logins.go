package proxy

import (
	"net"
	"sync"
	"time"
)

// loginQueue holds the clients that are not logged in yet, the oldest first.
type loginQueue struct {
	mu     sync.Mutex
	first  *loginSlot // guarded by mu
	last   *loginSlot // guarded by mu
	n      int        // guarded by mu
	closed bool       // guarded by mu: who comes now is closed, for nobody looks at the time any more
}

// loginSlot is one client's place among those that log in.
type loginSlot struct {
	q          *loginQueue
	nc         net.Conn
	began      time.Time
	next, prev *loginSlot // guarded by q.mu
	in         bool       // guarded by q.mu
	late       bool       // guarded by q.mu: expire has nothing to do with it any more
	expired    bool       // guarded by q.mu: it has taken too long
}

// add takes a client in. If more than limit would be logging in, the one that
// has tried for longest is closed: an honest login is over in a moment.
func (q *loginQueue) add(nc net.Conn, limit int) (slot *loginSlot, evicted bool) {
	slot = &loginSlot{q: q, nc: nc, began: time.Now(), in: true}
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
	if q.closed {
		_ = nc.Close()
	}
	if out != nil {
		_ = out.nc.Close() // under mu: it cannot have logged in meanwhile
	}
	q.mu.Unlock()
	return slot, out != nil
}

// done takes the client out; it may be called again. expired says that it came too late: its
// connection's deadlines have passed, and it must not go on with it.
func (s *loginSlot) done() (expired bool) {
	s.q.mu.Lock()
	defer s.q.mu.Unlock()
	s.q.removeLocked(s)
	return s.expired
}

// refused is called before the last is said to a client: that has its own deadline.
func (s *loginSlot) refused() {
	s.q.mu.Lock()
	s.late = true
	s.q.mu.Unlock()
}

// expire has whatever those who began before that wait for fail with a timeout. A deadline
// for each login would be set, and taken back, for nothing.
func (q *loginQueue) expire(before time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for s := q.first; s != nil && s.began.Before(before); s = s.next {
		if !s.late {
			s.late, s.expired = true, true
			_ = s.nc.SetDeadline(before)
		}
	}
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

// closeAll closes them, and those that come later.
func (q *loginQueue) closeAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for s := q.first; s != nil; s = s.next {
		_ = s.nc.Close()
	}
}
