package measure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgpoold/test/postgres"
)

// partial is the beginning of a message: after it a short read parks the pump.
var partial = []byte{'Q', 0, 0}

// farewells are ways to leave. The trap in all of them: bytes and the end
// reach the poller as one event.
var farewells = []struct {
	name  string
	login bool
	leave func(c *net.TCPConn) error
}{
	{"3 bytes and FIN in one segment", true, func(c *net.TCPConn) error {
		return errors.Join(cork(c), write(c, partial), c.Close())
	}},
	{"3 bytes, then FIN", true, func(c *net.TCPConn) error {
		return errors.Join(write(c, partial), c.Close())
	}},
	{"3 bytes, then half-close", true, func(c *net.TCPConn) error {
		return errors.Join(write(c, partial), c.CloseWrite())
	}},
	{"3 bytes, then RST", true, func(c *net.TCPConn) error {
		return errors.Join(c.SetLinger(0), write(c, partial), c.Close())
	}},
	{"RST", true, func(c *net.TCPConn) error {
		return errors.Join(c.SetLinger(0), c.Close())
	}},
	{"Terminate and FIN in one segment", true, func(c *net.TCPConn) error {
		return errors.Join(cork(c), write(c, message('X', nil)), c.Close())
	}},
	{"a query and FIN in one segment", true, func(c *net.TCPConn) error {
		return errors.Join(cork(c), write(c, queryMessage("SELECT 1")), c.Close())
	}},
	{"BEGIN and FIN in one segment", true, func(c *net.TCPConn) error {
		return errors.Join(cork(c), write(c, queryMessage("BEGIN")), c.Close())
	}},
	{"a Parse without Sync and FIN in one segment", true, func(c *net.TCPConn) error {
		return errors.Join(cork(c), write(c, message('P', []byte("\x00SELECT 1\x00\x00\x00"))), c.Close())
	}},
	{"before login: 3 bytes and FIN in one segment", false, func(c *net.TCPConn) error {
		return errors.Join(cork(c), write(c, []byte{0, 0, 0}), c.Close())
	}},
	{"before login: 3 bytes, then RST", false, func(c *net.TCPConn) error {
		return errors.Join(c.SetLinger(0), write(c, []byte{0, 0, 0}), c.Close())
	}},
}

func write(c *net.TCPConn, p []byte) error {
	_, err := c.Write(p)
	return err
}

// load is clients that query without a pause until it is stopped.
type load struct {
	quit atomic.Bool
	wg   sync.WaitGroup
	mu   sync.Mutex
	err  error // guarded by mu
}

func startLoad(t *testing.T, d *daemon, clients int) *load {
	t.Helper()
	l := &load{}
	for range clients {
		c, err := rawLogin(d.Addr(), database)
		check(t, err)
		t.Cleanup(func() { c.conn.Close() })
		l.wg.Go(func() { l.query(c) })
	}
	return l
}

func (l *load) query(c *rawClient) {
	for !l.quit.Load() {
		if err := c.query("SELECT 1"); err != nil {
			l.mu.Lock()
			l.err = errors.Join(l.err, err)
			l.mu.Unlock()
			return
		}
	}
}

// stop ends the load; the clients stay connected.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.quit.Store(true)
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		t.Errorf("a client of the load: %v", l.err)
	}
}

// burn keeps the processors busy until the returned function is called, so
// that the daemon's poller comes late.
func burn() (stop func()) {
	var quit atomic.Bool
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for !quit.Load() {
			}
		})
	}
	return func() {
		quit.Store(true)
		wg.Wait()
	}
}

// fillPool opens all of the pool's servers.
func fillPool(t *testing.T, d *daemon, size int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	errs := make([]error, size)
	var ready, wg sync.WaitGroup
	ready.Add(size)
	for i := range size {
		wg.Go(func() {
			c, err := connectTo(ctx, d.Addr(), database)
			if err != nil {
				ready.Done()
				errs[i] = err
				return
			}
			_, err = c.Exec(ctx, "BEGIN; SELECT 1").ReadAll()
			ready.Done()
			ready.Wait()
			errs[i] = errors.Join(err, c.Exec(ctx, "COMMIT").Close(), c.Close(ctx))
		})
	}
	wg.Wait()
	check(t, errors.Join(errs...))
}

// settled is how many goroutines a daemon has when those that wait for more clients have
// ended.
func settled(t *testing.T, d *daemon) int {
	t.Helper()
	for {
		n := d.goroutines(t)
		time.Sleep(2500 * time.Millisecond) // more than workers wait
		if d.goroutines(t) >= n {
			return n
		}
	}
}

// TestLeavingLeavesNothing: 500 clients leave at once in each way, idle and
// under load. No session, no goroutine, and no server stays behind with them.
func TestLeavingLeavesNothing(t *testing.T) {
	postgres.RequireFull(t)
	const leavers, poolSize, others = 500, 20, 8
	d := startDaemon(t, poolSize)
	console := d.connect(t, "pgbouncer")
	for _, f := range farewells {
		for _, busy := range []bool{false, true} {
			name := f.name
			if busy {
				name += ", under load"
			}
			t.Run(name, func(t *testing.T) {
				fillPool(t, d, poolSize)
				eventually(t, func() bool { return show(t, console, "CLIENTS", "database", database) == 0 },
					func() string { return "clients of before are still there" })
				clients := 0
				var l *load
				base := settled(t, d)
				if busy {
					clients = others
					l = startLoad(t, d, others)
					defer func() { l.stop(t) }()
				}
				conns := make([]*net.TCPConn, leavers)
				for i := range conns {
					if f.login {
						c, err := rawLogin(d.Addr(), database)
						check(t, err)
						conns[i] = c.conn
						continue
					}
					c, err := net.Dial("tcp", d.Addr())
					check(t, err)
					conns[i] = c.(*net.TCPConn)
				}
				if f.login {
					listed := 0
					eventually(t, func() bool {
						listed = show(t, console, "CLIENTS", "database", database)
						return listed == leavers+clients
					}, func() string {
						return fmt.Sprintf("SHOW CLIENTS lists %d clients, %d are there", listed, leavers+clients)
					})
				}
				stop := func() {}
				if busy {
					stop = burn()
				}
				for _, c := range conns {
					if err := f.leave(c); err != nil {
						t.Error(err)
					}
				}
				stop()
				defer func() {
					for _, c := range conns {
						c.Close()
					}
				}()
				var sessions, goroutines int
				eventually(t, func() bool {
					sessions = show(t, console, "CLIENTS", "database", database)
					return sessions == clients
				}, func() string {
					return fmt.Sprintf("%d of %d sessions stayed", sessions-clients, leavers)
				})
				// Each of the load's clients is a goroutine of the daemon at most.
				eventually(t, func() bool {
					goroutines = d.goroutines(t)
					return goroutines <= base+clients
				}, func() string {
					return fmt.Sprintf("%d goroutines stayed", goroutines-base-clients)
				})
				eventually(t, func() bool {
					return busy || show(t, console, "SERVERS", "state", "active") == 0
				}, func() string { return "a server is still attached to a client that left" })
			})
		}
	}
}

// TestServersThatLeave: idle servers that PostgreSQL ends (FATAL and FIN as
// one event) are gone at once, under load too, and no client that was between
// transactions sees an error.
func TestServersThatLeave(t *testing.T) {
	postgres.RequireFull(t)
	const poolSize = 20
	d := startDaemon(t, poolSize)
	cluster := postgres.ForTest(t)
	console := d.connect(t, "pgbouncer")
	for round := range 10 {
		fillPool(t, d, poolSize)
		rows, err := cluster.Query(t.Context(), database, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND state = 'idle'")
		check(t, err)
		if len(rows) < poolSize {
			t.Fatalf("%d servers are open, want %d", len(rows), poolSize)
		}
		stop := burn()
		for _, row := range rows {
			check(t, cluster.Exec(t.Context(), database, "SELECT pg_terminate_backend("+row[0]+")"))
		}
		stop()
		left := ""
		eventually(t, func() bool {
			left = ""
			for _, row := range rows {
				if show(t, console, "SERVERS", "remote_pid", row[0]) > 0 {
					left = row[0]
				}
			}
			return left == ""
		}, func() string {
			return fmt.Sprintf("round %d: SHOW SERVERS still lists the server with PID %s", round, left)
		})
		exec(t, d.connect(t, database), "SELECT 1")
	}
}
