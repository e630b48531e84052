//go:build !linux

package stream

// Pending reports whether there is something to read. It is not known here.
func (c *Conn) Pending() (some bool) { return false }

// HungUp reports whether the peer has closed or reset the connection, also
// while bytes that it sent before have not been read. It is not known here.
func (c *Conn) HungUp() (gone bool) { return false }

// HungUp is Conn's, for a socket that is not pumped yet.
func (s *Socket) HungUp() (gone bool) { return false }
