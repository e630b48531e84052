//go:build linux

package measure

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/guard"
	"pgpoold/test/measure/process"
	"pgpoold/test/postgres"
)

// patience guards against hanging; nothing is asserted about time.
const patience = 2 * time.Minute

const (
	user     = postgres.Superuser
	database = "postgres"
)

// buildOnce builds the daemon for the first test that asks.
type buildOnce struct {
	once sync.Once
	path string // set once
	err  error  // set once
}

func (b *buildOnce) get() (string, error) {
	b.once.Do(func() { b.path, b.err = process.BuildPgpoold(context.Background(), keeper.Dir()) })
	return b.path, b.err
}

// daemon is a pgpoold that runs for one test.
type daemon struct {
	process.Pgpoold
	proc *guard.Process
	http http.Client
}

// startDaemon runs pgpoold in front of the shared cluster until the test ends,
// with what the test adds to its configuration. A test that failed gets the end
// of the daemon's log.
func startDaemon(t *testing.T, poolSize int, with ...func(*process.Pgpoold)) *daemon {
	t.Helper()
	postgres.RequireFull(t)
	cluster := postgres.ForTest(t)
	bin, err := daemonBinary.get()
	check(t, err)
	port, err := process.FreePort()
	check(t, err)
	admin, err := process.FreePort()
	check(t, err)
	d := &daemon{Pgpoold: process.Pgpoold{
		Port: port, AdminPort: admin, PoolSize: poolSize, MaxClientConn: 10000,
		Upstream: process.Upstream{Host: cluster.Host(), Port: cluster.Port(), Database: database, User: user},
	}}
	for _, f := range with {
		f(&d.Pgpoold)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "pgpoold.yaml")
	check(t, d.WriteConfig(config))
	log, err := os.Create(filepath.Join(dir, "pgpoold.log"))
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d.proc, err = process.Start(ctx, keeper, process.Options{Path: bin, Args: []string{"--config", config}, Log: log}, d.Addr())
	t.Cleanup(func() {
		if d.proc != nil {
			d.proc.End(syscall.SIGTERM, 20*time.Second)
		}
		log.Close()
		if t.Failed() {
			showTail(t, log.Name())
		}
	})
	check(t, err)
	return d
}

func showTail(t *testing.T, name string) {
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Log(err)
		return
	}
	if n := len(raw); n > 4000 {
		raw = raw[n-4000:]
	}
	t.Logf("the end of pgpoold's log:\n%s", raw)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect logs a client in.
func (d *daemon) connect(t *testing.T, db string) *pgconn.PgConn {
	t.Helper()
	c, err := connectTo(t.Context(), d.Addr(), db)
	check(t, err)
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func connectTo(ctx context.Context, addr, db string) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return pgconn.Connect(ctx, fmt.Sprintf("postgres://%s@%s/%s", user, addr, db)) // which prefers TLS
}

// exec runs one simple query.
func exec(t *testing.T, c *pgconn.PgConn, sql string) [][][]byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var rows [][][]byte
	for _, r := range results {
		rows = append(rows, r.Rows...)
	}
	return rows
}

// show counts the rows of a SHOW whose column has the value.
func show(t *testing.T, console *pgconn.PgConn, what, column, value string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	results, err := console.Exec(ctx, "SHOW "+what).ReadAll()
	if err != nil {
		t.Fatalf("SHOW %s: %v", what, err)
	}
	n := 0
	for _, r := range results {
		at := -1
		for i, f := range r.FieldDescriptions {
			if f.Name == column {
				at = i
			}
		}
		// pgconn tells the columns only with the first row.
		if at < 0 && len(r.Rows) > 0 {
			t.Fatalf("SHOW %s has no column %s", what, column)
		}
		for _, row := range r.Rows {
			if string(row[at]) == value {
				n++
			}
		}
	}
	return n
}

// goroutines is the daemon's own count, from its metrics.
func (d *daemon) goroutines(t *testing.T) int {
	t.Helper()
	resp, err := d.http.Get("http://" + d.AdminAddr() + "/metrics")
	check(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s", resp.Status)
	}
	found := -1
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if value, ok := strings.CutPrefix(sc.Text(), "go_goroutines "); ok {
			f, err := strconv.ParseFloat(value, 64)
			check(t, err)
			found = int(f)
		}
	}
	if found < 0 {
		t.Fatal("/metrics has no go_goroutines")
	}
	return found
}

// eventually waits until holds; what tells what is missing where it never does.
func eventually(t *testing.T, holds func() bool, what func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what())
		}
	}
}

// rss reads the daemon's resident memory.
func (d *daemon) rss(t *testing.T) int64 {
	t.Helper()
	n, err := process.RSS(d.proc.PID())
	check(t, err)
	return n
}

// rssWatch samples resident memory until it is stopped. Its goroutine owns
// peak and err until stopped is closed.
type rssWatch struct {
	pid     int
	begin   int64
	quit    chan struct{}
	stopped chan struct{}
	peak    int64
	err     error
}

func (d *daemon) watchRSS(t *testing.T) *rssWatch {
	t.Helper()
	n := d.rss(t)
	w := &rssWatch{pid: d.proc.PID(), begin: n, peak: n, quit: make(chan struct{}), stopped: make(chan struct{})}
	go w.run()
	return w
}

func (w *rssWatch) run() {
	defer close(w.stopped)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := process.RSS(w.pid)
		if err != nil {
			w.err = err
			return
		}
		w.peak = max(w.peak, n)
		select {
		case <-w.quit:
			return
		case <-tick.C:
		}
	}
}

// growth stops the sampling and returns by how much memory grew at its peak.
func (w *rssWatch) growth(t *testing.T) int64 {
	t.Helper()
	close(w.quit)
	<-w.stopped
	check(t, w.err)
	return w.peak - w.begin
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// atMost fails the test where memory grew by the limit or more.
func atMost(t *testing.T, what string, growth, limit int64) {
	t.Helper()
	t.Logf("%s: resident memory grew by %s", what, mebibytes(growth))
	if growth >= limit {
		t.Errorf("%s: resident memory grew by %s, the limit is %s", what, mebibytes(growth), mebibytes(limit))
	}
}
