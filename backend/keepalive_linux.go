package backend

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control sets TCP_USER_TIMEOUT on a new TCP socket.
func (k Keepalive) control(network, _ string, rc syscall.RawConn) error {
	if k.UserTimeout <= 0 || network == "unix" {
		return nil
	}
	var serr error
	err := rc.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(k.UserTimeout/time.Millisecond))
	})
	if err != nil {
		return err
	}
	return serr
}
