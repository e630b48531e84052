package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pgpoold/test/guard"
	"pgpoold/test/postgres"
)

// readyWord begins the line that pgpoold writes when it serves.
const readyWord = "pgpoold ready"

// lastPatience is how long pgpoold may take to end once it was told to end at
// once.
const lastPatience = 10 * time.Second

// run does one whole run; the first signal ends it in order.
func (r *runner) run(signals <-chan os.Signal) error {
	server, err := postgres.NewServer()
	if err != nil {
		return err
	}
	err = r.serve(signals, server)
	return errors.Join(err, server.Close())
}

func (r *runner) serve(signals <-chan os.Signal, server *postgres.Server) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := prepare(ctx, cancel, signals, func() (*pooler, error) { return r.start(ctx, server) })
	if err != nil {
		return err
	}
	return r.attend(signals, p)
}

// prepare runs the steps that can take long, and cancels them at a signal.
func prepare(ctx context.Context, cancel context.CancelFunc, signals <-chan os.Signal, steps func() (*pooler, error)) (*pooler, error) {
	done := make(chan prepared, 1)
	go runSteps(steps, done)
	for {
		select {
		case res := <-done:
			if ctx.Err() != nil {
				// What was started meanwhile ends with its Server.
				return nil, ctx.Err()
			}
			return res.p, res.err
		case <-signals:
			cancel()
		}
	}
}

// prepared is what runSteps hands back.
type prepared struct {
	p   *pooler
	err error
}

// runSteps is the goroutine of prepare, which always waits for it.
func runSteps(steps func() (*pooler, error), done chan<- prepared) {
	p, err := steps()
	done <- prepared{p, err}
}

// pooler is a running pgpoold.
type pooler struct {
	proc    *guard.Process
	target  *target
	addr    string
	admin   string
	ready   chan struct{} // closed by copyLog at the ready line
	logDone chan struct{} // closed by copyLog at its end
}

// start builds pgpoold, finds or starts its database, and starts it.
func (r *runner) start(ctx context.Context, server *postgres.Server) (*pooler, error) {
	program, err := r.build(ctx)
	if err != nil {
		return nil, err
	}
	var t *target
	if variable, text := firstDSN(); text != "" && !r.demo {
		t, err = r.ownDatabase(variable, text, server.Guard().Dir())
	} else {
		if !r.demo {
			r.say("Neither %s is set.", strings.Join(dsnVariables, " nor "))
		}
		t, err = r.privateDatabase(ctx, server)
	}
	if err != nil {
		return nil, err
	}
	addr, admin, err := freeAddrs()
	if err != nil {
		return nil, err
	}
	logRead, logWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, t.args...)
	cmd.Env = childEnv(os.Environ(), addr, admin, t.env)
	cmd.Stdout, cmd.Stderr = logWrite, logWrite
	proc, err := server.Guard().Start(cmd)
	logWrite.Close()
	if err != nil {
		logRead.Close()
		return nil, err
	}
	p := &pooler{
		proc: proc, target: t, addr: addr, admin: admin,
		ready: make(chan struct{}), logDone: make(chan struct{}),
	}
	go p.copyLog(logRead, r.out)
	return p, nil
}

// build compiles pgpoold.
func (r *runner) build(ctx context.Context) (string, error) {
	program, err := filepath.Abs(filepath.Join(r.bin, "pgpoold"))
	if err != nil {
		return "", err
	}
	// Without the profile for the compiler, which costs a minute the first time.
	cmd := exec.CommandContext(ctx, "go", "build", "-pgo=off", "-o", program, "./cmd/pgpoold")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = lastPatience
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("go build ./cmd/pgpoold: %w\n%s", err, out)
	}
	return program, nil
}

// copyLog is the goroutine that copies pgpoold's output to the screen, line
// by line, and announces the ready line. It ends with pgpoold.
func (p *pooler) copyLog(from io.ReadCloser, to io.Writer) {
	defer close(p.logDone)
	defer from.Close()
	announced := false
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			io.WriteString(to, line)
		}
		if !announced && strings.Contains(line, readyWord) {
			announced = true
			close(p.ready)
		}
		if err != nil {
			return
		}
	}
}

// attend waits for pgpoold to be ready, says how to reach it, and stays until
// a signal or pgpoold's own end.
func (r *runner) attend(signals <-chan os.Signal, p *pooler) error {
	ready := p.ready
	for {
		select {
		case <-ready:
			ready = nil
			r.welcome(p)
		case <-p.proc.Done():
			<-p.logDone
			if err := p.proc.Err(); err != nil {
				return fmt.Errorf("pgpoold ended by itself: %w", err)
			}
			return errors.New("pgpoold ended by itself")
		case <-signals:
			r.stop(signals, p)
			<-p.logDone
			return nil
		}
	}
}

func (r *runner) welcome(p *pooler) {
	r.say(`
pgpoold pools database %q in transaction mode: each client has a session of
its own, and takes one of at most 20 server connections for a transaction.

Paste this into another terminal:

psql %s

The admin page: http://%s/
Ctrl-C ends it and leaves nothing behind.
`, p.target.database, p.target.url(p.addr), p.admin)
	if p.target.psql != "" {
		if _, err := exec.LookPath("psql"); err != nil {
			r.say("psql is not in PATH; there is one at %s\n", p.target.psql)
		}
	}
}

// stop lets pgpoold drain; a second signal has it close its clients, a third
// ends it at once.
func (r *runner) stop(signals <-chan os.Signal, p *pooler) {
	r.say("Ending: open transactions may finish. Ctrl-C again ends them now.")
	_ = p.proc.Signal(syscall.SIGTERM)
	select {
	case <-p.proc.Done():
		return
	case <-signals:
	}
	_ = p.proc.Signal(syscall.SIGTERM)
	patience := time.NewTimer(lastPatience)
	defer patience.Stop()
	select {
	case <-p.proc.Done():
		return
	case <-signals:
	case <-patience.C:
	}
	p.proc.End(syscall.SIGQUIT, 0)
}
