package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// least is how many mutants there must be.
const least = 30

// TestMutantsApply: each still applies, compiles, and names a test that there is.
// Whether the test sees it is for make test-mutants to say.
func TestMutantsApply(t *testing.T) {
	const root = "../.."
	all, err := load(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < least {
		t.Errorf("there are %d mutants, want %d", len(all), least)
	}
	c := newChecker(t, root)
	for _, m := range all {
		changed := map[string][]byte{}
		_, err := m.apply(root, func(file string, text []byte) error {
			changed[filepath.Clean(file)] = text
			return nil
		})
		if err == nil {
			err = c.check(changed)
		}
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if !exists(t, filepath.Join(root, m.test.pkg), m.test.name) {
			t.Errorf("%s: there is no %s in %s", m.name, m.test.name, m.test.pkg)
		}
	}
}

// exists looks for a test in the files of a package, and for the script of a
// subtest that runs one.
func exists(t *testing.T, dir, name string) bool {
	t.Helper()
	top, script, _ := strings.Cut(name, "/")
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found = found || regexp.MustCompile(`(?m)^func `+top+`\(`).Match(text)
	}
	if top == "TestThrough" && script != "" {
		_, err := os.Stat(filepath.Join("..", "scripts", script+".wire"))
		found = found && err == nil
	}
	return found
}

func TestParse(t *testing.T) {
	m, err := parse("x", "# One\n# two.\n\ntest ./wire TestA/b\nfile a.go\n<<<<\n\told\n====\n>>>>\n<<<<\nx\n====\ny\nz\n>>>>\n")
	if err != nil {
		t.Fatal(err)
	}
	if m.about != "One two." || m.test != (target{pkg: "./wire", name: "TestA/b"}) || len(m.edits) != 2 ||
		m.edits[0] != (edit{"a.go", "\told\n", ""}) || m.edits[1] != (edit{"a.go", "x\n", "y\nz\n"}) {
		t.Errorf("%+v", m)
	}
	if p := m.test.pattern(); p != "^TestA$/^b$" {
		t.Error(p)
	}
	for _, text := range []string{"", "# a\ntest ./wire\n", "# a\ntest some ./wire TestA\n", "# a\ntest ./wire TestA\n", "# a\ntest ./wire TestA\nfile a\n<<<<\nx\n", "what\n"} {
		if _, err := parse("x", text); err == nil {
			t.Errorf("%q is no mutant", text)
		}
	}
}
