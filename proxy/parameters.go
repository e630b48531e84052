package proxy

import (
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// What a client is told of parameters, in ParameterStatus: what its own doing has
// changed when the server reports it, the rest where its settings are in force again.

// parameterStatus notes what the server reports. If the client's own doing
// changed it, the session keeps the new value.
func (l *link) parameterStatus(body []byte, c *chunk) {
	n, v, ok := wire.ParameterStatus(body)
	if !ok {
		return
	}
	name, value := string(n), string(v)
	l.reported = l.reported.with(name, value)
	s := l.sess
	if s == nil && l.state == linkOrphan {
		l.known = false // what its client has left behind changes it still
	}
	if s == nil || l.settingHead() {
		return
	}
	if settable(name) {
		value = s.wish(l, name, value)
	}
	if told, ok := s.told.get(name); ok && told == value {
		return
	}
	if e, _ := l.ledger.Head(); l.untold && e.Ref == (endsDiscard{}) {
		return
	}
	l.tellOne(c, name, value)
}

// tellOne tells the client one parameter.
func (l *link) tellOne(c *chunk, name, value string) {
	l.sess.told = l.sess.told.with(name, value)
	c.put(func(dst []byte) []byte { return wire.AppendParameterStatus(dst, name, value) })
}

// settingHead reports whether the server works on a Query of ours that changes
// settings. What is reported behind another message of ours, a probe, say, is what
// the client's own did in front of that.
func (l *link) settingHead() bool {
	e, _ := l.ledger.Head()
	switch ref := e.Ref.(type) {
	case *replayRef, inspectionRef:
		return true
	case *heldChange:
		return ref.sets
	}
	return false
}

// tell tells the client what the server reports differently from what the
// client was told last.
func (l *link) tell(c *chunk) {
	s := l.sess
	if s == nil || s.told == l.reported || l.untold {
		return
	}
	if s.told.same != l.reported.same {
		l.reported.diff(s.told, func(name, value string) {
			c.put(func(dst []byte) []byte { return wire.AppendParameterStatus(dst, name, value) })
		})
	}
	s.told = l.reported
}

// settledTo is settled, with the client's messages that follow from it.
func (l *link) settledTo(c *chunk) {
	if l.settled() && l.settledIn() {
		l.tell(c)
	}
}

// settledIn reports whether the server's settings are the session's, after a
// Query of ours that changed them.
func (l *link) settledIn() bool { return l.sess != nil && l.label == l.sess.settings }

// tellNow tells the client what the server reports, between messages.
func (l *link) tellNow() {
	c := chunk{}
	l.tell(&c)
	if len(c.out) > 0 {
		_ = l.sess.conn.Write(c.out, false)
	}
}

// tellBehind tells the client, in front of its next ReadyForQuery, what has changed
// since. What may have been reset once more is the session's again when that is
// known. mu is held.
func (l *link) tellBehind(c *chunk) {
	l.untold = false
	s := l.sess
	if s.found&sqlscan.Resets == 0 {
		l.tell(c)
		return
	}
	l.reported.diff(s.told, func(name, value string) {
		_, atStart := s.start.get(name)
		if base, _ := l.base.get(name); atStart && value == base {
			value, _ = s.startTo.get(name)
		}
		if told, _ := s.told.get(name); told != value {
			l.tellOne(c, name, value)
		}
	})
}
