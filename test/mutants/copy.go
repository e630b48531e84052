package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pgpoold/test/postgres"
)

// verdict is what became of a mutant.
type verdict string

const (
	killed  verdict = "killed"
	lives   verdict = "LIVES"
	other   verdict = "OTHER" // another test than its own failed
	unbuilt verdict = "NO BUILD"
	stale   verdict = "STALE"   // it does not apply any more
	unsound verdict = "UNSOUND" // its test fails without it, or is not there
)

// patience bounds one test: a mutant may hang.
const patience = 3 * time.Minute

// treeCopy is a copy of the tree in which the mutants are tried.
type treeCopy struct{ dir string }

// newCopy copies what git knows of, or would.
func newCopy(ctx context.Context) (*treeCopy, error) {
	out, err := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	c := &treeCopy{dir: dir}
	for _, f := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = c.write(f, text)
		}
		if err != nil {
			c.remove()
			return nil, err
		}
	}
	return c, nil
}

func (c *treeCopy) remove() { os.RemoveAll(c.dir) }

func (c *treeCopy) write(file string, text []byte) error {
	path := filepath.Join(c.dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// try puts a mutant in, runs its test and takes it out again.
func (c *treeCopy) try(ctx context.Context, m *mutant, sound map[target]string) (verdict, string) {
	if _, ok := sound[m.test]; !ok {
		r := c.test(ctx, m.test)
		switch {
		case r.failed[m.test.name] || len(r.failed) > 0 || r.err != nil:
			sound[m.test] = "without the mutant it fails:\n" + r.output
		case !r.passed[m.test.name]:
			sound[m.test] = "there is no such test, or it was skipped:\n" + r.output
		default:
			sound[m.test] = ""
		}
	}
	if why := sound[m.test]; why != "" {
		return unsound, why
	}
	before, err := m.apply(c.dir, c.write)
	if err != nil {
		return stale, err.Error()
	}
	defer func() {
		for file, text := range before {
			_ = c.write(file, text)
		}
	}()
	r := c.test(ctx, m.test)
	switch {
	case r.failed[m.test.name]:
		return killed, ""
	case !r.built:
		return unbuilt, r.output
	case len(r.failed) > 0:
		return other, r.output
	}
	return lives, r.output
}

// result is what a run of go test said.
type result struct {
	built          bool
	passed, failed map[string]bool
	output         string
	err            error
}

func (c *treeCopy) test(ctx context.Context, t target) result {
	r := result{passed: map[string]bool{}, failed: map[string]bool{}}
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-vet=off", "-trimpath", "-pgo=off", "-timeout="+patience.String(), "-run="+t.pattern(), t.pkg)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	scope := "fast"
	if t.full {
		scope = "full"
	}
	cmd.Env = append(os.Environ(), postgres.EnvScope+"="+scope)
	out, err := cmd.CombinedOutput()
	r.err = err
	var said strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(&said, lines.Text())
			continue
		}
		said.WriteString(e.Output)
		switch {
		case e.Action == "run" || e.Action == "start":
			r.built = true
		case e.Action == "pass" && e.Test != "":
			r.passed[e.Test] = true
		case e.Action == "fail" && e.Test != "":
			r.failed[e.Test] = true
		}
	}
	r.output = said.String()
	return r
}
