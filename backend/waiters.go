package backend

import "time"

// Waiter is somebody who waits for a server. Its methods are called without
// locks held, by whichever goroutine has the server or the bad news.
type Waiter interface {
	// Granted hands over a server.
	Granted(*Server)
	// Refused tells that none will come: a *DialError, or what the pool was
	// closed with, or ErrWaitTimeout.
	Refused(error)
}

// Ticket is a place in a pool's queue. Its owner fills W, Label and Last
// before Acquire and leaves it alone while it is queued.
type Ticket struct {
	W       Waiter
	Label   any     // a server with this label is preferred
	Last    *Server // the session's last server, for a Picker
	Without Used    // a server with one of these marks will not do

	Since time.Time // when it asked; set by Acquire

	// Guarded by the pool's lock.
	queued     bool
	next, prev *Ticket
}

// takes reports whether s will do.
func (t *Ticket) takes(s *Server) bool { return s.used&t.Without == 0 }

// waiters is a queue of tickets, first in, first out.
type waiters struct {
	first, last *Ticket
	n           int
}

func (w *waiters) push(t *Ticket) {
	t.queued, t.next, t.prev = true, nil, w.last
	if w.last != nil {
		w.last.next = t
	} else {
		w.first = t
	}
	w.last = t
	w.n++
}

func (w *waiters) remove(t *Ticket) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		w.last = t.prev
	}
	t.queued = false
	w.n--
}

// takeAll empties the queue.
func (w *waiters) takeAll() []*Ticket {
	var all []*Ticket
	for w.first != nil {
		t := w.first
		w.remove(t)
		all = append(all, t)
	}
	return all
}
