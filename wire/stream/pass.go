package stream

// Control lends f the descriptor, which stays open meanwhile. f must not
// change its blocking mode: other processes may use it too.
func (c *Conn) Control(f func(fd uintptr)) error {
	c.wmu.Lock()
	c.lent = true
	c.wmu.Unlock()
	return c.control(f)
}

// Quiet reports whether nothing is being written and nothing waits to be.
func (c *Conn) Quiet() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return !c.busy && !c.flushing.Load() && c.werr == nil
}
