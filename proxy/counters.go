package proxy

import (
	"sync"
	"sync/atomic"

	"pgpoold/backend"
	"pgpoold/wire"
)

// counters are events that belong to no pool.
type counters struct {
	accepted, refused, loginsFailed  atomic.Uint64
	cancelRequests, cancelsForwarded atomic.Uint64
	acceptPauses, tlsFailed          atomic.Uint64
	settingsBytes                    atomic.Int64

	mu        sync.Mutex
	errors    map[string]uint64     // guarded by mu: errors of ours by SQLSTATE
	theirs    map[string]uint64     // guarded by mu: PostgreSQL's errors, by SQLSTATE
	missed    map[string]uint64     // guarded by mu: state that only the audit has found, by kind
	auditSeen map[auditKey]struct{} // guarded by mu: what of it was logged
	pins      map[string]uint64     // guarded by mu: pins by reason
	closes    map[string]uint64     // guarded by mu: servers closed, by reason
}

func (px *Server) countError(code string) {
	c := &px.counts
	c.mu.Lock()
	if c.errors == nil {
		c.errors = map[string]uint64{}
	}
	c.errors[code]++
	c.mu.Unlock()
}

// maxSQLStates bounds the SQLSTATEs of PostgreSQL's errors that are told
// apart: RAISE can make up any. The rest is counted as otherSQLState.
const (
	maxSQLStates  = 200
	otherSQLState = "other"
)

// countError counts an error of PostgreSQL's that a client gets. mu is held.
func (l *link) countError(body []byte) {
	l.stats.errors++
	code := wire.ErrorField(body, 'C')
	c := &l.px.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.theirs[string(code)]; ok {
		c.theirs[string(code)]++
		return
	}
	if c.theirs == nil {
		c.theirs = map[string]uint64{}
	}
	name := string(code)
	if len(c.theirs) >= maxSQLStates || len(code) != 5 {
		name = otherSQLState
	}
	c.theirs[name]++
}

func (px *Server) pinned(reason string) {
	c := &px.counts
	c.mu.Lock()
	if c.pins == nil {
		c.pins = map[string]uint64{}
	}
	c.pins[reason]++
	c.mu.Unlock()
}

func (px *Server) countClose(reason backend.CloseReason) {
	c := &px.counts
	c.mu.Lock()
	if c.closes == nil {
		c.closes = map[string]uint64{}
	}
	c.closes[string(reason)]++
	c.mu.Unlock()
}

func (p *pool) loggedIn() {
	p.mu.Lock()
	p.logins++
	p.mu.Unlock()
}

// totals sums up what belongs to no pool.
func (px *Server) totals() Totals {
	c := &px.counts
	t := Totals{
		ClientsAccepted: c.accepted.Load(), ClientsRefused: c.refused.Load(), LoginsFailed: c.loginsFailed.Load(),
		CancelRequests: c.cancelRequests.Load(), CancelsForwarded: c.cancelsForwarded.Load(), AcceptPauses: c.acceptPauses.Load(), TLSFailed: c.tlsFailed.Load(),
		LoginsUnderWay: px.logins.count(), ClientsConnected: int(px.admitted.Load()),
		ServerCloses: map[string]uint64{}, PinsByReason: map[string]int{}, ClientsByTLS: map[string]int{}, PinsTotal: map[string]uint64{}, StateMissed: map[string]uint64{}, ErrorsBySQLState: map[string]uint64{}, ServerErrorsBySQLState: map[string]uint64{},
	}
	for _, r := range backend.CloseReasons {
		t.ServerCloses[string(r)] = 0
	}
	c.mu.Lock()
	for k, v := range c.errors {
		t.ErrorsBySQLState[k] = v
	}
	for k, v := range c.theirs {
		t.ServerErrorsBySQLState[k] = v
	}
	for k, v := range c.closes {
		t.ServerCloses[k] = v
	}
	for k, v := range c.pins {
		t.PinsTotal[k] = v
	}
	for k, v := range c.missed {
		t.StateMissed[k] = v
	}
	t.SettingsBytes = c.settingsBytes.Load()
	c.mu.Unlock()
	px.inherited.mu.Lock()
	if px.inherited.legacy != nil {
		t.addCounters(&px.inherited.legacy.Totals)
	}
	px.inherited.mu.Unlock()
	t.StatementsKept, t.StatementsBytes = px.statements.size()
	return t
}
