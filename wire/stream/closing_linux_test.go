package stream

import (
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// closings are how many descriptors wait to be closed.
func closings() int {
	closing.mu.Lock()
	defer closing.mu.Unlock()
	return len(closing.files)
}

// placeholders are how many descriptors of the process are what takes a socket's place,
// but for that itself.
func placeholders(t *testing.T) (n int) {
	t.Helper()
	id := infos(t, "eventfd-id:", placeholder())
	if len(id) != 1 {
		t.Fatalf("the placeholder has %d ids", len(id))
	}
	all, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		fd, _ := strconv.Atoi(e.Name())
		if slices.Equal(infos(t, "eventfd-id:", fd), id) {
			n++
		}
	}
	return n - 1
}

// infos are the words behind key in what the system tells of a descriptor.
func infos(t *testing.T, key string, fd int) (values []string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return nil // the directory's own
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key {
			values = append(values, fields[1])
		}
	}
	return values
}

// watched reports whether an epoll set of the process has an entry for fd.
func watched(t *testing.T, fd int) bool {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		set, _ := strconv.Atoi(e.Name())
		if slices.Contains(infos(t, "tfd:", set), strconv.Itoa(fd)) {
			return true
		}
	}
	return false
}

// TestCloseSocket: the peer sees the end at once; descriptors are closed later, and few
// wait for it.
func TestCloseSocket(t *testing.T) {
	CloseDescriptors()
	for n := range 2*MaxClosing + 5 {
		c, peer := pair(t, "tcp", false)
		fd := int(c.fd)
		if !watched(t, fd) {
			t.Fatal("the runtime does not watch the socket: the test looks in the wrong place")
		}
		c.Close(0)
		if k, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the peer reads %d bytes, %v", k, err)
		}
		if watched(t, fd) {
			t.Fatal("the socket is watched behind its end")
		}
		if err := c.Write([]byte("x"), false); err == nil {
			t.Fatal("written behind the end")
		}
		if c.Peek() || c.Pending() {
			t.Fatal("there is something behind the end")
		}
		if got, want := closings(), (n+1)%MaxClosing; got != want {
			t.Fatalf("after %d connections %d descriptors wait, want %d", n+1, got, want)
		}
	}
	if got := placeholders(t); got != 5 {
		t.Fatalf("%d descriptors are left, want 5", got)
	}
	CloseDescriptors()
	if got := placeholders(t); got != 0 || closings() != 0 {
		t.Fatalf("%d descriptors are left and %d known, want none", got, closings())
	}
}

// TestCloseBesideOthers: those who have a connection without running it may go on while it
// is closed, and afterwards.
func TestCloseBesideOthers(t *testing.T) {
	eachKind(t, func(t *testing.T, network string, over bool) {
		for range 3 {
			c, peer := pair(t, network, over)
			p := pump(t, c, nil)
			stop := make(chan struct{})
			var others sync.WaitGroup
			for _, f := range []func(){
				c.Wake, func() { c.Peek() }, func() { c.Pending() }, func() { c.HungUp() }, func() { c.Unsent() },
				func() { c.RemoteAddr() }, func() { c.Quiet() }, func() { _ = c.Write([]byte("x"), false) }, c.Interrupt,
			} {
				others.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(10 * time.Microsecond):
							f()
						}
					}
				})
			}
			_ = peer.Close()
			p.join()
			CloseDescriptors() // the number may be another's from here on
			time.Sleep(time.Millisecond)
			close(stop)
			within(t, "the others end", others.Wait)
		}
	})
}

// TestCloseReset: the same with a reset.
func TestCloseReset(t *testing.T) {
	c, peer := pair(t, "tcp", false)
	c.Reset()
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("the peer reads %v, want a reset", err)
	}
}

// TestCloseLent: a socket that somebody else may have is not watched any more either,
// and lives on.
func TestCloseLent(t *testing.T) {
	CloseDescriptors()
	c, peer := pair(t, "tcp", false)
	fd, other := int(c.fd), -1
	if err := c.Control(func(fd uintptr) { other, _ = unix.Dup(int(fd)) }); err != nil || other < 0 {
		t.Fatal(err)
	}
	defer unix.Close(other)
	c.Close(0)
	if watched(t, fd) {
		t.Fatal("the runtime watches a socket that it has not")
	}
	if closings() != 0 {
		t.Fatal("its descriptor waits to be closed")
	}
	if _, err := unix.Write(other, []byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = peer.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}
