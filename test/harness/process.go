package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgpoold/test/guard"
)

// hang guards what should take a moment.
const hang = 60 * time.Second

// program is pgpoold, built once for each test binary. Its directory goes with
// the binary's process, which holds the guard until then.
var program = sync.OnceValues(func() (*guard.Guard, error) {
	g, err := guard.New()
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command("go", "build", "-o", filepath.Join(g.Dir(), "pgpoold"), "pgpoold/cmd/pgpoold").CombinedOutput(); err != nil {
		return nil, errors.Join(err, errors.New(string(out)), g.Close())
	}
	return g, nil
})

// Process is pgpoold as a process of its own, which a successor may follow.
type Process struct {
	guard   *guard.Guard
	process *guard.Process
	pid     int
	log     string
	file    string
	admin   string
	addrs   []string
}

// StartProcess runs pgpoold with a configuration. It and all its successors
// are ended with the test.
func StartProcess(tb testing.TB, yaml string) *Process {
	tb.Helper()
	built, err := program()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	p := &Process{log: filepath.Join(dir, "log"), file: filepath.Join(dir, "config.yaml")}
	p.Configure(tb, yaml)
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	sockets := filepath.Join(dir, "s")
	if err := os.Mkdir(sockets, 0o700); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(built.Dir(), "pgpoold"), "--config", p.file)
	cmd.Env = []string{"PGPOOLD_LISTEN_ADDR=127.0.0.1:0,unix:" + sockets, "PGPOOLD_ADMIN_ADDR=127.0.0.1:0", "PGPOOLD_LOG_FORMAT=json"}
	cmd.Stdout, cmd.Stderr = log, log
	if p.guard, err = guard.New(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.guard.Close(); err != nil {
			tb.Error(err)
		}
		if strings.Contains(p.Log(), "DATA RACE") || strings.Contains(p.Log(), "goroutine ") {
			tb.Error("the log has a race or a panic")
		}
		if tb.Failed() {
			tb.Logf("log of pgpoold:\n%s", tail(p.Log(), 100_000))
		}
	})
	if p.process, err = p.guard.Start(cmd); err != nil {
		tb.Fatal(err)
	}
	p.pid = p.process.PID()
	ready := p.line(tb, "pgpoold ready", 0)
	p.admin, p.addrs = ready.Admin, ready.Listen
	return p
}

// Configure writes the configuration, which a successor will read.
func (p *Process) Configure(tb testing.TB, yaml string) {
	tb.Helper()
	if err := os.WriteFile(p.file, []byte(yaml), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// DSN is a client's over TCP, for a user (with or without ":password") and a
// database.
func (p *Process) DSN(user, db string) string {
	for _, addr := range p.addrs {
		if _, _, err := net.SplitHostPort(addr); err == nil {
			return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", user, addr, db)
		}
	}
	return ""
}

// Log is what has been logged.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// PID is that of the process that serves.
func (p *Process) PID() int { return p.pid }

// Admin is the admin port.
func (p *Process) Admin() string { return p.admin }

// Signal sends the process that serves a signal.
func (p *Process) Signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := syscall.Kill(p.pid, sig); err != nil {
		tb.Fatal(err)
	}
}

// Upgrade has a successor take over and waits until it serves. It returns the
// process before, which may still be draining.
func (p *Process) Upgrade(tb testing.TB) (before int) {
	tb.Helper()
	const took = "upgrade: this process takes over"
	n := strings.Count(p.Log(), took)
	p.Signal(tb, syscall.SIGUSR2)
	l := p.line(tb, took, n)
	if err := p.guard.Adopt(l.PID); err != nil {
		tb.Fatal(err)
	}
	before, p.pid = p.pid, l.PID
	return before
}

// Ended waits until a process that an upgrade has left behind has ended.
func (p *Process) Ended(tb testing.TB, pid int) {
	tb.Helper()
	p.until(tb, fmt.Sprintf("the end of process %d", pid), func() bool { return p.HasEnded(pid) })
}

// HasEnded reports whether a process of pgpoold's has ended.
func (p *Process) HasEnded(pid int) bool {
	if pid != p.process.PID() {
		return !p.guard.Alive(pid)
	}
	select {
	case <-p.process.Done():
		return true
	default:
		return false
	}
}

// Reload has the process that serves read its configuration again, and waits
// until it has.
func (p *Process) Reload(tb testing.TB, yaml string) {
	tb.Helper()
	const read = "the configuration was read again"
	n := strings.Count(p.Log(), read)
	p.Configure(tb, yaml)
	p.Signal(tb, syscall.SIGHUP)
	p.line(tb, read, n)
}

// logLine is what tests read of a line.
type logLine struct {
	Msg    string
	PID    int
	Admin  string
	Listen []string
}

// line waits for a line that begins with a text, behind so many of them.
func (p *Process) line(tb testing.TB, begins string, behind int) (l logLine) {
	tb.Helper()
	p.until(tb, "the line "+begins, func() bool {
		seen := 0
		for in := bufio.NewScanner(strings.NewReader(p.Log())); in.Scan(); {
			l = logLine{}
			if json.Unmarshal(in.Bytes(), &l) == nil && strings.HasPrefix(l.Msg, begins) {
				if seen++; seen > behind {
					return true
				}
			}
		}
		return false
	})
	return l
}

func (p *Process) until(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(hang); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("it does not come: %s", what)
		}
	}
}
