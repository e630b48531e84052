package proxy

import (
	"time"

	"go.uber.org/zap"

	"pgpoold/wire"
)

// Timeouts of a session; 0 is off. They are looked at by the proxy's clock,
// so they strike up to a tick late, a second where parking has failed, and never early.
type Timeouts struct {
	QueryWaitNotify time.Duration // query_wait_notify
	Query           time.Duration // query_timeout
	IdleTransaction time.Duration // idle_transaction_timeout
	Transaction     time.Duration // transaction_timeout
	ClientIdle      time.Duration // client_idle_timeout
	ClientWrite     time.Duration // client_write_timeout
}

// UserTimeouts are a user's own; nil is none.
type UserTimeouts struct {
	Query, IdleTransaction, Transaction, ClientIdle, ClientWrite *time.Duration
}

func (u *UserTimeouts) over(t Timeouts) *Timeouts {
	for _, f := range []struct{ to, from *time.Duration }{
		{&t.Query, u.Query}, {&t.IdleTransaction, u.IdleTransaction}, {&t.Transaction, u.Transaction},
		{&t.ClientIdle, u.ClientIdle}, {&t.ClientWrite, u.ClientWrite},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	return &t
}

// timeoutsOf are those of a user's sessions in a database.
func (px *Server) timeoutsOf(db *Database, user string) *Timeouts {
	own := px.live().users[user].Timeouts
	if own == (UserTimeouts{}) {
		// Of what is configured: sessions share that, while db may be one's own.
		all := px.live().databases
		if shared := all[db.Name]; shared != nil {
			return &shared.Timeouts
		}
		if shared := all["*"]; shared != nil {
			return &shared.Timeouts
		}
		return &db.Timeouts
	}
	return own.over(db.Timeouts)
}

// renewTimeouts gives a session the timeouts that are configured now.
func (px *Server) renewTimeouts(s *session) {
	if db := px.database(s.db.Name); db != nil {
		s.timeouts.Store(px.timeoutsOf(db, s.user))
	}
}

// cancelPause is how long a query whose timeout has passed may go on, from the end of
// its cancel, until it is cancelled again.
const cancelPause = time.Second

// watched is what the clock remembers of a session between two looks. Only
// the clock's goroutine uses it.
type watched struct {
	received uint64    // bytes from the client
	sent     uint64    // bytes that its server has sent
	quiet    time.Time // since when both are as they are
	rested   time.Time // when it was last seen with a server that owed nothing
	taken    uint64    // bytes that the client has taken while others waited for it
	stuck    time.Time // since when it takes none; zero: nothing waits for it
	ran      bool      // its server owed something at the last look
	pinTold  bool      // the log has been told that its server is waited for
	notified time.Time // the begin of the wait that it was told of
}

// timeoutError is what a client hears when a timeout has passed.
func timeoutError(severity, code, what, setting string, limit time.Duration) *wire.Error {
	return &wire.Error{Severity: severity, Code: code, Message: what + " due to " + setting,
		Detail: "The limit is " + limit.String() + " (pool." + setting + ", also under databases.X and users.X)."}
}

// watch looks whether one of the session's timeouts has passed.
func (s *session) watch(now time.Time) {
	t := s.timeouts.Load()
	if *t == (Timeouts{}) {
		return
	}
	w := s.watched
	if w == nil || t.ClientIdle <= 0 {
		// Most sessions are idle at most looks, and then there is nothing to remember.
		switch idle := s.link.Load() == nil && s.state.Load() != uint32(stateWaiting); {
		case idle && t.ClientIdle <= 0:
			if s.conn.Parked() {
				s.watched = nil
			} else if w != nil {
				w.rested, w.stuck = now, time.Time{}
			}
			return
		case w == nil:
			w = s.remember()
		}
	}
	if s.state.Load() == uint32(stateWaiting) {
		s.notifyWait(t, w)
		w.quiet = now
		return
	}
	received := s.received.Load()
	l := s.link.Load()
	if l == nil {
		w.rested, w.stuck = now, time.Time{}
		if received != w.received || w.quiet.IsZero() || w.ran {
			w.received, w.quiet, w.ran = received, now, false
		}
		if passed(t.ClientIdle, w.quiet, now) && s.idle() {
			s.end(timeoutError(wire.SeverityFatal, "57P05", "terminating connection", "client_idle_timeout", t.ClientIdle))
		}
		return
	}
	l.mu.Lock()
	if l.sess != s || l.dead {
		l.mu.Unlock()
		return
	}
	sent := l.stats.sent
	if received != w.received || sent != w.sent {
		w.received, w.sent, w.quiet = received, sent, now
	}
	running := l.ledger.Len() > 0
	if w.ran && !running {
		w.quiet = now
	}
	w.ran = running
	idle := !running && l.ledger.Status() == wire.TxIdle && !l.ledger.BatchOpen() && !l.half
	began := l.stats.queryBegan
	if w.rested.After(began) {
		began = w.rested // a batch may lie open for long before something is asked in it again
	}
	if !running {
		w.rested = now
	}
	copying, _ := l.ledger.CopyIn()
	xactBegan := l.stats.xactBegan
	var end *wire.Error
	switch {
	case !idle && !xactBegan.IsZero() && passed(t.Transaction, xactBegan, now):
		end = timeoutError(wire.SeverityFatal, "25P04", "terminating connection", "transaction_timeout", t.Transaction)
	case running && passed(t.Query, began, now) && copying:
		// PostgreSQL reads the client's data and does not look for a cancel.
		end = timeoutError(wire.SeverityFatal, "57014", "terminating connection", "query_timeout", t.Query)
	case running && passed(t.Query, began, now):
		l.overdue(now, t.Query)
	case !running && !idle && passed(t.IdleTransaction, w.quiet, now):
		end = timeoutError(wire.SeverityFatal, "25P03", "terminating connection", "idle_transaction_timeout", t.IdleTransaction)
	case idle && passed(t.ClientIdle, w.quiet, now):
		end = timeoutError(wire.SeverityFatal, "57P05", "terminating connection", "client_idle_timeout", t.ClientIdle)
	}
	l.mu.Unlock()
	if end != nil {
		s.end(end)
		return
	}
	s.watchReading(t, w, now)
}

// remember is what the clock remembers of the session.
func (s *session) remember() *watched {
	if s.watched == nil {
		s.watched = &watched{}
	}
	return s.watched
}

// passed reports whether a timeout that began then has passed.
func passed(limit time.Duration, since, now time.Time) bool {
	return limit > 0 && !since.IsZero() && now.Sub(since) >= limit
}

// watchReading ends a client that holds a server by not reading. Nothing can
// be said to it.
func (s *session) watchReading(t *Timeouts, w *watched, now time.Time) {
	if t.ClientWrite <= 0 {
		return
	}
	taken := s.conn.Taken()
	switch {
	case !s.conn.Unsent():
		w.stuck = time.Time{}
	case w.stuck.IsZero() || taken != w.taken:
		w.stuck, w.taken = now, taken
	case now.Sub(w.stuck) >= t.ClientWrite && s.ending.Load() == nil:
		s.px.countError("57P05")
		s.px.opts.Log.Info("a client that does not read is closed (client_write_timeout)", zap.Uint64("session", s.id),
			zap.String("user", s.user), zap.String("database", s.db.Name), zap.Duration("client_write_timeout", t.ClientWrite))
		s.end(&wire.Error{})
		s.conn.Interrupt()
	}
}

// notifyWait tells a client once that it waits for a server.
func (s *session) notifyWait(t *Timeouts, w *watched) {
	if t.QueryWaitNotify <= 0 {
		return
	}
	s.in.Lock()
	defer s.in.Unlock()
	if !s.waiting || w.notified.Equal(s.ticket.Since) || time.Since(s.ticket.Since) < t.QueryWaitNotify {
		return
	}
	w.notified = s.ticket.Since
	notice := (&wire.Error{Severity: "NOTICE", Code: "00000",
		Message: "No server connection available in postgres backend, client being queued",
		Detail:  "The query has waited for " + t.QueryWaitNotify.String() + " (query_wait_notify, pool.query_wait_notify)."}).Append(nil)
	notice[0] = wire.MsgNotice
	if err := s.conn.Write(notice, false); err != nil {
		s.writeFailed(err)
	}
}

// overdue cancels a query that has run for too long, or the description of what it
// has prepared, and again if that was in vain. mu is held.
func (l *link) overdue(now time.Time, limit time.Duration) {
	head, _ := l.ledger.Head()
	if l.occupied() && !describesMade(head) || l.cancels > 0 || !l.overdueAt.IsZero() && now.Sub(l.overdueAt) < cancelPause {
		return
	}
	l.overdueAt, l.overdueLimit = now, limit
	l.px.sendCancel(l, nil, nil)
}

// askedLong cancels the description of what a PREPARE has made, if that waits for a
// lock from one tick of the pool to the next: the client waits with it, and can do
// without. mu is not held.
func (l *link) askedLong() {
	l.mu.Lock()
	defer l.mu.Unlock()
	head, _ := l.ledger.Head()
	if l.state != linkAttached || l.dead || l.cancels > 0 || !describesMade(head) || l.ledger.Status() != wire.TxIdle || l.ledger.Owed() > 1 || l.ledger.BatchOpen() {
		l.askedAt = 0
		return
	}
	if place := l.ledger.Place() + 1; l.askedAt != place {
		l.askedAt = place
		return
	}
	l.enough = true
	l.px.sendCancel(l, nil, nil)
}

// overdueError is the error for a query that overdue has cancelled, if body is
// PostgreSQL's word on that; else nil. mu is held.
func (l *link) overdueError(body []byte) *wire.Error {
	if l.overdueAt.IsZero() || string(wire.ErrorField(body, 'C')) != "57014" {
		return nil
	}
	return timeoutError(wire.SeverityError, "57014", "canceling statement", "query_timeout", l.overdueLimit)
}

// overdueCancelled follows the end of a cancel: it cannot hit anything more.
// mu is held.
func (l *link) overdueCancelled() {
	if l.enough {
		l.enough = false
		if l.sess != nil && l.sess.blocked.Load() {
			l.sess.conn.Wake()
		}
	}
	if l.overdueAt.IsZero() {
		return
	}
	if l.ledger.Len() > 0 {
		// PostgreSQL has the signal only now, however long the cancel was under way:
		// another one too soon would hit what stands behind.
		l.overdueAt = time.Now()
		return
	}
	l.overdueAt = time.Time{}
	if l.sess != nil && l.sess.blocked.Load() {
		l.sess.conn.Wake()
	}
}
