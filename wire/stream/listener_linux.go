package stream

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Listener accepts clients from a listening socket with one system call each,
// beside the one that says that there are no more, and what makes the runtime
// watch a descriptor. Package net's needs a dozen.
type Listener struct {
	net.Listener // open for as long as this one: it names the address and lends the descriptor
	own          *os.File
	rc           syscall.RawConn
	set          func(fd int) error // sets a connection's options; owned by Accept and those who come before it
	inherits     bool               // connections inherit them; owned as set
	inherited    bool               // and whoever is accepted from now on has them from the socket; owned by Accept
	closed       atomic.Bool

	// What onReadable has found; owned by Accept.
	accept func(uintptr) bool // onReadable; immutable
	fd     int
	peer   net.Addr
	errno  syscall.Errno
}

// NewListener is l with another Accept, or l itself where that is not possible.
// Closing it closes l.
func NewListener(l net.Listener) net.Listener {
	f, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return l
	}
	own, err := f.File()
	if err != nil {
		return l
	}
	rc, err := own.SyscallConn()
	if err == nil {
		err = own.SetDeadline(time.Time{}) // fails where the runtime does not watch the descriptor
	}
	if err != nil {
		_ = own.Close()
		return l
	}
	_ = placeholder() // while there are descriptors
	mine := &Listener{Listener: l, own: own, rc: rc}
	mine.accept = mine.onReadable
	return mine
}

// Prepare has set called for the socket, from which its connections inherit,
// and for those that it has already; or for each, where the socket does not take
// it. It is called before Accept.
func (l *Listener) Prepare(set func(fd int) error) {
	l.set, l.inherited, l.inherits = set, false, false
	_ = l.rc.Control(func(fd uintptr) { l.inherits = set(int(fd)) == nil })
}

// Accept waits for a client. Only one goroutine may call it.
func (l *Listener) Accept() (net.Conn, error) {
	err := l.rc.Read(l.accept)
	fd, peer, errno := l.fd, l.peer, l.errno
	l.peer = nil
	switch {
	case l.closed.Load():
		if err == nil && errno == 0 {
			_ = syscall.Close(fd)
		}
		return nil, net.ErrClosed
	case err != nil:
		return nil, err
	case errno != 0:
		return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: os.NewSyscallError("accept4", errno)}
	}
	if l.set != nil && !l.inherited {
		_ = l.set(fd) // it may be gone already, which reading it tells
	}
	return newFileConn(fd, peer), nil
}

// onReadable takes a client, if there is one.
func (l *Listener) onReadable(listening uintptr) bool {
	for {
		switch l.fd, l.peer, l.errno = sysAccept(int(listening)); l.errno {
		case syscall.EINTR, syscall.ECONNABORTED:
		case syscall.EAGAIN:
			l.inherited = l.inherits // all that were there before are in
			return false
		default:
			return true
		}
	}
}

// SetDeadline is for Accept.
func (l *Listener) SetDeadline(t time.Time) error { return l.own.SetDeadline(t) }

// Close ends Accept.
func (l *Listener) Close() error {
	l.closed.Store(true)
	_ = l.own.Close()
	return l.Listener.Close()
}
