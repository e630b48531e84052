// Package sqlscan looks at SQL text for what could make session state. It is
// a lexer, not a parser: it knows comments, quoting and dollar quoting, and
// where it cannot be sure it errs to the side of suspicion.
//
// Nanoseconds of CPU per KiB (BenchmarkScan): a query of 100 B 2,450; an INSERT of
// many rows of 10 KiB 2,730, of 1 MiB 2,750. Where the words of suspicion stand in
// literals only: 1,900, 1,200 and 1,250. It allocates nothing.
//
// Reading order: sqlscan.go (what is found, and the lexer, which takes a text
// in pieces), words.go (what words mean in their place), commands.go (the
// commands of a text that name prepared statements).
package sqlscan

import "bytes"

// Finding is a set of things that a text may do.
type Finding uint32

// The findings.
const (
	// Untracked says that the text may make state of a session that PostgreSQL
	// does not report: what kind of state, one or more of those from Sets to
	// Opaque say.
	Untracked Finding = 1 << iota
	// Resets says that it may give settings back their start values.
	Resets
	// Moment says that a literal depends on the moment it is parsed: 'now',
	// 'today', 'tomorrow', 'yesterday'.
	Moment
	// ResetsAll says that it may give all settings back at once.
	ResetsAll
	// Names says that it may name prepared statements: PREPARE, EXECUTE or
	// DEALLOCATE stands in it. Commands tells which.
	Names
	// Lists says that it may ask which prepared statements there are.
	Lists

	// Sets says that it may change a setting that is not reported.
	Sets
	// Temp, Locks, Holds and Listens say that it may make a temporary object,
	// take a session advisory lock, leave a cursor open behind its
	// transaction, or LISTEN.
	Temp
	Locks
	Holds
	Listens
	// Loads, Seeds and External say that it may LOAD a library, seed random(),
	// or call a function whose state no catalog shows.
	Loads
	Seeds
	External
	// Opaque says that it may do anything: it is not understood.
	Opaque

	// Customs says that it may name a custom setting, also one that ends with
	// its transaction; the function CustomNames finds which.
	Customs
	// Undoes says that it may end state of the kinds from Temp to Listens.
	Undoes
	// Params says that the name of one is a parameter of the statement. It is
	// what CustomNames tells, for those who keep it with the text.
	Params
	// LastValue says that it may ask for currval or lastval, Draws that it may
	// take a number from a sequence.
	LastValue
	Draws
	// Manual is not found in a text either: the session asked to keep its
	// server.
	Manual
	// Redefines is not found in a text: a command has changed what names hide.
	Redefines
	// Changes says that it changes a setting in plain words, also one that is
	// reported, also for its transaction only.
	Changes
	// Forgets says that it may take prepared statements away where no command's
	// tag tells: in the body of a function, or of a DO.
	Forgets
	// Schemas says that it may notice that there have been temporary objects on
	// its server: it asks for their schema, or names temp_buffers.
	Schemas
	// Counts says that it asks for statistics that a server keeps for a while.
	Counts
	// Runs says that a function in it runs texts, which may be names in this one:
	// EXECUTE of a prepared statement.
	Runs
	// Named is not found in a text: custom settings exist on the server.
	Named
)

// Provable is the state that the catalogs show.
const Provable = Temp | Locks | Holds | Listens

// Dynamic is what a text may do that runs another one, which is not seen.
const Dynamic = Untracked | Sets | Customs | Provable | Resets | Undoes

// Lasting is the state that holds to the session's end.
const Lasting = Loads | Seeds | External | Opaque

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
