package proxy

import (
	"slices"
	"strings"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// PostgreSQL turns literals into values when it parses a statement. One that
// was parsed under other settings than the session's of now is frozen: a server
// that lacks it parses it under those.

// useFrozen brings an unnamed statement whose literals were read under other
// settings. It gets a name: what has failed to parse would have taken an unnamed
// one with it.
func (f *feeder) useFrozen(v *version) (server string, ref *replacement, p progress) {
	found := v.found
	if v.unsettled {
		found |= sqlscan.Moment // another's may have been read otherwise
	}
	st := f.l.px.statements.intern(v.body, v.env, found)
	defer f.l.px.statements.drop(st) // the server's list holds it
	types := v.shape.params()
	if f.lacks(st) || f.l.shelf.m[st].differs(types) {
		if f.thawing(f.l.shelf.m[st]) {
			return "", nil, mustWait
		}
		switch at, p := f.place(); {
		case p != handled:
			return "", nil, p
		case at == nowhere:
			return noSuchStatement, &replacement{whole: errOtherSettings}, handled
		default:
			f.ensureAt(st, at, types)
		}
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

// place is where settings can be others for a while, for one Parse.
type place uint8

const (
	nowhere  place = iota
	ownBatch       // no transaction is open: in a batch of its own
	inBlock        // a transaction block is open: behind a savepoint, to which it returns
)

// place says which of them is here. It returns mustWait while that hangs on what
// is under way.
func (f *feeder) place() (at place, p progress) {
	l := f.l
	idle := l.ledger.Status() == wire.TxIdle && !l.ledger.BatchOpen()
	switch {
	case f.atBegin(), idle && l.ledger.Len() == 0:
		return ownBatch, handled
	case idle, l.ledger.Owed() > l.ledger.OwnQueries():
		return nowhere, mustWait
	case l.ledger.Status() == wire.TxOpen && l.xactEndsIn != f.s.batch && !l.xactEnds:
		return inBlock, handled
	}
	return nowhere, handled
}

// frozen reports whether a statement that has literals was parsed under other
// settings than those in force. As far as they are not reported, or not yet, those
// that the transaction has changed behind the Parse may be others.
func (f *feeder) frozen(st *statement) bool {
	return (f.readsOther(st.unsettled) || st.env != f.s.settings.parsing()) && hasLiteral([]byte(st.body))
}

// readsOther reports whether literals may be read here under other settings than
// those that are known.
func (f *feeder) readsOther(unsettled bool) bool {
	return !unsettled && (f.l.foundSent&sqlscan.Literals != 0 || f.l.readsElse == f.s.batch)
}

// binds notes of what is bound to a portal whether it may end the transaction, and
// whether it may change what literals are read under: reads says that a parameter
// does.
func (f *feeder) binds(portal, name []byte, reads bool) {
	s, l := f.s, f.l
	if f.control || l.ledger.Status() != wire.TxOpen || l.ledger.Owed() > l.ledger.OwnQueries() {
		l.xactEndsIn, l.xactEnds = s.batch, l.xactEnds || f.control
	}
	if len(portal) == 0 {
		l.xactUnrun = f.control
	} else {
		l.xactNamed = l.xactNamed || f.control
	}
	if f.does&changing == 0 || !reads && !namesLiterals(s.textOf(name)) {
		return
	}
	l.readsElse = s.batch
	if len(l.unrun) == maxUnrun {
		s.keepsServer() // which of them run behind a Parse is not followed
		return
	}
	l.unrun = append(l.unrun, string(wire.Name(portal)))
}

// maxUnrun bounds the portals that may change what literals are read under, and have
// not been executed.
const maxUnrun = 16

// runs notes that a portal is executed.
func (f *feeder) runs(portal []byte) {
	l := f.l
	l.xactUnrun = l.xactUnrun && len(portal) > 0
	i := slices.Index(l.unrun, string(wire.Name(portal)))
	if i < 0 {
		return
	}
	l.unrun = slices.Delete(l.unrun, i, i+1)
	if f.s.blind {
		f.s.keepsServer() // what is reported at the end of the batch was not in force at the Parse
	}
}

// xactEnded forgets what was noted of a transaction's portals. mu is held.
func (l *link) xactEnded() {
	l.xactEnds, l.xactUnrun, l.xactNamed, l.unrun = false, false, false, l.unrun[:0]
}

// xactGoesOn follows a ReadyForQuery in an open transaction. If nothing is owed behind
// it, all that was bound and executed has run, and none of it has failed. mu is held.
func (l *link) xactGoesOn() {
	if l.ledger.Len() == 0 {
		l.xactEnds = l.xactUnrun || l.xactNamed
	}
}

// errOtherSettings refuses what only a server that has the statement could do
// right: PostgreSQL turns literals into values when it parses them.
var errOtherSettings = &wire.Error{Severity: wire.SeverityError, Code: "0A000",
	Message: "prepared statement was parsed under other settings than those in force now, on another server",
	Detail:  "Its literals mean what they meant then (DateStyle, TimeZone, search_path, ...); behind another statement of the same batch they cannot be parsed like that again.",
	Hint:    "Send a Sync in front of it, change settings before statements are prepared, or use parameters instead of literals."}

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
// of its first Parse, in a batch of its own.
func (f *feeder) ensureUnder(st *statement, types string) { f.ensureAt(st, ownBatch, types) }

func (f *feeder) ensureAt(st *statement, at place, types string) {
	l := f.l
	known := l.shelf.m[st] != nil
	h := l.shelf.get(st, &l.px.statements)
	f.evict(h)
	if at == ownBatch {
		f.readUnder(h)
	}
	if known {
		f.closeHeld(h)
	}
	f.vacate(h)
	if at == ownBatch {
		f.parseAlone(h, types)
	} else {
		f.readWithin(h, wire.Swallow, func() { f.parseHeld(h, wire.Swallow, types) })
	}
}

// readUnder begins the batch of a statement that is parsed under its own
// settings. They hold to the end of the batch, which is a transaction. If they
// cannot be set PostgreSQL skips the Parse, and nothing else has changed.
func (f *feeder) readUnder(h *held) {
	if v, _ := f.s.settings.get("default_transaction_deferrable"); v == "on" {
		f.carryFor(h, wire.Mute, "SET transaction_deferrable=off") // or it might wait for others
	}
	f.setFor(h, wire.Mute)
}

// readWithin parses a statement under its own settings in a transaction block: the
// way back to the savepoint gives the settings what they were, and what is prepared
// stays. A failure is that of the client's message, or stands for it.
func (f *feeder) readWithin(h *held, action wire.Action, parse func()) {
	f.carryFor(h, action, "SAVEPOINT "+carrier)
	f.setFor(h, action)
	parse()
	f.carryFor(h, action, "ROLLBACK TO SAVEPOINT "+carrier)
	f.carryFor(h, action, "RELEASE SAVEPOINT "+carrier)
}

// setFor gives the settings the values of a statement's Parse.
func (f *feeder) setFor(h *held, action wire.Action) {
	own := f.s.settings
	unset, wanted := changes(own, own.under(h.st.env), nil)
	if f.s.found&changing != 0 {
		unset, wanted = everyChange(h.st.env)
	}
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
			f.carryFor(h, action, b.String())
			b.Reset()
		}
	}
}

// carryFor runs a text by the carrier, for a statement whose Parse comes behind it
// in the same batch.
func (f *feeder) carryFor(h *held, action wire.Action, sql string) {
	f.carry(sql, func(byte) wire.Entry { return f.settingUp(h, action) })
}

// settingUp is the entry of what belongs to a statement's Parse without being that.
func (f *feeder) settingUp(h *held, action wire.Action) wire.Entry {
	return wire.Entry{Action: action, Ref: &heldChange{held: h, ahead: f.ahead, sets: true}}
}

// endAlone ends the batch of a statement that has one of its own.
func (f *feeder) endAlone(h *held) {
	e := f.settingUp(h, wire.Mute)
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

// under reports whether a statement was parsed on the server since the session has
// it. What it holds from before may have been invalidated: PostgreSQL would analyze it
// again under the settings of now.
func (f *feeder) under(st *statement) bool {
	h := f.l.shelf.m[st]
	return h != nil && !f.lacks(st) && h.attach == f.l.stats.assignments
}

// parseAlone sends the Parse of a statement as a batch of its own. If it fails,
// what needs it tells why.
func (f *feeder) parseAlone(h *held, types string) {
	f.parseHeld(h, wire.Mute, types)
	f.endAlone(h)
}

// parseHeld sends the Parse of a statement.
func (f *feeder) parseHeld(h *held, action wire.Action, types string) {
	h.sent(f.s.batch, f.l.pool.epoch.Load(), f.l.stats.assignments)
	body := h.declaring(types)
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Action: action, Ref: &heldChange{held: h, ahead: f.ahead, tells: f.tells}})
	f.put(func(dst []byte) []byte { return wire.AppendParse(dst, h.st.name, body) })
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
	if at, _ := f.place(); !f.atBegin() && !(keeps && at == ownBatch) {
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
			b := bringer{f: f, at: ownBatch}
			b.name(st.name, st)
		default:
			f.ensureUnder(st, f.l.types(e))
		}
	}
}

// bringFrozenUnnamed is bringFrozen for the unnamed statement, which lives on in a
// transaction that a statement begins. A Query in front would end it, and so would
// the next Parse: mostly what it would end is the SET itself.
func (f *feeder) bringFrozenUnnamed() {
	s, b := f.s, f.s.input()
	if !s.frozenUnnamed || len(b) <= wire.HeaderLen || b[0] == wire.MsgQuery || b[0] == wire.MsgParse && b[wire.HeaderLen] == 0 {
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
		f.ensureUnder(st, v.shape.params())
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
	for i := range s.unnamed.versions() {
		s.frozenUnnamed = s.frozenUnnamed || s.thaws(&s.unnamed.versions()[i])
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
