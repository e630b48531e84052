// Package sqlscan looks at SQL text for what could make session state. It is
// a lexer, not a parser: it knows comments, quoting and dollar quoting, and
// where it cannot be sure it errs to the side of suspicion.
//
// Nanoseconds of CPU per KiB (BenchmarkScan): a query of 100 B 2,450; an INSERT of
// many rows of 10 KiB 2,730, of 1 MiB 2,750. Where the words of suspicion stand in
// literals only: 1,900, 1,200 and 1,250. It allocates nothing.
//
// Reading order: findings.go (what is found), sqlscan.go (the lexer, which takes
// a text in pieces), literals.go (what stands in quotes), words.go (what words
// mean in their place), commands.go (the commands of a text that name prepared
// statements).
package sqlscan

// Scan looks at a text of one or more statements. standardStrings is the
// session's standard_conforming_strings: without it a backslash escapes in
// every quoted string.
func Scan(sql []byte, standardStrings bool) Finding {
	var s Scanner
	s.Reset(standardStrings)
	s.Feed(sql)
	return s.End()
}

// ScanCode looks at the body of a function.
func ScanCode(body []byte) Finding {
	s := Scanner{standard: true, code: true}
	s.words, s.verb = 1, tokOther
	s.Feed(body)
	return s.End()
}

// Scanner is a scan of a text that comes in pieces: Reset, Feed for each
// piece, End. The zero value is not ready. It is not safe for concurrent use.
type Scanner struct {
	found    Finding
	standard bool
	code     bool // the text is the body of a DO

	state   state
	depth   int  // of comments
	last    byte // comment: the byte before
	escapes bool // literal: a backslash escapes
	unicode bool // literal: U&
	text    word // the word, identifier or dollar tag so far
	matched int  // dollar: bytes of the closing tag seen

	// The literal so far.
	run  [9]byte // letters in a row, lower case
	runN int     // how many; more than fit: no word of interest
	temp int     // bytes of "pg_temp" matched

	statement
}

// state is where the lexer is in the text.
type state uint8

const (
	inSpace state = iota
	inWord
	afterU    // u&
	inQuote   // 'literal
	inEscape  // behind a backslash in it
	atQuote   // behind a quote: the end, or one that is doubled
	inName    // "identifier
	atName    // as atQuote
	inTag     // $tag
	inDollar  // the body of a dollar quote
	afterDash // -
	afterSlash
	inLine    // -- comment
	inComment // /* comment
)

// Reset begins a text.
func (s *Scanner) Reset(standardStrings bool) {
	*s = Scanner{standard: standardStrings}
}

// Feed takes the next piece of the text.
func (s *Scanner) Feed(p []byte) {
	for i := 0; i < len(p); {
		switch s.state {
		case inSpace:
			i += s.space(p[i:])
		case inWord:
			i += s.inWord(p[i:])
		case afterU:
			if s.afterU(p[i]) {
				i++
			}
		case inQuote:
			i += s.quoted(p[i:])
		case inEscape:
			s.found |= Moment // what it stands for is not looked at
			if s.do() {
				s.found |= Untracked | Opaque
			}
			s.content(p[i : i+1])
			s.state = inQuote
			i++
		case atQuote:
			if p[i] == '\'' {
				s.content(p[i : i+1])
				s.state = inQuote
				i++
			} else {
				s.endLiteral()
			}
		case inName:
			if p[i] == '"' {
				s.state = atName
			} else {
				s.text.add(lower(p[i]))
			}
			i++
		case atName:
			if p[i] == '"' {
				s.text.add('"')
				s.state = inName
				i++
			} else {
				s.state = inSpace
				s.name()
			}
		case inTag:
			if s.tag(p[i]) {
				i++
			}
		case inDollar:
			i += s.dollar(p[i:])
		case afterDash:
			if s.state = inSpace; p[i] == '-' {
				s.state = inLine
				i++
			} else {
				s.punctuation('-')
			}
		case afterSlash:
			if s.state = inSpace; p[i] == '*' {
				s.state, s.depth, s.last = inComment, 1, 0
				i++
			} else {
				s.punctuation('/')
			}
		case inLine:
			i += s.line(p[i:])
		case inComment:
			s.comment(p[i])
			i++
		}
	}
}

// End ends the text and returns what was found in it.
func (s *Scanner) End() Finding {
	switch s.state {
	case inWord:
		s.endWord(' ')
	case inQuote, inEscape, atQuote, inDollar:
		s.endLiteral()
	case inName, atName:
		s.name()
	}
	s.state = inSpace
	s.endStatement()
	return s.found
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// lowered is lower, for all bytes.
var lowered = func() (all [256]byte) {
	for c := range all {
		all[c] = lower(byte(c))
	}
	return all
}()

// class says what a byte may be part of.
type class uint8

const (
	letter    class = 1 << iota // of ASCII
	wordStart                   // of a word
	wordPart                    // of a word behind its start
	blank                       // between words
)

var classes = func() (all [256]class) {
	for c := range all {
		switch low := byte(c) | 0x20; {
		case low >= 'a' && low <= 'z':
			all[c] = letter | wordStart | wordPart
		case c == '_' || c >= 0x80:
			all[c] = wordStart | wordPart
		case c >= '0' && c <= '9' || c == '$':
			all[c] = wordPart
		case c == ' ' || c >= '\t' && c <= '\r' || c == 0:
			all[c] = blank
		}
	}
	return all
}()

// word is a text that is compared with those that mean something.
type word struct {
	b [63]byte // what PostgreSQL tells apart of a name
	n int      // how long it is; what does not fit is not kept
}

func (w *word) add(c byte) {
	if w.n < len(w.b) {
		w.b[w.n] = c
	}
	w.n++
}

func (w *word) bytes() []byte { return w.b[:min(w.n, len(w.b))] }

// space takes what stands between words, and the start of the next thing. It
// returns how much that was, here as below.
func (s *Scanner) space(p []byte) int {
	for i, c := range p {
		switch cl := classes[c]; {
		case cl&blank != 0:
			continue
		case cl&wordStart != 0:
			s.text.n = 0
			s.state = inWord
			return i
		case c == '\'':
			s.beginLiteral(!s.standard || s.prev == tokEscaped)
			s.state = inQuote
		case c == '"':
			s.text.n = 0
			s.state = inName
		case c == '$':
			s.text.n = 0
			s.state = inTag
		case c == '-':
			s.state = afterDash
		case c == '/':
			s.state = afterSlash
		case c == ';':
			s.endStatement()
		default:
			s.punctuation(c)
		}
		return i + 1
	}
	return len(p)
}

// inWord takes bytes of a word.
func (s *Scanner) inWord(p []byte) int {
	n := s.text.n
	for i, c := range p {
		if classes[c]&wordPart == 0 {
			s.text.n = n
			if s.endWord(c) {
				return i + 1
			}
			return i
		}
		if n < len(s.text.b) {
			s.text.b[n] = lowered[c]
		}
		n++
	}
	s.text.n = n
	return len(p)
}

// endWord judges a word, now that c is known to follow it. It reports whether
// c was taken with it.
func (s *Scanner) endWord(c byte) (taken bool) {
	s.state = inSpace
	if s.text.n == 1 {
		switch s.text.b[0] {
		case 'e', 'b', 'x', 'n': // the prefix of a literal
			if c == '\'' {
				s.beginLiteral(!s.standard || s.text.b[0] == 'e')
				s.state = inQuote
				return true
			}
		case 'u':
			if c == '&' {
				s.state = afterU
				return true
			}
		}
	}
	s.meaning(s.text.bytes())
	return false
}

// afterU takes what follows u&, if it belongs to it.
func (s *Scanner) afterU(c byte) (taken bool) {
	switch c {
	case '\'':
		s.beginLiteral(!s.standard)
		s.unicode = true
		s.state = inQuote
		return true
	case '"':
		s.found |= Untracked | Opaque // a name in disguise
		s.text.n = 0
		s.state = inName
		return true
	}
	s.state = inSpace
	s.meaning([]byte("u"))
	s.punctuation('&')
	return false
}

// tag takes a byte behind a dollar sign, if it belongs to a tag.
func (s *Scanner) tag(c byte) (taken bool) {
	switch cl := classes[c]; {
	case c == '$':
		if s.text.n > len(s.text.b) {
			s.found |= Untracked | Opaque // where it ends will not be seen
		}
		s.state, s.matched = inDollar, 0
		s.beginLiteral(false)
		return true
	case cl&wordStart != 0 || cl&wordPart != 0 && s.text.n > 0:
		s.text.add(c)
		return true
	}
	if s.text.n > 0 {
		s.found |= Untracked | Opaque // no SQL
	}
	s.state = inSpace
	s.punctuation('$')
	return false
}

// line takes the rest of a line, which is a comment.
func (s *Scanner) line(p []byte) int {
	for i, c := range p {
		if c == '\n' || c == '\r' {
			s.state = inSpace
			return i + 1
		}
	}
	return len(p)
}

// comment takes a byte of a comment, which may hold others.
func (s *Scanner) comment(c byte) {
	switch {
	case s.last == '/' && c == '*':
		s.depth++
		c = 0
	case s.last == '*' && c == '/':
		s.depth--
		c = 0
		if s.depth == 0 {
			s.state = inSpace
		}
	}
	s.last = c
}
