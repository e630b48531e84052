package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// fuzzFunc is the head of a fuzz target.
var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// fuzzAll runs each fuzz target by itself, as go test wants it.
func (p *proof) fuzzAll(ctx context.Context) {
	targets, err := fuzzTargets(".")
	if err != nil {
		p.tally.fail("fuzz", err.Error())
		return
	}
	for _, t := range targets {
		pkg, name, _ := strings.Cut(t, " ")
		p.command(ctx, t, nil, "go", "test", "-run=^$", "-fuzz=^"+name+"$", "-fuzztime="+p.fuzz.String(), pkg)
	}
}

// fuzzTargets lists "./package FuzzName" of all test files below root.
func fuzzTargets(root string) ([]string, error) {
	files, err := goFiles(root)
	if err != nil {
		return nil, err
	}
	var targets []string
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		for _, m := range fuzzFunc.FindAllSubmatch(text, -1) {
			targets = append(targets, fmt.Sprintf("./%s %s", filepath.ToSlash(dir), m[1]))
		}
	}
	slices.Sort(targets)
	return targets, nil
}
