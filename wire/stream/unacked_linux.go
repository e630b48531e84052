package stream

import "golang.org/x/sys/unix"

// unacked is the number of bytes the peer's system has not acknowledged.
func (c *Conn) unacked() (bytes int, ok bool) {
	_ = c.control(func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		bytes, ok = n, err == nil
	})
	return bytes, ok
}
