package proxy

import "pgpoold/wire"

// settled follows up what the ledger has settled. It reports whether a replay
// was done, after which the client may have to be told parameters.
func (l *link) settled() (replayed bool) {
	if !l.ledger.HasSettled() {
		return false
	}
	for _, st := range l.ledger.Settled() {
		done := st.Outcome == wire.Done
		switch ref := st.Entry.Ref.(type) {
		case *replayRef:
			l.label, l.known = ref.to, done
			replayed = replayed || done
		case inspectionRef:
			if !done && ref.failed == nil {
				ref.failed = lostError.Append(nil)[wire.HeaderLen:]
			}
		case *change:
			l.changed(ref, done)
		case *effects:
			for _, c := range ref.changes {
				l.changed(c, false) // its tag has not come
			}
			if ref.unnamed {
				l.unnamedChanged(st)
			}
		case *returned:
			if st.Entry.Msg == wire.MsgQuery {
				l.returns--
			}
			if ref.unnamed {
				l.unnamedChanged(st)
			}
		case *described:
			l.asked(ref)
		case *name:
			if done {
				ref.untried = false // the server has bound it
			}
		case *heldChange:
			l.heldChanged(ref, st.Outcome)
		case unnamedInjected:
			switch {
			case l.unnamedGen != ref.gen:
			case done:
				l.unnamedSure = true
			default:
				l.unnamedOf = 0
			}
		case unnamedChange:
			l.unnamedChanged(st)
		}
	}
	return replayed
}

// unnamedChanged follows what ends or exchanges the unnamed statement.
func (l *link) unnamedChanged(st wire.Settled) {
	s := l.sess
	if s == nil {
		return
	}
	// A Query that fails has taken the unnamed statement with it all the same,
	// and so has a Parse: PostgreSQL drops the old one before it looks at the
	// new.
	done := st.Outcome == wire.Done
	gone := st.Entry.Msg == wire.MsgQuery && st.Outcome != wire.Skipped
	gen := s.unnamed.settle(done || gone)
	if st.Entry.Msg == wire.MsgParse && st.Outcome == wire.Failed {
		s.unnamed.drop()
	}
	if !done && l.unnamedOf == s.id && l.unnamedGen == gen {
		l.unnamedOf = 0
	}
}

// replayRef is the Ref of a replay: the settings that are in force after it.
type replayRef struct{ to settings }

// changed follows a client's own Parse or Close of a name.
func (l *link) changed(c *change, done bool) {
	if l.sess != nil {
		if st := l.sess.names.settle(c, done); st != nil {
			l.px.statements.drop(st)
		}
	} else if c.st != nil {
		l.px.statements.drop(c.st)
	}
	if c.held != nil {
		l.parsed(c.held, done)
	}
}

// heldChanged follows an injected Parse or Close.
func (l *link) heldChanged(c *heldChange, o wire.Outcome) {
	if c.sets {
		return
	}
	if !c.close {
		l.parsed(c.held, o == wire.Done)
		return
	}
	c.held.pending--
	c.held.void = max(0, c.held.void-1)
	if c.held.leaving {
		l.shelf.leave(c.held, -1)
	}
	if o == wire.Done {
		c.held.sure, c.held.doubted = false, false
	}
	l.tidy(c.held)
}

// parsed follows a Parse of a statement under its own name on the server.
func (l *link) parsed(h *held, done bool) {
	h.pending--
	switch {
	case done:
		h.sure, h.doubted = h.void == 0, h.void > 0
		l.stats.parses++
	case h.sure: // what it was to take the place of is there still, and may be too old
		h.doubt()
	}
	h.void = max(0, h.void-1)
	l.tidy(h)
}

// tidy forgets a statement that the server does not hold.
func (l *link) tidy(h *held) {
	if !h.sure && !h.doubted && h.pending == 0 {
		l.shelf.drop(h, &l.px.statements)
	}
}
