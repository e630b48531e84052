package proxy

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// Why a session keeps its server beyond the transaction.
const (
	pinUntracked = "untracked" // the scan does not understand what it did
	pinLoad      = "load"
	pinSetseed   = "setseed"
	pinFunction  = "function"
	pinManual    = "manual"
	pinSequence  = "sequence"   // currval and lastval are to mean its own numbers
	pinCustom    = "custom"     // custom settings exist on its server; of level strict alone
	pinCounts    = "statistics" // it has asked what its server counts; of level strict alone
)

// lastingPins are the reasons that hold to the session's end, the strongest
// first.
var lastingPins = [...]struct {
	kind   sqlscan.Finding
	reason string
}{
	{sqlscan.Opaque, pinUntracked},
	{sqlscan.Loads, pinLoad},
	{sqlscan.External, pinFunction},
	{sqlscan.Seeds, pinSetseed},
	{sqlscan.Named, pinCustom},
	{sqlscan.Draws, pinSequence},
	{sqlscan.Counts, pinCounts},
	{sqlscan.Manual, pinManual},
}

// manualPin is the custom setting by which a session keeps its server.
const manualPin = "pgpoold.pin"

// isOn reads a truth value as PostgreSQL does.
func isOn(value string) bool {
	switch strings.ToLower(value) {
	case "on", "true", "yes", "1", "t", "y":
		return true
	}
	return false
}

// lasting reports whether the session is pinned to its end.
func (s *session) lasting() bool { return s.held&sqlscan.Lasting != 0 }

// hold notes what state of the kinds asked for the session has made, by
// PostgreSQL's own word. The link's mu is held.
func (s *session) hold(l *link, has, asked sqlscan.Finding) {
	if has&sqlscan.Temp != 0 {
		l.noteTemp()
	}
	s.setHeld(s.held&^asked | has)
}

// setHeld changes what keeps the session's server.
func (s *session) setHeld(held sqlscan.Finding) {
	s.held = held
	reason := ""
	for _, p := range proofs {
		if held&p.kind != 0 {
			reason = p.reason
		}
	}
	for _, p := range lastingPins {
		if held&p.kind != 0 {
			reason = p.reason
			break
		}
	}
	if reason == s.pin {
		return
	}
	switch {
	case s.pin == "":
		s.pinSince = time.Now().UnixNano()
		s.pool.pins.Add(1)
	case reason == "":
		s.pool.pins.Add(-1)
	}
	s.pin = reason
	if reason != "" {
		s.px.pinned(reason)
	}
}

// overPinned reports whether more sessions of the pool keep a server than may.
func (p *pool) overPinned() bool {
	most := p.maxPinned.Load()
	return most > 0 && p.pins.Load()-p.pinWaiters.Load() > most
}

// fullOfPins reports whether one more would be too many.
func (p *pool) fullOfPins() bool {
	most := p.maxPinned.Load()
	return most > 0 && p.pins.Load() >= most
}

// certain is the state that a text makes beyond doubt, unless it fails.
// A temporary table may end with its transaction.
func certain(found sqlscan.Finding, sql []byte) sqlscan.Finding {
	found &= sqlscan.Provable | sqlscan.Lasting
	if found&sqlscan.Temp != 0 && bytes.Contains(bytes.ToLower(sql), []byte("on commit drop")) {
		found &^= sqlscan.Temp
	}
	return found
}

// refusal is the error for a text that would make the session keep its server,
// where that is not wanted; nil where it is. own is what the text itself says.
func (s *session) refusal(own sqlscan.Finding, sql []byte) *wire.Error {
	if own&(sqlscan.Provable|sqlscan.Lasting) == 0 || !s.carries || s.pin != "" {
		return nil
	}
	if s.level != StateReject && !s.pool.fullOfPins() {
		return nil
	}
	kinds := certain(own, sql)
	if kinds == 0 {
		return nil
	}
	reason := pinUntracked
	for _, p := range proofs {
		if kinds&p.kind != 0 {
			reason = p.reason
		}
	}
	for _, p := range lastingPins {
		if kinds&p.kind != 0 {
			reason = p.reason
			break
		}
	}
	if s.level == StateReject {
		return &wire.Error{Severity: wire.SeverityError, Code: "0A000", Message: "session state of the kind " + reason + " cannot be used: session_state is reject",
			Detail: "The session would have to keep its server beyond the transaction.",
			Hint:   "Use session_state: preserve (pool.session_state, databases.X.session_state or users.X.session_state), or a connection that is not pooled."}
	}
	return s.pool.tooMany(reason)
}

// tooMany refuses a text for whose state there is no server left.
func (p *pool) tooMany(reason string) *wire.Error {
	return &wire.Error{Severity: wire.SeverityError, Code: "53300", Message: "too many sessions keep a server beyond the transaction (max_pinned)",
		Detail: fmt.Sprintf("This statement would make one more (%s). The limit is %d of the pool's servers (pool.max_pinned).", reason, p.maxPinned.Load()),
		Hint:   "Use session_state: reject for users who need no such state, preserve for those who need no strict one, a larger max_pinned, or transaction-level locks and ON COMMIT DROP."}
}

// claim counts a session of level strict among those that keep a server before a
// text runs that makes it one, whatever becomes of that; or it refuses the text. mu
// is held.
func (l *link) claim(found sqlscan.Finding) *wire.Error {
	s, most := l.sess, l.pool.maxPinned.Load()
	if s.level != StateStrict || l.claimed || !s.carries || s.pin != "" || most <= 0 {
		return nil
	}
	reason := ""
	switch {
	case found&sqlscan.Draws != 0:
		reason = pinSequence
	case s.namesCustoms(found):
		reason = pinCustom
	case found&sqlscan.Counts != 0:
		reason = pinCounts
	default:
		return nil
	}
	for n := l.pool.pins.Load(); ; n = l.pool.pins.Load() {
		if n >= most {
			return l.pool.tooMany(reason)
		}
		if l.pool.pins.CompareAndSwap(n, n+1) { // never one too many, which others would wait for
			l.claimed = true
			return nil
		}
	}
}

// namesCustoms reports whether a custom setting is, or may be, among what texts have
// named: set_config and DO name others, too.
func (s *session) namesCustoms(found sqlscan.Finding) bool {
	return found&sqlscan.Customs != 0 && (len(s.customs) > 0 || found&sqlscan.Opaque != 0)
}

// unclaim ends that: the session is counted by its pin, or is gone. mu is held.
func (l *link) unclaim() {
	if l.claimed {
		l.claimed = false
		l.pool.pins.Add(-1)
	}
}

// awaitSlot keeps a session whose state has turned out to pin, when too many
// do, until another one's pin ends. pool.tick sees to it. mu is held.
func (l *link) awaitSlot() {
	l.asking.waitsSince = time.Now()
	l.pool.pinWaiters.Add(1)
}

// askNoMore ends what the server was asked about its session. mu is held.
func (l *link) askNoMore() {
	if l.asking != nil && !l.asking.waitsSince.IsZero() {
		l.pool.pinWaiters.Add(-1)
	}
	l.asking = nil
}

// slots lets the session go on that waits for a pin's end, or ends it.
func (l *link) slots(now time.Time) {
	l.mu.Lock()
	p, s := l.asking, l.sess
	if p == nil || s == nil || p.waitsSince.IsZero() || l.dead {
		l.mu.Unlock()
		return
	}
	limit := l.pool.state.SlotTimeout
	switch {
	case l.pool.pins.Load()-l.pool.pinWaiters.Load() < l.pool.maxPinned.Load():
		c := chunk{}
		l.concluded(&c)
		var err error
		if len(c.out) > 0 {
			err = s.conn.Write(c.out, false)
		}
		wake := s.blocked.Load()
		l.mu.Unlock()
		if err != nil {
			s.writeFailed(err)
		}
		if wake {
			s.conn.Wake()
		}
	case limit > 0 && now.Sub(p.waitsSince) > limit:
		l.mu.Unlock()
		s.end(fatal("53300", "too many sessions keep a server beyond the transaction (max_pinned), and none has let go of its server in %v", limit))
	default:
		l.mu.Unlock()
	}
}

// idle ends a pinned session that has done nothing for pin_idle_timeout.
func (l *link) idlePin(now time.Time) {
	limit := l.pool.state.PinIdleTimeout
	if limit <= 0 {
		return
	}
	l.mu.Lock()
	s, pin := l.sess, ""
	if s != nil {
		pin = s.pin
	}
	idle := s != nil && s.pin != "" && l.ledger.Len() == 0 && l.ledger.Status() == wire.TxIdle && !l.stats.lately.IsZero() && now.Sub(l.stats.lately) > limit
	l.mu.Unlock()
	if idle {
		s.end(fatal("57P05", "terminating connection due to pin_idle_timeout: it has kept its server (%s) and been idle for more than %v", pin, limit))
	}
}
