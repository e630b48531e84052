package proxy

import (
	"bytes"
	"slices"
	"strings"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// A statement with literals is parsed in a transaction that has changed settings.
// Under which ones it was is known as far as PostgreSQL reports them, which it does
// in front of ReadyForQuery, and by the inspection at the transaction's end. Where
// neither tells, the session keeps its server, which has read the literals.

// unreportedInLiterals are the settings that literals are read under and that
// PostgreSQL does not report. search_path is none of them: where it leads to other
// schemas PostgreSQL reads the literals again.
var unreportedInLiterals = [...]string{"array_nulls", "xmloption", "lc_monetary", "timezone_abbreviations", "backslash_quote",
	"transform_null_equals", "default_text_search_config"}

// reportedInLiterals are those that it does report, by the words of SET.
var reportedInLiterals = [...]string{"datestyle", "timezone", "zone", "intervalstyle", "client_encoding", "names", "standard_conforming_strings", "all"}

// namesUnreported reports whether a text may set one that is not reported.
func namesUnreported(sql []byte) bool {
	return namesAny(sql, unreportedInLiterals[:]) || namesAny(sql, []string{"xml"}) && namesAny(sql, []string{"option"}) // SET XML OPTION
}

// namesAny reports whether one of the names stands in a text.
func namesAny(sql []byte, names []string) bool {
	low := bytes.ToLower(sql)
	return slices.ContainsFunc(names, func(name string) bool { return bytes.Contains(low, []byte(name)) })
}

// namesLiterals reports whether a text names a setting that literals are read under.
func namesLiterals(sql []byte) bool {
	return namesUnreported(sql) || namesAny(sql, reportedInLiterals[:])
}

// keepsServer has the session keep its server: what the transaction does cannot be
// told from outside.
func (s *session) keepsServer() { s.found |= sqlscan.Untracked | sqlscan.Opaque }

// notes reports whether does must be told of a text with these findings.
func (s *session) notes(found sqlscan.Finding) bool { return s.blind || found&changing != 0 }

// does follows what a text that is being run may do to settings.
func (s *session) does(found sqlscan.Finding, body []byte) {
	text := body
	if i := bytes.IndexByte(body, 0); i >= 0 {
		text = body[:i]
	}
	if s.blind && undoes(text) {
		s.keepsServer()
	}
	if found&changing == 0 {
		return
	}
	told := !namesLiterals(text)
	if s.blind && !told {
		s.keepsServer() // what is reported at the end of the batch is not what was in force at the Parse
	}
	if s.changedIn != uint32(s.batch) {
		s.changedIn, s.plainly = uint32(s.batch), true
	}
	s.plainly = s.plainly && (told || setsPlainly(text))
}

// setsByParameter is does for what set_config is told by a parameter: the name of a
// setting that literals are read under, perhaps.
func (s *session) setsByParameter(value []byte) (reads bool) {
	const longest = len("default_text_search_config")
	if len(value) > longest {
		return false
	}
	switch name := strings.ToLower(string(value)); {
	case slices.Contains(unreportedInLiterals[:], name):
		s.found |= sqlscan.Literals
		if s.unsettled { // as outdates
			s.keepsServer()
		}
	case !slices.Contains(reportedInLiterals[:], name):
		return false
	}
	s.plainly = false
	if s.blind {
		s.keepsServer()
	}
	return true
}

// undoes reports whether a text may take back what was set in its transaction.
func undoes(text []byte) bool {
	switch sqlscan.Verb(text) {
	case "rollback", "abort":
		return true
	}
	return false
}

// setsPlainly reports whether a text is a SET or RESET that does not end with its
// transaction.
func setsPlainly(text []byte) bool {
	switch sqlscan.Verb(text) {
	case "set":
		return !namesAny(text, []string{"local"})
	case "reset":
		return true
	}
	return false
}

// parsesBehind notes that literals are parsed behind a text that may have changed
// what they are read under, in the same transaction.
func (s *session) parsesBehind() {
	if s.found&sqlscan.Literals != 0 {
		s.keepsServer()
	}
	if s.changedIn != uint32(s.batch) {
		return // what is reported of it has come
	}
	s.blind = true
	if !s.plainly {
		s.keepsServer()
	}
}

// batchEnded notes what was in force at the end of a batch for the statements in
// it that were parsed behind a SET. The link's mu is held.
func (s *session) batchEnded() {
	if !s.blind {
		return
	}
	s.blind = false
	for e := range s.names.all() {
		if e.cur != nil && e.cur.blind {
			e.cur.env, e.cur.blind = s.settings.parsing(), false
		}
	}
	for i := range s.unnamed.versions() {
		if v := &s.unnamed.versions()[i]; v.blind {
			v.env, v.blind = s.settings.parsing(), false
		}
	}
}

// settleEnv fills in under which settings a statement was parsed whose
// transaction had changed them, now that it has ended.
func (s *session) settleEnv(st *statement) { s.settleEnvAs(st, false) }

// settleEnvAs is settleEnv, where it is known even though the session keeps its server
// because of another statement.
func (s *session) settleEnvAs(st *statement, known bool) {
	switch {
	case !st.unsettled || s.found&changing != 0:
	case s.held&sqlscan.Opaque != 0 && (!known || st.outdated): // the session may keep its server because it is not known
		st.outdated = true
	default:
		st.env, st.unsettled = s.settledEnv(st.env), false
	}
}

// settledEnv is what was in force at a Parse: what PostgreSQL reports was known
// then, or at the end of the batch, and the rest is what the transaction has left.
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
// transaction, whose findings it forgets. asked tells that what is in force has been
// asked for.
func (s *session) settleEnvs(asked bool) {
	doubt := s.found&sqlscan.Opaque != 0 // something of the transaction leaves it open
	known := asked && !doubt
	s.found = 0
	if !s.unsettled {
		return
	}
	s.unsettled = false
	for e := range s.names.all() {
		if e.cur != nil {
			s.settleEnvAs(e.cur, known)
		}
	}
	for i := range s.unnamed.versions() {
		switch v := &s.unnamed.versions()[i]; {
		case !v.unsettled:
		case doubt, s.held&sqlscan.Opaque != 0 && (!known || v.outdated):
			v.outdated = true
		default:
			v.env, v.unsettled = s.settledEnv(v.env), false
		}
	}
}

// takesBack reports whether a text may change settings, or take back what was set,
// while statements of the session are unsettled.
func (s *session) takesBack(found sqlscan.Finding, body []byte) bool {
	return s.unsettled && (found&changing != 0 || namesAny(body, []string{"rollback", "abort", "commit", "end"}))
}

// outdates notes that a text may change settings, or take back what was set: what
// has been parsed in its transaction cannot be parsed like that again. What is not
// reported is asked for at the end, and is then no longer what the literals were read
// under.
func (f *feeder) outdates(found sqlscan.Finding, body []byte) {
	s := f.s
	if !s.takesBack(found, body) {
		return
	}
	if found&sqlscan.Literals != 0 {
		s.keepsServer()
	}
	if f.l.ledger.Status() != wire.TxFailed {
		f.namesUnsettled()
	}
	for e := range s.names.all() {
		for _, st := range []*statement{e.cur, e.next()} {
			if st != nil && st.unsettled {
				st.outdated = true
			}
		}
	}
}

// namesUnsettled has SQL find the unsettled statements as they are parsed here: they
// cannot be later.
func (f *feeder) namesUnsettled() {
	b := bringer{f: f, alone: !f.l.ledger.MaySkip()}
	for e := range f.s.names.all() {
		if st, _ := f.s.names.lookup([]byte(e.text), f.s.batch); st != nil && st.unsettled && !st.outdated {
			_ = b.name(e.text, st)
		}
	}
}

// unreported reports whether a message waits because a text that stands in front of
// it may have changed what literals are read under and PostgreSQL does not report:
// at its end, if nothing stands behind it, that is asked for.
// Likewise behind a text that may have reset what the session's startup parameters
// have set, which is set again then.
func (f *feeder) unreported(typ byte) bool {
	return f.s.found&(sqlscan.Literals|sqlscan.Resets) != 0 && f.unreportedYet(typ) // most have no such text
}

func (f *feeder) unreportedYet(typ byte) bool {
	if f.s.upstream {
		return false
	}
	copying, _ := f.l.ledger.CopyIn()
	switch typ {
	case wire.MsgQuery, wire.MsgParse, wire.MsgBind, wire.MsgDescribe, wire.MsgClose, wire.MsgExecute, wire.MsgFunctionCall:
	case wire.MsgSync: // what is told in front of the ReadyForQuery before it is known later
		return f.s.found&sqlscan.Resets != 0 && f.s.returns() && !copying && f.l.ledger.Owed() > f.l.ledger.OwnQueries()
	default:
		return false
	}
	resets := f.s.found&sqlscan.Resets != 0 && f.s.returns()
	switch {
	case copying || f.s.found&sqlscan.Literals == 0 && !resets:
		return false
	case f.l.ledger.Owed() > f.l.ledger.OwnQueries():
		return true
	}
	return resets && f.returnsWithin()
}

// unsettles reports whether a text, which may change settings or take them back, must
// wait until it is known under which ones statements were parsed and whether they can be
// parsed still, or what it resets has been reported.
func (f *feeder) unsettles(found sqlscan.Finding, body []byte) bool {
	s := f.s
	// What is reported in front of a RESET could be taken for what that has done.
	resets := found&sqlscan.Resets != 0 && s.found&changing != 0 && s.start != noSettings && !s.upstream
	return (s.takesBack(found, body) || resets) && f.l.ledger.Owed() > f.l.ledger.OwnQueries()
}
