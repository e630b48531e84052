package proxy

import "container/list"

// held is one statement on one server.
type held struct {
	st        *statement
	sure      bool   // its ParseComplete was seen
	attach    uint64 // of the server's in which it was parsed last
	elsewhere bool   // since then it was used under other settings, under which PostgreSQL may have analyzed it again
	doubted   bool   // since then something may have dropped it, or its plan is old: it is closed before it is parsed again
	pending   int    // Parses and Closes that are not settled
	void      int    // and how many of them stand in front of something that may drop it again
	batch     uint64 // in which the last Parse was sent; noBatch if a Close was sent behind it
	closing   uint64 // in which that Close was sent
	epoch     uint64 // the pool's when it was sent
	shape     shape  // of its result, if the server was asked
	asking    bool   // it is being asked by us
	leaving   bool   // it is being evicted
	anew      shape  // what the last Parse, if it is one of ours for the sake of a shape, was to have
	types     string // of its parameters, as the last Parse has declared them; "": as the statement's own text does
	place     *list.Element
}

// sent notes that a Parse of it is on its way, in a session's batch and attach.
func (h *held) sent(batch, epoch, attach uint64) {
	h.pending++
	h.batch, h.epoch, h.attach, h.shape, h.anew, h.types, h.elsewhere = batch, epoch, attach, shape{}, shape{}, "", false
}

// has reports whether the server holds a statement for certain, and as it was parsed,
// or as the attached session itself has had it analyzed again. mu is held.
func (l *link) has(h *held) bool {
	return h.sure && h.pending == 0 && (!h.elsewhere || h.attach == l.stats.assignments)
}

// doubt notes that the server may not hold it any more, or not as it should.
func (h *held) doubt() { h.sure, h.doubted = false, h.sure || h.doubted }

// heldChange is an injected Parse or Close of a server's statement, as a Ref.
type heldChange struct {
	held  *held
	close bool
	ahead bool   // no message waits for it
	sets  bool   // it is neither, but belongs to the batch of the Parse: it sets what that is read under, or ends it
	tells string // a ParameterDescription's body that goes in front of its error: it is brought for a Describe
}

// shelf is what one server holds: the least recently used last.
type shelf struct {
	m     map[*statement]*held
	order list.List // of *held
	bytes int64     // what the texts take, on the server too

	// How many have a client's name that looks like one of ours.
	imitating int
	owned     int // and how many a client's name at all

	// Those among them whose Close, for being too many, is on its way.
	leaving      int
	leavingBytes int64
}

// leave counts one whose eviction begins (by 1) or has ended (by -1).
func (s *shelf) leave(h *held, by int) {
	h.leaving = by > 0
	s.leaving += by
	s.leavingBytes += int64(by) * h.st.size()
}

// get returns st's place, making one if there is none. It counts as a use.
func (s *shelf) get(st *statement, table *statementTable) *held {
	h := s.m[st]
	if h == nil {
		if s.m == nil {
			s.m = map[*statement]*held{}
		}
		h = &held{st: st}
		if st.imitates() {
			s.imitating++
		}
		if st.own {
			s.owned++
		}
		table.hold(st)
		s.m[st] = h
		s.bytes += st.size()
		h.place = s.order.PushFront(h)
		return h
	}
	s.order.MoveToFront(h.place)
	return h
}

// drop forgets h.
func (s *shelf) drop(h *held, table *statementTable) {
	if s.m[h.st] != h {
		return
	}
	delete(s.m, h.st)
	if h.st.imitates() {
		s.imitating--
	}
	if h.st.own {
		s.owned--
	}
	s.bytes -= h.st.size()
	s.order.Remove(h.place)
	table.release(h.st)
}

// oldest is the least recently used statement that nothing is under way for, of
// those used since from; nil stands for the least of all.
func (s *shelf) oldest(from *list.Element) *held {
	if from == nil {
		from = s.order.Back()
	}
	for e := from; e != nil; e = e.Prev() {
		if h := e.Value.(*held); h.pending == 0 {
			return h
		}
	}
	return nil
}

// clear forgets everything.
func (s *shelf) clear(table *statementTable) {
	for _, h := range s.m {
		table.release(h.st)
	}
	s.m, s.bytes, s.leaving, s.leavingBytes, s.imitating, s.owned = nil, 0, 0, 0, 0, 0
	s.order.Init()
}

// named is what the server holds, or will hold, under a name.
func (s *shelf) named(name string) (all []*held) {
	for _, h := range s.m {
		if h.st.name == name && (h.sure || h.doubted || h.pending > 0) {
			all = append(all, h)
		}
	}
	return all
}
