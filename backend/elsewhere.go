package backend

import "time"

// While one process of pgpoold takes over from another, both have servers of
// the same pools. The one that leaves keeps no more than it needs (Yield), and
// tells the other, which counts those as taken (SetElsewhere).

// Yield leaves the pool at most so many servers, and no minimum. Those that
// are idle beyond that end now, others when they are next free.
func (p *Pool) Yield(most int) {
	p.mu.Lock()
	if p.size == most && p.minSize == 0 && p.limits.ReserveSize == 0 {
		p.mu.Unlock()
		return
	}
	p.size, p.minSize, p.limits.ReserveSize, p.shrunk = most, 0, 0, true
	p.fitsLocked()
	closing := p.dropIdleLocked(time.Now())
	p.dialLocked()
	p.mu.Unlock()
	for _, c := range closing {
		c.s.Close(c.reason)
	}
}

// Freeze is Yield of what the pool has now, and returns how many that is.
func (p *Pool) Freeze() (has int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	has = p.placesLocked()
	p.size, p.minSize, p.limits.ReserveSize, p.shrunk = has, 0, 0, false
	return has
}

// Places is how many servers the pool has: connected, ending or being dialled.
func (p *Pool) Places() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.placesLocked()
}

func (p *Pool) placesLocked() int { return len(p.all) + p.leaving + p.dialling }

// SetElsewhere says how many servers of this pool another process has: they
// count for its size.
func (p *Pool) SetElsewhere(n int) {
	p.mu.Lock()
	less := n < p.elsewhere
	p.elsewhere = n
	if less {
		p.dialLocked()
	}
	p.mu.Unlock()
}

// LendFree gives the other process a place that is free here and that nobody
// waits for; false: there is none.
func (p *Pool) LendFree() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.paused || p.waiting.first != nil || p.size-p.placesLocked()-p.elsewhere <= 0 {
		return false
	}
	if p.opts.Shares != nil {
		if p.opts.Shares.ask(p, 1, false) == 0 {
			return false
		}
		p.opts.Shares.leave(p, true)
	}
	p.elsewhere++
	return true
}

// Lend closes a server that is the caller's, and gives its place to the other
// process: given is called when it is free.
func (p *Pool) Lend(s *Server, given func()) {
	p.mu.Lock()
	s.lent = given
	p.goneLocked(s)
	p.mu.Unlock()
	s.Close(CloseEvicted)
}

// SetElsewhere says how many servers another process has that count for each
// limit; for one that is not named it is none.
func (sh *Shares) SetElsewhere(taken map[CapKey]int) {
	sh.mu.Lock()
	for key, c := range sh.caps {
		if taken[key] == 0 {
			c.elsewhere = 0
		}
	}
	for key, n := range taken {
		sh.capLocked(key).elsewhere = n
	}
	sh.kickLocked()
	sh.mu.Unlock()
}
