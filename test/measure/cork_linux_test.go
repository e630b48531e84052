package measure

import (
	"net"

	"golang.org/x/sys/unix"
)

// cork holds back what is written until the connection closes, so that the
// bytes and the FIN leave in one segment.
func cork(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1)
	})
	if err != nil {
		return err
	}
	return set
}
