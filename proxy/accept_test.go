package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestTemporary: what one client or a full system does to accept is no reason
// to let nobody in any more.
func TestTemporary(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM, syscall.ENETDOWN} {
		if !temporary(&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}) {
			t.Errorf("%v ends everything", errno)
		}
	}
	for _, err := range []error{syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK, io.EOF, errors.New("another")} {
		if temporary(&net.OpError{Op: "accept", Err: err}) {
			t.Errorf("%v is waited out", err)
		}
	}
}
