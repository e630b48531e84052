//go:build linux && !386 && !race && !plainio

package stream

import (
	"bytes"
	"encoding/binary"
	"net"
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

// sysAccept takes a connection from a listening descriptor that does not block. Its peer's
// address is nil where the system is to be asked for it: without an Internet address, or
// with one that holds on one link only.
func sysAccept(fd int) (n int, peer net.Addr, errno syscall.Errno) {
	var sa syscall.RawSockaddrAny
	size := uint32(unsafe.Sizeof(sa))
	r, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0, 0)
	if errno != 0 {
		return -1, nil, errno
	}
	switch sa.Addr.Family {
	case syscall.AF_INET:
		in := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&sa))
		peer = &net.TCPAddr{IP: bytes.Clone(in.Addr[:]), Port: hostPort(&in.Port)}
	case syscall.AF_INET6:
		if in := (*syscall.RawSockaddrInet6)(unsafe.Pointer(&sa)); in.Scope_id == 0 {
			peer = &net.TCPAddr{IP: bytes.Clone(in.Addr[:]), Port: hostPort(&in.Port)}
		}
	}
	return int(r), peer, 0
}

// hostPort reads a port as it stands in an address.
func hostPort(p *uint16) int {
	return int(binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]))
}
