package sqlscan

import (
	"bytes"
	"strconv"
)

// CommandKind says what a command does to a prepared statement.
type CommandKind uint8

// The kinds.
const (
	Prepare       CommandKind = iota // PREPARE name AS ...
	Execute                          // EXECUTE name, also below EXPLAIN and CREATE TABLE AS
	Deallocate                       // DEALLOCATE name
	DeallocateAll                    // DEALLOCATE ALL
)

// Command is one that names a prepared statement.
type Command struct {
	Kind CommandKind
	Name string // as PostgreSQL folds it, not cut to NAMEDATALEN
	// Text[From:To] is the whole statement.
	From, To int
}

// Commands finds the commands of a text that name prepared statements, in
// their order. Where it errs it finds one too many: a word EXECUTE in a place
// where PostgreSQL would not take it for the command. ok is false if a name is
// written in a way that is not read here (U&"..." with other characters than those of ASCII, or in places where that is rare).
func Commands(sql []byte, standardStrings bool) (all []Command, ok bool) {
	t := tokens{sql: sql, standard: standardStrings}
	for {
		var s statementTokens
		end := s.read(&t)
		cmds, known := s.commands(sql)
		if !known {
			return nil, false
		}
		for i := range cmds {
			cmds[i].To = end
		}
		all = append(all, cmds...)
		if t.pos >= len(sql) {
			return all, true
		}
	}
}

// Deallocates reads a text that is one DEALLOCATE and nothing else, written
// plainly: no comments, and a name that needs no cutting. ok is false for any
// other.
func Deallocates(sql []byte) (c Command, ok bool) {
	t := tokens{sql: sql, standard: true}
	if bytes.Contains(sql, []byte("/*")) || bytes.Contains(sql, []byte("--")) {
		return c, false
	}
	verb, name, end := t.next(), t.next(), t.next()
	if !is(sql, verb, "deallocate") {
		return c, false
	}
	if is(sql, name, "prepare") && end.kind != lexEnd && end.kind != lexSemicolon {
		name, end = end, t.next()
	}
	for end.kind == lexSemicolon {
		end = t.next()
	}
	if end.kind != lexEnd {
		return c, false
	}
	if is(sql, name, "all") {
		return Command{Kind: DeallocateAll, To: len(sql)}, true
	}
	text, ok := identifier(sql, name)
	if name.kind == lexWord && noName[text] {
		return c, false
	}
	for _, b := range []byte(text) {
		ok = ok && b < 0x80
	}
	return Command{Kind: Deallocate, Name: text, To: len(sql)}, ok && text != "" && len(text) < 64
}

// Verb is the word that a text begins with, in lower case, behind comments.
func Verb(sql []byte) string {
	t := tokens{sql: sql, standard: true}
	if l := t.next(); l.kind == lexWord && l.to-l.from < 16 {
		word, _ := identifier(sql, l)
		return word
	}
	return ""
}

// EndsTransaction reports whether a text begins like a command that may end a
// transaction, or go back in it. It takes no memory.
func EndsTransaction(sql []byte) bool {
	t := tokens{sql: sql, standard: true}
	l := t.next()
	for _, verb := range [...]string{"commit", "end", "rollback", "abort", "prepare"} {
		if is(sql, l, verb) {
			return true
		}
	}
	return false
}

// noName are the words that PostgreSQL does not take for a name without quotes:
// the reserved ones, and those of types and functions.
var noName = func() map[string]bool {
	words := map[string]bool{}
	for _, w := range bytes.Fields([]byte(`all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate
		collation column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
		current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze from full
		grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit localtime
		localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references returning right
		select session_user similar some symmetric system_user table tablesample then to trailing true union unique user using
		variadic verbose when where window with`)) {
		words[string(w)] = true
	}
	return words
}()

// lexeme is one token of a statement.
type lexeme struct {
	kind     lexemeKind
	from, to int
}

type lexemeKind uint8

const (
	lexEnd    lexemeKind = iota
	lexWord              // unquoted
	lexQuoted            // "identifier"
	lexString            // any literal
	lexHidden            // U&"identifier"
	lexSemicolon
	lexOther
)

// tokens cuts a text into lexemes, as PostgreSQL's scan.l does.
type tokens struct {
	sql      []byte
	pos      int
	standard bool
}

func (t *tokens) next() lexeme {
	sql := t.sql
	for t.pos < len(sql) {
		from, c := t.pos, sql[t.pos]
		at := func(i int) byte {
			if from+i < len(sql) {
				return sql[from+i]
			}
			return 0
		}
		switch {
		case classes[c]&blank != 0:
			t.pos++
		case c == '-' && at(1) == '-':
			if n := bytes.IndexAny(sql[from:], "\r\n"); n >= 0 {
				t.pos += n
			} else {
				t.pos = len(sql)
			}
		case c == '/' && at(1) == '*':
			t.comment()
		case c == ';':
			t.pos++
			return lexeme{lexSemicolon, from, t.pos}
		case c == '\'':
			t.quote(1, '\'', !t.standard)
			return lexeme{lexString, from, t.pos}
		case c == '"':
			t.quote(1, '"', false)
			return lexeme{lexQuoted, from, t.pos}
		case c == '$':
			if t.dollar() {
				return lexeme{lexString, from, t.pos}
			}
			t.pos++
			return lexeme{lexOther, from, t.pos}
		case classes[c]&wordStart != 0:
			return t.word()
		default:
			t.pos++
			return lexeme{lexOther, from, t.pos}
		}
	}
	return lexeme{lexEnd, len(sql), len(sql)}
}

// word takes a word, or a literal with a prefix.
func (t *tokens) word() lexeme {
	from := t.pos
	for t.pos < len(t.sql) && classes[t.sql[t.pos]]&wordPart != 0 {
		t.pos++
	}
	rest := t.sql[t.pos:]
	if t.pos == from+1 && len(rest) > 0 {
		switch c := t.sql[from] | 0x20; {
		case rest[0] == '\'' && (c == 'e' || c == 'b' || c == 'x' || c == 'n'):
			t.quote(1, '\'', c == 'e' || !t.standard)
			return lexeme{lexString, from, t.pos}
		case c == 'u' && len(rest) > 1 && rest[0] == '&' && rest[1] == '\'':
			t.quote(2, '\'', !t.standard)
			return lexeme{lexString, from, t.pos}
		case c == 'u' && len(rest) > 1 && rest[0] == '&' && rest[1] == '"':
			t.quote(2, '"', false)
			return lexeme{lexHidden, from, t.pos}
		}
	}
	return lexeme{lexWord, from, t.pos}
}

// quote moves behind what began skip bytes before and ends with q; a doubled
// q is content.
func (t *tokens) quote(skip int, q byte, escapes bool) {
	for t.pos += skip; t.pos < len(t.sql); t.pos++ {
		switch c := t.sql[t.pos]; {
		case c == '\\' && escapes:
			t.pos++
		case c == q:
			if t.pos+1 >= len(t.sql) || t.sql[t.pos+1] != q {
				t.pos++
				return
			}
			t.pos++
		}
	}
	t.pos = len(t.sql)
}

// dollar moves behind a dollar-quoted string, if one begins here.
func (t *tokens) dollar() bool {
	i := t.pos + 1
	for i < len(t.sql) && (classes[t.sql[i]]&wordPart != 0 && t.sql[i] != '$') {
		if i == t.pos+1 && classes[t.sql[i]]&wordStart == 0 {
			return false // a parameter
		}
		i++
	}
	if i >= len(t.sql) || t.sql[i] != '$' {
		return false
	}
	tag := t.sql[t.pos : i+1]
	if end := bytes.Index(t.sql[i+1:], tag); end >= 0 {
		t.pos = i + 1 + end + len(tag)
	} else {
		t.pos = len(t.sql)
	}
	return true
}

// comment moves behind a comment, which may hold others.
func (t *tokens) comment() {
	depth := 0
	for t.pos < len(t.sql) {
		rest := t.sql[t.pos:]
		switch {
		case bytes.HasPrefix(rest, []byte("/*")):
			depth++
			t.pos += 2
		case bytes.HasPrefix(rest, []byte("*/")):
			depth--
			t.pos += 2
			if depth == 0 {
				return
			}
		default:
			t.pos++
		}
	}
}

// statementTokens is what one statement shows of commands: its first five
// tokens, and each name behind a word EXECUTE that may be the command.
type statementTokens struct {
	first    [5]lexeme
	n        int
	executed []lexeme
}

// read takes the tokens up to the next semicolon and returns where the
// statement ends.
func (s *statementTokens) read(t *tokens) (end int) {
	var prev, prev2 lexeme
	for {
		l := t.next()
		if l.kind == lexEnd || l.kind == lexSemicolon {
			return l.from
		}
		if s.n < len(s.first) {
			s.first[s.n] = l
		}
		s.n++
		if s.n > 2 && prev.kind == lexWord && is(t.sql, prev, "execute") && mayExecute(t.sql, prev2) {
			s.executed = append(s.executed, l)
		}
		prev, prev2 = l, prev
	}
}

// mayExecute reports whether EXECUTE may stand behind a token: in EXPLAIN
// [ANALYZE] [VERBOSE] [(...)] EXECUTE and in CREATE TABLE ... AS EXECUTE.
func mayExecute(sql []byte, before lexeme) bool {
	switch before.kind {
	case lexWord:
		return is(sql, before, "as") || is(sql, before, "explain") || is(sql, before, "analyze") || is(sql, before, "analyse") || is(sql, before, "verbose")
	case lexOther:
		return sql[before.from] == ')'
	}
	return false
}

func is(sql []byte, l lexeme, word string) bool {
	return l.kind == lexWord && l.to-l.from == len(word) && bytes.EqualFold(sql[l.from:l.to], []byte(word))
}

// commands finds what the statement is. ok is as in Commands.
func (s *statementTokens) commands(sql []byte) (cmds []Command, ok bool) {
	at := func(i int) lexeme {
		if i < s.n {
			return s.first[i]
		}
		return lexeme{}
	}
	from := at(0).from
	add := func(kind CommandKind, l lexeme, place int) bool {
		if l.kind == lexHidden {
			name, read := "", false
			if place > 0 && place+2 < len(s.first) {
				name, read = unhidden(sql, l, at(place+1), at(place+2))
			}
			cmds = append(cmds, Command{Kind: kind, Name: name, From: from})
			return read
		}
		if name, named := identifier(sql, l); named {
			cmds = append(cmds, Command{Kind: kind, Name: name, From: from})
		}
		return true
	}
	ok = true
	switch verb, name := at(0), at(1); {
	case is(sql, verb, "prepare"):
		if !is(sql, name, "transaction") || at(2).kind != lexString {
			ok = add(Prepare, name, 1)
		}
	case is(sql, verb, "execute"):
		ok = add(Execute, name, 1)
	case is(sql, verb, "deallocate"):
		place := 1
		if is(sql, name, "prepare") && at(2).kind != lexEnd {
			name, place = at(2), 2
		}
		if is(sql, name, "all") {
			cmds = append(cmds, Command{Kind: DeallocateAll, From: from})
			break
		}
		ok = add(Deallocate, name, place)
	default:
		for _, l := range s.executed {
			ok = add(Execute, l, 0) && ok
		}
	}
	return cmds, ok
}

// identifier reads a name as PostgreSQL does: without quotes it has lower
// case.
func identifier(sql []byte, l lexeme) (name string, ok bool) {
	text := sql[l.from:l.to]
	switch l.kind {
	case lexWord:
		folded := make([]byte, len(text))
		for i, c := range text {
			folded[i] = c
			if c >= 'A' && c <= 'Z' {
				folded[i] = c | 0x20
			}
		}
		return string(folded), true
	case lexQuoted:
		if len(text) < 2 || text[len(text)-1] != '"' {
			return "", false
		}
		return string(bytes.ReplaceAll(text[1:len(text)-1], []byte(`""`), []byte(`"`))), true
	}
	return "", false
}

// unhidden reads U&"...", with UESCAPE 'x' if the tokens behind it say so; ok is
// false for what PostgreSQL would refuse, and for characters that are not ASCII's.
func unhidden(sql []byte, l, word, literal lexeme) (name string, ok bool) {
	escape := byte('\\')
	if is(sql, word, "uescape") {
		if literal.kind != lexString || literal.to-literal.from != 3 {
			return "", false
		}
		escape = sql[literal.from+1]
	}
	text := sql[l.from:l.to]
	if len(text) < 4 || text[len(text)-1] != '"' || classes[escape]&blank != 0 || bytes.IndexByte([]byte("+'\"0123456789abcdefABCDEF"), escape) >= 0 {
		return "", false
	}
	text = bytes.ReplaceAll(text[3:len(text)-1], []byte(`""`), []byte(`"`))
	var b []byte
	for len(text) > 0 {
		c := text[0]
		if text = text[1:]; c != escape {
			b = append(b, c)
			continue
		}
		if len(text) > 0 && text[0] == escape {
			b, text = append(b, escape), text[1:]
			continue
		}
		digits := 4
		if len(text) > 0 && text[0] == '+' {
			digits, text = 6, text[1:]
		}
		if len(text) < digits {
			return "", false
		}
		point, err := strconv.ParseUint(string(text[:digits]), 16, 32)
		if err != nil || point == 0 || point >= 0x80 {
			return "", false
		}
		b, text = append(b, byte(point)), text[digits:]
	}
	return string(b), len(b) > 0
}
