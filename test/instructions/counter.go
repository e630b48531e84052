package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"pgpoold/test/canned"
	"pgpoold/test/guard"
	"pgpoold/test/measure/process"
)

//go:embed plugin/count.c
var pluginSource []byte

// emulator is QEMU's user mode for the architecture that the limits are of.
const emulator = "qemu-x86_64"

// errUnavailable is why instructions cannot be counted here.
var errUnavailable = errors.New("instructions are not counted here")

// apis are the versions of QEMU's plugin interface that the plugin is tried
// with: each QEMU takes a range of them.
var apis = []int{1, 4}

// counter is pgpoold in an emulator that counts, between a canned server and a
// canned client. Nothing of theirs is counted.
type counter struct {
	guard  *guard.Guard
	file   string // what the plugin writes
	syms   *symbols
	server *canned.Server
	addr   string // pgpoold's
	client *canned.Client
	log    *os.File
}

// startCounter builds the working tree's pgpoold, or takes what PGPOOLD names,
// and logs the client in.
func startCounter(ctx context.Context) (c *counter, err error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("%w: only on linux/amd64", errUnavailable)
	}
	qemu, err := exec.LookPath(emulator)
	if err != nil {
		return nil, fmt.Errorf("%w: install %s (Debian: qemu-user)", errUnavailable, emulator)
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		return nil, fmt.Errorf("%w: install a C compiler", errUnavailable)
	}
	g, err := guard.New()
	if err != nil {
		return nil, err
	}
	c = &counter{guard: g, file: filepath.Join(g.Dir(), "counts")}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
			c = nil
		}
	}()
	plugin, err := buildPlugin(ctx, g.Dir(), qemu, cc)
	if err != nil {
		return c, err
	}
	program, err := buildPgpoold(ctx, g.Dir())
	if err != nil {
		return c, err
	}
	if c.syms, err = readSymbols(program); err != nil {
		return c, err
	}
	if c.server, err = canned.Listen(); err != nil {
		return c, err
	}
	return c, c.startPgpoold(ctx, qemu, plugin, program)
}

// buildPlugin compiles the plugin for the version that this QEMU takes.
func buildPlugin(ctx context.Context, dir, qemu, cc string) (string, error) {
	source := filepath.Join(dir, "count.c")
	if err := os.WriteFile(source, pluginSource, 0o600); err != nil {
		return "", err
	}
	probe, err := exec.LookPath("true")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnavailable, err)
	}
	var said []byte
	for _, api := range apis {
		plugin := filepath.Join(dir, fmt.Sprintf("count%d.so", api))
		out, err := exec.CommandContext(ctx, cc, "-O2", "-shared", "-fPIC", fmt.Sprintf("-DAPI=%d", api), "-o", plugin, source).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("cc: %w\n%s", err, out)
		}
		if said, err = exec.CommandContext(ctx, qemu, "-plugin", plugin+",out="+plugin+".probe", probe).CombinedOutput(); err == nil {
			return plugin, nil
		}
	}
	return "", fmt.Errorf("%w: %s takes no plugin: %s", errUnavailable, qemu, said)
}

// buildPgpoold builds it without the compiler's profile, so that the numbers
// are those of the code, and whoever records a profile anew changes none.
func buildPgpoold(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv("PGPOOLD"); path != "" {
		return path, nil
	}
	path := filepath.Join(dir, "pgpoold")
	cmd := exec.CommandContext(ctx, "go", "build", "-pgo=off", "-o", path, "pgpoold/cmd/pgpoold")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

func (c *counter) startPgpoold(ctx context.Context, qemu, plugin, program string) error {
	port, err := process.FreePort()
	if err != nil {
		return err
	}
	admin, err := process.FreePort()
	if err != nil {
		return err
	}
	pgpoold := process.Pgpoold{
		Port: port, AdminPort: admin, PoolSize: 1, MaxClientConn: 100,
		Upstream: process.Upstream{Host: "127.0.0.1", Port: c.server.Port(), Database: "db", User: "app"},
	}
	config := filepath.Join(c.guard.Dir(), "pgpoold.yaml")
	if err := pgpoold.WriteConfig(config); err != nil {
		return err
	}
	if c.log, err = os.Create(filepath.Join(c.guard.Dir(), "log")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err = process.Start(ctx, c.guard, process.Options{
		Path: qemu,
		Args: []string{"-plugin", plugin + ",out=" + c.file, program, "--config", config},
		// One thread, no collection and no preemption: what is left is what the
		// transactions ask for.
		Env: []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1"},
		Log: c.log,
	}, pgpoold.Addr())
	if err == nil {
		c.addr = pgpoold.Addr()
		c.client, err = canned.Dial(c.addr, "app", "db")
	}
	if err != nil {
		said, _ := os.ReadFile(c.log.Name())
		return fmt.Errorf("%w\n%s", err, said)
	}
	return nil
}

// rounds is how often a transaction is counted. What is in the way, a tick of
// a clock or a thread that begins, only adds: the round with the least counts.
const rounds = 5

// perRound is how many of the server's answers a round takes.
const perRound = 400

// connection is the name of a transaction that comes with a login and a goodbye.
const connection = "connection"

// transactions are what can be counted.
func transactions() []canned.Transaction {
	all := canned.Transactions()
	return append(all, canned.Transaction{Name: connection, Steps: all[0].Steps})
}

// run does t.
func (c *counter) run(t *canned.Transaction) error {
	if t.Name != connection {
		return c.client.Run(t)
	}
	client, err := canned.Login(c.addr, "app", "db")
	if err != nil {
		return err
	}
	if err := client.Run(t); err != nil {
		client.Close()
		return err
	}
	return client.Leave()
}

// perTransaction is what n transactions took.
type perTransaction struct {
	*counts
	n int
}

func (p *perTransaction) instructions() float64 { return float64(p.sum()) / float64(p.n) }

// lines is how many cache lines of code each transaction, or nearly each, comes by.
func (p *perTransaction) lines() int { return p.counts.lines(uint64(p.n) * 9 / 10) }

// call is how often a transaction makes one of these system calls.
func (p *perTransaction) call(numbers ...int) (times float64) {
	for _, number := range numbers {
		times += float64(p.calls[number]) / float64(p.n)
	}
	return times
}

// least counts a transaction in rounds.
func (c *counter) least(ctx context.Context, t *canned.Transaction) (*perTransaction, error) {
	n := perRound
	if t.Name == "rows" {
		n /= 4
	}
	if _, err := c.count(ctx, t, n/4); err != nil { // what is kept for reuse is made
		return nil, err
	}
	var least *perTransaction
	for range rounds {
		d, err := c.count(ctx, t, n)
		if err != nil {
			return nil, err
		}
		if least == nil || d.sum() < least.sum() {
			least = &perTransaction{d, n}
		}
	}
	return least, nil
}

// count runs a transaction n times and returns what all of that took.
func (c *counter) count(ctx context.Context, t *canned.Transaction, n int) (*counts, error) {
	before, err := readCounts(c.file, c.syms)
	if err != nil {
		return nil, err
	}
	for range n {
		if err := errors.Join(ctx.Err(), c.run(t)); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	after, err := readCounts(c.file, c.syms)
	if err != nil {
		return nil, err
	}
	return after.since(before), nil
}

// close ends everything.
func (c *counter) close() error {
	if c.client != nil {
		c.client.Close()
	}
	err := c.guard.Close()
	if c.server != nil {
		c.server.Close()
	}
	if c.log != nil {
		c.log.Close()
	}
	return err
}
