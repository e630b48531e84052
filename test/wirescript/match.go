package wirescript

import (
	"fmt"
	"strconv"
	"strings"
)

// pattern is one word of a read line: a message type, perhaps what it must
// say, and how often it comes.
type pattern struct {
	typ   byte
	text  string
	exact bool // text was given
	many  bool // X*: any number, also none
	count int  // X{n}
	skip  bool // ... in front: whatever comes before it is recorded only
}

func (p pattern) String() string {
	s := string(p.typ)
	if p.typ == typeClose || p.typ == typeByte {
		s = messageNames[p.typ]
	}
	if p.exact {
		s += "[" + p.text + "]"
	}
	if p.many {
		s += "*"
	}
	if p.count > 1 {
		s += "{" + strconv.Itoa(p.count) + "}"
	}
	if p.skip {
		s = "... " + s
	}
	return s
}

func (p pattern) matches(m Message) bool {
	return p.typ == m.Type && (!p.exact || p.text == m.Brief())
}

// parsePatterns reads the right side of a read line:
//
//	T D[1|x] D* C[SELECT 2] Z[I]     ... Z{3}     E[FATAL 08P01] close
func parsePatterns(s string) ([]pattern, error) {
	var out []pattern
	skip := false
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if rest, ok := strings.CutPrefix(s, "..."); ok {
			skip, s = true, rest
			continue
		}
		p := pattern{count: 1, skip: skip}
		skip = false
		switch {
		case strings.HasPrefix(s, "close"):
			p.typ, s = typeClose, s[len("close"):]
		case strings.HasPrefix(s, "byte"):
			p.typ, s = typeByte, s[len("byte"):]
		default:
			p.typ, s = s[0], s[1:]
			if p.typ == typeClose || p.typ == typeByte || messageNames[p.typ] == "" {
				return nil, fmt.Errorf("no backend message has type %q", p.typ)
			}
		}
		if strings.HasPrefix(s, "[") {
			text, rest, err := bracket(s)
			if err != nil {
				return nil, err
			}
			p.text, p.exact, s = expand(text), true, rest
		}
		if rest, ok := strings.CutPrefix(s, "*"); ok {
			p.many, s = true, rest
		}
		if rest, ok := strings.CutPrefix(s, "{"); ok {
			n, after, ok := strings.Cut(rest, "}")
			count, err := strconv.Atoi(n)
			if !ok || err != nil || count < 1 {
				return nil, fmt.Errorf("want {n} behind %c", p.typ)
			}
			p.count, s = count, after
		}
		if s != "" && s[0] != ' ' && s[0] != '\t' {
			return nil, fmt.Errorf("cannot read %q", s)
		}
		if p.many && p.skip {
			return nil, fmt.Errorf("... needs a message that must come, not %c*", p.typ)
		}
		out = append(out, p)
	}
	if skip {
		return nil, fmt.Errorf("... needs a message behind it")
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("nothing to read")
	}
	return out, nil
}

// bracket cuts "[text]" off s; text may be quoted to hold a ].
func bracket(s string) (text, rest string, err error) {
	if strings.HasPrefix(s, `["`) {
		q, err := strconv.QuotedPrefix(s[1:])
		if err != nil || !strings.HasPrefix(s[1+len(q):], "]") {
			return "", "", fmt.Errorf("bad quoting: %s", s)
		}
		text, err = strconv.Unquote(q)
		return text, s[1+len(q)+1:], err
	}
	text, rest, ok := strings.Cut(s[1:], "]")
	if !ok {
		return "", "", fmt.Errorf("[ without ]: %s", s)
	}
	return text, rest, nil
}

// PatternFor is the pattern that asserts m as far as its brief form goes.
// Authentication, ParameterStatus and BackendKeyData get their type only.
func PatternFor(m Message) string {
	switch m.Type {
	case typeClose, typeByte:
		if m.Type == typeByte {
			return "byte[" + m.Brief() + "]"
		}
		return "close"
	case 'R', 'K', 'G', 'H', 'W', 't':
		return string(m.Type)
	}
	brief := m.Brief()
	if brief == "" && m.Type != 'D' || len(brief) > 60 || strings.HasPrefix(brief, "<") {
		return string(m.Type)
	}
	if strings.ContainsAny(brief, "]\"\n") || strings.HasPrefix(brief, " ") {
		return string(m.Type) + "[" + strconv.Quote(brief) + "]"
	}
	return string(m.Type) + "[" + brief + "]"
}
