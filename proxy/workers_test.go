package proxy

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"pgpoold/test/canned"
	"pgpoold/wire/stream"
)

// crew is workers whose jobs wait until they are let go.
type crew struct {
	*workers
	t       *testing.T
	running atomic.Int32
	ended   atomic.Int32
	release chan struct{}
}

func newCrew(t *testing.T) *crew {
	c := &crew{workers: &workers{}, t: t, release: make(chan struct{})}
	c.run = func(job) {
		c.running.Add(1)
		<-c.release
		c.running.Add(-1)
		c.ended.Add(1)
	}
	return c
}

// begin has n jobs begun, all of which run at once.
func (c *crew) begin(n int) {
	c.t.Helper()
	for range n {
		c.do(job{s: &session{}})
	}
	c.until("all run", func() bool { return int(c.running.Load()) == n })
}

// end lets the n that run go, and waits until as many workers wait as shall.
func (c *crew) end(n, waiting int) {
	c.t.Helper()
	ended := c.ended.Load() + int32(n)
	for range n {
		c.release <- struct{}{}
	}
	c.until("all have ended", func() bool { return c.ended.Load() == ended && c.waiting() >= waiting })
	if got := c.waiting(); got != waiting {
		c.t.Fatalf("%d workers wait, want %d", got, waiting)
	}
}

func (c *crew) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}

func (c *crew) until(what string, is func() bool) {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("not so: %s", what)
		}
	}
}

// TestWorkers: who has done a job does the next, at most so many wait, and those that
// nobody needs end.
func TestWorkers(t *testing.T) {
	c := newCrew(t)
	c.begin(3)
	c.end(3, 3)
	coldest := c.idle[0]
	for range 5 { // had another goroutine been started, one more would wait
		c.begin(2)
		if c.waiting() != 1 || c.idle[0] != coldest {
			t.Fatal("it was not those who had waited for the shortest time")
		}
		c.end(2, 3)
	}
	c.tidy() // how many have waited is known from now on
	c.begin(2)
	c.end(2, 3)
	if c.tidy(); c.waiting() != 2 {
		t.Fatalf("%d workers wait where one was not needed, want 2", c.waiting())
	}
	if c.tidy(); c.waiting() != 0 {
		t.Fatalf("%d workers wait where none was needed, want 0", c.waiting())
	}
	c.begin(maxIdleWorkers + 20)
	c.end(maxIdleWorkers+20, maxIdleWorkers)

	// Close waits for who works, and nobody waits for more.
	c.begin(1)
	closed := make(chan struct{})
	go func() {
		c.close()
		close(closed)
	}()
	c.until("nobody waits", func() bool { return c.waiting() == 0 })
	select {
	case <-closed:
		t.Fatal("closed while one works")
	default:
	}
	c.release <- struct{}{}
	<-closed
	if c.waiting() != 0 {
		t.Fatal("a worker waits after close")
	}
}

// visit has n clients come, ask and leave.
func visit(t *testing.T, addr string, n int) {
	t.Helper()
	for range n {
		client, err := canned.Login(addr, "app", "db")
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Run(&canned.Transactions()[0]); err != nil {
			t.Fatal(err)
		}
		if err := client.Leave(); err != nil {
			t.Fatal(err)
		}
	}
}

// descriptors are how many the process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}

// TestNothingOfThoseWhoLeft: what waits for the next client, a worker and a descriptor, goes
// when none comes, and with the server.
func TestNothingOfThoseWhoLeft(t *testing.T) {
	px, addr := serveCanned(t)
	visit(t, addr, 1)          // its server is there, and all that is made once
	want := descriptors(t) - 1 // but for the client's
	if err := px.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want += 2 // the parker's
	visit(t, addr, 5)
	c := crew{workers: &px.workers, t: t}
	c.until("nobody waits", func() bool { return c.waiting() == 0 })
	c.until("all descriptors are closed", func() bool { return descriptors(t) <= want })

	visit(t, addr, 5)
	px.Close()
	if n := stream.CloseDescriptors(); n > 0 {
		t.Fatalf("%d descriptors are left after Close", n)
	}
}
