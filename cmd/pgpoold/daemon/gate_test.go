package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Who connects to a gate that is held is let in when it goes on.
func TestGateHolds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(l, "tcp", "127.0.0.1:0", false)
	came := make(chan error, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := g.Accept()
			came <- err
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	enter := func() {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	enter()
	if err := <-came; err != nil {
		t.Fatal(err)
	}
	g.Hold()
	g.Hold()
	enter()
	select {
	case err := <-came:
		t.Fatalf("somebody was let in while it was held: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	g.GoOn()
	if err := <-came; err != nil {
		t.Fatal(err)
	}
	g.Hold()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-came; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept of a closed gate: %v", err)
	}
	<-ended
	enter() // the descriptor is still there
	g.GoOn()
	c, err := g.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("a closed gate is open")
	}
}

// The file of a Unix socket goes with the process that owns it last.
func TestGateKeepsTheFile(t *testing.T) {
	for _, leave := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		g := newGate(l, "unix", path, false)
		if leave {
			g.Leave()
		} else if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != leave {
			t.Errorf("leave %v: %v", leave, err)
		}
	}
}
