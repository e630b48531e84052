package proxy

import (
	"bytes"

	"pgpoold/backend"
	"pgpoold/wire"
)

// A statement that pgpoold believed to be on a server may not be there (a
// function has deallocated it). Or the client's Parse was made up, and what the
// server holds is from before a table or type was changed: then it may refuse
// what it would not refuse after a Parse of now. Neither is the client's doing, so
// the batch that met it is run again, behind a new Parse, where nobody can tell:
// nothing of it was answered, nothing stands behind it, and no transaction was
// open.

// unwarranted reports whether an error is about what pgpoold believed of the
// server and not about what the client did; it corrects the belief. mu is held.
func (l *link) unwarranted(body []byte) bool {
	e, _ := l.ledger.Head()
	var n *name
	var unnamed alias
	switch ref := e.Ref.(type) {
	case *name:
		n = ref
	case alias:
		unnamed = ref
	case *described:
		n, unnamed = ref.name, ref.alias
	}
	if l.sess == nil {
		return false
	}
	if unnamed != "" {
		return l.gone(string(unnamed), body)
	}
	if n == nil {
		return l.taken(body)
	}
	st := n.cur
	if n.pending() {
		st = n.next()
	}
	h := l.shelf.m[st]
	if h == nil {
		return false
	}
	if l.gone(st.name, body) {
		return true
	}
	if !l.untried(n) {
		return false
	}
	if string(wire.ErrorField(body, 'C')) == errPlanChanged.Code {
		l.pool.epoch.Add(1)
	}
	h.doubt()
	n.shape, n.untried, n.adopt = shape{}, false, true
	return true
}

// gone reports whether an error says that the server does not hold a name that it
// was believed to hold.
func (l *link) gone(server string, body []byte) bool {
	if string(wire.ErrorField(body, 'C')) != "26000" || len(l.shelf.named(server)) == 0 || !bytes.Contains(wire.ErrorField(body, 'M'), []byte(`"`+server+`"`)) {
		return false
	}
	for _, h := range l.shelf.m {
		h.doubt()
	}
	return true
}

// taken reports whether SQL has not found a name that the session has and that
// the server was believed to hold.
func (l *link) taken(body []byte) bool {
	if string(wire.ErrorField(body, 'C')) != "26000" {
		return false
	}
	for e := range l.sess.names.all() {
		text := e.text
		if e.cur == nil || e.pending() || !bytes.Contains(wire.ErrorField(body, 'M'), []byte(`"`+text+`"`)) {
			continue
		}
		for _, h := range l.shelf.named(text) {
			if h.sure {
				for _, h := range l.shelf.m {
					h.doubt()
				}
				return true
			}
		}
	}
	return false
}

// retry begins to run the client's batch again, if nobody can tell. mu is
// held.
func (l *link) retry(body []byte) bool {
	s := l.sess
	if l.answered || s.sentN <= 0 || s.again >= maxAgain || l.half || l.ledger.Status() != wire.TxIdle {
		return false
	}
	if owed := l.ledger.Owed() - l.ledger.OwnQueries(); owed > 1 || owed == 1 && l.ledger.BatchOpen() {
		return false // another batch has begun behind it
	}
	l.retrying, l.awaiting = fromBody(body, wire.SeverityError), true
	l.ledger.Settle(wire.MsgError, 0)
	if l.retryOpen = l.ledger.Skipping(); l.retryOpen {
		l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Action: wire.Swallow})
		if err := l.srv.Conn.Write(wire.AppendEmpty(nil, wire.MsgSync), false); err != nil {
			l.srv.Close(backend.CloseIO)
		}
	}
	l.settled()
	return true
}

// runAgain puts what was sent in front of the input, now that the server is
// ready for it.
func (s *session) runAgain(l *link) {
	s.in.Lock()
	l.mu.Lock()
	if l.sess != s || l.retrying == nil {
		l.mu.Unlock()
		s.in.Unlock()
		return
	}
	why := l.retrying
	l.retrying, l.awaiting = nil, false
	s.again++
	release := false
	if !s.dropMadeUp(l.madeUp) || !s.putBack() {
		// What came behind it has taken the room: then it is the client's error.
		s.reply = why.Append(s.reply)
		if s.skip = l.retryOpen; !l.retryOpen {
			s.reply = wire.AppendReady(s.reply, wire.TxIdle)
		}
		if release = l.releasable(); release {
			l.detach()
		} else {
			s.end(fatal("08006", "the batch could not be run again"))
		}
	}
	s.freeSent()
	l.madeUp, l.answered, l.firstBatch, l.brought = 0, false, s.batch, 0
	l.mu.Unlock()
	if release {
		l.giveBack()
	}
	s.advance()
	s.tidyBuffer()
	s.in.Unlock()
	s.conn.Wake()
}
