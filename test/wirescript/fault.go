package wirescript

import (
	"net"
	"runtime"
	"time"
)

// Action is what a fault does to a connection.
type Action uint8

// The actions.
const (
	ActClose Action = iota // FIN
	ActReset               // RST
	ActStall               // nothing moves until the observer has returned
)

func (a Action) String() string {
	return [...]string{"close", "reset", "stall"}[a]
}

// Actions in the order in which tests try them.
func Actions() []Action { return []Action{ActClose, ActReset, ActStall} }

// ClientFault happens on the script's side, once per run.
type ClientFault struct {
	Message int     // the frontend message (counted from 0 over all connections, logins included)
	Part    float64 // how much of it is still written: 0 nothing, 1 all
	Action  Action
	During  func() // ActStall: what is observed meanwhile
}

// happen reports whether the run ends here.
func (f *ClientFault) happen(c net.Conn) bool {
	switch f.Action {
	case ActStall:
		if f.During != nil {
			f.During()
		}
		return false
	case ActReset:
		reset(c)
	default:
		c.Close()
	}
	return true
}

// reset closes with RST where the network knows it.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}

// pause lies between the pieces of a split message: about long enough for the
// other side to wake up and see the piece alone. Nothing depends on its length.
// It yields instead of sleeping, because a sleep is a millisecond at least.
func pause() {
	for start := time.Now(); time.Since(start) < 25*time.Microsecond; {
		runtime.Gosched()
	}
}

// ByteByByte writes every byte alone.
func ByteByByte(c net.Conn, b []byte, _ []int) error {
	for i := range b {
		if _, err := c.Write(b[i : i+1]); err != nil {
			return err
		}
		pause()
	}
	return nil
}

// SplitAt cuts every message once, behind its nth byte (counted from the end
// where the message is shorter: n modulo its length), so that a piece is the
// end of one message and the beginning of the next.
func SplitAt(n int) func(net.Conn, []byte, []int) error {
	return func(c net.Conn, b []byte, ends []int) error {
		from, start := 0, 0
		for _, end := range ends {
			at := start + n%max(1, end-start)
			start = end
			if at == from {
				continue
			}
			if _, err := c.Write(b[from:at]); err != nil {
				return err
			}
			from = at
			pause()
		}
		_, err := c.Write(b[from:])
		return err
	}
}
