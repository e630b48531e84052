package proxy

import (
	"time"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/wire"
)

// farewell is how long a client may take to read the last that is said to it.
const farewell = time.Second

// leave ends the session: its pump has ended, and with it the reading of the
// client. err is the client's socket's, if any.
func (s *session) leave(err error) {
	s.in.Lock()
	s.gone = true
	waiting := s.waiting
	l := s.link.Load()
	s.in.Unlock()
	if waiting {
		s.pool.servers.Leave(s.ticket) // else Granted or Refused comes, and finds it gone
	}
	uncounted := false
	if l != nil {
		uncounted = s.abandon(l)
	}
	e := s.ending.Load()
	told := e != nil && e.Severity != "" && !s.torn.Load()
	if told {
		s.px.countError(e.Code)
		s.conn.LastWords(e.Append(nil))
	}
	if told || s.terminate {
		s.conn.Close(farewell)
	} else {
		s.conn.Close(0)
	}
	s.in.Lock()
	s.clear()
	s.in.Unlock()
	if s.pin != "" && !uncounted {
		s.pool.pins.Add(-1)
	}
	s.px.forget(s)
	s.logEnd(e, err)
}

// logEnd writes the one line of a session's end.
func (s *session) logEnd(e *wire.Error, err error) {
	line := s.px.opts.Log.Check(zap.InfoLevel, "session ended")
	if line == nil {
		return
	}
	reason := "client closed the connection"
	switch {
	case e != nil && e.Severity != "":
		reason = e.Message
	case s.terminate:
		reason = "client said goodbye"
	case err != nil:
		reason = err.Error()
	}
	line.Write(zap.Uint64("session", s.id), zap.String("user", s.user), zap.String("database", s.db.Name),
		zap.String("addr", s.addr.host), zap.Int("port", s.addr.port), zap.Duration("age", time.Since(time.Unix(0, s.began))), zap.String("reason", reason))
}

// abandon leaves the server to be cleared of what the session left on it. It
// reports whether the session has been taken out of the count of those that keep one.
func (s *session) abandon(l *link) (uncounted bool) {
	l.mu.Lock()
	if l.sess != s {
		l.mu.Unlock()
		return false
	}
	s.freeSent()
	s.dropCancel()
	s.tear(l)
	l.sess = nil
	s.link.Store(nil)
	l.lastSess = s.id
	l.state = linkOrphan
	l.finished = false
	l.noLongerCloses()
	l.unclaim()
	l.forgets = s.found
	l.shapeless, l.bringing = nil, false
	l.canceled = false
	l.retrying = nil
	l.pinned, l.suspect = false, false
	s.leaves(l)
	if uncounted = s.pin != ""; uncounted {
		s.pool.pins.Add(-1) // before another can have the server, and be one too many
	}
	l.reset = s.mode == ModeSession
	l.leaveBy = time.Now().Add(s.px.opts.RecoverTimeout)
	if l.dead {
		l.mu.Unlock()
		return uncounted
	}
	ended := s.ending.Load() // by pgpoold, if it has something to say
	l.toCancel = !s.terminate && (s.px.opts.ClientGone == GoneCancel || l.half || ended != nil && ended.Severity != "")
	l.overdueAt = time.Time{}
	l.recover()
	return uncounted
}

// recover brings a server whose client has left to where it can be reused:
// what was sent whole runs to its end (or is cancelled), a COPY fails, an
// unfinished batch or transaction is rolled back. It is called with mu held
// whenever the server has said something, and drops it.
func (l *link) recover() {
	switch {
	case l.toCancel && l.ledger.Len() > 0 && !l.ledger.OwnQuery():
		l.toCancel, l.canceled = false, true
		l.px.sendCancel(l, nil, nil)
	case l.idleAsk() && (!l.canceled || l.canceledAt != l.ledger.Place()):
		l.canceled, l.canceledAt = true, l.ledger.Place()
		l.px.sendCancel(l, nil, nil)
	}
	copying, extended := l.ledger.CopyIn()
	switch {
	case l.half:
		// PostgreSQL waits for the rest of a message that will never come.
		l.mu.Unlock()
		l.discard(backend.CloseClientGone)
		return
	case copying:
		l.ledger.Append(wire.Entry{Msg: wire.CopyMark})
		out := wire.AppendCopyFail(nil, "the client has left")
		if extended {
			l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Action: wire.Swallow})
			out = wire.AppendEmpty(out, wire.MsgSync)
		}
		l.sendOurs(out)
	case l.ledger.InDoubt():
		l.sendOurs(wire.AppendEmpty(nil, wire.MsgFlush)) // for what becomes of the COPY
	case l.ledger.BatchOpen() && !l.finished:
		l.finished = true
		var out []byte
		if !l.ledger.Skipping() {
			// Sync alone would commit what the client has not. A Query ends the
			// batch, or is skipped if it fails now.
			l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow})
			out = wire.AppendQuery(nil, "ROLLBACK")
		}
		l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Action: wire.Swallow})
		l.sendOurs(wire.AppendEmpty(out, wire.MsgSync))
	case l.ledger.Len() > 0:
	case l.ledger.Status() != wire.TxIdle:
		l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow})
		l.sendOurs(wire.AppendQuery(nil, "ROLLBACK"))
	case l.ledger.Ambiguous():
		l.probe()
	case l.cancels > 0, !l.ledger.Releasable():
	default:
		l.recovered()
		return
	}
	l.mu.Unlock()
}

// idleAsk reports whether the server of a client that has left works on something
// of ours that nobody needs any more, and a cancel hits nothing that is to run. It
// may wait for a lock. mu is held.
func (l *link) idleAsk() bool {
	e, ok := l.ledger.Head()
	return ok && e.Action == wire.Mute && (l.toCancel || l.ledger.RunsNothing())
}

// cancelAgain repeats a cancel that has found nothing to cancel, because the
// query had not begun, or has left another one behind it to run.
func (l *link) cancelAgain() {
	l.mu.Lock()
	if l.state == linkOrphan && l.canceled && l.cancels == 0 && !l.dead && l.ledger.Len() > 0 && (!l.ledger.OwnQuery() || l.idleAsk()) {
		l.px.sendCancel(l, nil, nil)
	}
	l.mu.Unlock()
}

// sendOurs writes to a server that no session is attached to. mu is held.
func (l *link) sendOurs(b []byte) {
	l.unnamedOf = 0
	if err := l.srv.Conn.Write(b, false); err != nil {
		l.srv.Close(backend.CloseIO)
	}
}

// recovered decides what becomes of a server that is clean by the ledger. It
// is called with mu held and drops it.
func (l *link) recovered() {
	pinned, suspect, reset := l.pinned, l.suspect, l.reset
	l.forgetHeld(l.forgets)
	l.state = linkOurs
	l.pinned, l.suspect, l.reset = false, false, false
	l.mu.Unlock()
	switch {
	case pinned || reset && l.pool.opts.Replication != "":
		l.discard(backend.ClosePin)
	case reset && !l.pool.opts.UpstreamPooler:
		l.ask("DISCARD ALL", (*link).afterDiscard)
	case suspect:
		l.clean()
	default:
		l.giveBack()
	}
}

// afterDiscard follows DISCARD ALL at the end of a session that had the
// server for itself.
func (l *link) afterDiscard(failed []byte) {
	if failed != nil {
		l.discard(backend.CloseTainted)
		return
	}
	l.mu.Lock()
	l.shelf.clear(&l.px.statements)
	l.label, l.known = noSettings, true
	l.mu.Unlock()
	l.giveBack()
}
