// Package sqlscan looks at SQL text for what could make session state. It is
// a lexer, not a parser: it knows comments, quoting and dollar quoting, and
// where it cannot be sure it errs to the side of suspicion.
package sqlscan

import "bytes"

// Finding is a set of things that a text may do.
type Finding uint16

// The findings.
const (
	// Untracked says that the text may make state that is neither carried
	// from server to server nor undone: a setting PostgreSQL does not report,
	// a temporary object, a session advisory lock, LISTEN, LOAD, PREPARE, ...
	Untracked Finding = 1 << iota
	// Resets says that it may give settings back their start values.
	Resets
	// Moment says that a literal depends on the moment it is parsed: 'now',
	// 'today', 'tomorrow', 'yesterday'.
	Moment
	// ResetsAll says that it may give all settings back at once.
	ResetsAll
)

// Reported are the settings whose changes PostgreSQL reports to the client,
// lower case: SET of one of them is followed exactly. search_path joins them
// where the server reports it.
var reported = map[string]bool{
	"application_name": true, "client_encoding": true, "datestyle": true, "intervalstyle": true,
	"standard_conforming_strings": true, "timezone": true, "default_transaction_read_only": true,
}

// makesState are functions and words that make session state wherever they
// stand outside quotes.
var makesState = map[string]bool{
	"pg_advisory_lock": true, "pg_advisory_lock_shared": true,
	"pg_try_advisory_lock": true, "pg_try_advisory_lock_shared": true,
	"temp": true, "temporary": true, "pg_temp": true,
	"setseed": true, "dblink_connect": true, "dblink_connect_u": true,
	"pg_backup_start": true, "pg_start_backup": true,
	"pg_replication_origin_session_setup": true, "set_limit": true,
}

// Scan looks at a text of one or more statements. standardStrings is the
// session's standard_conforming_strings: without it a backslash escapes in
// every quoted string.
func Scan(sql []byte, standardStrings bool) Finding {
	s := scanner{sql: sql, standard: standardStrings}
	s.run()
	return s.found
}

type scanner struct {
	sql      []byte
	pos      int
	standard bool
	found    Finding

	verb    string // first word of the statement that matters
	words   int    // words of the statement so far
	setName bool   // SET: the next word names the setting
	prev    string // the word before
	inDo    bool   // the statement is DO: what it quotes is code
}

// run walks over the text once.
func (s *scanner) run() {
	for s.pos < len(s.sql) {
		c := s.sql[s.pos]
		switch {
		case isWordStart(c):
			s.word()
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			s.pos++
		case c == '\'':
			s.quoted(!s.standard)
		case c == '"':
			s.identifier()
		case c == '$':
			s.dollar()
		case c == '-' && s.next() == '-':
			if i := bytes.IndexByte(s.sql[s.pos:], '\n'); i >= 0 {
				s.pos += i
			} else {
				s.pos = len(s.sql)
			}
		case c == '/' && s.next() == '*':
			s.comment()
		case c == ';':
			s.pos++
			s.verb, s.words, s.setName, s.prev, s.inDo = "", 0, false, "", false
		default:
			s.pos++
		}
	}
}

func (s *scanner) next() byte {
	if s.pos+1 < len(s.sql) {
		return s.sql[s.pos+1]
	}
	return 0
}

func isWordStart(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80
}

func isWord(c byte) bool { return isWordStart(c) || c >= '0' && c <= '9' || c == '$' }

// maxWord is longer than every word that means something here.
const maxWord = 48

func (s *scanner) word() {
	start := s.pos
	for s.pos < len(s.sql) && isWord(s.sql[s.pos]) {
		s.pos++
	}
	w := s.sql[start:s.pos]
	if s.pos < len(s.sql) && s.sql[s.pos] == '\'' && len(w) <= 2 {
		// A prefix of a literal: E'', U&'' and so on.
		s.quoted(!s.standard || w[0]|0x20 == 'e')
		return
	}
	if len(w) > maxWord {
		s.meaning("")
		return
	}
	var low [maxWord]byte
	for i, c := range w {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		low[i] = c
	}
	s.lookup(low[:len(w)])
}

// lookup gives the words that mean something to meaning, without allocating
// for those that do not.
func (s *scanner) lookup(w []byte) {
	if s.words < 4 || s.setName || makesState[string(w)] {
		s.meaning(string(w))
		return
	}
	switch string(w) {
	case "set_config", "hold", "with", "default", "listen", "load", "prepare", "set":
		s.meaning(string(w))
	default:
		s.prev = ""
	}
}

// meaning judges one word in its place.
func (s *scanner) meaning(w string) {
	s.words++
	prev := s.prev
	s.prev = w
	if makesState[w] {
		s.found |= Untracked
	}
	switch {
	case w == "set_config":
		s.setConfig()
	case w == "hold" && prev == "with":
		s.found |= Untracked
	case w == "default" && s.verb == "set":
		s.found |= Resets
	case s.inDo && (w == "set" || w == "execute" || w == "listen" || w == "load"):
		s.found |= Untracked
	}
	if s.words == 1 {
		s.begin(w)
		return
	}
	if s.setName {
		s.setting(w, prev)
	}
}

// begin judges a statement's first word.
func (s *scanner) begin(w string) {
	s.verb = w
	switch w {
	case "set":
		s.setName = true
	case "reset":
		s.found |= Resets
		s.setName = true
	case "discard":
		s.found |= Resets | ResetsAll
	case "listen", "load":
		s.found |= Untracked
	case "prepare":
		s.setName = true
	case "do":
		s.inDo = true
	}
}

// setting judges the word after SET, RESET or PREPARE.
func (s *scanner) setting(w, prev string) {
	s.setName = false
	if s.verb == "prepare" {
		if w != "transaction" {
			s.found |= Untracked
		}
		return
	}
	switch w {
	case "session":
		if s.verb == "set" && prev == "set" {
			s.setName = true // SET SESSION name, or SESSION AUTHORIZATION, CHARACTERISTICS
			return
		}
		s.found |= Untracked
	case "local":
		// Ends with the transaction; so does whatever it names.
	case "transaction", "constraints", "time", "names", "zone":
		if prev == "session" && w == "transaction" {
			s.found |= Untracked
		}
	case "all":
		if s.verb == "reset" {
			s.found |= ResetsAll
		} else {
			s.found |= Untracked
		}
	default:
		if s.verb == "reset" {
			if w == "role" || w == "session" {
				s.found |= Untracked
			}
			return
		}
		if !reported[w] {
			s.found |= Untracked
		}
	}
}

// setConfig judges a call of set_config: with a literal true as its last
// argument it ends with the transaction.
func (s *scanner) setConfig() {
	rest := s.sql[s.pos:]
	open := bytes.IndexByte(rest, '(')
	if open < 0 {
		return // not a call
	}
	if gap := bytes.TrimSpace(rest[:open]); len(gap) > 0 {
		if bytes.HasPrefix(gap, []byte("/*")) || bytes.HasPrefix(gap, []byte("--")) {
			s.found |= Untracked // who would comment here hides something
		}
		return // not a call
	}
	depth, last := 0, open
	for i := open; i < len(rest); i++ {
		switch rest[i] {
		case '\'':
			end := bytes.IndexByte(rest[i+1:], '\'')
			if end < 0 {
				s.found |= Untracked
				return
			}
			i += end + 1
		case '(':
			depth++
		case ',':
			if depth == 1 {
				last = i
			}
		case ')':
			depth--
			if depth == 0 {
				arg := bytes.ToLower(bytes.TrimSpace(rest[last+1 : i]))
				if !bytes.Equal(arg, []byte("true")) {
					s.found |= Untracked
				}
				return
			}
		}
	}
	s.found |= Untracked
}

// quoted walks over a string literal.
func (s *scanner) quoted(escapes bool) {
	start := s.pos + 1
	s.pos = start
	for s.pos < len(s.sql) {
		switch c := s.sql[s.pos]; {
		case c == '\\' && escapes:
			s.pos++
		case c == '\'':
			if s.next() != '\'' {
				s.literal(s.sql[start:s.pos])
				s.pos++
				return
			}
			s.pos++
		}
		s.pos++
	}
	s.pos = len(s.sql)
	s.literal(s.sql[min(start, len(s.sql)):])
}

// literal judges what stands in quotes.
func (s *scanner) literal(text []byte) {
	s.prev = ""
	if len(text) >= 3 && len(text) <= 64 {
		low := bytes.ToLower(text)
		for _, w := range [...]string{"now", "today", "tomorrow", "yesterday"} {
			if bytes.Contains(low, []byte(w)) {
				s.found |= Moment
			}
		}
	}
	if s.verb == "set" && s.words < 2 || s.inDo {
		// SET names its setting in quotes, or this is code.
		s.code(text)
	}
}

// code judges quoted code: it may be any statement.
func (s *scanner) code(text []byte) {
	inner := scanner{sql: text, standard: s.standard, inDo: true, words: 1, verb: "do"}
	for inner.pos < len(text) {
		inner.run()
	}
	s.found |= inner.found
}

// identifier walks over a quoted identifier. One that names a setting or a
// schema for temporary objects counts like the word.
func (s *scanner) identifier() {
	start := s.pos + 1
	end := bytes.IndexByte(s.sql[start:], '"')
	if end < 0 {
		s.pos = len(s.sql)
		return
	}
	s.pos = start + end + 1
	name := s.sql[start : start+end]
	if len(name) <= maxWord {
		s.meaning(string(bytes.ToLower(name)))
	}
}

// dollar walks over a dollar-quoted string, or a parameter.
func (s *scanner) dollar() {
	end := s.pos + 1
	for end < len(s.sql) && isWord(s.sql[end]) && s.sql[end] != '$' {
		end++
	}
	if end >= len(s.sql) || s.sql[end] != '$' || end > s.pos+1 && s.sql[s.pos+1] >= '0' && s.sql[s.pos+1] <= '9' {
		s.pos++
		return
	}
	tag := s.sql[s.pos : end+1]
	body := s.sql[end+1:]
	n := bytes.Index(body, tag)
	if n < 0 {
		n = len(body)
		s.pos = len(s.sql)
	} else {
		s.pos = end + 1 + n + len(tag)
	}
	if s.inDo {
		s.code(body[:n])
	}
}

// comment walks over a comment, which may hold others.
func (s *scanner) comment() {
	depth := 0
	for s.pos < len(s.sql) {
		switch {
		case s.sql[s.pos] == '/' && s.next() == '*':
			depth++
			s.pos += 2
		case s.sql[s.pos] == '*' && s.next() == '/':
			depth--
			s.pos += 2
			if depth == 0 {
				return
			}
		default:
			s.pos++
		}
	}
}
