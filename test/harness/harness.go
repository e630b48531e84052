// Package harness runs pgpoold for tests: in the test's own process, where
// its state can be looked at and an adversary can choose the servers, or as a
// process of its own.
package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgpoold/backend"
	"pgpoold/cmd/pgpoold/daemon"
	"pgpoold/config"
	"pgpoold/proxy"
)

// Options say what to run. The zero value, with a DSN, is a pool of two
// servers in transaction mode with round_robin and the adversary, for which
// everybody on the server may log in without a password.
type Options struct {
	// DSN names the server, as the one database "*" would; its user is the
	// server user of all clients.
	DSN string
	// Size is the pool's; 0: two.
	Size int
	// Lucky leaves the choice of servers to the pool (last in, first out),
	// instead of round_robin and an adversary that never gives an unpinned
	// session its last server. Without it sessions are also parked at every
	// opportunity, and not after a second.
	Lucky bool
	// State is pool.session_state; "": the default.
	State string
	// Pinned is pool.max_pinned; 0: the default, or with State as many as there
	// are servers.
	Pinned int
	// YAML is the configuration instead of all that. Addresses are added.
	YAML string
	// Log is where the log goes besides the test's; nil: nowhere.
	Log io.Writer
	// Audited does what EnvAudit does, for this test alone.
	Audited bool
	// Unaudited keeps EnvAudit away from a test that counts, or changes, what
	// servers are asked and answer.
	Unaudited bool
	// Quiet keeps the log out of the test's output also when it fails.
	Quiet bool
}

// EnvAudit, where it is set, makes every transaction of every test that names
// no share of its own be audited; what the audit finds fails the test.
const EnvAudit = "PGPOOLD_TEST_AUDIT"

// AuditAll is the value of EnvAudit with which the wire scripts, whose servers
// then are free in another order, are audited as well.
const AuditAll = "all"

// Pgpoold is a running one.
type Pgpoold struct {
	daemon *daemon.Daemon
	addr   *net.TCPAddr
	admin  net.Addr
	dsn    *url.URL
	log    *syncBuffer
	file   string
	once   sync.Once

	stop     chan struct{}  // closed by Close: ends the goroutine below
	restless sync.WaitGroup // parkOften
}

// syncBuffer is a buffer that several goroutines may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Start runs pgpoold in this process. At the test's end it is closed, and its
// ConsistencyCheck must hold.
func Start(tb testing.TB, o Options) *Pgpoold {
	tb.Helper()
	p, err := start(tb.TempDir(), o)
	if err != nil {
		tb.Fatalf("pgpoold: %v", err)
	}
	tb.Cleanup(func() {
		p.Close()
		if tb.Failed() && !o.Quiet {
			tb.Logf("log of pgpoold:\n%s", tail(p.log.String(), 8000))
		}
	})
	if o.audited() {
		tb.Cleanup(func() {
			if n := p.Server().Snapshot().Totals.StateMissed; len(n) > 0 {
				tb.Errorf("state was left that nothing had announced: %v", n)
			}
		})
	}
	tb.Cleanup(func() {
		if err := p.Settled(5 * time.Second); err != nil {
			tb.Errorf("at the end: %v", err)
		}
	})
	return p
}

// audited reports whether every transaction is audited, and a finding fails the
// test.
func (o *Options) audited() bool {
	return (o.Audited || os.Getenv(EnvAudit) != "") && !o.Unaudited && !strings.Contains(o.YAML, "session_state_audit") && !strings.Contains(o.YAML, "upstream_pooler: true")
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

func start(dir string, o Options) (*Pgpoold, error) {
	p := &Pgpoold{log: &syncBuffer{}, stop: make(chan struct{})}
	if o.DSN != "" {
		var err error
		if p.dsn, err = url.Parse(o.DSN); err != nil {
			return nil, err
		}
	}
	text := o.YAML
	if text == "" {
		text = yaml(o, p.dsn)
	}
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p.file = file
	environ := map[string]string{"PGPOOLD_LISTEN_ADDR": "127.0.0.1:0", "PGPOOLD_ADMIN_ADDR": "127.0.0.1:0"}
	if o.audited() {
		environ["PGPOOLD_POOL_SESSION_STATE_AUDIT"] = "1"
	}
	cfg, err := config.Load(file, func(name string) (string, bool) { v, ok := environ[name]; return v, ok })
	if err != nil {
		return nil, err
	}
	var log io.Writer = p.log
	if o.Log != nil {
		log = io.MultiWriter(p.log, o.Log)
	}
	p.daemon, err = daemon.New(daemon.Options{Config: cfg, Version: "test", Log: log,
		Environ: func(name string) (string, bool) { v, ok := environ[name]; return v, ok }})
	if err != nil {
		return nil, err
	}
	if err := p.daemon.Start(context.Background()); err != nil {
		return nil, err
	}
	for _, a := range p.daemon.Addrs() {
		if tcp, ok := a.(*net.TCPAddr); ok {
			p.addr = tcp
		}
	}
	p.admin = p.daemon.AdminAddr()
	if !o.Lucky && o.YAML == "" {
		p.daemon.Server().SetPicker(p.adversary)
		p.restless.Add(1)
		go p.parkOften()
	}
	return p, nil
}

func yaml(o Options, dsn *url.URL) string {
	size := o.Size
	if size == 0 {
		size = 2
	}
	var b strings.Builder
	fmt.Fprintf(&b, "auth: {type: any, users: {ops: ops}}\nadmin: {users: [ops]}\nlog: {level: debug}\ndrain_timeout: 5s\n")
	more := ""
	if o.State != "" {
		more += ", session_state: " + o.State
	}
	if o.State != "" && o.Pinned == 0 {
		o.Pinned = size
	}
	if o.Pinned > 0 {
		more += fmt.Sprintf(", max_pinned: %d", o.Pinned)
	}
	fmt.Fprintf(&b, "pool: {size: %d, min_size: %d, round_robin: %v%s}\n", size, size, !o.Lucky, more)
	any := *dsn
	any.Path = "" // the name that the client asks for
	fmt.Fprintf(&b, "databases:\n  \"*\": {dsn: %q}\n", any.String())
	if db := strings.TrimPrefix(dsn.Path, "/"); db != "" {
		fmt.Fprintf(&b, "  %q: {dsn: %q}\n", db, o.DSN)
	}
	return b.String()
}

// adversary hands a session any server but its last one.
func (p *Pgpoold) adversary(idle []*backend.Server, last *backend.Server) int {
	for i, s := range idle {
		if s != last {
			return i
		}
	}
	return -1
}

// Addr is where clients connect.
func (p *Pgpoold) Addr() string { return p.addr.String() }

// AdminAddr is the admin port.
func (p *Pgpoold) AdminAddr() string { return p.admin.String() }

// DSN is a client's, for a user (with or without ":password") and a database.
func (p *Pgpoold) DSN(user, db string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", user, p.Addr(), db)
}

// Server is the proxy.
func (p *Pgpoold) Server() *proxy.Server { return p.daemon.Server() }

// File is its configuration file.
func (p *Pgpoold) File() string { return p.file }

// Reload writes another configuration and has it read.
func (p *Pgpoold) Reload(yaml string) (notes []string, err error) {
	if err := os.WriteFile(p.file, []byte(yaml), 0o600); err != nil {
		return nil, err
	}
	return p.daemon.Reload()
}

// ReloadFile has the configuration read as it is.
func (p *Pgpoold) ReloadFile() (notes []string, err error) { return p.daemon.Reload() }

// Log is what has been logged.
func (p *Pgpoold) Log() string { return p.log.String() }

// Check is the ConsistencyCheck.
func (p *Pgpoold) Check() error { return p.Server().ConsistencyCheck() }

// Settled waits until the ConsistencyCheck holds and no session has a server,
// but for at most patience.
func (p *Pgpoold) Settled(patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := p.Check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Switched is the share of transactions that ran on another server than the
// session's last one, and their number. A session's first attach does not
// count, and pinned sessions do not, because they attach only once.
func (p *Pgpoold) Switched() (share float64, attaches uint64) {
	var switches uint64
	for _, pool := range p.Server().Snapshot().Pools {
		switches += pool.Stats.Switches
		attaches += pool.Stats.Switches + pool.Stats.Kept
	}
	if attaches == 0 {
		return 1, 0
	}
	return float64(switches) / float64(attaches), attaches
}

// RequireSwitched fails the test if luck could have kept sessions on their
// servers: fewer than nine in ten attaches went to another one.
func (p *Pgpoold) RequireSwitched(tb testing.TB) {
	tb.Helper()
	share, n := p.Switched()
	tb.Logf("%.1f %% of %d attaches went to another server than the session's last", 100*share, n)
	if share < 0.9 {
		tb.Errorf("only %.1f %% of %d attaches went to another server: luck is no proof", 100*share, n)
	}
}

// Close ends it at once and waits until it has ended.
func (p *Pgpoold) Close() {
	p.once.Do(func() {
		p.daemon.Close()
		close(p.stop)
		p.restless.Wait()
	})
}

// parkOften parks what can be parked, again and again. Close joins it.
func (p *Pgpoold) parkOften() {
	defer p.restless.Done()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.daemon.Server().ParkIdle()
		}
	}
}
