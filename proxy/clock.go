package proxy

import (
	"runtime"
	"sync"
	"time"

	"pgpoold/wire/stream"
)

// ticksPerSecond is how often the clock looks at the timeouts of the sessions that are
// awake, or may be idle for so long only. At the others, and at all else, it looks once a
// second.
const ticksPerSecond = 4

// clock is what the clock's goroutine has to know.
type clock struct {
	awake []*session // the clock's: those that it looks at each tick
	all   []*session // the clock's: room

	mu    sync.Mutex
	woken map[*session]struct{} // guarded by mu: those that have begun, or run again, since the last gather
}

// woke is told of each session that has a goroutine now. Anybody may call it.
func (c *clock) woke(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.woken == nil {
		c.woken = map[*session]struct{}{}
	}
	c.woken[s] = struct{}{}
}

// ended is told of each session that ends: many live shorter than a tick.
func (c *clock) ended(s *session) {
	c.mu.Lock()
	delete(c.woken, s)
	c.mu.Unlock()
	s.state.Store(uint32(stateEnded))
}

// gather takes those that have woken into the clock's list, and those out that have
// ended. One that parks stays there until the next look at all of them.
func (c *clock) gather() {
	left := c.awake[:0]
	for i, s := range c.awake {
		breathe(i)
		if s.state.Load() != uint32(stateEnded) {
			left = append(left, s)
		}
	}
	clear(c.awake[len(left):])
	c.awake = left
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.woken {
		c.list(s)
	}
	clear(c.woken)
}

// list puts a session on the clock's list.
func (c *clock) list(s *session) {
	if !s.quiet.listed {
		s.quiet.listed = true
		c.awake = append(c.awake, s)
	}
}

// tick is the coarse clock: timeouts, also of logins, waits that are too long, idle and old servers,
// hidden ends of file. Joined by Close.
func (px *Server) tick() {
	defer px.helpers.Done()
	t := time.NewTicker(time.Second / ticksPerSecond)
	defer t.Stop()
	for n := uint32(1); ; n++ {
		select {
		case <-px.ctx.Done():
			return
		case now := <-t.C:
			second := n%ticksPerSecond == 0
			if most := px.opts.ClientLoginTimeout; most > 0 {
				px.logins.expire(now.Add(-most))
			}
			if second {
				px.rouse()
			} else {
				px.clock.gather()
			}
			running := 0
			for i, s := range px.clock.awake {
				breathe(i)
				if !s.conn.Parked() {
					running++
				}
				s.watch(now)
			}
			if second {
				px.everySecond(now, n)
			}
			px.parkQuiet(px.clock.awake, n, running > crowd)
		}
	}
}

// rouse makes the clock's list anew: those that are not parked, and those that may be
// idle for so long only. One that is being parked just now, in vain, is off it until the
// next time.
func (px *Server) rouse() {
	c := &px.clock
	for _, s := range c.awake {
		s.quiet.listed = false
	}
	clear(c.awake)
	c.awake = c.awake[:0]
	c.all = px.appendSessions(c.all[:0])
	for i, s := range c.all {
		breathe(i)
		if !s.conn.Parked() || s.idleLimit.Load() > 0 || s.timeouts.Load().ClientIdle > 0 {
			c.list(s)
		} else {
			s.watched, s.quiet.rested = nil, false // who wakes begins anew
		}
	}
	clear(c.all)
}

// everySecond is what the clock does once a second.
func (px *Server) everySecond(now time.Time, tick uint32) {
	stream.CloseDescriptors()
	px.workers.tidy()
	for _, p := range px.allPools() {
		p.tick(now)
	}
	px.shares.Tick()
	px.dropUnused(now)
	px.endRemoved()
	px.followNames(now)
	for i, s := range px.clock.awake {
		breathe(i)
		if s.conn.Unconfirmed() {
			s.conn.Peek()
		}
		s.hurry(now)
		s.endIdle(tick)
		s.drainPin(now)
	}
}

// breathe lets others run after each of many steps of a walk over all sessions, of which
// i have been made: they are not to feel how many there are.
func breathe(i int) {
	if i%64 == 63 {
		runtime.Gosched()
	}
}
