package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"pgpoold/test/postgres"
)

// skip is a test that did not run, and why.
type skip struct {
	pkg, test, reason string
	scope             string // of the run of tests it was skipped in
}

// tally counts; what ran twice counts twice, but for skips.
type tally struct {
	passed   int
	failures []string
	skips    []skip
	seen     map[skip]bool
}

func newTally() *tally { return &tally{seen: make(map[skip]bool)} }

func (t *tally) fail(name, why string) {
	if why != "" {
		name += ": " + why
	}
	t.failures = append(t.failures, name)
}

// left tells whether the test was left out because others have shorter runs.
func (s *skip) left() bool { return s.reason == postgres.FastMode && s.scope != "full" }

func (t *tally) skip(s skip) {
	once := s
	once.scope = ""
	if s.left() {
		// Kept apart: the same test runs, or is missed, where the scope is full.
		once.scope = "fast"
	}
	if !t.seen[once] {
		t.seen[once] = true
		t.skips = append(t.skips, s)
	}
}

// close prints a line per skip, the failures, and the counts alone on the
// last line. It tells whether the proof holds.
func (t *tally) close(out io.Writer, listed skipList, fast, ci bool) bool {
	fmt.Fprintln(out)
	counted, left := 0, 0
	slices.SortFunc(t.skips, func(a, b skip) int { return strings.Compare(a.pkg+" "+a.test, b.pkg+" "+b.test) })
	for _, s := range t.skips {
		if s.left() {
			left++
			continue
		}
		counted++
		fmt.Fprintf(out, "skip  %s %s: %s\n", s.pkg, s.test, s.reason)
		if ci && !listed.has(s) {
			t.fail(s.pkg+" "+s.test, "skipped, and test/skips.txt does not say why it may be")
		}
	}
	if fast && left > 0 {
		counted += left
		fmt.Fprintf(out, "skip  %d tests that run in make test alone\n", left)
	}
	for _, f := range t.failures {
		fmt.Fprintf(out, "FAIL  %s\n", f)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", t.passed, len(t.failures), counted)
	return len(t.failures) == 0
}

// skipList is what test/skips.txt allows: package and test.
type skipList map[[2]string]bool

// readSkips reads lines of the form "package TestName: reason". The package is
// written without the module's name; TestName may end in /* for all subtests.
func readSkips(path string) (skipList, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list := make(skipList)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		what, why, ok := strings.Cut(line, ": ")
		fields := strings.Fields(what)
		if !ok || len(fields) != 2 || strings.TrimSpace(why) == "" {
			return nil, fmt.Errorf("%s:%d: want `package TestName: reason`", path, n)
		}
		list[[2]string{fields[0], fields[1]}] = true
	}
	return list, lines.Err()
}

func (l skipList) has(s skip) bool {
	pkg := strings.TrimPrefix(s.pkg, "pgpoold/")
	if l[[2]string{pkg, s.test}] {
		return true
	}
	for at := len(s.test); at > 0; {
		at = strings.LastIndexByte(s.test[:at], '/')
		if at > 0 && l[[2]string{pkg, s.test[:at] + "/*"}] {
			return true
		}
	}
	return false
}
