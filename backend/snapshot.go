package backend

import (
	"fmt"
	"time"
)

// State is a pool at one moment.
type State struct {
	Size, MinSize int
	Waiting       int
	MaxWait       time.Duration // of the oldest waiter
	Dialling      int
	Idle          int
	Tested        int
	Canceled      int
	Active        int
	Leaving       int // closed, but the connection has not ended
	LastError     error
	Dials         uint64
	DialErrors    uint64
	Granted       uint64
	WaitTime      time.Duration
	Waits         Histogram // of all that got a server
	Connects      Histogram
	ConnectTime   time.Duration // that they took together
	Paused        bool
}

// ServerState is what a pool knows of a server.
type ServerState struct {
	Name        string // PgBouncer's word
	IdleSince   time.Time
	CloseNeeded bool // it is to end when it is next free
}

// State returns the pool's state, and calls each with every server it has.
// each runs under the pool's lock and must not call the pool.
func (p *Pool) State(now time.Time, each func(*Server, ServerState)) State {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := State{
		Size: p.limits.Size, MinSize: p.minSize, Waiting: p.waiting.n, Dialling: p.dialling, Leaving: p.leaving,
		LastError: p.lastErr, Dials: p.dials, DialErrors: p.dialErrs, Granted: p.granted, WaitTime: p.waited,
		Waits: p.waits, Connects: p.connects, ConnectTime: p.connectTime, Paused: p.paused,
	}
	st.Waits.Buckets[0] += p.granted - p.waits.Count() // those that found one idle
	if t := p.waiting.first; t != nil {
		st.MaxWait = max(0, now.Sub(t.Since)) // it may have come after now
	}
	for s := range p.all {
		name := "active"
		switch s.state {
		case serverIdle:
			name = "idle"
			if p.staleLocked(s, now) {
				name = "used"
			}
			st.Idle++
		case serverTested:
			name = "tested"
			st.Tested++
		case serverCanceled:
			name = "being_canceled"
			st.Canceled++
		default:
			st.Active++
		}
		if each != nil {
			each(s, ServerState{name, s.idleSince, s.close})
		}
	}
	return st
}

// Check compares the pool's counts with each other and with puddle's.
func (p *Pool) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for t := p.waiting.first; t != nil; t = t.next {
		n++
	}
	switch {
	case n != p.waiting.n:
		return errorf("%d tickets in the queue, counted %d", n, p.waiting.n)
	case len(p.idle) > len(p.all):
		return errorf("%d idle servers of %d", len(p.idle), len(p.all))
	case len(p.all)+p.leaving+p.dialling > p.size+p.limits.ReserveSize && !p.shrunk:
		return errorf("%d servers, %d leaving, %d dialling, but the size is %d", len(p.all), p.leaving, p.dialling, p.size)
	case p.leaving < 0 || p.dialling < 0:
		return errorf("%d leaving, %d dialling", p.leaving, p.dialling)
	}
	for _, s := range p.idle {
		if s.state != serverIdle {
			return errorf("server %d is in the idle list in state %d", s.ID, s.state)
		}
	}
	return nil
}

func errorf(format string, args ...any) error { return fmt.Errorf("pool: "+format, args...) }
