package proxy

import (
	"time"

	"go.uber.org/zap"

	"pgpoold/wire"
)

// errPinDrain ends a session that keeps its server while that is to end.
var errPinDrain = &wire.Error{Severity: wire.SeverityFatal, Code: "57P01", Message: "terminating connection due to administrator command",
	Detail: "The session kept its server, asked nothing and was waited for as long as pin_drain_timeout allows."}

// pinnedIdle reports whether the session keeps its server for what it has made
// there, and asks nothing; since is when the server was first wanted back, zero
// if it is not. A session in session mode is waited for, as its mode says.
func (s *session) pinnedIdle() (pinned bool, reason string, since time.Time) {
	l := s.link.Load()
	if l == nil {
		return false, "", since
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sess != s || s.pin == "" || s.mode == ModeSession || !l.ledger.Releasable() || l.half {
		return false, "", since
	}
	return true, s.pin, l.pool.servers.WantedBack(l.srv)
}

// drainPin ends a session that has been waited for long enough, and tells the
// log once for whom PAUSE or RECONNECT waits. The clock calls it.
func (s *session) drainPin(now time.Time) {
	pinned, reason, since := s.pinnedIdle()
	if !pinned || since.IsZero() {
		if s.watched != nil {
			s.watched.pinTold = false
		}
		return
	}
	limit := s.px.live().pinDrain
	if limit > 0 && now.Sub(since) >= limit {
		s.end(errPinDrain)
		return
	}
	if w := s.remember(); !w.pinTold {
		w.pinTold = true
		s.logPin(reason, limit)
	}
}

func (s *session) logPin(reason string, limit time.Duration) {
	s.px.opts.Log.Info("waiting for a session that keeps its server", zap.Uint64("session", s.id), zap.String("user", s.user),
		zap.String("database", s.db.Name), zap.String("pin", reason), zap.Duration("pin_drain_timeout", limit))
}

// drainable reports whether a drain that began then may end the session now.
func (s *session) drainable(began, now time.Time) bool {
	if !s.idle() {
		return false
	}
	pinned, reason, _ := s.pinnedIdle()
	limit := s.px.live().pinDrain
	if !pinned || limit > 0 && now.Sub(began) >= limit {
		return true
	}
	if s.drainTold.CompareAndSwap(false, true) {
		s.logPin(reason, limit)
	}
	return false
}
