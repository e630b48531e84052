package backend

import "time"

// checkTimeout is how long an idle server may take to show that it lives.
const checkTimeout = 5 * time.Second

// checkPatience is how long a check is waited for before a new server is
// dialled as well.
const checkPatience = time.Second

// Tick does what time brings: it refuses those who have waited too long,
// closes servers that are idle for too long, too old, or did not answer a
// check, looks for hidden ends of file, and dials towards the minimum. One
// goroutine calls it about every second.
func (p *Pool) Tick(now time.Time) {
	var late []*Ticket
	closing := map[*Server]CloseReason{}
	p.mu.Lock()
	if p.limits.QueryWaitTimeout > 0 {
		for t := p.waiting.first; t != nil && now.Sub(t.Since) >= p.limits.QueryWaitTimeout; t = p.waiting.first {
			p.waiting.remove(t)
			late = append(late, t)
		}
	}
	spare := len(p.all) - p.minSize
	for _, s := range append([]*Server(nil), p.idle...) {
		reason := p.unwantedLocked(s, now)
		if reason == "" && p.limits.IdleTimeout > 0 && spare > 0 && now.Sub(s.idleSince) > p.limits.IdleTimeout {
			reason = CloseIdle
			spare--
		}
		if reason == "" {
			continue
		}
		closing[s] = reason
		p.goneLocked(s)
	}
	var peek []*Server
	for s := range p.all {
		if s.state == serverTested && now.Sub(s.idleSince) > checkTimeout {
			closing[s] = CloseIO
			p.goneLocked(s)
		} else if s.Conn.Unconfirmed() {
			peek = append(peek, s)
		}
	}
	// A Picker that turned every idle server down must not starve anybody for whom
	// no other server is on its way.
	var forced *Ticket
	var spareServer *Server
	if p.picker != nil && !p.paused && p.dialling == 0 && p.leaving == 0 && p.waiting.first != nil && len(p.idle) > 0 && p.waiting.first.takes(p.idle[0]) {
		forced, spareServer = p.waiting.first, p.idle[0]
		p.waiting.remove(forced)
		p.grantedLocked(forced, now)
		p.unidleLocked(0, serverActive)
	}
	if s := p.unfitIdleLocked(now); s != nil {
		closing[s] = CloseEvicted
	}
	var bound string
	if len(late) > 0 {
		bound = p.boundLocked()
	}
	p.dialLocked()
	p.mu.Unlock()
	if forced != nil {
		forced.W.Granted(spareServer)
	}
	for _, t := range late {
		t.W.Refused(&WaitError{bound})
	}
	for s, reason := range closing {
		s.Close(reason)
	}
	for _, s := range peek {
		s.Conn.Peek()
	}
}
