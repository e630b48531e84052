package stream

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Closing a descriptor that the runtime watches is announced to its scheduler, as a call
// that may block. In a process that has little to do that wakes the watchdog, which
// then looks around every 20 µs for a while: a seventh of what a connection cost. So
// a socket is closed by putting something else in the place of its descriptor, which
// needs no announcement, and the descriptors are closed many at a time.

// MaxClosing is how many descriptors wait to be closed, for up to a second, before all
// of them are.
const MaxClosing = 32

// closing are descriptors whose sockets are closed.
var closing struct {
	mu    sync.Mutex
	files []*os.File // guarded by mu
}

// placeholder takes the place of a socket, -1 for none. It is never read or written.
var placeholder = sync.OnceValue(func() int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1
	}
	return fd
})

// closeSocket closes p's socket now, and its descriptor later. Nobody reads or writes p
// any more; who has it lent by control finds the placeholder, which has nothing to
// read and no addresses. No other descriptor is the same socket's: the runtime's poller
// would go on watching it.
func (p *plug) closeSocket() {
	f, ours := p.nc.(*fileConn)
	if !ours || placeholder() < 0 {
		_ = p.nc.Close()
		return
	}
	var errno syscall.Errno
	err := p.rc.Control(func(fd uintptr) {
		_, _, errno = syscall.RawSyscall(unix.SYS_DUP3, uintptr(placeholder()), fd, unix.O_CLOEXEC)
	})
	if err != nil || errno != 0 {
		_ = p.nc.Close()
		return
	}
	closing.mu.Lock()
	closing.files = append(closing.files, f.File)
	full := len(closing.files) == MaxClosing
	closing.mu.Unlock()
	if full {
		CloseDescriptors()
	}
}

// CloseDescriptors closes the descriptors that are left of sockets, and returns how many
// there were. Whoever serves connections calls it once a second, when descriptors run
// out, and when it ends.
func CloseDescriptors() int {
	closing.mu.Lock()
	files := closing.files
	closing.files = nil
	closing.mu.Unlock()
	for _, f := range files {
		_ = f.Close()
	}
	return len(files)
}
