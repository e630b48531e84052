package proxy

import (
	"bytes"
	"strings"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// concerns reports whether a command's tag may be one that tag does something about.
func concerns(tag []byte) bool {
	if len(tag) == 0 {
		return false
	}
	switch tag[0] {
	case 'A', 'C', 'D', 'L', 'P', 'R':
		return true
	}
	return false
}

// tag looks at a command's tag for what concerns the server and its session, if
// that is still there; ref is that of the message whose command it is. The link's
// mu is held.
func (l *link) tag(tag []byte, ref any) {
	if !concerns(tag) {
		return
	}
	switch {
	case bytes.Equal(tag, []byte("DISCARD ALL")), bytes.Equal(tag, []byte("DEALLOCATE ALL")):
		for _, h := range l.shelf.m {
			h.sure, h.doubted = false, false
			l.tidy(h)
		}
		l.discarded = len(tag) == len("DISCARD ALL") && l.ledger.BatchOpen() && l.ledger.Len() == 0
	case bytes.Equal(tag, []byte("DEALLOCATE")):
		if l.deallocated(ref) {
			break
		}
		for _, h := range l.shelf.m {
			h.doubt() // it may have been one of ours
		}
	case bytes.Equal(tag, []byte("DISCARD PLANS")):
		for _, h := range l.shelf.m { // PostgreSQL analyzes them again, under the settings of then
			h.elsewhere, h.attach = true, l.stats.assignments
		}
	case bytes.HasPrefix(tag, []byte("ALTER")), bytes.HasPrefix(tag, []byte("DROP")), bytes.HasPrefix(tag, []byte("CREATE")):
		l.pool.ddl.Add(1)
		l.pool.epoch.Add(1) // plans made before may no longer be what a Parse would make
		if redefines(tag) {
			l.redefined()
		}
	case bytes.Equal(tag, []byte("PREPARE")):
		if !l.prepared(ref) {
			l.unforeseen(sqlscan.Opaque)
		}
	case bytes.Equal(tag, []byte("LISTEN")):
		l.unforeseen(sqlscan.Listens)
	case bytes.Equal(tag, []byte("LOAD")):
		l.unforeseen(sqlscan.Loads)
	}
	if l.sess != nil {
		l.sess.tag(l, tag, ref)
	}
}

// unforeseen notes what a command has left on the server. mu is held.
func (l *link) unforeseen(f sqlscan.Finding) {
	if s := l.sess; s != nil {
		s.found |= sqlscan.Untracked | f
		return
	}
	l.pinned = l.pinned || f&sqlscan.Lasting != 0
	l.suspect = l.suspect || f&sqlscan.Provable != 0
}

// redefined sees to it that what names hide is read again: by the inspection
// of the session that has changed it, or soon. mu is held.
func (l *link) redefined() {
	if s := l.sess; s != nil {
		s.found |= sqlscan.Untracked | sqlscan.Redefines
		return
	}
	l.pool.lookSoon()
}

// tag follows up what a command has done to what the session holds by itself.
// The mu of its link l is held.
func (s *session) tag(l *link, tag []byte, ref any) {
	switch {
	case bytes.Equal(tag, []byte("RESET")):
		if _, ok := ref.(*returned); ok {
			break
		}
		l.known = l.known && s.isReadable()
		s.found |= sqlscan.Resets
		if s.found&sqlscan.ResetsAll != 0 {
			s.resetAll(l)
		}
	case bytes.Equal(tag, []byte("DISCARD ALL")), bytes.Equal(tag, []byte("DEALLOCATE ALL")):
		for _, st := range s.names.clear() {
			l.px.statements.drop(st)
		}
		if len(tag) == len("DISCARD ALL") {
			s.forgetDrawn()
			l.known = l.known && s.carries
			s.found |= sqlscan.Resets
			s.resetAll(l)
		}
	case bytes.Equal(tag, []byte("DISCARD SEQUENCES")):
		s.forgetDrawn()
	}
}

// resetAll follows what has returned every setting to the server's start value, in
// a session of which nobody asks what that has left.
func (s *session) resetAll(l *link) {
	if s.carries && !s.lasting() {
		return
	}
	if s.isReadable() {
		l.known = false // returnToStart
		s.keepLink(s.startLink)
		s.wishes(s.start)
	}
	s.restart(l)
}

// restart gives every reported setting that stands at the server's own start
// value the session's: PostgreSQL reports nothing when RESET changes nothing.
// The link's mu is held.
func (s *session) restart(l *link) {
	for _, p := range s.start.list() {
		for i, name := range l.reported.names {
			if !strings.EqualFold(name, p.name) || !settable(name) {
				continue
			}
			if base, _ := l.base.get(name); l.reported.values[i] != base {
				continue
			}
			s.settings = s.settings.with(p.name, p.value, true)
			value, ok := s.startTo.get(name)
			if told, _ := s.told.get(name); ok && told != value {
				s.told = s.told.with(name, value)
				l.reports = wire.AppendParameterStatus(l.reports, name, value)
			}
		}
	}
}
