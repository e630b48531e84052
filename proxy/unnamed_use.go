package proxy

import (
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// useUnnamed is use for the session's unnamed statement.
func (f *feeder) useUnnamed(v *version) (server string, ref *replacement, p progress) {
	s, l := f.s, f.l
	if !l.holdsUnnamed(v.gen) && f.settling(v.body) {
		return "", nil, mustWait
	}
	f.does = v.found | s.hidden(v.body)
	if f.unsettles(f.does, v.body) {
		return "", nil, mustWait
	}
	f.outdates(f.does, v.body)
	if s.found |= f.does; s.notes(f.does) {
		s.does(f.does, v.body)
	}
	l.noteText(v.body)
	f.noteForgetting(v.found)
	f.name, f.held, f.alias, f.found, f.control, f.executed = nil, nil, "", v.found, v.says.control, 0
	if v.found&naming != 0 {
		if refused, p := f.using(v.body); refused != nil || p != handled {
			return noSuchStatement, refused, p
		}
	}
	if v.unsettled && !v.outdated && s.found&changing == 0 && s.held&sqlscan.Opaque == 0 {
		v.env, v.unsettled = s.settledEnv(v.env), false
	}
	if !l.holdsUnnamed(v.gen) {
		if v.unsettled && (v.outdated || s.held&sqlscan.Opaque != 0) { // it is not known
			return noSuchStatement, &replacement{whole: errOtherSettings}, handled
		}
		if (f.readsOther(v.unsettled) || v.env != s.settings.parsing()) && hasLiteral(v.body) {
			return f.useFrozen(v)
		}
		f.inject(v.body, v.gen, v.shape.params())
	}
	if !l.unnamedOurs || v.shape == (shape{}) || s.upstream {
		return "", nil, handled
	}
	switch failed, p := f.inFailed(); {
	case p != handled:
		return "", nil, p
	case failed:
		return "", nil, handled
	}
	switch {
	case l.unnamedAsked:
		return "", nil, mustWait
	case l.unnamedShape == (shape{}):
		l.unnamedAsked = true
		f.askNow("", &described{gen: v.gen, ours: true})
		return "", nil, mustWait
	case !l.unnamedShape.like(v.shape) && !isUtility(v.body):
		return noSuchStatement, &replacement{whole: errPlanChanged}, handled
	}
	return "", nil, handled
}

// namedGen marks, among the generations of unnamed statements, a named one
// that stands in for the unnamed one on a server that is itself a pooler.
const namedGen = 1 << 63

// holdsUnnamed reports whether the server's unnamed statement will be this
// generation of the attached session's. One that was brought counts for the
// batch that brings it, for others once it is known to have arrived: a batch
// that fails before it comes to it does not bring it.
func (l *link) holdsUnnamed(gen uint64) bool {
	if l.unnamedOf != l.sess.id || l.unnamedGen != gen {
		return false
	}
	return l.unnamedBatch == l.sess.batch || !l.sess.upstream && (!l.unnamedOurs || l.unnamedSure)
}

// setUnnamed notes what the server's unnamed statement will be.
func (l *link) setUnnamed(gen uint64) {
	l.unnamedOf, l.unnamedGen, l.unnamedBatch = l.sess.id, gen, l.sess.batch
	l.unnamedOurs, l.unnamedSure, l.unnamedAsked, l.unnamedShape = false, false, false, shape{}
}

// inject sends a statement as the server's unnamed one, in front of what
// needs it, with these types of its parameters.
func (f *feeder) inject(body []byte, gen uint64, types string) {
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Action: wire.Swallow, Ref: unnamedInjected{gen, f.tells}})
	body, _ = declared(body, types)
	f.put(func(dst []byte) []byte { return wire.AppendParse(dst, "", body) })
	f.l.setUnnamed(gen)
	f.l.unnamedOurs = true
}

// parseUnnamed is parse towards a server that is itself a pooler: a named
// statement goes there as the unnamed one.
func (f *feeder) parseUnnamed(text, body []byte, size int, cur *statement, found sqlscan.Finding) {
	s, l := f.s, f.l
	if cur != nil {
		f.refuse(size, &wire.Error{Severity: wire.SeverityError, Code: "42P05", Message: `prepared statement "` + string(text) + `" already exists`})
		return
	}
	st := l.px.statements.intern(body, s.settings.parsing(), found)
	c := s.names.begin(text, st, s.batch)
	l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Ref: c})
	f.swap(size, func(dst []byte) []byte { return wire.AppendParse(dst, "", body) })
	l.setUnnamed(st.id | namedGen)
}
