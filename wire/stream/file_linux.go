package stream

import (
	"net"
	"os"
	"strconv"
	"syscall"
)

// fileConn is a connection over a descriptor. Package net's needs five system
// calls more to come into being, and twice the memory.
type fileConn struct {
	*os.File
	peer net.Addr // nil: the system knows
}

// newFileConn takes a connected socket that does not block, and its peer's address
// where it is known.
func newFileConn(fd int, peer net.Addr) *fileConn {
	return &fileConn{os.NewFile(uintptr(fd), "client"), peer}
}

// LocalAddr asks the system.
func (c *fileConn) LocalAddr() net.Addr { return c.addr(syscall.Getsockname) }

// RemoteAddr is the peer's address.
func (c *fileConn) RemoteAddr() net.Addr {
	if c.peer != nil {
		return c.peer
	}
	return c.addr(syscall.Getpeername)
}

func (c *fileConn) addr(ask func(int) (syscall.Sockaddr, error)) (a net.Addr) {
	rc, err := c.SyscallConn()
	if err == nil {
		err = rc.Control(func(fd uintptr) { a = addrOf(int(fd), ask) })
	}
	if err != nil {
		return &net.TCPAddr{}
	}
	return a
}

// addrOf is a socket's address; that of a connection which the peer has reset
// has none any more, but is still of its kind.
func addrOf(fd int, ask func(int) (syscall.Sockaddr, error)) net.Addr {
	sa, err := ask(fd)
	if err != nil {
		if sa, err = syscall.Getsockname(fd); err != nil {
			return &net.TCPAddr{}
		}
		if _, ok := sa.(*syscall.SockaddrUnix); !ok {
			return &net.TCPAddr{}
		}
	}
	return netAddr(sa)
}

// netAddr is an address as package net has them.
func netAddr(sa syscall.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *syscall.SockaddrInet6:
		a := &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		if sa.ZoneId != 0 {
			a.Zone = strconv.Itoa(int(sa.ZoneId))
			if ifi, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				a.Zone = ifi.Name
			}
		}
		return a
	case *syscall.SockaddrUnix:
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}
	}
	return &net.TCPAddr{}
}
