package stream

// Control lends f the descriptor, which stays open meanwhile. f must not
// change its blocking mode: other processes may use it too.
func (c *Conn) Control(f func(fd uintptr)) error { return c.sock.rc.Control(f) }

// Unhook takes the socket out of the parker's set, as its end would: another
// process that goes on with it would keep it in there. The pump must have ended,
// and may run again.
func (c *Conn) Unhook() {
	if c.parker != nil {
		_ = c.Control(func(fd uintptr) { c.parker.drop(int(fd)) })
	}
}

// Quiet reports whether nothing is being written and nothing waits to be.
func (c *Conn) Quiet() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return !c.busy && !c.flushing.Load() && c.werr == nil
}
