package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrWouldBlock is TryRead's answer when there is nothing to read.
var ErrWouldBlock error = wouldBlock{}

// wouldBlock is a temporary net.Error, the only kind after which crypto/tls
// keeps a connection usable.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "nothing to read" }
func (wouldBlock) Timeout() bool   { return false }
func (wouldBlock) Temporary() bool { return true }

// Socket is the transport below a Conn. Until it is pumped it is a plain
// net.Conn, fit to be dialled, handed to crypto/tls and to a login library.
// Afterwards Read returns ErrWouldBlock instead of blocking and Write queues
// what TLS produced, because a TLS stream does not survive a failed write.
type Socket struct {
	plug    atomic.Pointer[plug] // nil: the descriptor is parked, see Conn.unplug
	timed   atomic.Bool          // a deadline has been set
	pumped  bool                 // set once, before the pump starts and before any other goroutine has the Conn
	drained bool                 // the last read of this turn was short: there is no more; owned by the pump
	fd      int                  // valid inside RawConn.Read's callback; owned by the pump

	encMu sync.Mutex
	enc   []byte // guarded by encMu: ciphertext that waits for the socket
}

// NewSocket wraps an accepted or dialled connection.
func NewSocket(nc net.Conn) (*Socket, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("connection has no descriptor")
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{}
	s.plug.Store(&plug{nc, rc})
	return s, nil
}

// plug is a descriptor that the runtime watches. What sets a deadline or lends
// the descriptor may be called without one, nil, and then fails.
type plug struct {
	nc net.Conn
	rc syscall.RawConn
}

func (p *plug) setReadDeadline(t time.Time) error {
	if p == nil {
		return net.ErrClosed
	}
	return p.nc.SetReadDeadline(t)
}

func (p *plug) setDeadline(t time.Time) error {
	if p == nil {
		return net.ErrClosed
	}
	return p.nc.SetDeadline(t)
}

func (p *plug) control(f func(fd uintptr)) error {
	if p == nil {
		return net.ErrClosed
	}
	return p.rc.Control(f)
}

// LocalAddr is the socket's; like what follows, but for Read and Write, it is
// for who has the socket before it is parked for the first time.
func (s *Socket) LocalAddr() net.Addr { return s.plug.Load().nc.LocalAddr() }

// RemoteAddr is the peer's address.
func (s *Socket) RemoteAddr() net.Addr { return s.plug.Load().nc.RemoteAddr() }

// Close closes the descriptor.
func (s *Socket) Close() error { return s.plug.Load().nc.Close() }

// Read waits for something to read, as a net.Conn's, until the socket is
// pumped; then it may only be called by the pump, and does not block.
func (s *Socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !s.pumped {
		return s.waitRead(p)
	}
	if s.drained {
		return 0, ErrWouldBlock
	}
	for {
		n, errno := sysRead(s.fd, p)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return 0, ErrWouldBlock
		case errno != 0:
			return 0, os.NewSyscallError("read", errno)
		case n == 0:
			return 0, io.EOF
		default:
			s.drained = n < len(p)
			return n, nil
		}
	}
}

// Write waits until p is written, as a net.Conn's, until the socket is pumped;
// then it queues.
func (s *Socket) Write(p []byte) (int, error) {
	if !s.pumped {
		return s.waitWrite(p)
	}
	s.encMu.Lock()
	s.enc = append(s.enc, p...)
	s.encMu.Unlock()
	return len(p), nil
}

// waitRead is a net.Conn's Read without what the scheduler does before and
// after a call that may block: this one does not. In a process that has little
// to do that wakes its watchdog, which costs more than a login's calls.
func (s *Socket) waitRead(p []byte) (int, error) {
	c := transfers.Get().(*transfer)
	n, errno, err := c.run(p, s.plug.Load().rc.Read, c.read)
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, s.failed("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// waitWrite is Write's counterpart to waitRead.
func (s *Socket) waitWrite(p []byte) (int, error) {
	c := transfers.Get().(*transfer)
	n, errno, err := c.run(p, s.plug.Load().rc.Write, c.write)
	if err == nil && errno != 0 {
		err = s.failed("write", errno)
	}
	return n, err
}

// WriteNow writes as much of p as the socket takes at once, without a deadline. It is for
// who has the socket before it is pumped.
func (s *Socket) WriteNow(p []byte) (int, error) {
	c := transfers.Get().(*transfer)
	n, errno, err := c.run(p, s.plug.Load().rc.Write, c.writeNow)
	if err == nil && errno != 0 && errno != syscall.EAGAIN {
		err = s.failed("write", errno)
	}
	return n, err
}

// transfer is one waitRead, waitWrite or WriteNow. It is used again, for what is passed
// to a RawConn takes memory.
type transfer struct {
	p                     []byte
	n                     int
	errno                 syscall.Errno
	read, write, writeNow func(fd uintptr) bool
}

var transfers = sync.Pool{New: func() any {
	c := &transfer{}
	c.read, c.write = c.onReadable, c.onWritable
	c.writeNow = func(fd uintptr) bool { c.onWritable(fd); return true }
	return c
}}

// run moves p, with f as often as wait calls it. c is somebody else's afterwards.
func (c *transfer) run(p []byte, wait func(func(uintptr) bool) error, f func(uintptr) bool) (n int, errno syscall.Errno, err error) {
	c.p, c.n, c.errno = p, 0, 0
	err = wait(f)
	n, errno = c.n, c.errno
	c.p = nil
	transfers.Put(c)
	return n, errno, err
}

func (c *transfer) onReadable(fd uintptr) bool {
	for {
		if c.n, c.errno = sysRead(int(fd), c.p); c.errno != syscall.EINTR {
			return c.errno != syscall.EAGAIN
		}
	}
}

func (c *transfer) onWritable(fd uintptr) bool {
	for c.n < len(c.p) {
		var n int
		switch n, c.errno = sysWrite(int(fd), c.p[c.n:]); c.errno {
		case 0:
			c.n += n
		case syscall.EINTR:
		default:
			return c.errno != syscall.EAGAIN
		}
	}
	return true
}

// failed is the error of a system call, as a net.Conn's.
func (s *Socket) failed(op string, errno syscall.Errno) error {
	local := s.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// SetDeadline is ignored once the socket is pumped: deadlines are the pump's
// way of being woken, and crypto/tls sets one when it closes.
func (s *Socket) SetDeadline(t time.Time) error {
	if s.pumped {
		return nil
	}
	s.timed.Store(true)
	return s.plug.Load().nc.SetDeadline(t)
}

// SetReadDeadline is ignored once the socket is pumped.
func (s *Socket) SetReadDeadline(t time.Time) error {
	if s.pumped {
		return nil
	}
	s.timed.Store(true)
	return s.plug.Load().nc.SetReadDeadline(t)
}

// SetWriteDeadline is ignored once the socket is pumped.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	if s.pumped {
		return nil
	}
	s.timed.Store(true)
	return s.plug.Load().nc.SetWriteDeadline(t)
}

// takeCiphertext empties the queue of what TLS wrote.
func (s *Socket) takeCiphertext() []byte {
	s.encMu.Lock()
	b := s.enc
	s.enc = nil
	s.encMu.Unlock()
	return b
}

// hasCiphertext reports whether TLS wrote something of its own, such as the
// answer to a key update, while it read.
func (s *Socket) hasCiphertext() bool {
	s.encMu.Lock()
	defer s.encMu.Unlock()
	return len(s.enc) > 0
}
