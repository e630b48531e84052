//go:build !linux || 386 || race || plainio

package stream

import (
	"errors"
	"syscall"
)

// Raw says whether this build issues raw system calls.
const Raw = false

// sysRead reads from a non-blocking descriptor. len(p) must not be 0.
func sysRead(fd int, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(fd, p)
	return n, errnoOf(err)
}

// sysWrite writes to a non-blocking descriptor. len(p) must not be 0.
func sysWrite(fd int, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(fd, p)
	return n, errnoOf(err)
}

func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}
