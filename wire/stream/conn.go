package stream

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// yieldAfter is how many bytes a pump handles in one turn before it lets
// others run.
const yieldAfter = 256 << 10

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// Conn is one pumped connection.
type Conn struct {
	// Immutable after New.
	sock   *Socket
	tls    *tls.Conn // nil: plain
	parker *Parker   // nil: never parked
	who    Parkable

	// Owned by the pump.
	ready func() bool // set by Pump
	turn  uint32      // bytes since the last yield
	ended bool
	dry   bool // of TLS: what was read last was all there was, here too

	// unconfirmed is set when the pump parked after a short read: bytes that
	// were followed by FIN before the poller looked are one edge, so an end of
	// file may be hiding. Peek finds it.
	unconfirmed atomic.Bool

	interrupted atomic.Bool   // every write fails
	parking     atomic.Uint32 // who runs it
	wakes       atomic.Uint32 // how often somebody has asked for woken
	parkedAt    uint32        // and had when the descriptor was parked; owned by who parks it and who runs it next

	flushing atomic.Bool // written under wmu: there is a queue, or the flush goroutine sends what was one
	busy     bool        // guarded by wmu: a blocking Write or the flush goroutine owns the socket's write side
	closed   bool        // guarded by wmu: the descriptor is given up
	lent     bool        // guarded by wmu: Control may have given the socket to another process
	wmu      sync.Mutex  // never held while the peer is waited for
	fd       int32       // valid until closed is set; changed by unplug, under wmu
	released *sync.Cond  // signalled when busy or flushing ends; made under wmu when first needed
	queue    []byte      // guarded by wmu: unsent bytes, behind which later ones go
	werr     error       // guarded by wmu: first write error
	wbuf     []byte      // owned by who owns the write side: what onWritable sends
	taken    atomic.Uint64
	wcall    error // as wbuf: onWritable's error
}

// New starts the second life of a connection: sock, or the TLS connection
// that runs over it. Nobody else may use either afterwards.
func New(sock *Socket, over *tls.Conn) (*Conn, error) {
	if sock.timed.Load() {
		if err := sock.plug.Load().setDeadline(time.Time{}); err != nil {
			return nil, err
		}
	}
	sock.pumped = true
	c := &Conn{sock: sock, tls: over}
	if err := sock.plug.Load().control(func(fd uintptr) { c.fd = int32(fd) }); err != nil {
		return nil, err
	}
	return c, nil
}

// TLS is the connection's TLS layer, or nil.
func (c *Conn) TLS() *tls.Conn { return c.tls }

// LocalAddr and RemoteAddr are the socket's.
func (c *Conn) LocalAddr() net.Addr { return c.addr(net.Conn.LocalAddr, false) }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.addr(net.Conn.RemoteAddr, true) }

func (c *Conn) addr(of func(net.Conn) net.Addr, peer bool) net.Addr {
	if p := c.sock.plug.Load(); p != nil {
		return of(p.nc)
	}
	return c.parkedAddr(peer)
}

// Pump runs until ready or woken returns false, or the connection is closed;
// or until it is parked, which it is only where woken returns true and who pumps
// it is quiet.
// It calls ready whenever there may be something to read, which must then
// TryRead until ErrWouldBlock or a short read; and woken after each Wake or
// Interrupt. Both run on the caller's goroutine.
func (c *Conn) Pump(ready, woken func() bool) error {
	c.ready = ready
	p := c.sock.plug.Load()
	if p == nil {
		p = c.replug()
	}
	readable := c.onReadable
	for {
		err := p.rc.Read(readable)
		if c.ended {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		// The deadline first, the reason second: a Wake that comes in between
		// is seen by woken or by the next round.
		if err := p.setReadDeadline(time.Time{}); err != nil {
			return err
		}
		wakes := c.wakes.Load()
		if !woken() {
			return nil
		}
		if c.parking.CompareAndSwap(pumpAsked, pumpRuns) && (c.tls == nil || c.dry) && c.who.Quiet() && c.park(wakes) {
			return ErrParked
		}
	}
}

func (c *Conn) onReadable(fd uintptr) bool {
	c.sock.fd, c.sock.drained = int(fd), false
	c.turn = 0
	c.unconfirmed.Store(false)
	if !c.ready() {
		c.ended = true
		return true
	}
	return false
}

// TryRead reads what is there. Only the pump's ready handler may call it.
// drained tells that the socket had no more, so that the handler can return.
func (c *Conn) TryRead(p []byte) (n int, drained bool, err error) {
	if c.tls != nil {
		n, err = c.tls.Read(p)
		if err != nil && errors.Is(err, ErrWouldBlock) {
			err = ErrWouldBlock
		}
		c.dry = err == ErrWouldBlock
		if c.sock.hasCiphertext() && c.wmu.TryLock() {
			// TLS answered something by itself. If somebody is writing, the
			// next write takes it along.
			c.wmu.Unlock()
			if werr := c.Write(nil, false); werr != nil && err == nil {
				err = werr
			}
		}
	} else {
		n, err = c.sock.Read(p)
		drained = n < len(p)
	}
	if c.sock.drained {
		c.unconfirmed.Store(true)
	}
	if err == ErrWouldBlock {
		drained = true
	}
	c.turn += uint32(n)
	if c.turn >= yieldAfter {
		c.turn = 0
		runtime.Gosched()
	}
	return n, drained, err
}

// Wake makes the pump call woken soon. It may be called by anybody, holding
// any lock, also before the pump has parked or when it is no longer running.
func (c *Conn) Wake() {
	c.wakes.Add(1)
	_ = c.sock.plug.Load().setReadDeadline(longAgo)
	c.unpark()
}

// Interrupt wakes the pump and fails every write, under way or to come. What
// was being written is lost, so the connection can only be closed afterwards.
func (c *Conn) Interrupt() {
	c.interrupted.Store(true)
	c.wakes.Add(1)
	_ = c.sock.plug.Load().setDeadline(longAgo)
	c.unpark()
}

// Write sends p. If block is false it never waits for the peer, also when
// another Write does: what the socket does not take is queued and a goroutine
// of the connection's own flushes it. The caller bounds the queue, by waiting
// (Flushed) before it takes in more that would have to be written. If block is
// true it returns when p has been handed to the system. Writes are sent whole
// and in order of arrival. An error is permanent.
func (c *Conn) Write(p []byte, block bool) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for block && c.busy {
		c.await()
	}
	if c.werr != nil {
		return c.werr
	}
	if c.tls != nil {
		if len(p) > 0 {
			if _, err := c.tls.Write(p); err != nil {
				c.werr = err
				return err
			}
		}
		p = c.sock.takeCiphertext()
	}
	if len(p) == 0 {
		return nil
	}
	if c.busy {
		c.queue = append(c.queue, p...)
		c.flushing.Store(true)
		return nil
	}
	rest, err := c.sendNow(p)
	if err != nil {
		c.werr = err
		return err
	}
	switch {
	case len(rest) == 0:
	case block:
		c.busy = true
		c.wmu.Unlock()
		err = c.send(rest)
		c.wmu.Lock()
		if err != nil {
			c.werr = err
		}
		if len(c.queue) > 0 && err == nil {
			go c.flush() // what came meanwhile
		} else {
			c.release()
		}
	default:
		c.queue = append(c.queue[:0], rest...)
		c.busy = true
		c.flushing.Store(true)
		go c.flush()
	}
	return err
}

// LastWords queues p, whatever the peer does. It never waits.
func (c *Conn) LastWords(p []byte) { _ = c.Write(p, false) }

// Flushed waits until nothing is queued.
func (c *Conn) Flushed() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for c.flushing.Load() {
		c.await()
	}
	return c.werr
}

// Queued reports whether bytes wait for the peer.
func (c *Conn) Queued() bool { return c.flushing.Load() }

// Unsent reports whether the socket is full and bytes wait for the peer to
// read, in whichever way they are written.
func (c *Conn) Unsent() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.busy
}

// Taken counts the bytes that went into a socket that had been full: as long
// as Unsent and Taken stay as they are the peer reads nothing.
func (c *Conn) Taken() uint64 { return c.taken.Load() }

// await waits, without wmu, for what release signals.
func (c *Conn) await() {
	if c.released == nil {
		c.released = sync.NewCond(&c.wmu)
	}
	c.released.Wait()
}

// release gives up the socket's write side. wmu is held.
func (c *Conn) release() {
	c.busy = false
	c.queue = nil
	c.flushing.Store(false)
	if c.released != nil {
		c.released.Broadcast()
	}
}

// flush sends the queue, blocking, until it is empty or the socket fails. It
// ends soon after Interrupt.
func (c *Conn) flush() {
	var chunk []byte
	c.wmu.Lock()
	for len(c.queue) > 0 && c.werr == nil {
		chunk, c.queue = c.queue, chunk[:0]
		c.wmu.Unlock()
		err := c.send(chunk)
		c.wmu.Lock()
		if err != nil {
			c.werr = err
		}
	}
	c.release()
	c.wmu.Unlock()
}

// sendNow writes what the socket takes of p at once and returns the rest. wmu
// is held, and nobody else owns the write side: that is what keeps the
// descriptor from being closed, as Close does it under wmu, too.
func (c *Conn) sendNow(p []byte) (rest []byte, err error) {
	switch {
	case c.closed:
		return p, net.ErrClosed
	case c.interrupted.Load():
		return p, os.ErrDeadlineExceeded
	}
	for len(p) > 0 {
		n, errno := sysWrite(int(c.fd), p)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return p, nil
		case errno != 0:
			return p, os.NewSyscallError("write", errno)
		default:
			p = p[n:]
		}
	}
	return nil, nil
}

// send writes p to the socket, waiting where it is full. The caller owns the
// socket's write side.
func (c *Conn) send(p []byte) error {
	c.wbuf, c.wcall = p, nil
	plugged := c.sock.plug.Load()
	if plugged == nil {
		plugged = c.awaitPlug()
	}
	err := plugged.rc.Write(c.onWritable)
	c.wbuf = nil
	if c.wcall != nil {
		err = c.wcall
	}
	return err
}

func (c *Conn) onWritable(fd uintptr) bool {
	for len(c.wbuf) > 0 {
		n, errno := sysWrite(int(fd), c.wbuf)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			c.wcall = os.NewSyscallError("write", errno)
			return true
		default:
			c.wbuf = c.wbuf[n:]
			c.taken.Add(uint64(n))
		}
	}
	return true
}

// Unconfirmed reports whether an end of file may be hiding behind the last
// short read.
func (c *Conn) Unconfirmed() bool { return c.unconfirmed.Load() }

// Peek looks whether the peer has closed or reset a connection whose pump is
// parked, and if so wakes the pump, which will read the end of file. It never
// blocks and may be called by anybody.
func (c *Conn) Peek() (gone bool) {
	// First, so that a short read behind the look is not forgotten.
	c.unconfirmed.Store(false)
	_ = c.control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = err == nil && n == 0 || err != nil && err != unix.EAGAIN && err != unix.EINTR && err != unix.ENOTSOCK // closed
	})
	if gone {
		c.Wake()
	}
	return gone
}

// Close closes the socket. Only the pump's goroutine may call it, after Pump
// has returned; then no callback of the connection runs any more but the
// flush goroutine's, which Close ends. linger, if positive, is how long it
// may go on sending what is queued.
func (c *Conn) Close(linger time.Duration) {
	if linger > 0 {
		_ = c.sock.plug.Load().nc.SetWriteDeadline(time.Now().Add(linger))
		if c.written() == nil && c.tls != nil {
			_ = c.tls.CloseWrite()
			_ = c.Write(nil, false)
			_ = c.written()
		}
	}
	_ = c.sock.plug.Load().nc.SetWriteDeadline(longAgo)
	c.wmu.Lock()
	for c.busy {
		c.await()
	}
	c.closed = true
	lent := c.lent
	c.wmu.Unlock()
	if lent {
		_ = c.sock.Close()
	} else {
		c.sock.plug.Load().closeSocket()
	}
}

// written waits until nobody writes.
func (c *Conn) written() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for c.busy {
		c.await()
	}
	return c.werr
}

// Reset closes the socket so that the peer sees a reset where the system
// allows it. Same rules as Close.
func (c *Conn) Reset() {
	_ = c.control(func(fd uintptr) {
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	c.Close(0)
}

// Unacked is the number of bytes sent that the peer's system has not
// acknowledged; ok is false where the system does not tell.
func (c *Conn) Unacked() (bytes int, ok bool) { return c.unacked() }

// Ending reads a connection whose pump has ended to its end, for at most
// patience, and tells how the peer closed it. reset is true if it closed
// while bytes that were sent to it had not been read, or had not arrived. ok
// is false if the end did not come. Only the pump's goroutine may call it,
// before Close.
func (c *Conn) Ending(patience time.Duration) (reset, ok bool) {
	p := c.sock.plug.Load()
	_ = p.setReadDeadline(time.Now().Add(patience))
	var b [512]byte
	err := p.rc.Read(func(fd uintptr) bool {
		for {
			n, errno := sysRead(int(fd), b[:])
			switch {
			case errno == syscall.EINTR:
			case errno == syscall.EAGAIN:
				return false
			case errno != 0:
				reset, ok = errno == syscall.ECONNRESET || errno == syscall.EPIPE, true
				return true
			case n == 0:
				sent, known := c.unacked()
				reset, ok = known && sent > 0, true
				return true
			}
		}
	})
	return reset, ok && err == nil
}
