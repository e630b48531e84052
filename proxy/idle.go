package proxy

import (
	"math"
	"strings"
	"time"

	"pgpoold/wire"
)

// ofLink tells the settings about the connection between PostgreSQL and its
// client: the session's is pgpoold's to keep, and no server gets them.
func ofLink(name string) bool {
	switch strings.ToLower(name) {
	case "idle_session_timeout", "client_connection_check_interval", "tcp_keepalives_idle", "tcp_keepalives_interval",
		"tcp_keepalives_count", "tcp_user_timeout":
		return true
	}
	return false
}

// keepLink notes what a session wishes for its own connection.
func (s *session) keepLink(link settings) {
	if v, ok := link.get("idle_session_timeout"); ok {
		s.limitIdle(milliseconds(v))
	} else if link == noSettings {
		s.idleLimit.Store(0)
	}
}

// limitIdle sets the session's idle_session_timeout, in milliseconds; 0 is none.
func (s *session) limitIdle(limit int64) {
	s.idleLimit.Store(int32(min(max(0, limit), math.MaxInt32)))
}

// endIdle ends a session that has been idle for longer than its
// idle_session_timeout allows, as PostgreSQL would. It is the clock's.
func (s *session) endIdle(tick uint32) {
	limit := time.Duration(s.idleLimit.Load()) * time.Millisecond
	if s.quiet.idle(s.received.Load(), tick, limit > 0 && s.working(), limit) {
		s.end(errIdleSession)
	}
}

var errIdleSession = &wire.Error{Severity: wire.SeverityFatal, Code: "57P05", Message: "terminating connection due to idle-session timeout"}

// working reports whether something is under way for the session.
func (s *session) working() bool {
	s.in.Lock()
	defer s.in.Unlock()
	l := s.link.Load()
	if s.waiting || l == nil {
		return s.waiting
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.Len() > 0 || l.ledger.Status() != wire.TxIdle || l.ledger.BatchOpen()
}
