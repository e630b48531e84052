package proxy

import (
	"bytes"
	"errors"
	"time"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// attach gives the session a server: the settings that differ are put in
// front of what the session sends first, in the same write. in is held.
func (s *session) attach(l *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return // it ended between the pool and here: another is asked for
	}
	l.state = linkAttached
	l.sess = s
	l.ledger.Trace = s.px.trace.Load()
	l.answered, l.madeUp, l.wrote, l.doomed, l.awaiting = false, 0, false, l.fatal != nil, false
	l.muted = nil
	s.sentN = 0
	s.found, l.foundSent = 0, 0
	l.firstBatch, l.xactEndsIn, l.readsElse = s.batch, noBatch, noBatch
	l.xactEnded()
	l.forgetsAt = 0
	l.strict = s.without&backend.UsedCustoms != 0
	if l.strict && s.held&sqlscan.Named == 0 && s.settings.hasCustoms() {
		s.setHeld(s.held | sqlscan.Named)
	}
	l.drew, l.late, l.discarded, l.untold = false, false, false, false
	l.brought, l.failsQuery = 0, false
	l.stats.assignments++
	switch s.lastServer.Load() {
	case nil: // the session's first
	case l.srv:
		l.stats.kept++
	default:
		l.stats.switches++
	}
	s.state.Store(uint32(stateActive))
	if l.foreign = l.lastSess != s.id && l.lastSess != 0; !l.known || l.label != s.settings || l.foreign && l.pool.usesLast.Load() {
		l.bring(s)
	}
	s.link.Store(l)
	if len(l.prefix) == 0 && s.told != l.reported {
		c := chunk{}
		l.tell(&c)
		s.reply = append(s.reply, c.out...)
	}
}

// bring queues the SQL that brings the server's settings in line. If any
// part of it fails PostgreSQL ends the connection before it reads what the
// client sent. mu is held.
func (l *link) bring(s *session) {
	if l.pool.opts.UpstreamPooler {
		return
	}
	to := s.settings
	sql := l.ownSequences(l.replaySQL(to, true))
	if sql == "" {
		l.label = to // they differ in what makes no difference here
		return
	}
	// A timeout that is in force may hit before exit_on_error is: then the
	// client's message has to wait for the outcome.
	l.awaiting = l.label.limited()
	l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow, Ref: &replayRef{to}})
	l.prefix = wire.AppendQuery(l.prefix[:0], sql)
	l.unnamedOf = 0
}

// Granted implements backend.Waiter: the session gets the server it has
// waited for, and what it has sent meanwhile goes there.
func (s *session) Granted(srv *backend.Server) {
	l := srv.Handler.(*link)
	s.in.Lock()
	s.waiting = false
	if s.gone {
		s.in.Unlock()
		l.mu.Lock()
		l.state = linkOurs
		l.mu.Unlock()
		l.giveBack()
		return
	}
	wasFull := s.full()
	canceled := s.canceled
	if s.canceled = false; canceled {
		s.state.Store(uint32(stateIdle))
		s.answerHead(errCanceled)
		l.mu.Lock()
		l.state = linkOurs
		l.mu.Unlock()
	} else {
		s.attach(l)
	}
	more := s.advance()
	s.tidyBuffer()
	s.in.Unlock()
	if canceled {
		l.giveBack()
	}
	if !more || wasFull || srv.Conn.Queued() {
		s.conn.Wake()
	}
}

// Refused implements backend.Waiter: no server will come. What the session
// wanted to send is answered with the cause and dropped.
func (s *session) Refused(err error) {
	s.in.Lock()
	s.waiting = false
	if s.gone {
		s.in.Unlock()
		return
	}
	s.canceled = false
	wasFull := s.full()
	s.refused(err)
	more := s.advance()
	s.tidyBuffer()
	s.in.Unlock()
	if !more || wasFull {
		s.conn.Wake()
	}
}

// refused answers the message at the head of the input with an error. in is
// held.
func (s *session) refused(err error) {
	s.state.Store(uint32(stateIdle))
	e := refusal(err, wire.SeverityError)
	s.px.countError(e.Code)
	var own *wire.Error
	if errors.As(err, &own) && own.Severity == wire.SeverityFatal {
		s.ending.CompareAndSwap(nil, own)
		return
	}
	s.answerHead(e)
}

// answerHead answers the message at the head of the input, for which no
// server is attached, with e and drops it, and what belongs to it.
func (s *session) answerHead(e *wire.Error) {
	b := s.input()
	typ, size, p := s.header(b)
	if p != handled {
		return
	}
	s.reply = e.Append(s.reply)
	s.drop(b, size)
	if typ == wire.MsgQuery || typ == wire.MsgFunctionCall {
		s.reply = wire.AppendReady(s.reply, wire.TxIdle)
	} else {
		s.skip = true
	}
}

// drop moves past a message, also past what has not come of it.
func (s *session) drop(b []byte, size int) {
	n := min(len(b), size)
	s.consume(n)
	s.pass, s.passOn = size-n, false
}

// endingPatience is how long a server that has said goodbye may take to
// close, so that it is known whether it had read what it was sent.
const endingPatience = time.Second

// serverLost ends or rescues the session of a server that is gone. It runs on
// the server's pump.
func (s *session) serverLost(l *link, err error) {
	l.mu.Lock()
	fate := l.unread()
	l.mu.Unlock()
	if fate == perhapsUnread {
		reset, ok := l.srv.Conn.Ending(endingPatience)
		l.mu.Lock()
		if ok && (reset || s.repeatable(l)) {
			fate = surelyUnread
		}
		l.mu.Unlock()
	}
	s.in.Lock()
	l.mu.Lock()
	if l.sess != s {
		l.mu.Unlock()
		s.in.Unlock()
		return
	}
	owed, open := l.ledger.Owed()-l.ledger.OwnQueries(), l.ledger.BatchOpen()
	l.ledger.Abandon()
	l.settled()
	again := l.asking == nil && (!l.wrote || fate == surelyUnread && s.again < maxAgain && s.sentN >= 0 && s.pin == "" && s.mode != ModeSession && !l.half && s.dropMadeUp(l.madeUp) && s.putBack())
	s.again++
	s.freeSent()
	s.dropCancel()
	s.tear(l)
	l.unclaim()
	l.sess, l.state, l.prefix = nil, linkOurs, nil
	s.link.Store(nil)
	s.blocked.Store(false)
	switch {
	case s.gone || again:
	case l.asking != nil && l.asking.audited && s.pin == "" && s.mode != ModeSession:
		// Nothing had announced that there was anything to be asked for: it is as
		// if nothing had been asked, and the server had been lost when it was idle.
		l.askNoMore()
		s.settleEnvs(false)
		s.reply = wire.AppendReady(s.reply, wire.TxIdle)
	case l.asking != nil:
		l.askNoMore()
		e := *lostState
		if l.fatal != nil {
			e.Detail = string(wire.ErrorField(l.fatal, 'M'))
		}
		s.ending.CompareAndSwap(nil, &e)
	case l.replayed && !(l.answered && (s.pin != "" || s.mode == ModeSession)): // else its state is lost with the server
		s.replayRefused(l.fatal, owed, open)
	case l.fatal != nil:
		s.ending.CompareAndSwap(nil, fromBody(l.fatal, wire.SeverityFatal))
	default:
		e := *lostError
		if err != nil {
			e.Detail = err.Error()
		}
		s.ending.CompareAndSwap(nil, &e)
	}
	l.mu.Unlock()
	if !s.gone {
		s.advance()
		s.tidyBuffer()
	}
	s.in.Unlock()
	s.conn.Wake() // it reads on, or ends
}

// tear notes that the client has part of a message whose rest will not come:
// nothing can be said to it any more, for it would read that as the rest. The
// link's mu is held.
func (s *session) tear(l *link) {
	if l.left > 0 && l.keep {
		s.torn.Store(true)
	}
}

// maxAgain is how many servers in a row may end before they have read what a
// session sent them, until it is told.
const maxAgain = 5

// fate says whether a lost server had read what its session sent.
type fate uint8

const (
	perhapsRead   fate = iota
	perhapsUnread      // a reset would prove that it has not
	surelyUnread
)

// unread judges what a lost server can have read. mu is held.
func (l *link) unread() fate {
	switch {
	case l.doomed, l.awaiting:
		return surelyUnread // nothing is read behind the last word, and nothing was sent yet
	case !l.answered && l.sess.sentN == 0 && !l.replayed:
		return surelyUnread // what was sent was ours alone
	case l.fatal == nil || l.answered:
		return perhapsRead
	case l.replayed && bytes.HasPrefix(wire.ErrorField(l.fatal, 'C'), []byte("57")):
		// Neither a shutdown nor a cancel or timeout is the fault of the
		// settings, and what stands behind them was not read.
		return surelyUnread
	case l.replayed || !bytes.HasPrefix(wire.ErrorField(l.fatal, 'C'), []byte("57P0")):
		return perhapsRead
	case l.ledger.Owed() > 1:
		// A reset tells that something was not read, not that nothing was.
		return perhapsRead
	}
	return perhapsUnread
}

// dropMadeUp drops from what was sent the first n messages with a reply,
// which the client has had: they were no server's.
func (s *session) dropMadeUp(n int) bool {
	for n > 0 {
		if s.sentN < wire.HeaderLen {
			return false
		}
		switch typ, size := wire.Header(s.sent[:s.sentN]); typ {
		case wire.MsgParse, wire.MsgClose:
			n--
			fallthrough
		case wire.MsgFlush:
			s.sentN = int32(copy(s.sent[:], s.sent[min(size, int(s.sentN)):s.sentN]))
		default:
			return false
		}
	}
	return true
}

// putBack puts what the server has not read in front of the input again.
func (s *session) putBack() bool {
	rest := s.input()
	if s.sentN == 0 {
		return true
	}
	if s.big != nil || int(s.sentN)+len(rest) > len(s.sent) {
		return false
	}
	s.sentN += int32(copy(s.sent[s.sentN:], rest))
	if s.buf == nil {
		s.buf, s.sent = s.sent, nil
	} else {
		s.buf, s.sent = s.sent, s.buf
	}
	s.pos, s.n = 0, int(s.sentN)
	return true
}

// replayRefused tells the client that its settings could not be brought to a
// server; body is PostgreSQL's reason. What it had sent was not run.
func (s *session) replayRefused(body []byte, owed int, open bool) {
	e := fromBody(body, wire.SeverityError)
	for range owed {
		s.reply = wire.AppendReady(e.Append(s.reply), wire.TxIdle)
	}
	if open {
		s.reply = e.Append(s.reply)
		s.skip = true
	}
	s.passOn = false
}

// fromBody makes an error of ours from PostgreSQL's.
func fromBody(body []byte, severity string) *wire.Error {
	get := func(code byte) string { return string(wire.ErrorField(body, code)) }
	return &wire.Error{Severity: severity, Code: get('C'), Message: get('M'), Detail: get('D'), Hint: get('H')}
}
