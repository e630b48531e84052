package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// checker type-checks packages of the tree in which some files have another text.
type checker struct {
	root string
	deps types.Importer
	fset *token.FileSet
}

// newChecker has the go command compile what the packages import.
func newChecker(t *testing.T, root string) *checker {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal("go list: ", err)
	}
	exports := map[string]string{}
	for line := range bytes.Lines(out) {
		path, file, _ := bytes.Cut(bytes.TrimSpace(line), []byte("\t"))
		exports[string(path)] = string(file)
	}
	fset := token.NewFileSet()
	return &checker{root: root, fset: fset, deps: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("%s is not known", path)
		}
		return os.Open(exports[path])
	})}
}

// check checks the packages that the changed files belong to. A file that is not for this
// machine has to be Go at least.
func (c *checker) check(changed map[string][]byte) error {
	checked := map[string]bool{}
	for file, text := range changed {
		dir := filepath.Dir(file)
		pkg, err := build.ImportDir(filepath.Join(c.root, dir), 0)
		if err != nil {
			return err
		}
		if !slices.Contains(pkg.GoFiles, filepath.Base(file)) {
			if _, err := parser.ParseFile(c.fset, file, text, parser.SkipObjectResolution); err != nil {
				return err
			}
		}
		if checked[dir] {
			continue
		}
		checked[dir] = true
		var files []*ast.File
		for _, name := range pkg.GoFiles {
			text, ok := changed[filepath.Join(dir, name)]
			if !ok {
				if text, err = os.ReadFile(filepath.Join(c.root, dir, name)); err != nil {
					return err
				}
			}
			f, err := parser.ParseFile(c.fset, filepath.Join(dir, name), text, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		conf := types.Config{Importer: c.deps}
		if _, err := conf.Check(pkg.Name, c.fset, files, nil); err != nil {
			return err
		}
	}
	return nil
}
