package sqlscan

import "bytes"

// beginLiteral begins a quoted string. One that follows another directly
// continues it.
func (s *Scanner) beginLiteral(escapes bool) {
	if s.prev == tokLiteral || s.prev == tokEscaped {
		s.found |= Moment
		if s.prev == tokEscaped && s.state == inSpace {
			s.found |= Untracked | Opaque // how it is read depends on what stands between
		}
	}
	if s.prev == tokLanguage && s.verb == tokDo {
		s.found |= Untracked | Opaque
	}
	s.escapes, s.unicode = escapes, false
	s.runN, s.temp = 0, 0
	s.argument(false)
	if s.do() && s.inner == nil {
		s.inner = &Scanner{standard: s.standard, code: true}
		s.inner.words, s.inner.verb = 1, tokOther
	}
}

// quoted takes bytes of a literal up to its end, or to a backslash.
func (s *Scanner) quoted(p []byte) int {
	end := bytes.IndexByte(p, '\'')
	if end < 0 {
		end = len(p)
	}
	if s.escapes {
		if i := bytes.IndexByte(p[:end], '\\'); i >= 0 {
			s.content(p[:i])
			s.state = inEscape
			return i + 1
		}
	}
	s.content(p[:end])
	if end < len(p) {
		s.state = atQuote
		end++
	}
	return end
}

// content takes bytes of a literal.
func (s *Scanner) content(p []byte) {
	if s.inner != nil {
		s.inner.Feed(p)
	}
	for _, c := range p {
		if classes[c]&letter == 0 {
			s.endRun()
			if c == '\\' && s.unicode {
				s.found |= Moment
			}
			continue
		}
		if s.runN < len(s.run) {
			s.run[s.runN] = c | 0x20
		}
		s.runN++
	}
	if s.verb == tokSet || s.call != noCall {
		s.seekTemp(p)
	}
}

// seekTemp looks for the schema of temporary objects in a literal.
func (s *Scanner) seekTemp(p []byte) {
	const pgTemp = "pg_temp"
	for _, c := range p {
		if lower(c) != pgTemp[s.temp] {
			s.temp = 0
		}
		if lower(c) == pgTemp[s.temp] {
			if s.temp++; s.temp == len(pgTemp) {
				s.temp = 0
				s.found |= Untracked | Temp | Sets
			}
		}
	}
}

// endRun judges letters in a row.
func (s *Scanner) endRun() {
	if s.runN >= 3 && s.runN <= len(s.run) {
		switch string(s.run[:s.runN]) {
		case "now", "today", "tomorrow", "yesterday":
			s.found |= Moment
		case "prepare":
			if s.code {
				s.found |= Untracked | Opaque // perhaps for EXECUTE
			}
		}
	}
	s.runN = 0
}

func (s *Scanner) endLiteral() {
	s.endRun()
	s.state = inSpace
	s.shift(tokLiteral)
	if s.escapes {
		s.prev = tokEscaped
	}
}

// dollar takes bytes of a dollar-quoted string, which ends with its tag.
func (s *Scanner) dollar(p []byte) int {
	if s.matched == 0 {
		i := bytes.IndexByte(p, '$')
		if i < 0 {
			i = len(p)
		}
		if i > 0 {
			s.content(p[:i])
			return i
		}
	}
	tag := s.text.bytes()
	var want byte = '$'
	if s.matched > 0 && s.matched <= len(tag) {
		want = tag[s.matched-1]
	}
	if p[0] == want {
		if s.matched++; s.matched == len(tag)+2 {
			s.escapes = false
			s.endLiteral()
		}
		return 1
	}
	// It was not the closing tag; what looked like it is content.
	s.content([]byte{'$'})
	s.content(tag[:s.matched-1])
	s.matched = 0
	return 0
}
