// Package pooled runs the pgpoold daemon for tests whose clients are other
// programs: it is started as a user would start it, with nothing but a DSN and
// a few environment variables.
package pooled

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"pgpoold/test/guard"
	"pgpoold/test/measure/process"
)

// patience guards against hanging; nothing is asserted about time.
const patience = 2 * time.Minute

// Options say how the daemon is started.
type Options struct {
	// DSN names PostgreSQL, with a user and a password: its clients log in with these.
	DSN string
	// PoolSize is the number of servers at most, MinPoolSize at least.
	PoolSize, MinPoolSize int
	// RoundRobin hands out the server that was idle longest, so that a client
	// which is alone does not keep its server by luck.
	RoundRobin bool
	// Env is added to the daemon's environment.
	Env []string
}

// A Pgpoold is a daemon that runs until the end of the test.
type Pgpoold struct {
	dsn  string
	proc *guard.Process
}

// Start runs pgpoold. At the test's end the daemon gets SIGTERM and must end
// with status 0; the end of its log is shown when the test failed.
func Start(tb testing.TB, options Options) *Pgpoold {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	g, err := guard.New()
	check(tb, err)
	tb.Cleanup(func() { check(tb, g.Close()) })
	bin, err := process.BuildPgpoold(ctx, g.Dir())
	check(tb, err)
	port, err := process.FreePort()
	check(tb, err)
	admin, err := process.FreePort()
	check(tb, err)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dsn, err := url.Parse(options.DSN)
	check(tb, err)
	dsn.Host = addr

	log, err := os.Create(filepath.Join(g.Dir(), "pgpoold.log"))
	check(tb, err)
	p := &Pgpoold{dsn: dsn.String()}
	tb.Cleanup(func() { p.stop(tb, log) })
	p.proc, err = process.Start(ctx, g, process.Options{
		Path: bin,
		Log:  log,
		Env: append([]string{
			"PGPOOLD_DSN=" + options.DSN,
			"PGPOOLD_LISTEN_ADDR=" + addr,
			"PGPOOLD_ADMIN_ADDR=" + net.JoinHostPort("127.0.0.1", strconv.Itoa(admin)),
			fmt.Sprintf("PGPOOLD_POOL_SIZE=%d", options.PoolSize),
			fmt.Sprintf("PGPOOLD_POOL_MIN_SIZE=%d", options.MinPoolSize),
			fmt.Sprintf("PGPOOLD_POOL_ROUND_ROBIN=%t", options.RoundRobin),
		}, options.Env...),
	}, addr)
	check(tb, err)
	return p
}

// DSN is the one that Start was given, with pgpoold's address in the place of
// PostgreSQL's.
func (p *Pgpoold) DSN() string { return p.dsn }

// stop ends the daemon and shows what it said.
func (p *Pgpoold) stop(tb testing.TB, log *os.File) {
	if p.proc != nil {
		p.proc.End(syscall.SIGTERM, patience)
		if err := p.proc.Err(); err != nil {
			tb.Errorf("pgpoold ended with %v", err)
		}
	}
	if tb.Failed() {
		tb.Logf("the end of pgpoold's log:\n%s", tail(log.Name(), 8<<10))
	}
	log.Close()
}

// tail is the last n bytes of a file.
func tail(path string, n int) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-n):]
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
