package proxy

import (
	"encoding/binary"
	"slices"
	"strings"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// A session's state is carried (its settings) or holds its server (all else
// that lives longer than a transaction). What a text may have done is found
// by the scan (sqlscan), what it has done by an inspection (inspect.go) at the
// end of its transaction.

// maxCustoms bounds the custom settings that one session can name and still
// have carried.
const maxCustoms = 500

// maxSettings bounds what one session's settings may take, and
// maxAllSettings all sessions' together; who has more keeps the server.
const (
	maxSettings    = 1 << 20
	maxAllSettings = 256 << 20
)

// scan looks at a statement's text for state that it may make.
func (s *session) scan(sql []byte) sqlscan.Finding {
	return s.scanned(sql, sqlscan.Scan(sql, s.told.standard))
}

// scanned is scan for a text of which it is known what it says itself.
func (s *session) scanned(sql []byte, own sqlscan.Finding) sqlscan.Finding {
	found := own
	s.own = own
	s.noteText(sql)
	if found&sqlscan.Untracked != 0 && sqlscan.Deallocating(sql) {
		found |= sqlscan.Forgets // a DO
	}
	found |= s.hidden(sql)
	if found&sqlscan.ResetsAll != 0 || found&changing != 0 && namesUnreported(sql) {
		found |= sqlscan.Literals
	}
	if s.told.opaque {
		return found | sqlscan.Untracked | sqlscan.Opaque // the scan may have lost its way
	}
	if found&sqlscan.LastValue != 0 && s.carries {
		s.usesLast = true
		s.pool.usesLast.Store(true)
	}
	if found&sqlscan.Customs != 0 && s.carries {
		found |= s.named(sqlscan.CustomNames(sql, s.told.standard), found)
	}
	return found
}

// named notes the custom settings that a text names.
func (s *session) named(n sqlscan.CustomNamed, found sqlscan.Finding) (more sqlscan.Finding) {
	for _, name := range n.Settings {
		if !s.custom(name) {
			n.Unknown = true
		}
	}
	if n.Params {
		more |= sqlscan.Params
	}
	if n.Unknown && found&sqlscan.Sets != 0 {
		more |= sqlscan.Untracked | sqlscan.Opaque
	}
	return more
}

// custom notes a custom setting's name; false: there are too many.
func (s *session) custom(name string) bool {
	if slices.Contains(s.customs, name) {
		return true
	}
	if len(s.customs) == maxCustoms {
		return false
	}
	s.customs = append(s.customs, name)
	return true
}

// bindNames notes the custom settings that a Bind's parameters may name. It reports
// whether one may be the name of a setting that literals are read under.
func (s *session) bindNames(body []byte, whole bool) (reads bool) {
	unknown := func() {
		if s.found&sqlscan.Sets != 0 {
			s.found |= sqlscan.Untracked | sqlscan.Opaque
		}
	}
	_, rest, ok := wire.CString(body)
	if ok {
		_, rest, ok = wire.CString(rest)
	}
	if !whole || !ok || len(rest) < 2 {
		unknown()
		return false
	}
	formats := int(binary.BigEndian.Uint16(rest))
	rest = rest[2:]
	if len(rest) < 2*formats+2 {
		return false // malformed: PostgreSQL says so
	}
	rest = rest[2*formats:]
	n := int(binary.BigEndian.Uint16(rest))
	rest = rest[2:]
	for range n {
		if len(rest) < 4 {
			return reads
		}
		size := int(int32(binary.BigEndian.Uint32(rest)))
		rest = rest[4:]
		if size < 0 {
			continue
		}
		if size > len(rest) {
			return reads
		}
		reads = s.setsByParameter(rest[:size]) || reads
		if sqlscan.Custom(rest[:size]) && !s.custom(strings.ToLower(string(rest[:size]))) {
			unknown()
		}
		rest = rest[size:]
	}
	return reads
}

// transactionEnded is called at each ReadyForQuery outside a transaction,
// with the link's mu held. It reports whether the client must not hear of it
// yet.
func (s *session) transactionEnded(l *link) (withhold bool) {
	if l.ledger.Len() == 0 {
		s.portals = nil
	}
	audited := s.found&(sqlscan.Untracked|sqlscan.Resets) == 0 && s.audited() && l.ledger.Len() == 0
	if s.found == 0 && !audited {
		return false
	}
	l.drew = l.drew || s.found&sqlscan.Draws != 0
	if !s.carries {
		if !s.suspicious() {
			s.endedUncarried(l)
		} else if l.inspectable() {
			l.inspect(true)
			return true
		}
		return false
	}
	lasting := sqlscan.Lasting
	if s.level == StateStrict {
		lasting |= sqlscan.Counts | sqlscan.Named
		if s.namesCustoms(s.found) {
			s.found |= sqlscan.Named
		}
	}
	if s.level == StateStrict || s.usesLast && (s.pin != "" || !l.pool.fullOfPins()) {
		lasting |= sqlscan.Draws
	}
	unpinned := s.pin == ""
	if lasting &= s.found &^ s.held; lasting != 0 {
		s.setHeld(s.held | lasting)
	}
	l.unclaim()
	if l.ledger.Len() > 0 {
		return false // it is also what stands behind
	}
	if audited && !s.suspicious() {
		s.found |= sqlscan.Untracked | sqlscan.Sets | sqlscan.Provable
	} else {
		audited = false
	}
	if s.suspicious() {
		if l.inspectable() {
			l.inspect(true)
			l.asking.audited = audited
			return true
		}
		return false // at the end of what is half sent
	}
	if s.found&sqlscan.Customs != 0 {
		s.noteLocal(l)
	}
	s.settleEnvs(false)
	if unpinned && s.pin != "" && l.pool.overPinned() && !l.half && l.asking == nil {
		l.asking = &inspection{withheld: true, applied: true}
		l.awaitSlot()
		return true
	}
	return false
}

// endedUncarried is transactionEnded for a session whose state is not carried.
func (s *session) endedUncarried(l *link) {
	if s.found&sqlscan.Untracked != 0 && s.upstream && s.mode != ModeSession && s.level != StateIgnore {
		s.setHeld(s.held | sqlscan.Opaque) // nothing can be asked of a pooler
	}
	if s.found&sqlscan.Resets != 0 {
		l.known = false // which settings it gave back is not known
	}
	if l.ledger.Len() == 0 {
		s.settleEnvs(false)
	}
}

// noteLocal notes the custom settings that were set for a transaction: they
// exist from then on, without a value.
func (s *session) noteLocal(l *link) {
	before := s.settings
	now := before
	for _, name := range s.customs {
		l.create(name)
		if _, ok := now.get(name); !ok {
			now = now.with(name, "", true)
		}
	}
	if now == before {
		return
	}
	if l.known && l.label == before {
		l.label = now
	}
	s.wishes(now)
}

// wishes changes what the session wishes to be in force.
func (s *session) wishes(set settings) {
	s.settings = set
	s.demand()
	more := int64(set.size()) - s.settingsSize
	s.settingsSize += more
	if all := s.px.counts.settingsBytes.Add(more); s.settingsSize > maxSettings || all > maxAllSettings {
		s.setHeld(s.held | sqlscan.Opaque)
	}
}

// size is what a set takes.
func (s settings) size() int {
	if s == noSettings {
		return 0
	}
	return len(s.h.Value().all)
}

// create notes a custom setting that exists on the server. mu is held.
func (l *link) create(name string) {
	if _, ok := l.created[name]; ok {
		return
	}
	if l.created == nil {
		l.created = map[string]struct{}{}
	}
	l.created[name] = struct{}{}
}

// replaySQL brings the server's settings in line; "" if nothing is to be done.
// mu is held.
func (l *link) replaySQL(to settings, fatal bool) string {
	if l.known {
		if unset, wanted := changes(l.label, to, l.created); len(unset)+len(wanted) == 0 {
			return ""
		}
	}
	return l.replayFrom(to, fatal)
}

// replayFrom is replaySQL where something must be done. mu is held.
func (l *link) replayFrom(to settings, fatal bool) string {
	for _, p := range to.list() {
		if strings.Contains(p.name, ".") {
			l.create(p.name)
		}
	}
	return replay(l.label, to, !l.known, fatal)
}

// keepsAfter says what becomes of the server of a session that has left:
// whether it must be closed, or asked what has been left on it. The link's mu
// is held.
func (s *session) leaves(l *link) {
	const settings = sqlscan.Untracked | sqlscan.Resets
	if s.mode == ModeSession {
		return
	}
	if !s.carries {
		l.pinned = s.pin != "" || s.found&sqlscan.Untracked != 0
		l.known = l.known && s.found&sqlscan.Resets == 0
		return
	}
	found := s.found | s.held
	l.pinned = found&(sqlscan.Lasting|sqlscan.Manual) != 0
	l.suspect = found&sqlscan.Provable != 0 || s.held&sqlscan.Draws != 0
	l.known = l.known && s.found&settings == 0 && l.asking == nil
	l.askNoMore()
	for _, name := range s.customs {
		l.create(name)
	}
}

// cleaning undoes what a session may have left on its server, but for what was
// loaded.
const cleaning = "SET statement_timeout=0;SET lock_timeout=0;CLOSE ALL;UNLISTEN *;SELECT pg_catalog.pg_advisory_unlock_all();" +
	"RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;DISCARD SEQUENCES;DISCARD TEMP"

// clean undoes what a session has left and lets PostgreSQL prove it. No locks
// are held.
func (l *link) clean() {
	l.ask(cleaning, func(l *link, failed []byte) {
		if failed != nil {
			l.discard(backend.CloseTainted)
			return
		}
		l.mu.Lock()
		l.label, l.known = noSettings, true
		p := &inspection{kinds: sqlscan.Provable}
		l.mu.Unlock()
		l.askFor(inspectionSQL(p.kinds, nil), inspectionRef{p}, func(l *link, failed []byte) {
			switch {
			case failed != nil:
				l.discard(backend.CloseTainted)
			case p.pins != 0:
				l.discard(backend.ClosePin)
			default:
				if p.hadTemp {
					l.mu.Lock()
					l.noteTemp()
					l.mu.Unlock()
				}
				l.giveBack()
			}
		})
	})
}
