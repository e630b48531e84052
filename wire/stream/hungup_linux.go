package stream

import "golang.org/x/sys/unix"

// Pending reports whether there is something to read.
func (c *Conn) Pending() (some bool) {
	_ = c.control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		some = err == nil && n > 0 && p[0].Revents&unix.POLLIN != 0
	})
	return some
}

// HungUp reports whether the peer has closed or reset the connection, also
// while bytes that it sent before have not been read.
func (c *Conn) HungUp() (gone bool) { return c.sock.HungUp() }

// HungUp is Conn's, for a socket that is not pumped yet.
func (s *Socket) HungUp() (gone bool) {
	_ = s.plug.Load().control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents != 0
	})
	return gone
}
