package stream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Everything that is sent comes, in whatever pieces, and goes back.
func TestEcho(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		pump(t, c, func(p *pumped) {
			p.data = func(b []byte) bool { return c.Write(b, true) == nil }
		})
		sent := pattern(3 << 20)
		go func() {
			for b := sent; len(b) > 0; {
				n := min(len(b), 1+len(b)%70001)
				if _, err := peer.Write(b[:n]); err != nil {
					return // the reader says so
				}
				b = b[n:]
			}
		}()
		if got := readAll(t, peer, len(sent)); !bytes.Equal(got, sent) {
			t.Error("the echo differs")
		}
	})
}

// A pump that has read all that was there hears of what comes later, also of
// bytes that TLS had read along with the last of the login.
func TestParkAndReadOn(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		if _, err := peer.Write([]byte("early")); err != nil {
			t.Fatal(err)
		}
		p := pump(t, c, nil)
		want := []byte("early")
		p.await(len(want))
		for i := range 50 {
			b := pattern(i + 1)
			if _, err := peer.Write(b); err != nil {
				t.Fatal(err)
			}
			want = append(want, b...)
			if got := p.await(len(want)); !bytes.Equal(got, want) {
				t.Fatalf("after %d writes: %q", i, got)
			}
		}
		if err := peer.Close(); err != nil {
			t.Fatal(err)
		}
		p.join()
		if p.readErr != io.EOF {
			t.Errorf("the end is %v", p.readErr)
		}
	})
}

func TestHandlerEndsPump(t *testing.T) {
	c, peer := pair(t, "tcp", false)
	p := pump(t, c, func(p *pumped) { p.data = func([]byte) bool { return false } })
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	p.join()
	if p.err != nil {
		t.Errorf("Pump returns %v", p.err)
	}
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the peer reads %v", err)
	}
}

// Wake is heard by a pump that parks, by one that is about to, and by one
// that works; the connection reads on afterwards.
func TestWake(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		var wakes atomic.Int32
		heard := make(chan struct{}, 100)
		c.Wake() // before it runs
		p := pump(t, c, func(p *pumped) {
			p.woken = func() bool {
				wakes.Add(1)
				heard <- struct{}{}
				return true
			}
		})
		await := func(when string) {
			t.Helper()
			select {
			case <-heard:
			case <-time.After(patience):
				t.Fatalf("a Wake %s was not heard", when)
			}
		}
		await("before the pump ran")
		for range 20 {
			c.Wake()
			await("while it parked")
		}
		if _, err := peer.Write([]byte("on")); err != nil {
			t.Fatal(err)
		}
		p.await(2)
	})
}

func TestWakeWhileWorking(t *testing.T) {
	c, peer := pair(t, "tcp", false)
	working, woken := make(chan struct{}), make(chan struct{})
	resume := make(chan struct{})
	p := pump(t, c, func(p *pumped) {
		p.data = func([]byte) bool {
			close(working)
			<-resume
			return true
		}
		p.woken = func() bool {
			close(woken)
			return false
		}
	})
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-working
	c.Wake()
	close(resume)
	p.join()
	<-woken
}

// Wake leaves writes alone.
func TestWakeSparesWrites(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		pump(t, c, func(p *pumped) { p.woken = func() bool { return true } })
		sent := pattern(20 << 20)
		written := make(chan error, 1)
		go func() { written <- c.Write(sent, true) }()
		for range 10 {
			c.Wake()
		}
		if got := readAll(t, peer, len(sent)); !bytes.Equal(got, sent) {
			t.Error("what came differs")
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
	})
}

// large does not fit the buffers of any socket here.
const large = 24 << 20

// C2: somebody who waits for a peer that does not read is freed.
func TestInterruptFreesWrite(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, _ := pair(t, network, over)
		written := make(chan error, 1)
		go func() { written <- c.Write(make([]byte, large), true) }()
		awaitBusy(t, c)
		p := pump(t, c, nil)
		c.Interrupt()
		select {
		case err := <-written:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write returns %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Write does not return")
		}
		if c.Write([]byte("x"), false) == nil {
			t.Error("a write after a lost one succeeds")
		}
		p.join()
	})
}

func awaitBusy(t *testing.T, c *Conn) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		c.wmu.Lock()
		busy := c.busy
		c.wmu.Unlock()
		if busy {
			return
		}
		runtime.Gosched()
	}
	t.Fatal("nothing waits for the peer")
}

// What the socket does not take is queued, and sent in order.
func TestQueue(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		sent := pattern(large)
		within(t, "Write", func() {
			for b := sent; len(b) > 0; {
				n := min(len(b), 1<<20)
				if err := c.Write(b[:n], false); err != nil {
					t.Error(err)
				}
				b = b[n:]
			}
		})
		if !c.Queued() {
			t.Error("nothing is queued")
		}
		if got := readAll(t, peer, len(sent)); !bytes.Equal(got, sent) {
			t.Error("what came differs")
		}
		within(t, "Flushed", func() {
			if err := c.Flushed(); err != nil {
				t.Error(err)
			}
		})
		if c.Queued() {
			t.Error("something is still queued")
		}
		within(t, "Write", func() { _ = c.Write([]byte("again"), true) })
		if got := readAll(t, peer, 5); string(got) != "again" {
			t.Errorf("%q", got)
		}
		c.Close(0)
	})
}

// A Write that must not wait does not, also when another one does.
func TestQueueBehindBlockedWrite(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		sent := pattern(large)
		written := make(chan error, 1)
		go func() { written <- c.Write(sent, true) }()
		awaitBusy(t, c)
		within(t, "Write", func() { _ = c.Write([]byte("behind"), false) })
		within(t, "LastWords", func() { c.LastWords([]byte("last")) })
		if !c.Queued() {
			t.Error("nothing is queued")
		}
		third := make(chan error, 1)
		go func() { third <- c.Write([]byte("third"), true) }()
		if got := readAll(t, peer, len(sent)); !bytes.Equal(got, sent) {
			t.Error("what came differs")
		}
		if got := readAll(t, peer, 15); string(got) != "behindlastthird" {
			t.Errorf("behind it came %q", got)
		}
		for _, ch := range []chan error{written, third} {
			if err := <-ch; err != nil {
				t.Error(err)
			}
		}
		c.Close(0)
	})
}

// Many writers at once: every write comes whole.
func TestWritesAreWhole(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		const writers, rounds, size = 8, 40, 40001
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				b := bytes.Repeat([]byte{byte(w)}, size)
				for r := range rounds {
					if err := c.Write(b, r%2 == w%2); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		counts := map[byte]int{}
		for range writers * rounds {
			b := readAll(t, peer, size)
			if !bytes.Equal(b, bytes.Repeat(b[:1], size)) {
				t.Fatal("two writes are mixed")
			}
			counts[b[0]]++
		}
		all.Wait()
		for w := range writers {
			if counts[byte(w)] != rounds {
				t.Errorf("writer %d came through %d times", w, counts[byte(w)])
			}
		}
		c.Close(0)
	})
}

// Close sends what is queued to a peer that reads, as long as it may linger.
func TestCloseLingers(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		sent := pattern(large)
		if err := c.Write(sent, false); err != nil {
			t.Fatal(err)
		}
		p := pump(t, c, func(p *pumped) { p.linger = patience })
		c.Wake() // woken ends it
		got, err := io.ReadAll(peer)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes came, %v", len(got), len(sent), err)
		}
		p.join()
	})
}

// Close does not wait for a peer that does not read, and leaves no goroutine.
func TestCloseDrops(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		for _, linger := range []time.Duration{0, 10 * time.Millisecond} {
			c, _ := pair(t, network, over)
			if err := c.Write(make([]byte, large), false); err != nil {
				t.Fatal(err)
			}
			within(t, "Close", func() { c.Close(linger) })
			if c.Write([]byte("x"), false) == nil {
				t.Error("a closed connection takes bytes")
			}
			c.Wake() // harmless
			c.Interrupt()
			if c.Peek() {
				t.Error("a closed connection has a peer that is gone")
			}
		}
	})
}

// A blocked Write ends with its connection.
func TestCloseFreesWrite(t *testing.T) {
	c, _ := pair(t, "tcp", false)
	written := make(chan error, 1)
	go func() { written <- c.Write(make([]byte, large), true) }()
	awaitBusy(t, c)
	within(t, "Close", func() { c.Close(0) })
	if err := <-written; err == nil {
		t.Error("the lost write is a success")
	}
}

func TestReset(t *testing.T) {
	c, peer := pair(t, "tcp", false)
	c.Reset()
	if _, err := peer.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the peer reads %v", err)
	}
}

// C4: a pump that never runs dry lets others run.
func TestYield(t *testing.T) {
	sock, peer := rawPair(t, "tcp")
	_ = sock.plug.Load().control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20) })
	_ = peer.(*net.TCPConn).SetWriteBuffer(4 << 20)
	// What can be read without the sender's help.
	filled := 0
	if err := peer.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for filled < 4*yieldAfter {
		n, err := peer.Write(make([]byte, 64<<10))
		filled += n
		if err != nil {
			break
		}
	}
	if filled < 2*yieldAfter {
		t.Fatalf("the socket takes only %d bytes", filled)
	}
	c, err := New(sock, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ran atomic.Bool
	seen, total := false, 0
	err = c.Pump(func() bool {
		if total == 0 {
			go ran.Store(true)
		}
		buf := GetBuffer()
		defer PutBuffer(buf)
		for total < 2*yieldAfter {
			n, _, err := c.TryRead(buf[:])
			if err != nil {
				t.Error(err)
				return false
			}
			total += n
		}
		seen = ran.Load()
		return false
	}, func() bool { return true })
	if err != nil || !seen {
		t.Errorf("nobody else ran while %d bytes were read; %v", total, err)
	}
	c.Close(0)
}

// All that others may do, while it works, for the race detector.
func TestManyHands(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		c, peer := pair(t, network, over)
		p := pump(t, c, func(p *pumped) {
			p.data = func(b []byte) bool {
				p.keep(b)
				return c.Write(b, false) == nil
			}
			p.woken = func() bool { return true }
		})
		stop := make(chan struct{})
		var all sync.WaitGroup
		for _, f := range []func(){c.Wake, func() { c.Peek() }, func() { c.Unconfirmed() }, func() { c.Queued() }, func() { _ = c.Flushed() }} {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						f()
						runtime.Gosched()
					}
				}
			})
		}
		want := pattern(1 << 20)
		go func() {
			if _, err := peer.Write(want); err != nil {
				t.Error(err)
			}
		}()
		if got := readAll(t, peer, len(want)); !bytes.Equal(got, want) {
			t.Error("the echo differs")
		}
		close(stop)
		all.Wait()
		p.await(len(want))
	})
}
