package proxy

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/backend"
	"pgpoold/wire"
)

// Snapshot describes the proxy as it is now. It may be called by anybody.
func (px *Server) Snapshot() Snapshot {
	now := time.Now()
	snap := Snapshot{Started: px.started, Draining: px.Draining(), Totals: px.totals(), Controls: px.Controls()}
	held := map[*pool]int{}
	for _, s := range px.allSessions() {
		c := s.snapshot(now)
		if c.Pin != "" {
			snap.Totals.PinsByReason[c.Pin]++
		}
		if s.holdsCancel() {
			held[s.pool]++
		}
		snap.Clients = append(snap.Clients, c)
	}
	for _, p := range px.allPools() {
		ps := p.snapshot(now, &snap)
		ps.ClWaitingCancelReq = held[p]
		snap.Pools = append(snap.Pools, ps)
	}
	return snap
}

// Pools describes the pools alone, which costs nothing for each client.
func (px *Server) Pools() []PoolSnapshot {
	now := time.Now()
	var rest Snapshot
	rest.Totals.ServerCloses = map[string]uint64{}
	var all []PoolSnapshot
	for _, p := range px.allPools() {
		all = append(all, p.snapshot(now, &rest))
	}
	return all
}

// holdsCancel reports whether a cancel request waits for the session's own
// query to be at the head of what its server owes.
func (s *session) holdsCancel() bool {
	s.in.Lock()
	defer s.in.Unlock()
	if l := s.link.Load(); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
	}
	return s.cancel != nil
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
	if c.Pin = s.pin; s.pin != "" {
		c.PinnedSince = time.Unix(0, s.pinSince)
	}
	c.BytesOut, c.Unread = s.outBytes, s.conn.Unsent()
	c.PreparedStatements = len(s.names.m)
	c.ApplicationName, _ = s.told.get("application_name")
	c.CloseNeeded = s.ending.Load() != nil
	return c
}

func (p *pool) snapshot(now time.Time, snap *Snapshot) PoolSnapshot {
	ps := PoolSnapshot{Database: p.key.database, User: p.serverUser(), Mode: ModeTransaction.String()}
	if db := p.px.database(p.key.database); db != nil {
		ps.Mode = db.Mode.String()
	}
	states := map[*backend.Server]backend.ServerState{}
	st := p.servers.State(now, func(s *backend.Server, state backend.ServerState) { states[s] = state })
	ps.Size, ps.MinSize, ps.Paused = st.Size, st.MinSize, st.Paused
	ps.ClWaiting = st.Waiting
	ps.ClActive = int(max(0, p.clients.Load()-max(0, int64(st.Waiting)-p.logging.Load())))
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
		s, cancels := l.snapshot(now, state, &stats)
		ps.ClActiveCancelReq += cancels
		ps.SvActiveCancel += cancels
		snap.Servers = append(snap.Servers, s)
		switch s.State {
		case "active":
			ps.SvActive++
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
		ps.LastError, ps.Refused = st.LastError.Error(), refusedLogin(st.LastError)
	}
	ps.Ready, _ = p.servers.Ready()
	ps.Stats = PoolStats{
		ServerAssignments: stats.assignments, Xacts: stats.xacts, Queries: stats.queries,
		BytesReceived: stats.received, BytesSent: stats.sent, XactTime: stats.xactTime, QueryTime: stats.queryTime,
		WaitTime: st.WaitTime, ClientParses: stats.clientParses, ServerParses: stats.parses, Binds: stats.binds,
		ClientLogins: ps.Stats.ClientLogins, Switches: stats.switches, Kept: stats.kept, Inspections: stats.inspections, Dials: st.Dials, DialErrors: st.DialErrors, Errors: stats.errors,
		StatementHits: stats.hits, StatementMisses: stats.misses, StatementEvictions: stats.evictions,
		Waits: st.Waits, XactTimes: stats.xactTimes, QueryTimes: stats.queryTimes, Connects: st.Connects, ConnectTime: st.ConnectTime,
	}
	p.inheritedStats(&ps.Stats)
	return ps
}

// snapshot describes a server and adds its counters to stats.
func (l *link) snapshot(now time.Time, st backend.ServerState, stats *linkStats) (_ ServerSnapshot, cancels int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stats.add(&l.stats)
	state := st.Name
	if state == "active" && l.state == linkOurs {
		state = "tested" // a trial, or a reset
	}
	s := ServerSnapshot{
		ID: l.srv.ID, User: l.pool.serverUser(), Database: l.pool.key.database, Replication: "none", State: state,
		ConnectTime: l.srv.Born, RequestTime: l.stats.lately, CloseNeeded: st.CloseNeeded || l.srv.Closing() != "",
		PID: l.srv.PID, TLS: l.srv.TLS, PreparedStatements: len(l.shelf.m),
	}
	s.ApplicationName, _ = l.reported.get("application_name")
	s.Addr, s.Port = hostPort(l.srv.RemoteAddr())
	s.LocalAddr, s.LocalPort = hostPort(l.srv.Conn.LocalAddr())
	if l.sess != nil {
		s.ClientID, s.Pin = l.sess.id, l.sess.pin
		switch {
		case l.ledger.Len() > 0 && !l.stats.queryBegan.IsZero():
			s.Query = max(0, now.Sub(l.stats.queryBegan))
		case l.ledger.Len() == 0 && l.ledger.Status() != wire.TxIdle && !l.stats.lately.IsZero():
			s.InTransaction = max(0, now.Sub(l.stats.lately))
		}
	}
	return s, l.cancels
}

// refusedLogin reports whether PostgreSQL has refused a login for who it is.
func refusedLogin(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28")
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
