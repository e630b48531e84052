package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"pgpoold/test/postgres"
)

// event is a line of go test -json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
	Elapsed    float64
}

// tests runs go test -json and counts what its tests say. scope is what
// postgres.RequireFull looks at.
func (p *proof) tests(ctx context.Context, name, scope string, args ...string) {
	if ctx.Err() != nil {
		return
	}
	fmt.Fprintf(p.out, "      %s\n", name)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	endGroup(cmd)
	cmd.Env = append(append(os.Environ(), postgres.EnvScope+"="+scope), p.env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.tally.fail(name, err.Error())
		return
	}
	c := newCollector(p.out, p.tally, scope)
	readErr := c.read(out)
	if err := cmd.Wait(); err != nil && c.failures == 0 {
		p.tally.fail(name, err.Error())
	}
	if readErr != nil {
		p.tally.fail(name, readErr.Error())
	}
}

// endGroup makes the end of cmd's context the end of all it started: go test
// itself would wait for its tests.
func endGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
}

// collector turns events into counts and into lines for a person: one per
// package, and the whole output of what failed.
type collector struct {
	out      io.Writer
	tally    *tally
	scope    string
	failures int
	said     map[string][]string // output by package and test, until its end
	failed   map[string]bool     // packages of which a test has failed
}

func newCollector(out io.Writer, t *tally, scope string) *collector {
	return &collector{out: out, tally: t, scope: scope, said: make(map[string][]string), failed: make(map[string]bool)}
}

func (c *collector) read(from io.Reader) error {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(c.out, "%s", line)
			} else {
				c.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *collector) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "output":
		c.said[key] = append(c.said[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			c.endPackage(e)
		} else {
			c.endTest(e, key)
		}
		delete(c.said, key)
	}
}

func (c *collector) endTest(e event, key string) {
	switch e.Action {
	case "pass":
		c.tally.passed++
	case "fail":
		c.failures++
		c.failed[e.Package] = true
		fmt.Fprintf(c.out, "FAIL  %s %s\n%s", e.Package, e.Test, strings.Join(c.said[key], ""))
		c.tally.fail(e.Package+" "+e.Test, "")
	case "skip":
		c.tally.skip(skip{pkg: e.Package, test: e.Test, reason: reason(c.said[key]), scope: c.scope})
	}
}

func (c *collector) endPackage(e event) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(c.out, "ok    %s (%.1fs)\n", e.Package, e.Elapsed)
	case "fail":
		fmt.Fprintf(c.out, "FAIL  %s (%.1fs)\n", e.Package, e.Elapsed)
		if c.failed[e.Package] {
			return
		}
		// It did not build, or ended outside of a test: a panic, a time-out,
		// TestMain.
		c.failures++
		for key, lines := range c.said {
			if strings.HasPrefix(key, e.Package+" ") {
				fmt.Fprint(c.out, strings.Join(lines, ""))
			}
		}
		c.tally.fail(e.Package, "")
	}
}

// location is the file and line in front of what a test logs.
var location = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reason is what a skipped test said last.
func reason(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		text := strings.TrimSpace(lines[i])
		if text == "" || strings.HasPrefix(text, "---") || strings.HasPrefix(text, "===") {
			continue
		}
		return location.ReplaceAllString(text, "")
	}
	return "no reason given"
}
