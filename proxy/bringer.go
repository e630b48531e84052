package proxy

import (
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// bringer sends statements under clients' own names in front of one text.
type bringer struct {
	f     *feeder
	alone bool // as batches of their own
	sent  bool // something that may fail
	at    place
}

// same reports whether h is st under the client's own name.
func (b *bringer) same(h *held, st *statement) bool {
	current := h.epoch == b.f.l.pool.epoch.Load()
	switch {
	case st == nil || h.st == st:
		return h.st == st
	case st.unsettled || st.found&sqlscan.Moment != 0 || h.st.of != nil: // another's may have been read under other settings, or at another moment
		return h.st.of == st && (st.unsettled || current)
	}
	return h.st.own && !st.own && h.st.body == st.body && h.st.env == st.env && current
}

// types are those of the parameters of what the client calls text.
func (b *bringer) types(text string) string { return b.f.l.types(b.f.s.names.get([]byte(text))) }

// fits reports whether the parameters of h have these types. Those of a PREPARE are
// what its text makes of them, and a copy of what is not shared is the session's own.
func (b *bringer) fits(h *held, types string) bool {
	return h.st.sql || h.st.of != nil || h.fits(types)
}

// holds reports whether the server holds st under a name.
func (b *bringer) holds(text string, st *statement) bool { return b.there(text, st) != nil }

// name makes the server hold st under a name; st nil: nothing. It refuses what
// would not mean there what it meant at its Parse.
func (b *bringer) name(text string, st *statement) (refused *wire.Error) {
	f := b.f
	shelf, types := &f.l.shelf, b.types(text)
	if st != nil && st.body == string(emptyBody) {
		types = "" // it stands for the name alone
	}
	if st != nil && reserved(text) {
		return errReserved
	}
	var there *held
	for _, h := range shelf.named(text) {
		if b.same(h, st) && b.fits(h, types) {
			there = h
			shelf.get(h.st, &f.l.px.statements)
		} else {
			f.closeOnce(h)
		}
	}
	switch {
	case st == nil, there != nil && !f.lacks(there.st):
		return nil
	case there != nil:
		f.closeHeld(there) // until it is known whether it is there
		return b.send(there.st, types)
	case st.own:
		return b.send(st, types)
	}
	if st.unsettled && st.outdated {
		return errOtherSettings
	}
	own := f.l.px.statements.internOwn([]byte(st.body), st.env, st.found, text, false)
	if st.unsettled || st.found&sqlscan.Moment != 0 {
		own.unsettled, own.of = st.unsettled, st
	}
	refused = b.send(own, types)
	f.l.px.statements.drop(own) // the server's list holds it
	return refused
}

// closeOnce closes what has a name on the server that something else is to
// have. A second Close in the same batch would hit that.
func (f *feeder) closeOnce(h *held) {
	if h.pending == 0 || h.batch != noBatch || h.closing != f.s.batch {
		f.closeHeld(h)
	}
}

// bringOwn makes the server hold a statement of PREPARE, for a message of the
// protocol that names it.
func (f *feeder) bringOwn(text []byte, st *statement) *wire.Error {
	b := bringer{f: f}
	b.at, _ = f.place()
	return b.name(string(text), st)
}

// send sends a statement that has a client's own name, in a place where it means what
// it meant at its Parse.
func (b *bringer) send(st *statement, types string) (refused *wire.Error) {
	f, s, l := b.f, b.f.s, b.f.l
	if st.of != nil && !st.of.unsettled {
		st.env, st.unsettled = st.of.env, false
	}
	again := st.of != nil && st.unsettled // in the transaction of its Parse, or on the server that has read it
	frozen := !again && f.frozen(st)
	if frozen && b.at == nowhere || !again && st.unsettled {
		return errOtherSettings
	}
	b.sent = true
	h := l.shelf.get(st, &l.px.statements)
	f.evict(h)
	if frozen && b.at == inBlock {
		b.sendWithin(h, types)
		return nil
	}
	if frozen {
		f.readUnder(h)
	}
	switch {
	case st.sql:
	case b.alone || frozen:
		f.parseAlone(h, types)
		return nil
	default:
		f.parseHeld(h, wire.Swallow, types)
		return nil
	}
	h.sent(s.batch, l.pool.epoch.Load(), l.stats.assignments)
	ref := &heldChange{held: h, ahead: f.ahead, tells: f.tells}
	if b.alone && !frozen {
		l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Mute, Ref: ref})
		f.put(func(dst []byte) []byte { return wire.AppendQuery(dst, st.body) })
		l.unnamedOf = 0
		return nil
	}
	f.carry(st.body, func(msg byte) wire.Entry {
		e := wire.Entry{Action: wire.Swallow}
		if frozen {
			e = f.settingUp(h, wire.Mute)
		}
		if msg == wire.MsgExecute {
			e.Ref = ref
		}
		return e
	})
	if frozen {
		f.endAlone(h)
	}
	return nil
}

// sendWithin is send in a transaction block, for a statement that was parsed under
// other settings.
func (b *bringer) sendWithin(h *held, types string) {
	f := b.f
	action := wire.Swallow
	if b.alone {
		action = wire.Mute
	}
	f.readWithin(h, action, func() {
		if !h.st.sql {
			f.parseHeld(h, action, types)
			return
		}
		h.sent(f.s.batch, f.l.pool.epoch.Load(), f.l.stats.assignments)
		f.carry(h.st.body, func(msg byte) wire.Entry {
			e := f.settingUp(h, action)
			if msg == wire.MsgExecute {
				e.Ref = &heldChange{held: h, ahead: f.ahead, tells: f.tells}
			}
			return e
		})
	})
	if b.alone {
		f.endAlone(h)
	}
}

// all makes the server hold exactly the session's statements, under the
// session's names, for a text that may list them.
func (b *bringer) all() (refused *wire.Error) {
	s := b.f.s
	b.f.closeCarrier()
	for _, h := range b.f.l.shelf.m {
		if h.st.own && s.names.get([]byte(h.st.name)) != nil {
			continue // name sees to it
		}
		b.f.closeOnce(h)
	}
	for e := range s.names.all() {
		text := e.text
		st, _ := s.names.lookup([]byte(text), s.batch)
		if e := b.name(text, st); e != nil {
			refused = e
		}
	}
	return refused
}
