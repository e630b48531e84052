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
