//go:build linux

package measure

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// childRole is the environment variable that turns this test binary into a
// client process. Such a process prints "ready" when its connections stand,
// and ends when its standard input does.
const childRole = "PGPOOLD_MEASURE_ROLE"

// The roles. Arguments are the address and the number of connections.
const (
	roleIdle         = "idle"          // logs in, runs one query each, and waits
	roleIdleTLS      = "idle-tls"      // the same over TLS
	roleIdlePrepared = "idle-prepared" // prepares and runs 100 statements each, and waits
	roleFlood        = "flood"         // never logs in: one byte every ten seconds
)

func runChild(role string, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s takes an address and a number", role)
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	switch role {
	case roleIdle:
		return idleClients(n, func() (any, error) {
			c, err := rawLogin(args[0], database)
			if err != nil {
				return nil, err
			}
			return c, c.query("SELECT 1")
		})
	case roleIdleTLS:
		return idleClients(n, func() (any, error) {
			c, err := driverLogin(args[0], "require")
			if err != nil {
				return nil, err
			}
			return c, c.Exec(context.Background(), "SELECT 1").Close()
		})
	case roleIdlePrepared:
		return idleClients(n, func() (any, error) { return prepared(args[0], 100) })
	case roleFlood:
		return floodClients(args[0], n)
	}
	return fmt.Errorf("unknown role %q", role)
}

// driverLogin connects with a driver.
func driverLogin(addr, sslmode string) (*pgconn.PgConn, error) {
	return pgconn.Connect(context.Background(), fmt.Sprintf("postgres://%s@%s/%s?sslmode=%s", user, addr, database, sslmode))
}

// prepared connects a client that prepares n statements and runs each.
func prepared(addr string, n int) (*pgconn.PgConn, error) {
	c, err := driverLogin(addr, "disable")
	for i := 0; i < n && err == nil; i++ {
		name := fmt.Sprintf("statement_%d", i)
		if _, err = c.Prepare(context.Background(), name, fmt.Sprintf("SELECT %d, $1::int", i), nil); err == nil {
			_, err = c.ExecPrepared(context.Background(), name, [][]byte{[]byte("1")}, nil, nil).Close()
		}
	}
	return c, err
}

// idleClients logs n clients in, 16 at a time.
func idleClients(n int, login func() (any, error)) error {
	clients := make([]any, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for w := range errs {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				c, err := login()
				if err != nil {
					errs[w] = fmt.Errorf("client %d: %w", i, err)
					return
				}
				clients[i] = c
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(clients) // a collected connection is a closed one
	return err
}

// floodClients keeps n connections open that never get through their login:
// each sends the first byte of a startup packet, and another every ten
// seconds. One that is closed by the other side is opened anew.
func floodClients(addr string, n int) error {
	conns := make([]net.Conn, n)
	opened, failed := 0, 0
	send := func(i int) {
		if conns[i] != nil {
			// A write to a connection that the other side has closed succeeds
			// once; reading tells at once.
			conns[i].SetReadDeadline(time.Now().Add(time.Microsecond))
			_, err := conns[i].Read(make([]byte, 256))
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				if _, err = conns[i].Write([]byte{0}); err == nil {
					return
				}
			}
			conns[i].Close()
			conns[i] = nil
		}
		c, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			failed++
			return
		}
		opened++
		if _, err := c.Write([]byte{0}); err != nil {
			c.Close()
			return
		}
		conns[i] = c
	}
	for i := range conns {
		send(i)
	}
	fmt.Println("ready")
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			fmt.Printf("opened %d connections, %d attempts failed\n", opened, failed)
			return nil
		case <-tick.C:
			for i := range conns {
				send(i)
			}
		}
	}
}

// child is a client process.
type child struct {
	cmd *osexec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild runs this binary in a role and waits until it is ready.
func startChild(t *testing.T, role, addr string, n int) *child {
	t.Helper()
	exe, err := os.Executable()
	check(t, err)
	cmd := osexec.Command(exe, addr, strconv.Itoa(n))
	cmd.Env = append(os.Environ(), childRole+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	c := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() { c.stop(t) })
	line, err := c.out.ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the %s clients are not ready: %q, %v", role, line, err)
	}
	return c
}

// stop ends the process and returns what it said last.
func (c *child) stop(t *testing.T) string {
	t.Helper()
	if c.in == nil {
		return ""
	}
	c.in.Close()
	c.in = nil
	last, err := io.ReadAll(c.out)
	if err := errors.Join(err, c.cmd.Wait()); err != nil {
		t.Errorf("client process: %v", err)
	}
	return string(last)
}
