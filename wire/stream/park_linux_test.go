package stream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lodger is who pumps a connection that may be parked. It echoes what comes.
type lodger struct {
	*Conn
	t       testing.TB
	busy    atomic.Bool // it is not quiet
	woken   atomic.Int32
	stop    atomic.Bool
	lazy    atomic.Bool // it reads once when it might read more
	resumed atomic.Int32
	ended   chan struct{}
}

func lodge(t testing.TB, p *Parker, c *Conn) *lodger {
	g := &lodger{Conn: c, t: t, ended: make(chan struct{})}
	c.ParkWith(p, g)
	go g.run()
	t.Cleanup(func() {
		g.stop.Store(true)
		g.Wake()
		<-g.ended
	})
	return g
}

func (g *lodger) Quiet() bool { return !g.busy.Load() }

func (g *lodger) Resume() {
	g.resumed.Add(1)
	go g.run()
}

func (g *lodger) run() {
	err := g.Pump(g.ready, func() bool {
		g.woken.Add(1)
		return !g.stop.Load()
	})
	if err == ErrParked {
		return
	}
	g.Close(0)
	close(g.ended)
}

func (g *lodger) ready() bool {
	buf := GetBuffer()
	defer PutBuffer(buf)
	for {
		n, drained, err := g.TryRead(buf[:])
		if n > 0 && g.Write(buf[:n], false) != nil {
			return false
		}
		switch {
		case err == ErrWouldBlock:
			return true
		case err != nil:
			return false
		case drained, n > 0 && g.lazy.Load():
			return true
		}
	}
}

func newParker(t testing.TB) *Parker {
	t.Helper()
	p, err := NewParker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// until waits for what must come.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came: %s", what)
		}
	}
}

// TestPark: a parked connection has no goroutine; bytes, a Wake and the peer's
// end bring it back, and nothing is lost.
func TestPark(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		p := newParker(t)
		c, peer := pair(t, network, over)
		g := lodge(t, p, c)
		echo := func(text string) {
			t.Helper()
			if _, err := peer.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(text))
			if _, err := io.ReadFull(peer, got); err != nil || string(got) != text {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		park := func() {
			t.Helper()
			g.Park()
			until(t, "parked", func() bool { return p.Parked() == 1 })
		}
		echo("before")
		for range 3 {
			park()
			echo("parked")
			until(t, "running", func() bool { return p.Parked() == 0 })
		}
		park()
		if err := g.Write([]byte("to a parked one"), false); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(peer, make([]byte, len("to a parked one"))); err != nil {
			t.Fatal(err)
		}
		before := g.woken.Load()
		g.Wake()
		until(t, "woken", func() bool { return g.woken.Load() > before && p.Parked() == 0 })
		g.busy.Store(true)
		before = g.woken.Load()
		g.Park()
		until(t, "asked", func() bool { return g.woken.Load() > before })
		echo("busy")
		if n := p.Parked(); n != 0 {
			t.Errorf("%d parked that are busy", n)
		}
		g.busy.Store(false)
		park()
		_ = peer.Close()
		<-g.ended
	})
}

// TestParkEnds: what ends a connection ends a parked one.
func TestParkEnds(t *testing.T) {
	for name, end := range map[string]func(g *lodger, peer io.Closer){
		"the peer closes": func(_ *lodger, peer io.Closer) { _ = peer.Close() },
		"interrupt": func(g *lodger, _ io.Closer) {
			g.stop.Store(true)
			g.Interrupt()
		},
		"wake": func(g *lodger, _ io.Closer) {
			g.stop.Store(true)
			g.Wake()
		},
		"the parker is closed, then wake": func(g *lodger, _ io.Closer) {
			g.parker.Close()
			g.stop.Store(true)
			g.Wake()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParker(t)
			c, peer := pair(t, "tcp", false)
			g := lodge(t, p, c)
			g.Park()
			until(t, "parked", func() bool { return g.Parked() })
			end(g, peer)
			<-g.ended
			if n := p.Parked(); n != 0 {
				t.Errorf("%d are still parked", n)
			}
		})
	}
}

// TestParkStorm: parked and woken from all sides while bytes come; each comes
// back, in order, and never two pumps run.
func TestParkStorm(t *testing.T) {
	p := newParker(t)
	var wg sync.WaitGroup
	for range 8 {
		c, peer := pair(t, "tcp", false)
		g := lodge(t, p, c)
		quit := make(chan struct{})
		for _, do := range []func(){func() { g.Park() }, g.Wake, func() { g.Park() }} {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for {
					select {
					case <-quit:
						return
					default:
						do()
						time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
					}
				}
			}()
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer close(quit)
			for i := range 300 {
				sent := bytes.Repeat([]byte{byte(i)}, 1+rand.IntN(5000))
				if _, err := peer.Write(sent); err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, len(sent))
				if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("round %d: %v", i, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}

// TestParkedWrites: what is written to a parked connection, more than its socket
// takes, arrives whole; its addresses and its descriptor are known, and the
// runtime watches nothing of it.
func TestParkedWrites(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		p := newParker(t)
		c, peer := pair(t, network, over)
		g := lodge(t, p, c)
		local, remote := c.LocalAddr().String(), c.RemoteAddr().String()
		for _, block := range []bool{false, true} {
			until(t, "parked", func() bool { g.Park(); return p.Parked() == 1 })
			if c.sock.plug.Load() != nil {
				t.Fatal("the runtime has a parked descriptor")
			}
			if c.LocalAddr().String() != local || c.RemoteAddr().String() != remote {
				t.Errorf("it is %s from %s, and was %s from %s", c.LocalAddr(), c.RemoteAddr(), local, remote)
			}
			lent := false
			if err := c.Control(func(fd uintptr) { lent = fd > 0 }); err != nil || !lent {
				t.Errorf("its descriptor is not lent: %v", err)
			}
			if c.Pending() || c.Peek() {
				t.Error("something is to be read")
			}
			sent := bytes.Repeat([]byte("to a parked one "), 1<<20)
			wrote := make(chan error, 1)
			go func() { wrote <- c.Write(sent, block) }()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("it does not arrive: %v", err)
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			until(t, "all taken", func() bool { return !c.Queued() })
		}
	})
}

// bottle holds back what is written until it is pulled.
type bottle struct {
	net.Conn
	in   bool
	held []byte
}

func (c *bottle) Write(p []byte) (int, error) {
	if !c.in {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

// TestParkWithRecordsLeft: what TLS has taken from the socket and nobody has
// read wakes no poller, so such a connection is not parked.
func TestParkWithRecordsLeft(t *testing.T) {
	sock, raw := rawPair(t, "tcp")
	peer := &bottle{Conn: raw}
	cfg, err := serverTLS()
	if err != nil {
		t.Fatal(err)
	}
	layer, client := tls.Server(sock, cfg), tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := errors.Join(layer.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := New(sock, layer)
	if err != nil {
		t.Fatal(err)
	}
	g := &lodger{Conn: c, t: t, ended: make(chan struct{})}
	g.lazy.Store(true)
	c.ParkWith(newParker(t), g)
	go g.run()
	t.Cleanup(func() {
		g.stop.Store(true)
		g.Wake()
		<-g.ended
	})
	peer.in = true
	for _, text := range []string{"a", "b"} {
		if _, err := client.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	peer.in = false
	if _, err := raw.Write(peer.held); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1)
	for _, want := range []string{"a", "b"} {
		if _, err := io.ReadFull(client, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		g.Park()
	}
}
