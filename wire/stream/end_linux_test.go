package stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sweep does what the coarse clock does, until all pumps have ended.
func sweep(t *testing.T, all []*pumped) (hidden int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		left := 0
		for _, p := range all {
			select {
			case <-p.done:
				continue
			default:
			}
			left++
			if p.Unconfirmed() && p.Peek() {
				hidden++
			}
		}
		if left == 0 {
			return hidden
		}
	}
	left := 0
	for _, p := range all {
		select {
		case <-p.done:
		default:
			left++
		}
	}
	t.Fatalf("%d of %d connections have not ended", left, len(all))
	return 0
}

// C1: an end that comes with the last bytes is found.
func TestHiddenEnd(t *testing.T) {
	for _, r := range []struct {
		name    string
		network string
		leave   func(t *testing.T, peer net.Conn)
	}{
		{"bytes and FIN in one segment", "tcp", func(t *testing.T, peer net.Conn) {
			cork(t, peer)
			write(t, peer, "bye")
			peer.Close()
		}},
		{"write and close", "tcp", func(t *testing.T, peer net.Conn) {
			write(t, peer, "bye")
			peer.Close()
		}},
		{"write and shutdown", "tcp", func(t *testing.T, peer net.Conn) {
			write(t, peer, "bye")
			if err := peer.(*net.TCPConn).CloseWrite(); err != nil {
				t.Error(err)
			}
		}},
		{"write and reset", "tcp", func(t *testing.T, peer net.Conn) {
			write(t, peer, "bye")
			if err := peer.(*net.TCPConn).SetLinger(0); err != nil {
				t.Error(err)
			}
			peer.Close()
		}},
		{"Unix: write and close", "unix", func(t *testing.T, peer net.Conn) {
			write(t, peer, "bye")
			peer.Close()
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			n := 500
			if testing.Short() {
				n = 100
			}
			// Something keeps the processor busy, so that bytes and end are
			// seen as one.
			var stop atomic.Bool
			defer stop.Store(true)
			go burn(&stop)
			l := listen(t, r.network)
			all := make([]*pumped, n)
			peers := make([]net.Conn, n)
			for i := range all {
				peer, err := net.Dial(r.network, l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				nc, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				sock, err := NewSocket(nc)
				if err != nil {
					t.Fatal(err)
				}
				c, err := New(sock, nil)
				if err != nil {
					t.Fatal(err)
				}
				peers[i] = peer
				all[i] = pump(t, c, nil)
			}
			for _, peer := range peers {
				r.leave(t, peer)
			}
			hidden := sweep(t, all)
			for _, peer := range peers {
				peer.Close()
			}
			t.Logf("%d of %d ends were hidden", hidden, n)
		})
	}
}

// burn keeps a processor busy until stop.
func burn(stop *atomic.Bool) {
	for !stop.Load() {
	}
}

func write(t *testing.T, to net.Conn, text string) {
	t.Helper()
	if _, err := to.Write([]byte(text)); err != nil {
		t.Error(err)
	}
}

// An end that hides must not be forgotten when a look at the socket was too
// early.
func TestPeekTooEarly(t *testing.T) {
	c, peer := pair(t, "tcp", false)
	p := pump(t, c, nil)
	// A read that finds nothing, for an edge that announced what had been read
	// already, confirms the connection by itself.
	for n := 3; ; n += 3 {
		write(t, peer, "abc")
		p.await(n)
		if c.Unconfirmed() {
			break
		}
	}
	if c.Peek() {
		t.Fatal("a peer that is there is gone")
	}
	if c.Unconfirmed() {
		t.Error("a confirmed connection is unconfirmed")
	}
	peer.Close()
	p.join()
	if p.readErr != io.EOF {
		t.Errorf("the end is %v", p.readErr)
	}
}

// Ending tells whether the peer had read all that was sent to it.
func TestEnding(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, r := range []struct {
			name      string
			leave     func(t *testing.T, peer net.Conn)
			reset, ok bool
			patience  time.Duration
		}{
			{"all read", func(t *testing.T, peer net.Conn) {
				readAll(t, peer, 5)
				peer.Close()
			}, false, true, patience},
			{"nothing read", func(t *testing.T, peer net.Conn) { peer.Close() }, true, true, patience},
			{"read in part", func(t *testing.T, peer net.Conn) {
				readAll(t, peer, 3)
				peer.Close()
			}, true, true, patience},
			{"last words and all read", func(t *testing.T, peer net.Conn) {
				readAll(t, peer, 5)
				write(t, peer, "farewell")
				peer.Close()
			}, false, true, patience},
			{"stays", func(*testing.T, net.Conn) {}, false, false, 20 * time.Millisecond},
		} {
			t.Run(network+": "+r.name, func(t *testing.T) {
				c, peer := pair(t, network, false)
				if err := c.Write([]byte("hello"), false); err != nil {
					t.Fatal(err)
				}
				// The pump ends before the peer does.
				c.Wake()
				if err := c.Pump(func() bool { return true }, func() bool { return false }); err != nil {
					t.Fatal(err)
				}
				r.leave(t, peer)
				if reset, ok := c.Ending(r.patience); reset != r.reset || ok != r.ok {
					t.Errorf("reset %v, ok %v", reset, ok)
				}
				c.Close(0)
			})
		}
	}
}

func TestUnacked(t *testing.T) {
	c, _ := pair(t, "tcp", false)
	defer c.Close(0)
	if err := c.Write(make([]byte, large), false); err != nil {
		t.Fatal(err)
	}
	if n, ok := c.Unacked(); !ok || n == 0 {
		t.Errorf("%d bytes are not acknowledged, known %v", n, ok)
	}
}

// TLS may have to answer something while it reads: here a key update.
func TestKeyUpdate(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	l := listen(t, "tcp")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := exec.CommandContext(ctx, openssl, "s_client", "-connect", l.Addr().String(), "-tls1_3", "-brief")
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := client.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	says := bufio.NewScanner(said)
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = client.Process.Kill()
		_ = client.Wait()
	}()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	sock, err := NewSocket(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := serverTLS()
	if err != nil {
		t.Fatal(err)
	}
	layer := tls.Server(sock, cfg)
	if err := layer.Handshake(); err != nil {
		t.Fatal(err)
	}
	c, err := New(sock, layer)
	if err != nil {
		t.Fatal(err)
	}
	p := pump(t, c, func(p *pumped) {
		p.data = func(b []byte) bool {
			p.keep(b)
			return c.Write(b, false) == nil
		}
	})
	ask := func(line string) {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	ask("one")
	p.await(4)
	echoed := make(chan string, 16)
	go func() {
		defer close(echoed)
		buf := make([]byte, 1<<10)
		for {
			n, err := out.Read(buf)
			if n > 0 {
				echoed <- string(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	for _, command := range []string{"K", "k", "K"} { // K asks for an update in return
		ask(command)
		for says.Scan() && says.Text() != "KEYUPDATE" { // its input buffer is one command
		}
	}
	ask("two")
	p.await(8)
	got, late := "", time.After(patience)
	for len(got) < len("one\ntwo\n") {
		select {
		case s, ok := <-echoed:
			if !ok {
				t.Fatalf("the peer ended after %q", got)
			}
			got += s
		case <-late:
			t.Fatalf("the peer has read %q", got)
		}
	}
	if got != "one\ntwo\n" {
		t.Errorf("the peer has read %q", got)
	}
}

// cork keeps the last bytes back until the connection is closed.
func cork(t *testing.T, nc net.Conn) {
	t.Helper()
	rc, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1)
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}
