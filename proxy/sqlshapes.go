package proxy

import (
	"slices"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// A statement of PREPARE has a shape, too (shapes.go), and so has a client's
// Parse that EXECUTE names.

// shapes makes sure of the shapes of what the commands of a Query execute. Where
// one is another now, the name is taken away on the server, so that PostgreSQL
// raises an error in its place.
func (b *bringer) shapes(cmds []sqlscan.Command) progress {
	l := b.f.l
	var anew []string
	for _, c := range cmds {
		name := string(nameOf(c))
		switch {
		case c.Kind == sqlscan.DeallocateAll:
			return handled // what is executed behind it is made by the text
		case c.Kind != sqlscan.Execute:
			anew = append(anew, name)
			continue
		case slices.Contains(anew, name):
			continue
		}
		same, p := b.executes(c)
		switch {
		case p != handled:
			return p
		case same:
		case !b.alone && l.ledger.Owed() > 0:
			return mustWait // as below
		case b.alone && l.ledger.Len() > 0:
			if l.ledger.BatchOpen() { // by Closes of ours, whose replies PostgreSQL holds back
				l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Action: wire.Mute})
				b.f.put(func(dst []byte) []byte { return wire.AppendEmpty(dst, wire.MsgSync) })
			}
			return mustWait // the error is for what stands behind
		default:
			for _, h := range l.shelf.named(name) {
				b.f.closeOnce(h)
			}
			l.muted = append(l.muted, muted{name, b.f.s.batch, errPlanChanged.Append(nil)[wire.HeaderLen:], false})
		}
	}
	return handled
}

// executes reports whether a command, if it is EXECUTE, gives rows in the shape
// that was true when its statement was prepared.
func (b *bringer) executes(c sqlscan.Command) (same bool, p progress) {
	if c.Kind != sqlscan.Execute {
		return true, handled
	}
	name := nameOf(c)
	st, _ := b.f.s.names.lookup(name, b.f.s.batch)
	if st == nil {
		return true, handled
	}
	return b.sameShape(string(name), st)
}

// sameShape is the feeder's for a statement that the server holds under the
// client's own name.
func (b *bringer) sameShape(text string, st *statement) (same bool, p progress) {
	f, l := b.f, b.f.l
	e := f.s.names.get([]byte(text))
	if e == nil || e.pending() || e.shape == (shape{}) || st.utility || st.unsettled || l.hasFailed(text, f.s.batch) {
		return true, handled
	}
	if f.otherBytes(st, e.shape) || st.env != f.s.settings.parsing() && f.frozen(st) {
		return true, handled // or what is sent again would mean something else
	}
	switch failed, p := f.inFailed(); {
	case p != handled:
		return false, p
	case failed:
		return true, handled
	}
	h := b.there(text, st)
	stale := func(h *held) bool { return h.st.own && h.st.body == st.body }
	if h == nil && slices.ContainsFunc(l.shelf.named(text), stale) && b.name(text, st) == nil {
		h = b.there(text, st) // it had been brought, and something has changed since
	}
	switch {
	case h == nil: // it cannot be brought
		return true, handled
	case h.asking:
		return false, mustWait
	case h.shape == (shape{}):
	case h.shape.like(e.shape):
		return true, handled
	case l.untried(e) && h.epoch == l.pool.epoch.Load():
		e.shape = h.shape
		return true, handled
	case h.anew.like(e.shape) && h.epoch == l.pool.epoch.Load():
		return false, handled
	default:
		// The server's plan is older or newer than what the client was told.
		f.closeHeld(h)
		if b.send(h.st, b.types(text)) != nil {
			return true, handled
		}
		h.anew = e.shape
	}
	b.askShape(h)
	return false, mustWait
}

// there is what the server holds, or will hold, of st under a name.
func (b *bringer) there(text string, st *statement) (h *held) {
	types := b.types(text)
	for _, other := range b.f.l.shelf.named(text) {
		if b.same(other, st) && b.fits(other, types) && !b.f.lacks(other.st) {
			h = other
		}
	}
	return h
}

// held reports whether the server has held st under a name, and holds it still if
// nobody has deallocated it.
func (b *bringer) held(text string, st *statement) bool {
	return slices.ContainsFunc(b.f.l.shelf.named(text), func(h *held) bool { return b.same(h, st) && h.pending == 0 })
}

// askShape asks the server for the shape of what it holds.
func (b *bringer) askShape(h *held) {
	f, l := b.f, b.f.l
	if !b.alone {
		f.askShape(h)
		return
	}
	h.asking = true
	l.asks++
	l.ledger.Append(wire.Entry{Msg: wire.MsgDescribe, Action: wire.Mute, Ref: &described{held: h, ours: true, wait: true, batch: f.s.batch}})
	l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Action: wire.Mute})
	f.put(func(dst []byte) []byte {
		return wire.AppendEmpty(wire.AppendDescribeStatement(dst, h.st.name), wire.MsgSync)
	})
}

// askMade asks for the shape of what a PREPARE makes, directly behind it, before
// anybody can have changed a table. Behind a Query it is a batch of its own, whose
// end is the Query's.
func (f *feeder) askMade(fx *effects, action wire.Action) {
	c := fx.changes[0]
	fx.asked = true
	c.name.asks++
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgDescribe, Action: action, Ref: &described{held: c.held, name: c.name, ours: true}})
	f.put(func(dst []byte) []byte { return wire.AppendDescribeStatement(dst, c.st.name) })
}

// describesMade reports whether e is a Describe of what a PREPARE has made, behind
// that. In a transaction block its error is the client's: nothing else says why the
// transaction has failed.
func describesMade(e wire.Entry) bool {
	d, ok := e.Ref.(*described)
	return ok && e.Action == wire.Mute && !d.wait
}

// withheldReady is the Ref of a Sync of ours whose reply stands for one that the
// client waits for.
type withheldReady struct{}

// withholdForShapes asks for the shapes of what a transaction has made by PREPARE
// while its server is at hand. It reports whether the client hears of the end when
// they are known.
func (l *link) withholdForShapes() bool {
	return len(l.shapeless) > 0 && l.sess.pin == "" && l.sess.mode != ModeSession && l.ledger.Len() == 0 && !l.half && l.askShapes(withheldReady{})
}

// free reports whether the server can be given back. If there are shapes that
// could not be asked for at the end of the transaction, they are first. mu is held.
func (l *link) free() bool {
	return l.releasable() && (len(l.shapeless) == 0 || !l.askShapes(nil))
}

// askShapes asks for the shapes that are not known; it reports whether there was
// one. mu is held.
func (l *link) askShapes(ref any) (asked bool) {
	var out []byte
	for _, e := range l.shapeless {
		h := l.shelf.m[e.cur]
		if h == nil || !h.sure || e.shape != (shape{}) {
			continue
		}
		e.asks++
		l.ledger.Append(wire.Entry{Msg: wire.MsgDescribe, Action: wire.Mute, Ref: &described{held: h, name: e, ours: true}})
		out = wire.AppendDescribeStatement(out, h.st.name)
	}
	l.shapeless = nil
	if out == nil {
		return false
	}
	l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Action: wire.Mute, Ref: ref})
	if err := l.srv.Conn.Write(wire.AppendEmpty(out, wire.MsgSync), false); err != nil {
		l.srv.Conn.Wake()
	}
	return true
}
