package sqlscan

import (
	"bytes"
	"strings"
)

// CustomNamed is what a text says about custom settings, those with a dot in their
// name, which no catalog lists.
type CustomNamed struct {
	Settings []string // lower case, in order of appearance
	Params   bool     // a name is a parameter of the statement
	Unknown  bool     // a name is neither written out nor a parameter
}

// maxNames bounds the names that are taken from one text.
const maxNames = 100

// maxDepth bounds how deep quoted code is looked at.
const maxDepth = 6

// CustomNames lists the custom settings that a text sets. It is asked only about
// texts in which Scan has found Customs.
func CustomNames(sql []byte, standardStrings bool) CustomNamed {
	var n CustomNamed
	n.look(sql, standardStrings, false, 0)
	return n
}

// CodeCustomNames is CustomNames for the body of a function.
func CodeCustomNames(body []byte, standardStrings bool) CustomNamed {
	var n CustomNamed
	n.look(body, standardStrings, true, 0)
	return n
}

// Custom reports whether a name is one that a custom setting can have.
func Custom(name []byte) bool {
	dot, start := false, true
	for _, c := range name {
		switch cl := classes[c]; {
		case c == '.':
			if start {
				return false
			}
			dot, start = true, true
		case start && cl&wordStart == 0, cl&wordPart == 0 && cl&wordStart == 0:
			return false
		default:
			start = false
		}
	}
	return dot && !start && len(name) <= 200
}

func (n *CustomNamed) add(name string) {
	if !Custom([]byte(name)) {
		return
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			n.Unknown = true // how PostgreSQL folds it is its own affair
			return
		}
	}
	name = strings.ToLower(name)
	for _, s := range n.Settings {
		if s == name {
			return
		}
	}
	if len(n.Settings) == maxNames {
		n.Unknown = true
		return
	}
	n.Settings = append(n.Settings, name)
}

// look walks over a text; code is the body of a function or DO, where what is
// quoted may be run, too.
func (n *CustomNamed) look(sql []byte, standard, code bool, depth int) {
	if depth > maxDepth {
		n.Unknown = true
		return
	}
	ps := parts{rest: sql, standard: standard}
	first, do := true, false
	for {
		t := ps.next()
		switch {
		case t.kind == partEnd:
			return
		case t.kind == partOther && t.text == ";":
			first, do = true, false
			continue
		case t.kind == partLiteral && (code || do):
			if t.escaped && strings.Contains(strings.ToLower(t.text), "set") {
				n.Unknown = true
			}
			n.look([]byte(t.text), standard, true, depth+1)
		case t.kind == partWord && t.text == "set" && (first || code):
			n.set(&ps, depth > 0)
		case (t.kind == partWord || t.kind == partName) && t.text == "set_config":
			n.setConfig(&ps)
		case t.kind == partWord && t.text == "execute" && first && !code:
			n.arguments(&ps)
		}
		if first {
			do = t.kind == partWord && t.text == "do"
		}
		first = false
	}
}

// set reads what follows SET.
func (n *CustomNamed) set(ps *parts, quoted bool) {
	t := ps.peek()
	if t.kind == partWord && (t.text == "local" || t.text == "session") {
		save := *ps
		ps.next()
		if p := ps.peek(); p.kind == partOther && p.text == "." {
			*ps = save // a setting whose name begins like that
		}
		t = ps.peek()
	}
	if t.kind != partWord && t.kind != partName {
		if quoted && (t.kind == partEnd || t.text == "%") {
			n.Unknown = true // the name is put together
		}
		return
	}
	ps.next()
	name := t.text
	for {
		p := ps.peek()
		if p.kind != partOther || p.text != "." {
			break
		}
		ps.next()
		t := ps.peek()
		if t.kind != partWord && t.kind != partName {
			n.Unknown = true
			return
		}
		ps.next()
		name += "." + t.text
	}
	n.add(name)
}

// setConfig reads the first argument of set_config.
func (n *CustomNamed) setConfig(ps *parts) {
	t := ps.peek()
	if t.kind != partOther || t.text != "(" {
		return
	}
	ps.next()
	t = ps.next()
	if t.kind == partWord && t.text == "setting_name" {
		for p := ps.peek(); p.kind == partOther && (p.text == "=" || p.text == ">" || p.text == ":"); p = ps.peek() {
			ps.next()
		}
		t = ps.next()
	}
	after := ps.peek()
	for after.kind == partOther && after.text == ":" {
		ps.next() // a cast
		if after = ps.peek(); after.kind == partWord {
			ps.next()
			after = ps.peek()
		}
	}
	switch {
	case after.kind != partOther || after.text != ",":
		n.Unknown = true
	case t.kind == partLiteral && !t.escaped:
		n.add(t.text)
	case t.kind == partParam:
		n.Params = true
	default:
		n.Unknown = true
	}
}

// arguments takes the names from what EXECUTE passes to a statement.
func (n *CustomNamed) arguments(ps *parts) {
	for {
		save := *ps
		t := ps.next()
		if t.kind == partEnd || t.kind == partOther && t.text == ";" {
			*ps = save
			return
		}
		if t.kind == partLiteral {
			n.add(t.text)
		}
	}
}

type partKind uint8

const (
	partEnd partKind = iota
	partWord
	partName // quoted
	partLiteral
	partParam
	partOther // one byte
)

type part struct {
	kind    partKind
	text    string // words in lower case, literals without their quotes
	escaped bool   // a literal in which a backslash stands for something
}

// parts takes a whole text apart.
type parts struct {
	rest     []byte
	standard bool
}

func (ps *parts) peek() part {
	save := *ps
	t := ps.next()
	*ps = save
	return t
}

func (ps *parts) next() part {
	ps.blank()
	b := ps.rest
	if len(b) == 0 {
		return part{}
	}
	c := b[0]
	switch {
	case c == '\'':
		ps.rest = b[1:]
		return ps.literal(!ps.standard)
	case c == '"':
		ps.rest = b[1:]
		text, _ := ps.quoted('"', false)
		return part{kind: partName, text: text}
	case c == '$' && len(b) > 1 && b[1] >= '0' && b[1] <= '9':
		i := 1
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		ps.rest = b[i:]
		return part{kind: partParam, text: string(b[:i])}
	case c == '$':
		if t, ok := ps.dollar(); ok {
			return t
		}
	case classes[c]&wordStart != 0:
		i := 1
		for i < len(b) && classes[b[i]]&wordPart != 0 {
			i++
		}
		ps.rest = b[i:]
		if i == 1 && len(b) > 1 && b[1] == '\'' {
			switch c | 0x20 {
			case 'e':
				ps.rest = b[2:]
				return ps.literal(true)
			case 'b', 'x', 'n':
				ps.rest = b[2:]
				return ps.literal(!ps.standard)
			}
		}
		return part{kind: partWord, text: string(bytes.ToLower(b[:i]))}
	}
	ps.rest = b[1:]
	return part{kind: partOther, text: string(b[:1])}
}

func (ps *parts) literal(escapes bool) part {
	text, escaped := ps.quoted('\'', escapes)
	return part{kind: partLiteral, text: text, escaped: escaped}
}

// blank moves past white space and comments.
func (ps *parts) blank() {
	for len(ps.rest) > 0 {
		b := ps.rest
		switch {
		case classes[b[0]]&blank != 0:
			ps.rest = b[1:]
		case bytes.HasPrefix(b, []byte("--")):
			i := bytes.IndexAny(b, "\r\n")
			if i < 0 {
				i = len(b)
			}
			ps.rest = b[i:]
		case bytes.HasPrefix(b, []byte("/*")):
			depth, i := 0, 0
			for i < len(b) {
				if bytes.HasPrefix(b[i:], []byte("/*")) {
					depth++
					i += 2
				} else if bytes.HasPrefix(b[i:], []byte("*/")) {
					depth--
					i += 2
					if depth == 0 {
						break
					}
				} else {
					i++
				}
			}
			ps.rest = b[i:]
		default:
			return
		}
	}
}

// quoted takes what is quoted, behind its first quote.
func (ps *parts) quoted(q byte, escapes bool) (text string, escaped bool) {
	var out []byte
	b := ps.rest
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == q && i+1 < len(b) && b[i+1] == q:
			out = append(out, q)
			i++
		case b[i] == q:
			ps.rest = b[i+1:]
			return string(out), escaped
		case b[i] == '\\' && escapes:
			escaped = true
			if i++; i < len(b) {
				out = append(out, b[i])
			}
		default:
			out = append(out, b[i])
		}
	}
	ps.rest = nil
	return string(out), escaped
}

// dollar takes a dollar-quoted string.
func (ps *parts) dollar() (part, bool) {
	b := ps.rest
	i := 1
	for i < len(b) && b[i] != '$' {
		if cl := classes[b[i]]; cl&wordStart == 0 && (i == 1 || cl&wordPart == 0) {
			return part{}, false
		}
		i++
	}
	if i >= len(b) {
		return part{}, false
	}
	tag := b[:i+1]
	body := b[i+1:]
	end := bytes.Index(body, tag)
	if end < 0 {
		ps.rest = nil
		return part{kind: partLiteral, text: string(body)}, true
	}
	ps.rest = body[end+len(tag):]
	return part{kind: partLiteral, text: string(body[:end])}, true
}
