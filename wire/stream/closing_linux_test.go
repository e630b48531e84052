package stream

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
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

// placeholders are how many descriptors of the process are what takes a socket's place.
func placeholders(t *testing.T) (n int) {
	t.Helper()
	var want, is unix.Stat_t
	if err := unix.Fstat(placeholder(), &want); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		fd, _ := strconv.Atoi(e.Name())
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.Contains(link, "eventfd") && unix.Fstat(fd, &is) == nil && fd != placeholder() && sameFile(t, fd) {
			n++
		}
	}
	return n
}

// sameFile reports whether fd is another descriptor of the placeholder.
func sameFile(t *testing.T, fd int) bool {
	t.Helper()
	const kcmpFile = 0
	pid := os.Getpid()
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(pid), kcmpFile, uintptr(fd), uintptr(placeholder()), 0)
	if errno != 0 {
		t.Skipf("kcmp: %v", errno)
	}
	return order == 0
}

// watched reports whether an epoll set of the process has an entry for fd.
func watched(t *testing.T, fd int) bool {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		f, err := os.Open("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "tfd:" && fields[1] == strconv.Itoa(fd) {
				f.Close()
				return true
			}
		}
		f.Close()
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
		c.Wake()
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
