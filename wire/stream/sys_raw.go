//go:build linux && !race && !plainio

package stream

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Raw says whether this build issues raw system calls.
const Raw = true

// sysRead reads from a non-blocking descriptor. len(p) must not be 0.
func sysRead(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sysWrite writes to a non-blocking descriptor. len(p) must not be 0.
func sysWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
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
