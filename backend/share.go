package backend

import "time"

// shareView is what a pass must know of a pool.
type shareView struct {
	wants   int       // servers more that those who wait could use
	since   time.Time // since when the first of them waits
	leaving int
	idle    int
	unused  time.Duration // for how long its oldest idle server has been
}

func (p *Pool) shareView(now time.Time) (v shareView) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.wants, _ = p.wantedLocked(now); p.closed || p.paused {
		v.wants = 0
	}
	v.since = p.made
	if t := p.waiting.first; t != nil {
		v.since = t.Since
	}
	v.leaving, v.idle = p.leaving, len(p.idle)
	if v.idle > 0 {
		v.unused = now.Sub(p.idle[0].idleSince)
	}
	return v
}

// yield tells the pool whether it has to ask, when a server becomes free,
// whether that is to be given up.
func (p *Pool) yield(yes bool) {
	p.mu.Lock()
	p.yields = yes
	p.mu.Unlock()
}

// evictIdle closes the server that has been idle for longest.
func (p *Pool) evictIdle() {
	p.mu.Lock()
	var s *Server
	if len(p.idle) > 0 {
		s = p.idle[0]
		p.goneLocked(s)
	}
	p.mu.Unlock()
	if s != nil {
		s.Close(CloseEvicted)
	}
}

// dialPlace dials with a place that Shares has taken for the pool, or gives
// it back.
func (p *Pool) dialPlace() {
	p.mu.Lock()
	wants, _ := p.wantedLocked(time.Now())
	use := wants > 0 && !p.closed && !p.paused
	if use {
		p.dialOneLocked()
	}
	p.mu.Unlock()
	if !use {
		p.opts.Shares.giveBack(p)
	}
}

// evictedLocked reports whether a server that has become free makes room for
// another pool.
func (p *Pool) evictedLocked() bool {
	if !p.yields {
		return false
	}
	t := p.waiting.first
	var since time.Time
	if t != nil {
		since = t.Since
	}
	return p.opts.Shares.redeem(p, len(p.all)+p.dialling-1, t != nil, since)
}

// WaitError refuses a waiter that has waited for query_wait_timeout. Setting
// is the limit that kept the pool from having more servers, "" if none did.
type WaitError struct{ Setting string }

func (e *WaitError) Error() string { return ErrWaitTimeout.Error() }

// Is tells that it is an ErrWaitTimeout.
func (e *WaitError) Is(target error) bool { return target == ErrWaitTimeout }

// boundLocked is the limit that keeps the pool from having one server more.
func (p *Pool) boundLocked() string {
	if p.placesLocked()+p.elsewhere >= p.size {
		if p.limits.ReserveSize > 0 {
			return "reserve_pool_size"
		}
		return "default_pool_size"
	}
	if p.opts.Shares != nil {
		return p.opts.Shares.bound(p)
	}
	return ""
}
