package wirescript

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Target is where a script is run.
type Target struct {
	Name     string // for messages: "direct", "pgpoold"
	Network  string // tcp or unix
	Addr     string
	User     string
	Database string
}

// Only says which targets a script is meant for.
type Only uint8

// A script without an only line is compared between both targets.
const (
	OnlyBoth Only = iota
	OnlyDirect
	OnlyPooler
)

// Script is one parsed file. It is read-only after Parse and may be run many
// times, also at the same time where its setup permits.
type Script struct {
	Name    string // path without .wire
	About   string // the first comment
	Only    Only
	Differs string   // why the pooler's answer is another than PostgreSQL's; "" where it must not be
	Setup   []string // run by the runner's own connection before each run
	Cleanup []string // and after it
	steps   []step
}

// Messages is the number of frontend messages the script sends by itself,
// without the logins that the runner adds.
func (s *Script) Messages() int {
	n := 0
	for _, st := range s.steps {
		if st.kind == stepSend {
			n++
		}
	}
	return n
}

// Bytes is the number of bytes the script sends, without logins.
func (s *Script) Bytes() int {
	n := 0
	for _, st := range s.steps {
		if st.kind == stepSend {
			n += len(st.msg.encode(vars{}))
		}
	}
	return n
}

// Longest is the length of the longest message the script sends, logins not
// counted.
func (s *Script) Longest() int {
	n := 0
	for _, st := range s.steps {
		if st.kind == stepSend {
			n = max(n, len(st.msg.encode(vars{})))
		}
	}
	return n
}

type stepKind uint8

const (
	stepOpen   stepKind = iota // connect and log in
	stepRaw                    // connect only
	stepSend                   // queue a frontend message
	stepPush                   // write what is queued
	stepRead                   // write what is queued, then read and match
	stepSettle                 // write what is queued, then read all that is owed
	stepAwait                  // poll a condition with the runner's own connection
	stepCancel                 // CancelRequest with the key of another connection
)

type step struct {
	line   int
	kind   stepKind
	conn   string
	params []string // open: name=value
	msg    frontend
	want   []pattern
	sql    string // await
}

// Load parses every *.wire file below dir, in the order of their paths.
func Load(fsys fs.FS, dir string) ([]*Script, error) {
	var scripts []*Script
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(p) != ".wire" {
			return err
		}
		text, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(p, dir+"/"), ".wire")
		s, err := Parse(name, string(text))
		if err != nil {
			return err
		}
		scripts = append(scripts, s)
		return nil
	})
	return scripts, err
}

// Parse reads one script. The error names file and line.
func Parse(name, text string) (*Script, error) {
	s := &Script{Name: name}
	lines, err := expandRepeats(name, splitLines(text))
	if err != nil {
		return nil, err
	}
	opened := map[string]bool{}
	for _, l := range lines {
		if err := s.parseLine(l, opened); err != nil {
			return nil, fmt.Errorf("%s.wire:%d: %w", name, l.no, err)
		}
	}
	if s.About == "" {
		return nil, fmt.Errorf("%s.wire: the first line must be a comment that says what this is about", name)
	}
	return s, nil
}

func (s *Script) parseLine(l line, opened map[string]bool) error {
	if rest, ok := strings.CutPrefix(l.text, "#"); ok {
		if s.About == "" {
			s.About = strings.TrimSpace(rest)
		}
		return nil
	}
	word, rest, _ := strings.Cut(l.text, " ")
	rest = strings.TrimSpace(rest)
	if len(word) > 1 && (strings.HasSuffix(word, ">") || strings.HasSuffix(word, "<")) {
		conn := word[:len(word)-1]
		if !opened[conn] {
			s.steps = append(s.steps, step{line: l.no, kind: stepOpen, conn: conn})
			opened[conn] = true
		}
		if strings.HasSuffix(word, "<") {
			want, err := parsePatterns(rest)
			s.steps = append(s.steps, step{line: l.no, kind: stepRead, conn: conn, want: want})
			return err
		}
		msg, err := parseFrontend(rest)
		s.steps = append(s.steps, step{line: l.no, kind: stepSend, conn: conn, msg: msg})
		return err
	}
	switch word {
	case "setup":
		s.Setup = append(s.Setup, rest)
	case "cleanup":
		s.Cleanup = append(s.Cleanup, rest)
	case "only":
		switch rest {
		case "direct":
			s.Only = OnlyDirect
		case "pooler":
			s.Only = OnlyPooler
		default:
			return fmt.Errorf("only %q: want direct or pooler", rest)
		}
	case "differs":
		if rest == "" {
			return fmt.Errorf("differs needs a reason")
		}
		s.Differs = rest
	case "open", "raw":
		words, err := splitWords(rest)
		if err != nil {
			return err
		}
		if len(words) == 0 {
			return fmt.Errorf("%s needs a connection's name", word)
		}
		st := step{line: l.no, kind: stepOpen, conn: words[0].text}
		if word == "raw" {
			st.kind = stepRaw
		}
		for _, w := range words[1:] {
			st.params = append(st.params, w.text)
		}
		if opened[st.conn] {
			return fmt.Errorf("connection %s is open already", st.conn)
		}
		opened[st.conn] = true
		s.steps = append(s.steps, st)
	case "push":
		s.steps = append(s.steps, step{line: l.no, kind: stepPush})
	case "settle":
		if !opened[rest] {
			return fmt.Errorf("settle: no connection %q", rest)
		}
		s.steps = append(s.steps, step{line: l.no, kind: stepSettle, conn: rest})
	case "await":
		s.steps = append(s.steps, step{line: l.no, kind: stepAwait, sql: rest})
	case "cancel":
		if !opened[rest] {
			return fmt.Errorf("cancel: no connection %q", rest)
		}
		s.steps = append(s.steps, step{line: l.no, kind: stepCancel, conn: rest})
	default:
		return fmt.Errorf("unknown word %q", word)
	}
	return nil
}

// line is one line that has something on it.
type line struct {
	no   int
	text string
}

func splitLines(text string) []line {
	var out []line
	for i, t := range strings.Split(text, "\n") {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, line{i + 1, t})
		}
	}
	return out
}

// expandRepeats unrolls "repeat N" ... "end"; ${i} counts from 1 within it.
// Repeats do not nest.
func expandRepeats(name string, in []line) ([]line, error) {
	var out, body []line
	n, start := 0, 0
	for _, l := range in {
		switch {
		case strings.HasPrefix(l.text, "repeat "):
			if start != 0 {
				return nil, fmt.Errorf("%s.wire:%d: repeat inside repeat", name, l.no)
			}
			if _, err := fmt.Sscanf(l.text, "repeat %d", &n); err != nil || n < 1 {
				return nil, fmt.Errorf("%s.wire:%d: want repeat N", name, l.no)
			}
			start, body = l.no, nil
		case l.text == "end" && start != 0:
			for i := 1; i <= n; i++ {
				for _, b := range body {
					out = append(out, line{b.no, strings.ReplaceAll(b.text, "${i}", fmt.Sprint(i))})
				}
			}
			start = 0
		case start != 0:
			body = append(body, l)
		default:
			out = append(out, l)
		}
	}
	if start != 0 {
		return nil, fmt.Errorf("%s.wire:%d: repeat without end", name, start)
	}
	return out, nil
}
