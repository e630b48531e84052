//go:build !linux

package stream

// unacked is not known here.
func (c *Conn) unacked() (bytes int, ok bool) { return 0, false }
