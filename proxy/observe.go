package proxy

import (
	"fmt"
	"net"
	"time"

	"pgpoold/backend"
)

// Snapshot describes the proxy as it is now. It may be called by anybody.
func (px *Server) Snapshot() Snapshot {
	now := time.Now()
	snap := Snapshot{Started: px.started, Draining: px.draining.Load(), Totals: px.totals()}
	clients := map[*pool][]ClientSnapshot{}
	for _, s := range px.allSessions() {
		c := s.snapshot(now)
		if c.Pin != "" {
			snap.Totals.PinsByReason[c.Pin]++
		}
		snap.Clients = append(snap.Clients, c)
		clients[s.pool] = append(clients[s.pool], c)
	}
	for _, p := range px.allPools() {
		ps := p.snapshot(now, &snap)
		for _, c := range clients[p] {
			switch c.State {
			case "waiting":
				ps.ClWaiting++
			default:
				ps.ClActive++
			}
		}
		snap.Pools = append(snap.Pools, ps)
	}
	return snap
}

func (s *session) snapshot(now time.Time) ClientSnapshot {
	c := ClientSnapshot{
		ID: s.id, User: s.user, Database: s.db.Name, Replication: "none", Addr: s.addr.host, Port: s.addr.port,
		ConnectTime: s.began, PID: s.pid, TLS: s.tlsName, BytesIn: s.received.Load(),
	}
	if s.repl != "" {
		c.Replication = s.repl
	}
	c.LocalAddr, c.LocalPort = hostPort(s.conn.LocalAddr())
	s.in.Lock()
	defer s.in.Unlock()
	c.State = stateIdle.String()
	if s.waiting {
		c.State = stateWaiting.String()
		c.Wait = max(0, now.Sub(s.waitSince)) // it may have begun after the snapshot
		c.RequestTime = s.waitSince
	}
	l := s.link.Load()
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.sess == s {
			c.State = stateActive.String()
			c.ServerID = l.srv.ID
			c.RequestTime = l.stats.xactBegan
		}
	}
	c.Pin, c.PinnedSince = s.pin, s.pinSince
	c.PreparedStatements = len(s.names.m)
	c.ApplicationName, _ = s.told.get("application_name")
	c.CloseNeeded = s.ending.Load() != nil
	return c
}

func (p *pool) snapshot(now time.Time, snap *Snapshot) PoolSnapshot {
	ps := PoolSnapshot{Database: p.key.database, User: p.key.user, Mode: ModeTransaction.String(), Size: p.opts.Size, MinSize: p.opts.MinSize}
	if db := p.px.database(p.key.database); db != nil {
		ps.Mode = db.Mode.String()
	}
	states := map[*backend.Server]string{}
	st := p.servers.State(now, func(s *backend.Server, state string, _ time.Time) { states[s] = state })
	var stats linkStats
	p.mu.Lock()
	stats = p.retired
	ps.Stats.ClientLogins = p.logins
	for reason, n := range p.closes {
		snap.Totals.ServerCloses[string(reason)] += n
	}
	p.mu.Unlock()
	p.each(func(l *link) {
		state, ok := states[l.srv]
		if !ok {
			return
		}
		s := l.snapshot(state, &stats)
		snap.Servers = append(snap.Servers, s)
		switch s.State {
		case "active":
			ps.SvActive++
		case "active_cancel":
			ps.SvActiveCancel++
		case "being_canceled":
			ps.SvBeingCanceled++
		case "tested":
			ps.SvTested++
		case "used":
			ps.SvUsed++
		default:
			ps.SvIdle++
		}
	})
	snap.Totals.ServersConnected += len(states)
	ps.SvLogin = st.Dialling
	ps.MaxWait = st.MaxWait
	if st.LastError != nil {
		ps.LastError = st.LastError.Error()
	}
	ps.Ready, _ = p.servers.Ready()
	ps.Stats = PoolStats{
		ServerAssignments: stats.assignments, Xacts: stats.xacts, Queries: stats.queries,
		BytesReceived: stats.received, BytesSent: stats.sent, XactTime: stats.xactTime, QueryTime: stats.queryTime,
		WaitTime: st.WaitTime, ClientParses: stats.clientParses, ServerParses: stats.parses, Binds: stats.binds,
		ClientLogins: ps.Stats.ClientLogins, Switches: stats.switches, Kept: stats.kept, Dials: st.Dials, DialErrors: st.DialErrors,
	}
	return ps
}

// snapshot describes a server and adds its counters to stats.
func (l *link) snapshot(state string, stats *linkStats) ServerSnapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	stats.add(&l.stats)
	if state == "active" && l.cancels > 0 {
		state = "active_cancel"
	}
	s := ServerSnapshot{
		ID: l.srv.ID, User: l.pool.key.user, Database: l.pool.key.database, Replication: "none", State: state,
		ConnectTime: l.srv.Born, RequestTime: l.stats.lately, CloseNeeded: l.srv.Closing() != "",
		PID: l.srv.PID, TLS: l.srv.TLS, PreparedStatements: len(l.shelf.m),
	}
	s.ApplicationName, _ = l.reported.get("application_name")
	s.Addr, s.Port = hostPort(l.srv.RemoteAddr())
	s.LocalAddr, s.LocalPort = hostPort(l.srv.Conn.LocalAddr())
	if l.sess != nil {
		s.ClientID, s.Pin = l.sess.id, l.sess.pin
	}
	return s
}

func hostPort(a net.Addr) (string, int) {
	addr := addrOf(a)
	return addr.host, addr.port
}

// ConsistencyCheck compares counters with the maps and pools they count. It
// is exact only while nothing happens; tests call it at their end.
func (px *Server) ConsistencyCheck() error {
	live := len(px.allSessions())
	if n := int(px.admitted.Load()); n < live {
		return fmt.Errorf("%d clients are admitted, but %d sessions live", n, live)
	}
	sessions := map[uint64]bool{}
	for _, s := range px.allSessions() {
		sessions[s.id] = true
	}
	for _, p := range px.allPools() {
		if err := p.servers.Check(); err != nil {
			return err
		}
		var bad error
		p.each(func(l *link) {
			l.mu.Lock()
			defer l.mu.Unlock()
			switch {
			case l.state == linkAttached && l.sess == nil && !l.dead:
				bad = fmt.Errorf("server %d is attached to nobody", l.srv.ID)
			case l.sess != nil && l.sess.link.Load() != l:
				bad = fmt.Errorf("server %d is attached to session %d, which does not know", l.srv.ID, l.sess.id)
			case l.sess != nil && !sessions[l.sess.id]:
				bad = fmt.Errorf("server %d is attached to session %d, which has ended", l.srv.ID, l.sess.id)
			case l.state == linkPooled && !l.ledger.Releasable():
				bad = fmt.Errorf("server %d is in its pool and owes %d replies, status %c", l.srv.ID, l.ledger.Len(), l.ledger.Status())
			case l.cancels < 0:
				bad = fmt.Errorf("server %d has %d cancels", l.srv.ID, l.cancels)
			}
		})
		if bad != nil {
			return bad
		}
	}
	return nil
}
