//go:build linux && !386 && !race && !plainio

package stream

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Raw says whether this build issues raw system calls.
const Raw = true

// sysRead reads from a socket that does not block. len(p) must not be 0. recv and
// send know that it is a socket, and cost a twentieth less than read and write.
func sysRead(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sysWrite writes to a socket that does not block. len(p) must not be 0.
func sysWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sysAccept takes a connection from a listening descriptor that does not block.
func sysAccept(fd int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0, 0)
	return int(n), errno
}
