package proxy

import (
	"bytes"
	"cmp"
	"maps"
	"sync"
	"time"

	"pgpoold/backend"
)

// PoolKey names a pool, to another process as well.
type PoolKey struct {
	Database, User, Client string
	Secret                 [32]byte
	Session                uint64
}

func (k poolKey) exported() PoolKey {
	return PoolKey{Database: k.database, User: k.user, Client: k.client, Secret: k.secret, Session: k.session}
}

func (k PoolKey) own() poolKey {
	return poolKey{database: k.Database, user: k.User, client: k.Client, secret: k.Secret, session: k.Session}
}

func (k PoolKey) compare(o PoolKey) int {
	return cmp.Or(cmp.Compare(k.Database, o.Database), cmp.Compare(k.User, o.User), cmp.Compare(k.Client, o.Client),
		cmp.Compare(k.Session, o.Session), bytes.Compare(k.Secret[:], o.Secret[:]))
}

// Legacy is what a process of pgpoold has counted. It goes on in the process
// that takes over.
type Legacy struct {
	Totals Totals
	Pools  map[PoolKey]PoolStats
	Prints []FingerprintSnapshot
}

// Held is how many servers a process keeps of one pool, and which limits of
// several pools these count for.
type Held struct {
	Pool   PoolKey
	Places int
	// Granted counts the places that the other process has given it.
	Granted uint64
	Caps    []backend.CapKey
}

// inherited is what the process before this one has counted and still holds.
type inherited struct {
	mu     sync.Mutex
	legacy *Legacy         // guarded by mu; nil: there was none
	held   map[poolKey]int // guarded by mu
	// lent counts the places that were given to the process before.
	lent map[poolKey]uint64 // guarded by mu

	applying sync.Mutex // held while what was told about servers is brought to the pools
}

// Legacy is what this process has counted, with what it has inherited.
func (px *Server) Legacy() *Legacy {
	var rest Snapshot
	rest.Totals = px.totals()
	l := &Legacy{Pools: map[PoolKey]PoolStats{}, Prints: px.Fingerprints()}
	px.inherited.mu.Lock()
	if was := px.inherited.legacy; was != nil {
		maps.Copy(l.Pools, was.Pools) // also of pools that are not there any more
	}
	px.inherited.mu.Unlock()
	now := time.Now()
	for _, p := range px.allPools() {
		if p.key.session == 0 {
			l.Pools[p.key.exported()] = p.snapshot(now, &rest).Stats
		}
	}
	l.Totals = rest.Totals
	return l
}

// SetLegacy says what the process before this one has counted until now.
func (px *Server) SetLegacy(l *Legacy) {
	px.inherited.mu.Lock()
	px.inherited.legacy = l
	px.inherited.mu.Unlock()
}

// inheritedStats adds what the process before has counted for a pool.
func (p *pool) inheritedStats(to *PoolStats) {
	in := &p.px.inherited
	in.mu.Lock()
	if in.legacy != nil {
		if was, ok := in.legacy.Pools[p.key.exported()]; ok {
			to.Add(&was)
		}
	}
	in.mu.Unlock()
}

// SetElsewhere says which servers another process has: they count for the
// limits of this one.
func (px *Server) SetElsewhere(held []Held) {
	now := map[poolKey]int{}
	caps := map[backend.CapKey]int{}
	px.inherited.applying.Lock()
	defer px.inherited.applying.Unlock()
	px.inherited.mu.Lock()
	for _, h := range held {
		n := h.Places + int(px.inherited.lent[h.Pool.own()]-h.Granted) // some it has not heard of yet
		now[h.Pool.own()] += n
		for i, key := range h.Caps {
			if !seenBefore(h.Caps, i) {
				caps[key] += n
			}
		}
	}
	px.inherited.held = now
	px.inherited.mu.Unlock()
	px.shares.SetElsewhere(caps)
	for _, p := range px.allPools() {
		p.servers.SetElsewhere(now[p.key])
	}
}

// noteLent counts a place that is given to the process before.
func (px *Server) noteLent(key poolKey) {
	in := &px.inherited
	in.applying.Lock()
	defer in.applying.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.lent == nil {
		in.lent = map[poolKey]uint64{}
	}
	in.lent[key]++
}

func seenBefore(keys []backend.CapKey, i int) bool {
	for _, k := range keys[:i] {
		if k == keys[i] {
			return true
		}
	}
	return false
}

// elsewhere is how many servers of a pool another process has.
func (px *Server) elsewhere(key poolKey) int {
	px.inherited.mu.Lock()
	defer px.inherited.mu.Unlock()
	return px.inherited.held[key]
}

// keptElsewhere reports whether another process has servers of a database; ""
// is all.
func (px *Server) keptElsewhere(database string) bool {
	px.inherited.mu.Lock()
	defer px.inherited.mu.Unlock()
	for key, n := range px.inherited.held {
		if n > 0 && (database == "" || key.database == database) {
			return true
		}
	}
	return false
}

// Inherit takes over, before Start, what the console has done to databases in
// the process before, and goes on with its numbers of sessions.
func (px *Server) Inherit(c Controls, lastSession uint64) {
	px.lastSession.Store(lastSession)
	if c.AllPaused {
		px.hold("")
	}
	for db := range c.Paused {
		px.hold(db)
	}
	for db := range c.Disabled {
		px.Disable(db, false)
	}
}

// LastSession is the number of the last session.
func (px *Server) LastSession() uint64 { return px.lastSession.Load() }

// addCounters adds the counters of t, and nothing that says how it is now.
func (t *Totals) addCounters(o *Totals) {
	t.ClientsAccepted += o.ClientsAccepted
	t.ClientsRefused += o.ClientsRefused
	t.LoginsFailed += o.LoginsFailed
	t.CancelRequests += o.CancelRequests
	t.CancelsForwarded += o.CancelsForwarded
	t.TLSFailed += o.TLSFailed
	t.AcceptPauses += o.AcceptPauses
	addEach(t.ServerCloses, o.ServerCloses)
	addEach(t.PinsTotal, o.PinsTotal)
	addEach(t.StateMissed, o.StateMissed)
	addEach(t.ErrorsBySQLState, o.ErrorsBySQLState)
	addEach(t.ServerErrorsBySQLState, o.ServerErrorsBySQLState)
}

func addEach(to, from map[string]uint64) {
	for k, n := range from {
		to[k] += n
	}
}

// mergePrints adds the fingerprints of the process before to those of this one.
func (px *Server) mergePrints(own []FingerprintSnapshot) []FingerprintSnapshot {
	px.inherited.mu.Lock()
	defer px.inherited.mu.Unlock()
	if px.inherited.legacy == nil {
		return own
	}
	type key struct{ database, text string }
	at := make(map[key]int, len(own))
	for i := range own {
		at[key{own[i].Database, own[i].Text}] = i
	}
	for _, was := range px.inherited.legacy.Prints {
		i, ok := at[key{was.Database, was.Text}]
		if !ok {
			own = append(own, was)
			continue
		}
		p := &own[i]
		p.Calls += was.Calls
		p.Time += was.Time
		p.Longest = max(p.Longest, was.Longest)
		if was.Last.After(p.Last) {
			p.Last = was.Last
		}
	}
	return own
}
