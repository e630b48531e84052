package proxy

import "container/list"

// held is one statement on one server.
type held struct {
	st      *statement
	sure    bool   // its ParseComplete was seen
	pending int    // Parses and Closes that are not settled
	batch   uint64 // in which the last Parse was sent
	epoch   uint64 // the pool's when it was sent
	place   *list.Element
}

// heldChange is an injected Parse or Close of a server's statement, as a Ref.
type heldChange struct {
	held  *held
	close bool
}

// shelf is what one server holds: the least recently used last.
type shelf struct {
	m     map[*statement]*held
	order list.List // of *held
}

// get returns st's place, making one if there is none. It counts as a use.
func (s *shelf) get(st *statement, table *statementTable) *held {
	h := s.m[st]
	if h == nil {
		if s.m == nil {
			s.m = map[*statement]*held{}
		}
		h = &held{st: st}
		table.hold(st)
		s.m[st] = h
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
	s.order.Remove(h.place)
	table.drop(h.st)
}

// oldest is the least recently used statement that nothing is under way for.
func (s *shelf) oldest() *held {
	for e := s.order.Back(); e != nil; e = e.Prev() {
		if h := e.Value.(*held); h.pending == 0 {
			return h
		}
	}
	return nil
}

// clear forgets everything.
func (s *shelf) clear(table *statementTable) {
	for _, h := range s.m {
		table.drop(h.st)
	}
	s.m = nil
	s.order.Init()
}
