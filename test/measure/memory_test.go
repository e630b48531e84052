//go:build linux

package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgpoold/test/measure/process"
	"pgpoold/test/postgres"
)

// Big things pass through the daemon in chunks: its resident memory may grow
// by this much.
const streamLimit = 32 << 20

// stall is how long the receiving side of a big transfer does not read: time
// enough for an unbounded buffer to fill.
const stall = 2 * time.Second

// warmDaemon is a daemon that has a server and has served a query.
func warmDaemon(t *testing.T) *daemon {
	t.Helper()
	d := startDaemon(t, 20)
	exec(t, d.connect(t, database), "SELECT 1")
	return d
}

// stallingWriter counts what it is given and does not take anything at first.
type stallingWriter struct {
	n int64
}

func (w *stallingWriter) Write(p []byte) (int, error) {
	if w.n == 0 {
		time.Sleep(stall)
	}
	w.n += int64(len(p))
	return len(p), nil
}

func TestMemoryCopyOut(t *testing.T) {
	d := warmDaemon(t)
	c := d.connect(t, database)
	const rows = 2 << 20
	watch := d.watchRSS(t)
	w := &stallingWriter{}
	_, err := c.CopyTo(t.Context(), w, fmt.Sprintf("COPY (SELECT repeat('x', 1023) FROM generate_series(1, %d)) TO STDOUT", rows))
	growth := watch.growth(t)
	check(t, err)
	if w.n != rows*1024 {
		t.Errorf("%d bytes arrived, want %d", w.n, rows*1024)
	}
	atMost(t, "COPY TO of 2 GiB", growth, streamLimit)
}

// copySource makes rows of 64 KiB: first one on which the server stalls.
type copySource struct {
	first, row io.Reader
	left       int
	line       string
}

func (s *copySource) Read(p []byte) (int, error) {
	if s.row == nil {
		s.row = s.first
	}
	n, err := s.row.Read(p)
	if errors.Is(err, io.EOF) && s.left > 0 {
		s.left--
		s.row, err = strings.NewReader(s.line), nil
	}
	return n, err
}

func TestMemoryCopyIn(t *testing.T) {
	d := warmDaemon(t)
	c := d.connect(t, database)
	exec(t, c, "DROP TABLE IF EXISTS measure_sink; CREATE UNLOGGED TABLE measure_sink (t text)")
	const rows = 32 << 10
	src := &copySource{first: strings.NewReader("stall\n"), left: rows, line: strings.Repeat("y", 64<<10-1) + "\n"}
	watch := d.watchRSS(t)
	// The rows are received and parsed, and then dropped: nothing fills the disk.
	_, err := c.CopyFrom(t.Context(), src, fmt.Sprintf(
		"COPY measure_sink FROM STDIN WHERE CASE WHEN t = 'stall' THEN pg_sleep(%d) IS NOT NULL ELSE length(t) <> %d END", int(stall/time.Second), 64<<10-1))
	growth := watch.growth(t)
	check(t, err)
	if src.left != 0 {
		t.Errorf("%d rows were not sent", src.left)
	}
	if got := string(exec(t, c, "SELECT count(*) FROM measure_sink")[0][0]); got != "1" {
		t.Errorf("the table holds %s rows, want the one that stalled: a row arrived changed", got)
	}
	exec(t, c, "DROP TABLE measure_sink")
	atMost(t, "COPY FROM of 2 GiB", growth, streamLimit)
}

const hugeValue = 500 << 20

func TestMemoryHugeValueOut(t *testing.T) {
	d := warmDaemon(t)
	c, err := rawLogin(d.Addr(), database)
	check(t, err)
	defer c.conn.Close()
	watch := d.watchRSS(t)
	_, err = c.conn.Write(queryMessage(fmt.Sprintf("SELECT repeat('x', %d)", hugeValue)))
	check(t, err)
	time.Sleep(stall)
	largest := 0
	err = c.untilReady(func(_ byte, length int) { largest = max(largest, length) })
	growth := watch.growth(t)
	check(t, err)
	if largest < hugeValue {
		t.Errorf("the largest message has %d bytes", largest)
	}
	atMost(t, "a value of 500 MiB from the server", growth, streamLimit)
}

func TestMemoryHugeValueIn(t *testing.T) {
	d := warmDaemon(t)
	c, err := rawLogin(d.Addr(), database)
	check(t, err)
	defer c.conn.Close()
	watch := d.watchRSS(t)
	_, err = c.conn.Write(message('P', []byte("\x00SELECT length($1::bytea)\x00\x00\x00")))
	check(t, err)
	// Bind: no names, one parameter in binary, results in text.
	bind := []byte{0, 0, 0, 1, 0, 1, 0, 1}
	bind = binary.BigEndian.AppendUint32(bind, hugeValue)
	const results = 2 // bytes: no result formats
	head := binary.BigEndian.AppendUint32([]byte{'B'}, uint32(4+len(bind)+hugeValue+results))
	_, err = c.conn.Write(append(head, bind...))
	check(t, err)
	chunk := make([]byte, 1<<20)
	for range hugeValue / len(chunk) {
		_, err = c.conn.Write(chunk)
		check(t, err)
	}
	end := append([]byte{0, 0}, message('E', []byte{0, 0, 0, 0, 0})...)
	_, err = c.conn.Write(append(end, message('S', nil)...))
	check(t, err)
	var types []byte
	err = c.untilReady(func(typ byte, _ int) { types = append(types, typ) })
	growth := watch.growth(t)
	check(t, err)
	if string(types) != "12DCZ" {
		t.Errorf("the replies are %q", types)
	}
	atMost(t, "a value of 500 MiB from the client", growth, streamLimit)
}

// TestMemoryManyBigRows: 200 clients, more than there are servers, and none of
// them reads before all have asked.
func TestMemoryManyBigRows(t *testing.T) {
	d := warmDaemon(t)
	const clients, rows, size = 200, 5, 1 << 20
	watch := d.watchRSS(t)
	conns := make([]*rawClient, clients)
	for i := range conns {
		c, err := rawLogin(d.Addr(), database)
		check(t, err)
		defer c.conn.Close()
		conns[i] = c
		_, err = c.conn.Write(queryMessage(fmt.Sprintf("SELECT repeat('x', %d) FROM generate_series(1, %d)", size, rows)))
		check(t, err)
	}
	time.Sleep(stall)
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i, c := range conns {
		wg.Go(func() {
			n := 0
			errs[i] = c.untilReady(func(typ byte, length int) {
				if typ == 'D' && length > size {
					n++
				}
			})
			if errs[i] == nil && n != rows {
				errs[i] = fmt.Errorf("client %d got %d rows", i, n)
			}
		})
	}
	wg.Wait()
	growth := watch.growth(t)
	check(t, errors.Join(errs...))
	atMost(t, "200 clients with rows of 1 MiB", growth, streamLimit)
}

// needDescriptors skips where a process may not open that many.
func needDescriptors(t *testing.T, n uint64) {
	t.Helper()
	var lim syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim))
	if lim.Max < n {
		t.Skipf("a process may open %d files here, this test needs %d", lim.Max, n)
	}
}

// measureIdle connects clients that each run a query, or do more in another
// role, and then wait. It returns what they take of resident memory while all are
// new, and when they have been quiet for long enough to be parked and what they
// needed before is given back: above what the daemon takes that has done the same
// without them.
func measureIdle(t *testing.T, d *daemon, role string, clients int) (fresh, parked int64) {
	t.Helper()
	console := d.connect(t, "pgbouncer")
	settle := func(clients int) int64 {
		if n := show(t, console, "CLIENTS", "database", database); n < clients {
			t.Errorf("SHOW CLIENTS lists %d clients, want %d", n, clients)
		}
		exec(t, d.connect(t, database), "SELECT 1")
		eventually(t, func() bool { return d.goroutines(t) < 300 }, func() string { return "clients that do nothing have goroutines" })
		for range 3 {
			d.get(t, "/debug/pprof/heap?gc=1")
		}
		time.Sleep(2 * calm)
		return d.rss(t)
	}
	before := settle(0)
	const processes = 3
	for range processes {
		startChild(t, role, d.Addr(), clients/processes)
	}
	fresh = d.rss(t) - before
	parked = settle(clients) - before
	t.Logf("%d clients: %d bytes each, and %d when parked", clients, fresh/int64(clients), parked/int64(clients))
	return fresh, parked
}

// calm is how often a daemon looks whether it can give memory back.
const calm = 10 * time.Second

// TestMemoryIdleClients: 9,000 clients that each ran a query and now wait.
func TestMemoryIdleClients(t *testing.T) {
	postgres.RequireFull(t)
	needDescriptors(t, 9500)
	fresh, parked := measureIdle(t, startDaemon(t, 20), roleIdle, 9000)
	atMost(t, "9,000 idle clients", fresh, 60<<20)
	atMost(t, "9,000 parked clients", parked, 28<<20)
}

// TestMemoryIdleTLS: 3,000 with TLS.
func TestMemoryIdleTLS(t *testing.T) {
	postgres.RequireFull(t)
	needDescriptors(t, 3500)
	pem, err := postgres.NewTLS("localhost", "127.0.0.1")
	check(t, err)
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	check(t, os.WriteFile(cert, pem.Cert, 0o600))
	check(t, os.WriteFile(key, pem.Key, 0o600))
	d := startDaemon(t, 20, func(p *process.Pgpoold) { p.Cert, p.Key = cert, key })
	_, parked := measureIdle(t, d, roleIdleTLS, 3000)
	atMost(t, "3,000 parked clients with TLS", parked, 3000*14<<10)
}

// TestMemoryIdlePrepared: 3,000 that have prepared 100 statements each, the same
// ones.
func TestMemoryIdlePrepared(t *testing.T) {
	postgres.RequireFull(t)
	needDescriptors(t, 3500)
	_, parked := measureIdle(t, startDaemon(t, 20), roleIdlePrepared, 3000)
	atMost(t, "3,000 parked clients with 100 statements", parked, 3000*16<<10)
}

// get reads a page of the admin port.
func (d *daemon) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := d.http.Get("http://" + d.AdminAddr() + path)
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	return string(body)
}

// TestMemoryLoginFlood: 5,000 connections that never finish their login.
func TestMemoryLoginFlood(t *testing.T) {
	postgres.RequireFull(t)
	needDescriptors(t, 5500)
	d := warmDaemon(t)
	const clients = 10
	conns := make([]*rawClient, clients)
	for i := range conns {
		c, err := rawLogin(d.Addr(), database)
		check(t, err)
		defer c.conn.Close()
		conns[i] = c
	}
	queryAll := func(when string) {
		t.Helper()
		for i, c := range conns {
			check(t, c.conn.SetDeadline(time.Now().Add(patience)))
			if err := c.query("SELECT 1"); err != nil {
				t.Fatalf("%s: client %d: %v", when, i, err)
			}
		}
	}
	queryAll("before the flood")
	watch := d.watchRSS(t)
	flood := startChild(t, roleFlood, d.Addr(), 5000)
	queryAll("all 5,000 connected")
	honest := d.connect(t, database)
	exec(t, honest, "SELECT 1")
	// Into the flood's second and third byte.
	for end := time.Now().Add(25 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		queryAll("during the flood")
	}
	exec(t, d.connect(t, database), "SELECT 1")
	growth := watch.growth(t)
	t.Logf("the flood: %s", strings.TrimSpace(flood.stop(t)))
	exec(t, d.connect(t, database), "SELECT 1")
	atMost(t, "5,000 connections without a login", growth, 50_000_000)
}
