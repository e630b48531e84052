package proxy

import (
	"slices"
	"strings"

	"pgpoold/wire"
)

// PostgreSQL turns literals into values when it parses a statement. One that
// was parsed under other settings than the session's of now is frozen: a server
// that lacks it parses it under those.

// useFrozen brings an unnamed statement whose literals were read under other
// settings. It gets a name: what has failed to parse would have taken an unnamed
// one with it.
func (f *feeder) useFrozen(v *version) (server string, ref *replacement, p progress) {
	st := f.l.px.statements.intern(v.body, v.env, v.found)
	defer f.l.px.statements.drop(st) // the server's list holds it
	if f.lacks(st) {
		if f.thawing(f.l.shelf.m[st]) {
			return "", nil, mustWait
		}
		switch begins, p := f.begins(); {
		case p != handled:
			return "", nil, p
		case !begins:
			return noSuchStatement, &replacement{whole: errOtherSettings}, handled
		}
		f.ensureUnder(st)
	}
	f.alias = st.name
	return st.name, nil, handled
}

// alias is the Ref of a Bind of the unnamed statement, which has this name on the
// server.
type alias string

// thawing reports whether a statement whose literals were read under other settings
// is on its way in a batch of its own: what uses it waits for the outcome.
func (f *feeder) thawing(h *held) bool {
	return h != nil && h.pending > 0 && h.batch != f.s.batch && f.l.ledger.Owed() > 0 && f.frozen(h.st)
}

// begins reports whether a transaction may begin here, so that settings can be
// others for a while. It returns mustWait while what is under way may end one.
func (f *feeder) begins() (ok bool, p progress) {
	l := f.l
	idle := l.ledger.Status() == wire.TxIdle && !l.ledger.BatchOpen()
	switch {
	case f.atBegin(), idle && l.ledger.Len() == 0:
		return true, handled
	case idle, l.ledger.Owed() > l.ledger.OwnQueries():
		return false, mustWait
	}
	return false, handled
}

// frozen reports whether a statement was parsed under other settings, and has
// literals.
func (f *feeder) frozen(st *statement) bool {
	return st.env != f.s.settings.parsing() && hasLiteral([]byte(st.body))
}

// errOtherSettings refuses what only a server that has the statement could do
// right: PostgreSQL turns literals into values when it parses them.
var errOtherSettings = &wire.Error{Severity: wire.SeverityError, Code: "0A000",
	Message: "prepared statement was parsed under other settings than those in force now, on another server",
	Detail:  "Its literals mean what they meant then (DateStyle, TimeZone, search_path, ...); in the middle of a transaction they cannot be parsed like that again.",
	Hint:    "Change settings before statements are prepared, or use parameters instead of literals."}

// hasLiteral reports whether a Parse's text has something whose meaning the
// settings at Parse decide: what stands in quotes, also those of dollars, and
// characters that another encoding would read otherwise.
func hasLiteral(body []byte) bool {
	if text, _, ok := wire.CString(body); ok {
		body = text
	}
	for i, c := range body {
		switch {
		case c == '\'', c >= 0x80:
			return true
		case c == '$' && i+1 < len(body) && (body[i+1] < '0' || body[i+1] > '9'):
			return true
		}
	}
	return false
}

// ensureUnder sends a statement to a server that lacks it under the settings
// of its first Parse.
func (f *feeder) ensureUnder(st *statement) {
	l := f.l
	known := l.shelf.m[st] != nil
	h := l.shelf.get(st, &l.px.statements)
	f.evict(h)
	f.readUnder(h)
	if known {
		f.closeHeld(h)
	}
	f.vacate(h)
	f.parseAlone(h)
	h.under = l.stats.assignments
}

// readUnder begins the batch of a statement that is parsed under its own
// settings. They hold to the end of the batch, which is a transaction. If they
// cannot be set PostgreSQL skips the Parse, and nothing else has changed.
func (f *feeder) readUnder(h *held) {
	own := f.s.settings
	if v, _ := own.get("default_transaction_deferrable"); v == "on" {
		f.carryFor(h, "SET transaction_deferrable=off") // or it might wait for others
	}
	unset, wanted := changes(own, own.under(h.st.env), nil)
	const most = 500 // a SELECT has up to 1664 columns
	var b strings.Builder
	for i := range len(unset) + len(wanted) {
		if b.Len() == 0 {
			b.WriteString("SELECT ")
		} else {
			b.WriteByte(',')
		}
		b.WriteString("pg_catalog.set_config(")
		if i < len(unset) {
			quoteText(&b, unset[i].name)
			b.WriteString(",NULL")
		} else {
			quoteText(&b, wanted[i-len(unset)].name)
			b.WriteByte(',')
			quoteText(&b, wanted[i-len(unset)].value)
		}
		b.WriteString(",true)")
		if i%most == most-1 || i == len(unset)+len(wanted)-1 {
			f.carryFor(h, b.String())
			b.Reset()
		}
	}
}

// carryFor runs a text by the carrier, for a statement whose Parse comes behind it
// in the same batch.
func (f *feeder) carryFor(h *held, sql string) {
	f.carry(sql, func(byte) wire.Entry { return f.settingUp(h) })
}

// settingUp is the entry of what belongs to the batch of a statement's Parse
// without being that.
func (f *feeder) settingUp(h *held) wire.Entry {
	return wire.Entry{Action: wire.Mute, Ref: &heldChange{held: h, ahead: f.ahead, sets: true}}
}

// endAlone ends the batch of a statement that has one of its own.
func (f *feeder) endAlone(h *held) {
	e := f.settingUp(h)
	e.Msg = wire.MsgSync
	f.l.ledger.Append(e)
	f.put(func(dst []byte) []byte { return wire.AppendEmpty(dst, wire.MsgSync) })
}

// giveUp takes a statement that could not be parsed under its settings out of
// those that are sent ahead: what uses it tells why. mu is held.
func (s *session) giveUp(st *statement) {
	s.frozen = slices.DeleteFunc(s.frozen, func(e *name) bool { return e.cur == st })
	if v, _ := s.unnamed.current(s.batch); v != nil && v.env == st.env && string(v.body) == st.body {
		s.frozenUnnamed = false
	}
}

// under reports whether the server was brought a statement under the settings
// of its Parse since the session has the server. What it holds from before may
// have been invalidated: PostgreSQL would analyze it again under those of now.
func (f *feeder) under(st *statement) bool {
	h := f.l.shelf.m[st]
	return h != nil && !f.lacks(st) && h.under == f.l.stats.assignments
}

// parseAlone sends the Parse of a statement as a batch of its own. If it fails,
// what needs it tells why.
func (f *feeder) parseAlone(h *held) {
	h.sent(f.s.batch, f.l.pool.epoch.Load())
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Action: wire.Mute, Ref: &heldChange{held: h, ahead: f.ahead}})
	f.put(func(dst []byte) []byte { return wire.AppendParse(dst, h.st.name, []byte(h.st.body)) })
	f.endAlone(h)
}

// maxFrozen bounds the statements that bringFrozen sends.
const maxFrozen = 100

// bringFrozen sends, where a transaction may begin, the session's statements
// whose literals were read under other settings: within the transaction they
// could not be parsed like that any more.
func (f *feeder) bringFrozen() {
	s := f.s
	if s.frozenFor != s.settings {
		s.findFrozen()
	}
	if len(s.frozen) == 0 && !s.frozenUnnamed || s.upstream || f.l.awaiting {
		return
	}
	keeps := s.pin != "" || s.mode == ModeSession // then it lacks what somebody has deallocated
	if begins, _ := f.begins(); !f.atBegin() && !(keeps && begins) {
		return
	}
	env := s.settings.parsing()
	f.ahead = true
	defer func() { f.ahead = false }()
	f.bringFrozenUnnamed()
	for _, e := range s.frozen {
		st := e.cur
		switch {
		case st == nil || st.env == env: // it has been closed since
		case f.under(st), (keeps || st.own) && !f.lacks(st):
		case st.own:
			b := bringer{f: f, begin: true}
			b.name(st.name, st)
		default:
			f.ensureUnder(st)
		}
	}
}

// bringFrozenUnnamed is bringFrozen for the unnamed statement, which lives on in a
// transaction that a statement begins. A Query in front would end it.
func (f *feeder) bringFrozenUnnamed() {
	s, b := f.s, f.s.input()
	if !s.frozenUnnamed || len(b) == 0 || b[0] == wire.MsgQuery {
		return
	}
	v, ready := s.unnamed.current(s.batch)
	if !ready || f.l.holdsUnnamed(v.gen) {
		return
	}
	if s.frozenUnnamed = s.thaws(v); !s.frozenUnnamed {
		return
	}
	st := f.l.px.statements.intern(v.body, v.env, v.found)
	defer f.l.px.statements.drop(st) // the server's list holds it
	if !f.under(st) {
		f.ensureUnder(st)
	}
}

// thaws reports whether an unnamed statement was parsed under other settings than
// those of now, and has literals.
func (s *session) thaws(v *version) bool {
	return v.body != nil && !v.unsettled && v.env != s.settings.parsing() && hasLiteral(v.body)
}

// findFrozen lists those statements.
func (s *session) findFrozen() {
	s.frozenFor, s.frozen, s.frozenUnnamed = s.settings, s.frozen[:0], false
	for i := range s.unnamed.versions {
		s.frozenUnnamed = s.frozenUnnamed || s.thaws(&s.unnamed.versions[i])
	}
	env := s.settings.parsing()
	for e := range s.names.all() {
		if e.cur != nil {
			s.settleEnv(e.cur)
		}
		if st := e.cur; st != nil && !st.unsettled && st.env != env && len(s.frozen) < maxFrozen && hasLiteral([]byte(st.body)) {
			s.frozen = append(s.frozen, e)
		}
	}
}

// ownQuery sends a Query of ours that brings the server's settings to a set.
func (f *feeder) ownQuery(sql string, to settings) {
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow, Ref: &replayRef{to}})
	f.put(func(dst []byte) []byte { return wire.AppendQuery(dst, sql) })
	f.l.unnamedOf = 0
}
