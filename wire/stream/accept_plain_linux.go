//go:build 386 || race || plainio

package stream

import (
	"net"
	"syscall"
)

// sysAccept takes a connection from a listening descriptor that does not block.
func sysAccept(fd int) (int, net.Addr, syscall.Errno) {
	n, sa, err := syscall.Accept4(fd, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
	if err != nil {
		return n, nil, errnoOf(err)
	}
	return n, netAddr(sa), 0
}
