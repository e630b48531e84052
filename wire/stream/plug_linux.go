package stream

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A parked connection keeps a descriptor and gives up all that the runtime has
// for it, which is several times as much as a Conn. A descriptor cannot be taken
// back from the runtime, but it can be copied before it is closed there.

// unplug parks the descriptor, and returns what is to be closed then. The
// parker's mu is held, and no pump runs.
func (c *Conn) unplug(wakes uint32) (*plug, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.busy || c.closed || c.werr != nil {
		return nil, unix.EBUSY
	}
	fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := c.parker.watch(c, fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	c.parkedAt = wakes
	c.fd = int32(fd)
	return c.sock.plug.Swap(nil), nil
}

// replug gives the descriptor back to the runtime. It is the pump's.
func (c *Conn) replug() *plug {
	c.wmu.Lock()
	nc := newFileConn(int(c.fd), nil)
	rc, err := nc.SyscallConn()
	if err != nil {
		panic(err) // only a file that is nil has none
	}
	p := &plug{nc, rc}
	c.sock.plug.Store(p)
	if c.released != nil {
		c.released.Broadcast()
	}
	c.wmu.Unlock()
	// Who wanted the pump while there was no deadline to set.
	if c.interrupted.Load() {
		_ = p.setDeadline(longAgo)
	} else if c.wakes.Load() != c.parkedAt || c.parking.Load() == pumpAsked {
		_ = p.setReadDeadline(longAgo)
	}
	return p
}

// awaitPlug waits for replug.
func (c *Conn) awaitPlug() *plug {
	c.Wake()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for c.sock.plug.Load() == nil {
		c.await()
	}
	return c.sock.plug.Load()
}

// control lends f the descriptor, which stays open meanwhile.
func (c *Conn) control(f func(fd uintptr)) error {
	if p := c.sock.plug.Load(); p != nil {
		if err := p.control(f); err == nil || c.sock.plug.Load() == p {
			return err
		} // else it has just been parked
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	f(uintptr(c.fd))
	return nil
}

// parkedAddr is LocalAddr and RemoteAddr of a parked connection.
func (c *Conn) parkedAddr(peer bool) (a net.Addr) {
	ask := syscall.Getsockname
	if peer {
		ask = syscall.Getpeername
	}
	if err := c.control(func(fd uintptr) { a = addrOf(int(fd), ask) }); err != nil {
		return &net.TCPAddr{}
	}
	return a
}
