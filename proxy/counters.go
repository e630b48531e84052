package proxy

import (
	"sync"
	"sync/atomic"

	"pgpoold/backend"
)

// counters are events that belong to no pool.
type counters struct {
	accepted, refused, loginsFailed  atomic.Uint64
	cancelRequests, cancelsForwarded atomic.Uint64
	acceptPauses                     atomic.Uint64

	mu     sync.Mutex
	errors map[string]uint64 // guarded by mu: errors of ours by SQLSTATE
	pins   map[string]uint64 // guarded by mu: pins by reason
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

func (px *Server) pinned(reason string) {
	c := &px.counts
	c.mu.Lock()
	if c.pins == nil {
		c.pins = map[string]uint64{}
	}
	c.pins[reason]++
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
		CancelRequests: c.cancelRequests.Load(), CancelsForwarded: c.cancelsForwarded.Load(), AcceptPauses: c.acceptPauses.Load(),
		LoginsUnderWay: px.logins.count(), ClientsConnected: int(px.admitted.Load()),
		ServerCloses: map[string]uint64{}, PinsByReason: map[string]int{}, PinsTotal: map[string]uint64{}, ErrorsBySQLState: map[string]uint64{},
	}
	for _, r := range backend.CloseReasons {
		t.ServerCloses[string(r)] = 0
	}
	c.mu.Lock()
	for k, v := range c.errors {
		t.ErrorsBySQLState[k] = v
	}
	for k, v := range c.pins {
		t.PinsTotal[k] = v
	}
	c.mu.Unlock()
	t.StatementsKept, t.StatementsBytes = px.statements.size()
	return t
}
