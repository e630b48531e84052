//go:build 386 || race || plainio

package stream

import "syscall"

// sysAccept takes a connection from a listening descriptor that does not block.
func sysAccept(fd int) (int, syscall.Errno) {
	n, _, err := syscall.Accept4(fd, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
	return n, errnoOf(err)
}
