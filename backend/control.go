package backend

import (
	"math"
	"reflect"
	"time"
)

// Limits are the options of a pool that may change while it runs; see
// PoolOptions.
type Limits struct {
	Size, MinSize    int
	RoundRobin       bool
	ReserveSize      int
	ReserveTimeout   time.Duration
	ConnectTimeout   time.Duration
	IdleTimeout      time.Duration
	Lifetime         time.Duration // of servers dialled from now on
	LoginRetry       time.Duration
	CheckDelay       time.Duration
	QueryWaitTimeout time.Duration
}

// Limits are the part of the options that a running pool may change.
func (o *PoolOptions) Limits() Limits {
	return Limits{
		Size: o.Size, MinSize: o.MinSize, RoundRobin: o.RoundRobin, ConnectTimeout: o.ConnectTimeout,
		IdleTimeout: o.IdleTimeout, Lifetime: o.Lifetime, LoginRetry: o.LoginRetry, CheckDelay: o.CheckDelay,
		QueryWaitTimeout: o.QueryWaitTimeout, ReserveSize: o.ReserveSize, ReserveTimeout: o.ReserveTimeout,
	}
}

// Limits are those in force.
func (p *Pool) Limits() Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits
}

// SetLimits changes them. A server too many is closed when it is next free.
func (p *Pool) SetLimits(l Limits) {
	p.mu.Lock()
	p.limitLocked(l)
	closing := p.dropIdleLocked(time.Now())
	p.dialLocked()
	p.mu.Unlock()
	for _, c := range closing {
		c.s.Close(c.reason)
	}
}

func (p *Pool) limitLocked(l Limits) {
	p.limits, p.size, p.minSize = l, l.Size, l.MinSize
	if p.size <= 0 {
		p.size = math.MaxInt32
	}
	p.shrunk = true
	p.fitsLocked()
}

// fitsLocked notes that there are no more servers than may be.
func (p *Pool) fitsLocked() {
	if p.shrunk && len(p.all)+p.leaving+p.dialling <= p.size+p.limits.ReserveSize {
		p.shrunk = false
	}
}

// unwantedLocked says why a server that is free is to end; "" if it may stay.
func (p *Pool) unwantedLocked(s *Server, now time.Time) CloseReason {
	switch {
	case p.closed:
		return CloseDrain
	case s.close:
		return s.why
	case p.paused:
		return ClosePause
	case !s.expires.IsZero() && now.After(s.expires):
		return CloseLifetime
	case p.shrunk && len(p.all) > p.size+p.limits.ReserveSize:
		return CloseReload
	}
	return ""
}

// doomed is a server that is to be closed once no lock is held.
type doomed struct {
	s      *Server
	reason CloseReason
}

// dropIdleLocked takes the idle servers that are to end out of the pool.
func (p *Pool) dropIdleLocked(now time.Time) (closing []doomed) {
	for _, s := range append([]*Server(nil), p.idle...) {
		if reason := p.unwantedLocked(s, now); reason != "" {
			p.goneLocked(s)
			closing = append(closing, doomed{s, reason})
		}
	}
	return closing
}

// grantedLocked counts a server that goes to somebody who has waited for it.
func (p *Pool) grantedLocked(t *Ticket, now time.Time) {
	waited := max(0, now.Sub(t.Since)) // who releases may have looked at the clock first
	p.granted++
	p.waited += waited
	p.waits.Observe(waited)
}

// Pause lets every server end when it is next free, and hands out none: who
// wants one waits, as long as QueryWaitTimeout allows.
func (p *Pool) Pause() {
	p.mu.Lock()
	if !p.paused {
		p.paused, p.pausedAt = true, time.Now()
	}
	closing := p.dropIdleLocked(time.Now())
	p.mu.Unlock()
	for _, c := range closing {
		c.s.Close(c.reason)
	}
}

// Resume undoes Pause: those who wait get servers.
func (p *Pool) Resume() {
	p.mu.Lock()
	p.paused = false
	p.retry = backoff{}
	p.dialLocked()
	p.mu.Unlock()
}

// Empty reports whether no server is connected, ending or being dialled.
func (p *Pool) Empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all) == 0 && p.leaving == 0 && p.dialling == 0
}

// Reconnect lets every server there is end when it is next free.
func (p *Pool) Reconnect() { p.replace(CloseReconnect, func(*Server) bool { return true }) }

// replace lets servers end when they are next free, and those that are being
// dialled.
func (p *Pool) replace(why CloseReason, which func(*Server) bool) {
	now := time.Now()
	p.mu.Lock()
	p.era++
	p.eraEnd = why
	p.retry = backoff{}
	for s := range p.all {
		if !s.close && which(s) {
			s.close, s.why, s.marked = true, why, now
		}
	}
	closing := p.dropIdleLocked(time.Now())
	p.dialLocked()
	p.mu.Unlock()
	for _, c := range closing {
		c.s.Close(c.reason)
	}
}

// Target says where and how servers are dialled now: what the pool was made
// with, unless Retarget has changed it.
func (p *Pool) Target() *PoolOptions { return p.target.Load() }

// Retarget takes from opts where and how servers are dialled. Those that were
// dialled differently end when they are next free; whoever waits goes on
// waiting. It returns whether anything has changed.
func (p *Pool) Retarget(opts PoolOptions) bool {
	was := p.Target()
	next := *was
	next.Hosts, next.DBName, next.Credentials, next.TLS = opts.Hosts, opts.DBName, opts.Credentials, opts.TLS
	next.RuntimeParams, next.TargetSessionAttrs, next.Keepalive = opts.RuntimeParams, opts.TargetSessionAttrs, opts.Keepalive
	if reflect.DeepEqual(was.reached(), next.reached()) {
		return false
	}
	if p.opts.Shares != nil {
		p.opts.Shares.move(p, opts.Caps)
	}
	next.Caps = opts.Caps
	p.target.Store(&next)
	p.replace(CloseReload, func(*Server) bool { return true })
	return true
}

// reached are the options that say where and how servers are dialled.
func (o *PoolOptions) reached() []any {
	return []any{o.Hosts, o.DBName, o.Credentials, o.TLS, o.RuntimeParams, o.TargetSessionAttrs, o.Keepalive}
}

// WantedBack is since when the pool wants a server to end that is somebody's,
// zero if it does not.
func (p *Pool) WantedBack(s *Server) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.close {
		return s.marked
	}
	if p.paused {
		return p.pausedAt
	}
	return time.Time{}
}

// Marked is how many servers that Reconnect has marked have not ended.
func (p *Pool) Marked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.marked
	for s := range p.all {
		if s.close {
			n++
		}
	}
	return n
}

// Doom marks every server to end as one that is killed. It comes in front of
// Pause, whose own reason idle servers would have.
func (p *Pool) Doom() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.all {
		if !s.close {
			s.close, s.why, s.marked = true, CloseKill, now
		}
	}
}

// KillServers closes every server now, in use or not. Unlike Kill it leaves
// the pool open.
func (p *Pool) KillServers() {
	p.mu.Lock()
	p.era++
	var all []*Server
	for s := range p.all {
		all = append(all, s)
		p.goneLocked(s)
	}
	p.mu.Unlock()
	for _, s := range all {
		s.Close(CloseKill)
		s.Conn.Interrupt()
	}
}

// RefuseWaiters tells everybody who waits that no server will come.
func (p *Pool) RefuseWaiters(err error) {
	p.mu.Lock()
	refused := p.waiting.takeAll()
	p.mu.Unlock()
	for _, t := range refused {
		t.W.Refused(err)
	}
}
