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
// settings. The Query that brings the session's own back would take an unnamed
// one with it, so it gets a name.
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
	switch l := f.l; {
	case f.atBegin(), l.ledger.Len() == 0 && l.ledger.Status() == wire.TxIdle && !l.ledger.BatchOpen():
		return true, handled
	case l.ledger.Owed() > l.ledger.OwnQueries():
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
// of its first Parse, and brings the session's back behind it. It is a batch of
// its own: where the Parse fails the settings come back all the same.
func (f *feeder) ensureUnder(st *statement) {
	l := f.l
	known := l.shelf.m[st] != nil
	h := l.shelf.get(st, &l.px.statements)
	f.evict(h)
	f.toEnv(st.env)
	if known {
		f.closeHeld(h)
	}
	f.vacate(h)
	f.parseAlone(h)
	h.under = l.stats.assignments
	f.fromEnv(st.env)
}

// under reports whether the server was brought a statement under the settings
// of its Parse since the session has the server. What it holds from before may
// have been invalidated: PostgreSQL would analyze it again under those of now.
func (f *feeder) under(st *statement) bool {
	h := f.l.shelf.m[st]
	return h != nil && !f.lacks(st) && h.under == f.l.stats.assignments
}

// settleEnv fills in under which settings a statement was parsed whose
// transaction had changed them, now that it has ended.
func (s *session) settleEnv(st *statement) {
	if st.unsettled && s.found&changing == 0 {
		st.env, st.unsettled = s.settledEnv(st.env), false
	}
}

// settledEnv is what was in force at a Parse: what PostgreSQL reports was known
// then, and the rest is what the transaction has left.
func (s *session) settledEnv(then settings) settings {
	told := func(p setting) bool {
		return slices.ContainsFunc(s.told.names, func(name string) bool { return settable(name) && strings.EqualFold(name, p.name) })
	}
	pairs := slices.DeleteFunc(s.settings.parsing().list(), told)
	for _, p := range then.list() {
		if told(p) {
			pairs = append(pairs, p)
		}
	}
	return newSettings(pairs)
}

// settleEnvs is settleEnv for all that the session has, at the end of the
// transaction.
func (s *session) settleEnvs() {
	if !s.unsettled {
		return
	}
	s.unsettled = false
	for _, e := range s.names.m {
		if e.cur != nil {
			s.settleEnv(e.cur)
		}
	}
	for i := range s.unnamed.versions {
		if v := &s.unnamed.versions[i]; v.unsettled {
			v.env, v.unsettled = s.settledEnv(v.env), false
		}
	}
}

// unsettles reports whether a text, which may change settings, must wait until it is
// known under which ones statements were parsed.
func (f *feeder) unsettles(found sqlscan.Finding) bool {
	return f.s.unsettled && found&changing != 0 && f.l.ledger.Owed() > f.l.ledger.OwnQueries()
}

// parseAlone sends the Parse of a statement as a batch of its own. If it fails,
// what needs it tells why.
func (f *feeder) parseAlone(h *held) {
	h.sent(f.s.batch, f.l.pool.epoch.Load())
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Action: wire.Mute, Ref: &heldChange{held: h, ahead: f.ahead}})
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Action: wire.Mute})
	f.put(func(dst []byte) []byte {
		return wire.AppendEmpty(wire.AppendParse(dst, h.st.name, []byte(h.st.body)), wire.MsgSync)
	})
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
	if len(s.frozen) == 0 || s.upstream || f.l.awaiting || !f.atBegin() {
		return
	}
	env := s.settings.parsing()
	f.ahead = true
	defer func() { f.ahead = false }()
	for _, e := range s.frozen {
		st := e.cur
		switch {
		case st == nil || st.env == env: // it has been closed since
		case f.under(st), st.own && !f.lacks(st):
		case st.own:
			b := bringer{f: f, begin: true}
			b.name(st.name, st)
		default:
			f.ensureUnder(st)
		}
	}
}

// findFrozen lists those statements.
func (s *session) findFrozen() {
	s.frozenFor, s.frozen = s.settings, s.frozen[:0]
	env := s.settings.parsing()
	for _, e := range s.names.m {
		if e.cur != nil {
			s.settleEnv(e.cur)
		}
		if st := e.cur; st != nil && st.env != env && len(s.frozen) < maxFrozen && hasLiteral([]byte(st.body)) {
			s.frozen = append(s.frozen, e)
		}
	}
}

// toEnv brings the server to the settings that parsing read, fromEnv back to
// the session's own.
func (f *feeder) toEnv(env settings) {
	to := f.s.settings.under(env)
	f.ownQuery(replay(f.s.settings, to, false, true), to)
}

func (f *feeder) fromEnv(env settings) {
	f.ownQuery(replay(f.s.settings.under(env), f.s.settings, false, true), f.s.settings)
}

// ownQuery sends a Query of ours that brings the server's settings to a set.
func (f *feeder) ownQuery(sql string, to settings) {
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow, Ref: &replayRef{to}})
	f.put(func(dst []byte) []byte { return wire.AppendQuery(dst, sql) })
	f.l.unnamedOf = 0
}
