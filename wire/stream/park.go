package stream

import "errors"

// A connection whose peer is quiet needs no goroutine. Its pump returns
// ErrParked, and a Parker, which looks at all parked sockets at once, has it
// started anew when there is something to read. Nor does the runtime need to
// watch its socket: what is kept of a quiet connection is the Conn and a
// descriptor.

// ErrParked is Pump's answer when the connection has been parked: nothing has
// ended, and resume is called when the pump is to run again. It may have been
// called already.
var ErrParked = errors.New("parked")

// parking says who runs a connection.
const (
	pumpRuns   = iota // its pump, or nobody yet or any more
	pumpAsked         // its pump, which shall see whether it can be parked
	pumpParked        // nobody; changed under the parker's mu
)

// Parkable is who pumps a connection that may be parked.
type Parkable interface {
	// Quiet reports, on the pump's goroutine, whether nothing is under way.
	Quiet() bool
	// Resume has a goroutine call Pump again. It must not block.
	Resume()
}

// ParkWith lets the connection be parked with p, nil for never. It is called
// before Pump.
func (c *Conn) ParkWith(p *Parker, who Parkable) { c.parker, c.who = p, who }

// Park asks the pump to make room, if it has nothing to do, and reports whether it has
// asked. Anybody may call it, also while it is parked.
func (c *Conn) Park() (asked bool) {
	asked = c.parker != nil && c.parking.CompareAndSwap(pumpRuns, pumpAsked)
	if asked {
		_ = c.sock.plug.Load().setReadDeadline(longAgo)
	}
	return asked
}

// Parked reports whether no goroutine runs the connection.
func (c *Conn) Parked() bool { return c.parking.Load() == pumpParked }

// park is the pump's: it reports whether the connection is parked, and the
// pump must not touch it any more. wakes is what the counter was before woken
// was asked: a Wake that came since wants it asked again.
func (c *Conn) park(wakes uint32) bool {
	c.parker.mu.Lock()
	// The state first, the counter second; Wake does it the other way round. So
	// one of the two sees the other.
	c.parking.Store(pumpParked)
	if c.wakes.Load() == wakes {
		if old, err := c.unplug(wakes); err == nil {
			c.parker.mu.Unlock()
			_ = old.nc.Close() // the copy stays
			return true
		}
	}
	c.parking.Store(pumpRuns)
	c.parker.mu.Unlock()
	return false
}

// unpark has the pump started, if there is none.
func (c *Conn) unpark() {
	if c.parking.Load() != pumpParked {
		return
	}
	c.parker.mu.Lock()
	gone := c.parking.Load() == pumpParked
	if gone {
		c.parker.forget(c)
		c.parking.Store(pumpRuns)
	}
	c.parker.mu.Unlock()
	if gone {
		c.who.Resume()
	}
}
