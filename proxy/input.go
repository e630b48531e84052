package proxy

import (
	"time"

	"pgpoold/backend"
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

// maxOwed bounds the replies that one server may owe; a client that sends
// more waits.
const maxOwed = 4096

// maxWholeText is the largest Query or Parse that is looked at whole. A
// larger one may do anything, so its session stays with its server.
const maxWholeText = 8 << 20

// progress says what became of one message.
type progress uint8

const (
	handled    progress = iota // it is done with
	needBytes                  // it has not arrived as far as it must
	mustWait                   // a server, or a reply, must come first
	sessionEnd                 // the session ends
)

// advance handles the input as far as it can. It returns false if the session
// must end. in is held; nothing here waits.
func (s *session) advance() (more bool) {
	if s.gone || s.ending.Load() != nil {
		return false
	}
	more = true
	var now time.Time // of this turn, once somebody has asked for it
	for !s.waiting {
		l := s.link.Load()
		if l == nil {
			p := s.detached()
			if p == handled {
				now = s.ticket.Since
				continue // a server has come
			}
			more = p != sessionEnd
			break
		}
		l.mu.Lock()
		if l.sess != s {
			l.mu.Unlock()
			continue
		}
		if l.dead {
			l.mu.Unlock()
			break
		}
		w := feeder{s: s, l: l, now: now}
		p := w.run()
		released := l.releasable() && p == needBytes
		madeUp := l.madeUp
		w.send()
		if p == mustWait && l.madeUp != madeUp && l.ledger.Len() == 0 && !l.awaiting {
			l.mu.Unlock()
			continue // what it waited for were replies that no server sends
		}
		if p == needBytes && l.inspectable() {
			l.inspect(false)
		}
		if released {
			// The last reply came before the last byte of a message that owes
			// none, and nobody else will look again.
			if released = l.free(); released {
				l.detach()
			}
		}
		if p == mustWait {
			s.blocked.Store(true) // under mu: what it waits for is settled under mu too
		}
		l.mu.Unlock()
		if released {
			l.giveBack()
		}
		more = p != sessionEnd
		break
	}
	if len(s.reply) > 0 {
		if err := s.conn.Write(s.reply, false); err != nil {
			more = false
		}
		if s.reply = s.reply[:0]; cap(s.reply) > maxSpare {
			s.reply = nil
		}
	}
	return more
}

// input is what has come and is not handled.
func (s *session) input() []byte {
	if s.big != nil {
		return s.big
	}
	if s.buf == nil {
		return nil
	}
	return s.buf[s.pos:s.n]
}

// consume moves past n bytes of the input.
func (s *session) consume(n int) {
	if s.big != nil {
		s.big = nil
		return
	}
	s.pos += n
	if s.pos == s.n {
		s.pos, s.n = 0, 0
	}
}

// enlarge makes room for a message that must be seen whole and does not fit
// the buffer.
func (s *session) enlarge(size int) {
	b := make([]byte, s.n-s.pos, size)
	copy(b, s.buf[s.pos:s.n])
	s.pos, s.n = 0, 0
	s.big = b
}

// header reads the next message's header and checks its length as PostgreSQL
// does. p is handled if it is good.
func (s *session) header(b []byte) (typ byte, size int, p progress) {
	typ, size, ok := wire.Frontend(b)
	if !ok {
		return 0, 0, s.noHeader(b)
	}
	return typ, size, handled
}

// noHeader says why a message is none, if it has come so far.
func (s *session) noHeader(b []byte) progress {
	if len(b) < wire.HeaderLen {
		return needBytes
	}
	e := &wire.Error{} // of its length; PostgreSQL ends it without a word
	if wire.FrontendLimit(b[0]) == 0 {
		e = fatal("08P01", "invalid frontend message type %d", b[0])
	}
	s.ending.CompareAndSwap(nil, e)
	return sessionEnd
}

// detached handles input while the session has no server: what needs none is
// answered here, the rest asks for one. It returns handled once a server is
// attached.
func (s *session) detached() progress {
	for {
		b := s.input()
		if len(b) == 0 {
			return needBytes
		}
		if s.pass > 0 {
			n := min(s.pass, len(b))
			s.consume(n)
			s.pass -= n
			continue
		}
		typ, size, p := s.header(b)
		if p != handled {
			return p
		}
		if s.skip && typ != wire.MsgSync && typ != wire.MsgTerminate {
			s.drop(b, size)
			continue
		}
		switch typ {
		case wire.MsgTerminate:
			s.terminate = true
			return sessionEnd
		case wire.MsgCopyData, wire.MsgCopyDone, wire.MsgCopyFail, wire.MsgFlush:
			s.drop(b, size)
			continue
		case wire.MsgSync:
			if len(b) < size {
				return s.more(typ, size)
			}
			if size > wire.HeaderLen && !s.skip {
				break // PostgreSQL has something to say about it
			}
			s.consume(size)
			s.skip = false
			s.batch++
			s.reply = wire.AppendReady(s.reply, wire.TxIdle)
			continue
		case wire.MsgClose:
			if len(b) < size {
				return s.more(typ, size)
			}
			if ok := s.closeDetached(b[wire.HeaderLen:size]); !ok {
				break // PostgreSQL has something to say about it
			}
			s.consume(size)
			continue
		case wire.MsgQuery:
			if len(b) >= size && s.queryDetached(b[wire.HeaderLen:size]) {
				s.consume(size)
				continue
			}
		case wire.MsgBind, wire.MsgDescribe:
			if p := s.unknownDetached(typ, b, size); p == needBytes {
				return s.more(typ, size)
			} else if p == mustWait {
				break
			}
			s.drop(b, size)
			s.skip = true
			continue
		}
		if p := s.usable(typ, b, size); p != handled {
			return p
		}
		if !s.acquire() {
			return mustWait
		}
		return handled
	}
}

// usable reports whether enough of a message has come to send something of
// it, so that no server is taken for a few bytes of a message.
func (s *session) usable(typ byte, b []byte, size int) progress {
	switch typ {
	case wire.MsgQuery:
		if size <= maxWholeText && len(b) < size {
			return s.more(typ, size)
		}
	case wire.MsgParse:
		if len(b) < size && size <= maxWholeText {
			return s.more(typ, size)
		}
	case wire.MsgExecute, wire.MsgClose, wire.MsgDescribe:
		if len(b) < size {
			return s.more(typ, size)
		}
	}
	return handled
}

// more asks for the rest of a message that must be seen as a whole, or, for a
// Bind, as far as its names go.
func (s *session) more(typ byte, size int) progress {
	if s.big != nil || s.n-s.pos < stream.BufferSize {
		return needBytes
	}
	if typ == wire.MsgBind {
		s.ending.CompareAndSwap(nil, fatal("08P01", "the names in a Bind message are longer than %d bytes", stream.BufferSize))
		return sessionEnd
	}
	s.enlarge(size)
	return needBytes
}

// closeDetached answers a Close of a statement or portal. It returns false
// for a message that PostgreSQL would not understand.
func (s *session) closeDetached(body []byte) bool {
	if len(body) < 2 {
		return false
	}
	text, rest, ok := wire.CString(body[1:])
	if !ok || len(rest) > 0 {
		return false
	}
	switch {
	case body[0] == 'S' && len(text) > 0:
		if st, _ := s.names.lookup(wire.Name(text), s.batch); st != nil {
			c := s.names.begin(wire.Name(text), nil, s.batch)
			if old := s.names.settle(c, true); old != nil {
				s.px.statements.drop(old)
			}
		}
	case body[0] == 'S':
		if s.unnamed.exists() {
			s.unnamed.begin(nil, 0, noSettings, s.batch)
			s.unnamed.settle(true)
		}
	case body[0] != 'P':
		return false
	}
	s.reply = wire.AppendEmpty(s.reply, wire.MsgCloseComplete)
	return true
}

// unknownDetached answers a Bind or Describe of a statement that does not
// exist: no transaction is open, so the error is the same without a server.
// It returns handled if it did, mustWait if the message needs a server.
func (s *session) unknownDetached(typ byte, b []byte, size int) progress {
	text, p := statementName(typ, b[wire.HeaderLen:min(len(b), size)], len(b) >= size)
	if p != handled {
		return p
	}
	if len(text) == 0 {
		if v, _ := s.unnamed.current(s.batch); v != nil && v.body != nil {
			return mustWait
		}
		s.reply = unknownStatement("").Append(s.reply)
		return handled
	}
	if st, _ := s.names.lookup(wire.Name(text), s.batch); st != nil {
		return mustWait
	}
	s.reply = unknownStatement(string(text)).Append(s.reply)
	return handled
}

func unknownStatement(name string) *wire.Error {
	e := &wire.Error{Severity: wire.SeverityError, Code: "26000", Message: "unnamed prepared statement does not exist"}
	if name != "" {
		e.Message = `prepared statement "` + name + `" does not exist`
	}
	return e
}

// statementName finds the statement's name in a Bind or Describe. It returns
// mustWait for a message that is for PostgreSQL to judge.
func statementName(typ byte, body []byte, whole bool) (text []byte, p progress) {
	if typ == wire.MsgDescribe {
		if !whole {
			return nil, needBytes
		}
		if len(body) < 2 || body[0] != 'S' {
			return nil, mustWait
		}
		text, rest, ok := wire.CString(body[1:])
		if !ok || len(rest) > 0 {
			return nil, mustWait
		}
		return text, handled
	}
	_, rest, ok := wire.CString(body)
	if ok {
		text, _, ok = wire.CString(rest)
	}
	switch {
	case ok:
		return text, handled
	case whole:
		return nil, mustWait
	}
	return nil, needBytes
}

// acquire asks the pool for a server and attaches it, or queues.
func (s *session) acquire() bool {
	if s.waitsToMove() {
		return false
	}
	if s.ticket == nil {
		s.ticket = &backend.Ticket{}
	}
	t := s.ticket
	t.W, t.Label, t.Last, t.Without = s, s.settings, s.lastServer.Load(), s.asks()
	s.waiting = true // before the pool can call back
	srv, err := s.pool.servers.Acquire(t, time.Now())
	if srv == nil && err == nil {
		s.state.Store(uint32(stateWaiting))
		return false
	}
	s.waiting = false
	if err != nil {
		s.refused(err)
		return s.link.Load() != nil || s.ending.Load() == nil
	}
	s.attach(srv.Handler.(*link))
	return true
}
