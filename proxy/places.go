package proxy

import (
	"slices"
	"time"

	"pgpoold/backend"
)

// While one process takes over from another they share the places of each
// pool. The one that leaves keeps what its sessions use and gives up the rest;
// for a session that could not move it may ask for a place again.

// yield gives up the servers that nobody here needs any more, tells the other
// process about the rest, and returns how many that are.
func (px *Server) yield(h *handover, now time.Time) (places int) {
	attached, staying := map[*pool]int{}, map[*pool]int{}
	for _, s := range px.allSessions() {
		if s.link.Load() != nil {
			attached[s.pool]++
		} else if !s.willMove() {
			staying[s.pool]++
		}
	}
	h.mu.Lock()
	came, starved := h.came, h.starved
	h.came = nil
	h.mu.Unlock()
	var held []Held
	for _, p := range px.allPools() {
		kept := h.keep[p]
		for _, key := range came {
			if key == p.key.exported() {
				kept++
				h.got[p]++
				delete(h.asks, p)
			}
		}
		waiting := p.servers.State(now, nil).Waiting
		lacks := lacking(starved, p)
		keep := keptPlaces(h.had[p], kept, attached[p], staying[p]+int(p.logging.Load()), lacks)
		if lacks && waiting > 0 && keep == attached[p] && keep > 0 && now.Sub(h.gave[p]) > turn {
			keep-- // the next that is free is the other's
			h.gave[p] = now
		}
		h.keep[p] = keep
		p.servers.Yield(keep)
		if most := h.was[p].Size; waiting > 0 && keep <= attached[p] && (most <= 0 || keep < most) && now.Sub(h.asks[p]) > askAgain {
			h.asks[p] = now
			h.to.Want(p.key.exported())
		}
		has := p.servers.Places()
		places += has
		if n := max(keep, has); n > 0 || h.got[p] > 0 {
			of := p.held(n)
			of.Granted = h.got[p]
			held = append(held, of)
		}
	}
	sortHeld(held)
	if !slices.EqualFunc(held, h.told, func(a, b Held) bool {
		return a.Pool == b.Pool && a.Places == b.Places && a.Granted == b.Granted
	}) {
		h.told = held
		h.to.Held(held)
	}
	return places
}

// keptPlaces is how many servers a pool may still have that had so many when
// the handover began, and may have so many now: those in use, and for sessions
// that stay as many as leave the other process one, or none where that lacks
// some.
func keptPlaces(had, may, attached, staying int, lacks bool) int {
	if lacks {
		return min(may, attached)
	}
	return min(may, attached+min(staying, max(1, had-1-attached)))
}

// turn is how long a server in use is kept at least from the other process's
// waiting clients, so that both have their turns.
const turn = 50 * time.Millisecond

// askAgain is how long a place that was asked for is waited for.
const askAgain = 10 * time.Second

// lacking reports whether the other process lacks servers that a pool keeps:
// of the same pool, or such as count for the same limits.
func lacking(starved []Held, p *pool) bool {
	caps := p.servers.Target().Caps
	for _, h := range starved {
		if h.Pool == p.key.exported() || slices.ContainsFunc(h.Caps, func(k backend.CapKey) bool { return slices.Contains(caps, k) }) {
			return true
		}
	}
	return false
}

// Granted tells that a place of a pool is this process's again.
func (px *Server) Granted(key PoolKey) {
	if h := px.handover.Load(); h != nil {
		h.mu.Lock()
		h.came = append(h.came, key)
		h.mu.Unlock()
		h.changed()
	}
}

// Starved tells for which pools clients of the other process wait.
func (px *Server) Starved(pools []Held) {
	if h := px.handover.Load(); h != nil {
		h.mu.Lock()
		h.starved = pools
		h.mu.Unlock()
		h.changed()
	}
}

// StarvedHere lists the pools whose clients wait while another process has
// servers that count for the same limits.
func (px *Server) StarvedHere() (pools []Held) {
	px.inherited.mu.Lock()
	some := false
	for _, n := range px.inherited.held {
		some = some || n > 0
	}
	px.inherited.mu.Unlock()
	if !some {
		return nil
	}
	now := time.Now()
	for _, p := range px.allPools() {
		if p.servers.State(now, nil).Waiting > int(p.loans.Load()) {
			pools = append(pools, p.held(0))
		}
	}
	sortHeld(pools)
	return pools
}

// Lend gives the other process a place of a pool, in the turn of those who wait
// here, and calls given when it has it.
func (px *Server) Lend(key PoolKey, given func()) {
	px.mu.Lock()
	p := px.pools[key.own()]
	px.mu.Unlock()
	if p == nil || p.servers.LendFree() {
		px.noteLent(key.own())
		given()
		return
	}
	l := &loan{p: p, given: given}
	l.ticket.W = l
	p.loans.Add(1)
	srv, err := p.servers.Acquire(&l.ticket, time.Now())
	if srv != nil {
		l.Granted(srv)
	} else if err != nil {
		l.Refused(err)
	}
}

// loan waits for a server whose place the other process is to have.
type loan struct {
	p      *pool
	given  func()
	ticket backend.Ticket
}

// Granted implements backend.Waiter.
func (l *loan) Granted(srv *backend.Server) {
	l.p.loans.Add(-1)
	px := l.p.px
	if px.peer.Load() == nil {
		free := srv.Handler.(*link)
		free.mu.Lock()
		free.state = linkOurs
		free.mu.Unlock()
		free.giveBack()
		return
	}
	px.noteLent(l.p.key) // before the place is free: then no report is understood without it
	l.p.servers.Lend(srv, func() {
		l.given()
		if px.peer.Load() == nil {
			px.SetElsewhere(nil) // it has ended, and needs none
		}
	})
}

// Refused implements backend.Waiter: the other process asks again.
func (l *loan) Refused(error) { l.p.loans.Add(-1) }
