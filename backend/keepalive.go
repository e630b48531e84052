package backend

import "net"

// Apply sets k on an accepted connection, or one that another process had; it
// does nothing for Unix sockets.
func (k Keepalive) Apply(nc net.Conn) error {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := tc.SetKeepAliveConfig(k.config()); err != nil {
		return err
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	return k.again(rc)
}

// Inherit has the connections of a listener that offers it begin with k.
func (k Keepalive) Inherit(l net.Listener) {
	if in, ok := l.(interface{ Prepare(func(fd int) error) }); ok && l.Addr().Network() != "unix" {
		in.Prepare(k.set)
	}
}
