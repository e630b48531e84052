package backend

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// CapKey names a limit on servers that several pools have in common.
type CapKey struct {
	Setting string // its canonical name
	Of      string // the database, user or host that it is about
}

// idleGrace is how long an idle server of a pool that has no more than its
// share is left to it, though others wait: it is likely needed again soon.
const idleGrace = time.Second

// balanceInterval is the least time between two passes over the pools.
const balanceInterval = time.Millisecond

// Shares hands out the places of the caps that pools have in common, so that
// none of them starves: a free place goes to the waiting pool that has the
// fewest servers, and of those to the one that waits for longest. To free one,
// an idle server of another pool is closed; where there is none, a pool with
// two servers more gives one up when it is next free.
//
// Lock order: a pool's lock, then that of Shares.
type Shares struct {
	mu      sync.Mutex
	caps    map[CapKey]*sharedCap  // guarded by mu
	members map[*Pool]*shareholder // guarded by mu
	hungry  int                    // guarded by mu: shareholders with hungry set
	running bool                   // guarded by mu: a pass is under way
	again   bool                   // guarded by mu: and another is wanted behind it
	stopped bool                   // guarded by mu

	waits  atomic.Bool // hungry > 0
	passes sync.WaitGroup
}

// sharedCap is one limit.
type sharedCap struct {
	most  int // 0: there is none
	used  int
	debts []debt
	// elsewhere is how many servers of another process count for it.
	elsewhere int
}

// debt is a place that some pool with more servers is to give up.
type debt struct {
	places int       // of the pool that waits
	since  time.Time // since when it waits
}

// shareholder is what Shares knows of a pool.
type shareholder struct {
	caps   []*sharedCap
	places int  // servers, those that are ending and dials
	hungry bool // it waits for a place
	closed bool
}

// SetCap sets a limit; 0 is none.
func (sh *Shares) SetCap(key CapKey, most int) {
	sh.mu.Lock()
	sh.capLocked(key).most = most
	sh.mu.Unlock()
	sh.kick()
}

func (sh *Shares) capLocked(key CapKey) *sharedCap {
	c := sh.caps[key]
	if c == nil {
		if sh.caps == nil {
			sh.caps, sh.members = map[CapKey]*sharedCap{}, map[*Pool]*shareholder{}
		}
		c = &sharedCap{}
		sh.caps[key] = c
	}
	return c
}

// Used is how many servers count for a cap, and how many may.
func (sh *Shares) Used(key CapKey) (used, most int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c := sh.capLocked(key)
	return c.used, c.most
}

// Stop ends the passes. No pool may use the Shares afterwards.
func (sh *Shares) Stop() {
	sh.mu.Lock()
	sh.stopped = true
	sh.mu.Unlock()
	sh.passes.Wait()
}

// join makes a pool a shareholder of its caps.
func (sh *Shares) join(p *Pool, keys []CapKey) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h := &shareholder{}
	for _, key := range keys {
		if c := sh.capLocked(key); !slices.Contains(h.caps, c) {
			h.caps = append(h.caps, c)
		}
	}
	sh.members[p] = h
}

// move makes a pool a shareholder of other caps, with the places it has.
func (sh *Shares) move(p *Pool, keys []CapKey) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h := sh.members[p]
	if h == nil {
		return
	}
	for _, c := range h.caps {
		c.used -= h.places
	}
	h.caps = nil
	for _, key := range keys {
		if c := sh.capLocked(key); !slices.Contains(h.caps, c) {
			h.caps = append(h.caps, c)
			c.used += h.places
		}
	}
}

// part ends it, as soon as the pool has no servers any more.
func (sh *Shares) part(p *Pool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if h := sh.members[p]; h != nil {
		h.closed = true
		sh.partLocked(p, h)
	}
}

func (sh *Shares) partLocked(p *Pool, h *shareholder) {
	sh.sateLocked(h)
	if !h.closed || h.places > 0 {
		return
	}
	delete(sh.members, p)
	used := map[*sharedCap]bool{}
	for _, other := range sh.members {
		for _, c := range other.caps {
			used[c] = true
		}
	}
	for key, c := range sh.caps {
		if !used[c] && c.elsewhere == 0 && slices.Contains(h.caps, c) {
			delete(sh.caps, key)
		}
	}
}

func (sh *Shares) sateLocked(h *shareholder) {
	if h.hungry {
		h.hungry = false
		sh.hungry--
		sh.waits.Store(sh.hungry > 0)
	}
}

// full returns the first limit that a place more would break, or nil.
func (h *shareholder) full() *sharedCap {
	for _, c := range h.caps {
		if c.most > 0 && c.used+c.elsewhere >= c.most {
			return c
		}
	}
	return nil
}

func (h *shareholder) take() bool {
	if h.closed || h.full() != nil {
		return false
	}
	for _, c := range h.caps {
		c.used++
	}
	h.places++
	return true
}

// shares reports whether two pools compete for the places of a limit.
func (h *shareholder) shares(other *shareholder) bool {
	for _, c := range h.caps {
		if c.most > 0 && slices.Contains(other.caps, c) {
			return true
		}
	}
	return false
}

// ask takes up to want places for a pool whose lock is held. What it does not
// get it waits for, if somebody waits for it: then the pool's dialPlace is
// called later.
func (sh *Shares) ask(p *Pool, want int, waits bool) (got int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h := sh.members[p]
	if h == nil {
		return 0
	}
	queue := h.hungry
	if sh.hungry > 0 && !queue {
		for _, other := range sh.members {
			if other != h && other.hungry && other.shares(h) {
				queue = true
				break
			}
		}
	}
	for !queue && got < want && h.take() {
		got++
	}
	if got < want && waits && !h.hungry {
		h.hungry = true
		sh.hungry++
		sh.waits.Store(true)
		sh.kickLocked()
	}
	return got
}

// giveBack frees a place. The pool's lock may be held.
func (sh *Shares) giveBack(p *Pool) { sh.leave(p, false) }

// leave is giveBack; lent says that the place is another process's now.
func (sh *Shares) leave(p *Pool, lent bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h := sh.members[p]
	if h == nil {
		return
	}
	h.places--
	for _, c := range h.caps {
		c.used--
		if lent {
			c.elsewhere++
		}
	}
	if h.closed {
		sh.partLocked(p, h)
	}
	if sh.hungry > 0 {
		sh.kickLocked()
	}
}

// bound is the limit that keeps a pool from having one server more, "" if it
// is none of the common ones.
func (sh *Shares) bound(p *Pool) string {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if h := sh.members[p]; h != nil {
		if full := h.full(); full != nil {
			for key, c := range sh.caps {
				if c == full {
					return key.Setting
				}
			}
		}
	}
	return ""
}

// redeem reports whether a pool, whose lock is held, is to give up a server
// that has become free; left is how many it would have then.
func (sh *Shares) redeem(p *Pool, left int, waiting bool, since time.Time) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h := sh.members[p]
	if h == nil {
		return false
	}
	for _, c := range h.caps {
		for i, d := range c.debts {
			if d.owedBy(left+1, waiting, since) {
				c.debts = slices.Delete(c.debts, i, i+1)
				return true
			}
		}
	}
	return false
}

// owedBy reports whether a pool with so many servers, and somebody waiting
// since then, has to give way.
func (d debt) owedBy(places int, waiting bool, since time.Time) bool {
	return places > d.places+1 || d.places == 0 && places > 0 && (!waiting || since.After(d.since))
}

// spare tells that a pool, whose lock may be held, has an idle server.
func (sh *Shares) spare() {
	if sh.waits.Load() {
		sh.kick()
	}
}

// Tick looks again at those who have waited for a place; one goroutine calls
// it about every second.
func (sh *Shares) Tick() { sh.spare() }

func (sh *Shares) kick() {
	sh.mu.Lock()
	sh.kickLocked()
	sh.mu.Unlock()
}

// kickLocked has a pass made soon. It holds no lock of a pool's.
func (sh *Shares) kickLocked() {
	switch {
	case sh.stopped:
	case sh.running:
		sh.again = true
	default:
		sh.running = true
		sh.passes.Add(1)
		go sh.run()
	}
}

// run makes passes for as long as they are wanted. Stop joins it.
func (sh *Shares) run() {
	defer sh.passes.Done()
	for {
		sh.balance()
		<-time.After(balanceInterval)
		sh.mu.Lock()
		if !sh.again || sh.stopped {
			sh.running = false
			sh.mu.Unlock()
			return
		}
		sh.again = false
		sh.mu.Unlock()
	}
}

// claim is a pool in the course of a pass.
type claim struct {
	p      *Pool
	h      *shareholder
	view   shareView
	places int // without those that are ending
	idle   int
}

// balance is one pass: it gives out the places that are free and sees to it
// that others become so.
func (sh *Shares) balance() {
	sh.mu.Lock()
	pools := make([]*Pool, 0, len(sh.members))
	for p := range sh.members {
		pools = append(pools, p)
	}
	sh.mu.Unlock()
	now := time.Now()
	all := make([]*claim, 0, len(pools))
	for _, p := range pools {
		all = append(all, &claim{p: p, view: p.shareView(now)})
	}
	var evict, grant []*Pool
	yields := map[*Pool]bool{}
	sh.mu.Lock()
	var wanting []*claim
	for _, c := range all {
		if c.h = sh.members[c.p]; c.h == nil {
			continue
		}
		c.places, c.idle = c.h.places-c.view.leaving, c.view.idle
		for _, limit := range c.h.caps {
			limit.debts = limit.debts[:0]
		}
		if c.view.wants <= 0 {
			sh.sateLocked(c.h)
		} else if c.h.hungry {
			wanting = append(wanting, c)
		}
	}
	all = slices.DeleteFunc(all, func(c *claim) bool { return c.h == nil })
	coming := map[*sharedCap]int{}
	for _, c := range all {
		for _, limit := range c.h.caps {
			coming[limit] += c.view.leaving
		}
	}
	for len(wanting) > 0 {
		slices.SortFunc(wanting, func(a, b *claim) int {
			return cmp.Or(cmp.Compare(a.places, b.places), a.view.since.Compare(b.view.since))
		})
		c := wanting[0]
		switch {
		case c.h.take():
			grant = append(grant, c.p)
			c.places++
		default:
			limit := c.h.full()
			if limit == nil { // closed
				c.view.wants = 1
				break
			}
			if coming[limit] > 0 {
				coming[limit]-- // this place is for it
			} else if q := victim(all, c, limit); q != nil {
				q.idle--
				q.places--
				evict = append(evict, q.p)
			} else {
				d := debt{c.places, c.view.since}
				limit.debts = append(limit.debts, d)
				for _, q := range all {
					if q != c && slices.Contains(q.h.caps, limit) && d.owedBy(q.places, q.view.wants > 0, q.view.since) {
						yields[q.p] = true
					}
				}
				c.view.wants = 1 // one at a time
			}
			c.places++ // as it will be
		}
		if c.view.wants--; c.view.wants <= 0 {
			wanting = wanting[1:]
		}
	}
	sh.mu.Unlock()
	for _, c := range all {
		c.p.yield(yields[c.p])
	}
	for _, p := range evict {
		p.evictIdle()
	}
	for _, p := range grant {
		p.dialPlace()
	}
}

// victim is the pool that can best spare an idle server for c: one that has
// not needed it for a while, else the one that has most, if that is more than
// c has.
func victim(all []*claim, c *claim, limit *sharedCap) (best *claim) {
	for _, q := range all {
		if q == c || q.idle <= 0 || !slices.Contains(q.h.caps, limit) || q.places <= c.places && q.view.unused < idleGrace {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(max(q.view.unused, idleGrace), max(best.view.unused, idleGrace)), cmp.Compare(q.places, best.places)) > 0 {
			best = q
		}
	}
	return best
}
