package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one file: what it breaks, the test that must see it, and edits.
//
//	# What is wrong with it, in a sentence or two.
//	test ./test/pooling TestLeaving
//
// or "test full ..." for one that only the whole proof runs, then
//
//	file proxy/leave.go
//	<<<<
//	the text as it is, which stands there once
//	====
//	the text as it would be wrong
//	>>>>
type mutant struct {
	name  string // of the file, without .mutant
	about string
	test  target
	edits []edit
}

// target is a test, or a subtest.
type target struct {
	pkg, name string
	full      bool // only the whole proof runs it
}

// edit replaces one piece of one file.
type edit struct{ file, old, new string }

// load reads every mutant of a folder, ordered by name.
func load(dir string) ([]*mutant, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.mutant"))
	if err != nil {
		return nil, err
	}
	var all []*mutant
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		m, err := parse(strings.TrimSuffix(filepath.Base(f), ".mutant"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no mutants in %s", dir)
	}
	return all, nil
}

func parse(name, text string) (*mutant, error) {
	m := &mutant{name: name}
	var about []string
	file := ""
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.TrimSpace(line) == "":
		case word == "#":
			about = append(about, rest)
		case word == "test":
			f := strings.Fields(rest)
			if len(f) == 3 && f[0] == "full" {
				m.test.full, f = true, f[1:]
			}
			if len(f) != 2 {
				return nil, fmt.Errorf("line %d: want a package and a test", i+1)
			}
			m.test.pkg, m.test.name = f[0], f[1]
		case word == "file":
			file = rest
		case line == "<<<<":
			e := edit{file: file}
			var n int
			if e.old, n = piece(lines[i+1:], "===="); n < 0 {
				return nil, fmt.Errorf("line %d: no ====", i+1)
			}
			i += n
			if e.new, n = piece(lines[i+1:], ">>>>"); n < 0 {
				return nil, fmt.Errorf("line %d: no >>>>", i+1)
			}
			i += n
			m.edits = append(m.edits, e)
		default:
			return nil, fmt.Errorf("line %d: cannot read %q", i+1, line)
		}
	}
	m.about = strings.Join(about, " ")
	if m.about == "" || m.test.name == "" || len(m.edits) == 0 {
		return nil, fmt.Errorf("want a comment, a test and an edit")
	}
	return m, nil
}

// piece is the text up to a mark, and how many lines that takes with it; -1 if
// the mark is missing.
func piece(lines []string, mark string) (text string, n int) {
	i := slices.Index(lines, mark)
	if i < 0 {
		return "", -1
	}
	for _, line := range lines[:i] {
		text += line + "\n"
	}
	return text, i + 1
}

// apply makes the edits in the files below root and returns what they were.
func (m *mutant) apply(root string, write func(file string, text []byte) error) (before map[string][]byte, err error) {
	before = map[string][]byte{}
	now := map[string]string{}
	for _, e := range m.edits {
		if _, ok := now[e.file]; !ok {
			text, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			before[e.file], now[e.file] = text, string(text)
		}
		if n := strings.Count(now[e.file], e.old); n != 1 {
			return nil, fmt.Errorf("%s has this %d times, want it once:\n%s", e.file, n, e.old)
		}
		now[e.file] = strings.Replace(now[e.file], e.old, e.new, 1)
	}
	for file, text := range now {
		if err := write(file, []byte(text)); err != nil {
			return nil, err
		}
	}
	return before, nil
}

// pattern is what go test -run wants for the target.
func (t target) pattern() string {
	parts := strings.Split(t.name, "/")
	for i := range parts {
		parts[i] = "^" + regexp.QuoteMeta(parts[i]) + "$"
	}
	return strings.Join(parts, "/")
}

func (m *mutant) among(chosen []string) bool {
	return len(chosen) == 0 || slices.ContainsFunc(chosen, func(c string) bool { return strings.Contains(m.name, c) })
}
