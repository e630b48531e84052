package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgpoold/test/postgres"
)

// TestPackages: what is run is what there is.
func TestPackages(t *testing.T) {
	const root = "../.."
	benchmark := regexp.MustCompile(`(?m)^func Benchmark\w+\(\w+ \*testing\.B\)`)
	found := map[string]bool{}
	for _, room := range []string{"wire", "backend", "proxy", "admin", "config", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, room), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil || !benchmark.Match(text) {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(path))
			found[filepath.ToSlash(dir)] = true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(slices.Values(packages)); !slices.Equal(got, want) {
		t.Errorf("benchmarks stand in %v, and those of %v are run", got, want)
	}
}

// TestRound runs one benchmark of the tree, as all are run.
func TestRound(t *testing.T) {
	postgres.RequireFull(t)
	t.Chdir("../..")
	m := &micro{bench: "^BenchmarkFrames$", benchtime: 1}
	s := &side{root: ".", results: filepath.Join(t.TempDir(), "tree.txt"), bins: filepath.Join(t.TempDir(), "bin")}
	defer func(all []string) { packages = all }(packages)
	packages = []string{"wire"}
	if err := s.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.round(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(s.results)
	if n := strings.Count(string(text), "BenchmarkFrames"); err != nil || n != 2 {
		t.Errorf("%v, %d results in:\n%s", err, n, text)
	}
}
