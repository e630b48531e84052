package proxy

import (
	"bytes"
	"strings"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// Some of what is done on a server cannot be undone. Custom settings exist for
// good. Where there have been temporary objects their schema stays, and
// temp_buffers cannot be changed any more. What was loaded stays loaded. So servers are marked, and a session
// that could notice asks for one without the mark (backend.Ticket.Without). In
// the middle of a transaction it is too late for that.

// tempBuffers is the setting that temporary objects fix.
const tempBuffers = "temp_buffers"

// noteTemp notes that there have been temporary objects on the server. mu is held.
func (l *link) noteTemp() {
	l.hadTemp = true
	l.pool.usedTemp.Store(true)
}

// marks are those that the server has earned. mu is held.
func (l *link) marks() (m backend.Used) {
	if l.hadTemp {
		m |= backend.UsedTemp
	}
	if len(l.created) > 0 {
		m |= backend.UsedCustoms
	}
	return m
}

// spent reports whether nobody is to have the server any more: its last session
// was strict, or temp_buffers cannot be given back. mu is held.
func (l *link) spent() bool {
	if l.strict && l.marks()&(backend.UsedTemp|backend.UsedCustoms) != 0 {
		return true
	}
	if !l.hadTemp || !l.known {
		return false
	}
	_, fixed := l.label.get(tempBuffers)
	return fixed
}

// demand sets what the session asks of every server.
func (s *session) demand() {
	s.without = 0
	if s.settings.ofTemp() {
		s.without = backend.UsedTemp
	}
	if s.carries && s.level == StateStrict {
		s.without = backend.UsedTemp | backend.UsedCustoms
	}
}

// ofTemp reports whether under these settings it could be noticed that there
// have been temporary objects: the first of a session makes their schema.
func (s settings) ofTemp() bool {
	if s == noSettings || !strings.Contains(s.h.Value().all, "temp") {
		return false
	}
	_, buffers := s.get(tempBuffers)
	path, _ := s.get("search_path")
	return buffers || strings.Contains(strings.ToLower(path), "pg_temp")
}

// hasCustoms reports whether a custom setting is among them.
func (s settings) hasCustoms() bool {
	for _, p := range s.list() {
		if strings.Contains(p.name, ".") {
			return true
		}
	}
	return false
}

// asks is what the server must not have had that the session's next message
// runs on. in is held, and there is no server.
func (s *session) asks() backend.Used {
	w := s.without
	strict := s.carries && s.level == StateStrict
	if !strict && !s.pool.usedTemp.Load() {
		return w
	}
	text, found := s.next()
	if found&sqlscan.Schemas != 0 || found&sqlscan.Customs != 0 && bytes.Contains(bytes.ToLower(text), []byte(tempBuffers)) {
		w |= backend.UsedTemp
	}
	if !strict {
		return w
	}
	if found&(sqlscan.Loads|sqlscan.Counts) != 0 {
		w |= backend.UsedBefore
	}
	if found&sqlscan.Customs != 0 {
		// Which names a library takes for itself depends on what was loaded.
		if n := sqlscan.CustomNames(text, s.told.standard); len(n.Settings) > 0 || n.Params || n.Unknown {
			w |= backend.UsedBefore
		}
	}
	return w
}

// next is the text of the message that waits for a server, as far as it has
// come, and what the scan finds in it.
func (s *session) next() (text []byte, found sqlscan.Finding) {
	b := s.input()
	typ, size, p := s.header(b)
	if p != handled {
		return nil, 0
	}
	body := b[wire.HeaderLen:min(len(b), size)]
	switch typ {
	case wire.MsgQuery:
		return body, sqlscan.Scan(body, s.told.standard)
	case wire.MsgParse:
		if _, rest, ok := wire.CString(body); ok {
			sql, _, _ := wire.CString(rest)
			return sql, sqlscan.Scan(sql, s.told.standard)
		}
	case wire.MsgBind, wire.MsgDescribe:
		name, p := statementName(typ, body, len(b) >= size)
		switch {
		case p != handled:
		case len(name) == 0:
			if v, _ := s.unnamed.current(s.batch); v != nil {
				return v.body, v.found
			}
		default:
			if st, _ := s.names.lookup(wire.Name(name), s.batch); st != nil {
				return []byte(st.body), st.found
			}
		}
	}
	return nil, 0
}
