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
	all := px.allSessions()
	snap := Snapshot{Clients: make([]ClientSnapshot, 0, len(all))}
	px.describe(&snap, all)
	return snap
}

// Summary is a Snapshot without its Clients, which costs no memory for each of
// them: it is for those who look often.
func (px *Server) Summary() Snapshot {
	var snap Snapshot
	px.describe(&snap, px.allSessions())
	return snap
}

// describe fills in a Snapshot; its Clients only where there are to be any.
func (px *Server) describe(snap *Snapshot, all []*session) {
	now := time.Now()
	snap.Started, snap.Draining, snap.Totals, snap.Controls = px.started, px.Draining(), px.totals(), px.Controls()
	held := map[*pool]int{}
	for i, s := range all {
		breathe(i)
		if snap.Clients != nil {
			snap.Clients = append(snap.Clients, s.snapshot(now))
		}
		pin, cancels := s.brief()
		if pin != "" {
			snap.Totals.PinsByReason[pin]++
		}
		if cancels {
			held[s.pool]++
		}
		snap.Totals.ClientsByTLS[s.tls()]++
	}
	for _, p := range px.allPools() {
		ps := p.snapshot(now, snap)
		ps.ClWaitingCancelReq = held[p]
		snap.Pools = append(snap.Pools, ps)
	}
}

// Pools describes the pools alone, which costs nothing for each client.
func (px *Server) Pools() []PoolSnapshot {
	now := time.Now()
	var rest Snapshot
	var all []PoolSnapshot
	for _, p := range px.allPools() {
		all = append(all, p.snapshot(now, &rest))
	}
	return all
}

// ofReplication are the pools of replication sessions, which have one each.
const ofReplication = "replication"

// of says whose the pool is.
func (p *pool) of() string {
	if p.repl != "" {
		return ofReplication
	}
	return p.key.client
}

// bury lets a replication session's pool go, which has ended. Its counters go
// on in the database's other pool of that user, as their sum must not fall.
func (px *Server) bury(p *pool) {
	ps := p.snapshot(time.Now(), &Snapshot{})
	px.mu.Lock()
	known := px.pools[p.key] == p
	if known {
		delete(px.pools, p.key)
	}
	px.mu.Unlock()
	if !known {
		return
	}
	for _, other := range px.poolsOf(p.key.database) {
		if other.key.session == 0 && other.serverUser() == ps.User {
			other.mu.Lock()
			other.buried.Add(&ps.Stats)
			other.mu.Unlock()
			return
		}
	}
}

// brief tells why the session keeps its server, "" if it does not, and whether
// a cancel request waits for its own query to be at the head of what that owes.
func (s *session) brief() (pin string, cancels bool) {
	s.in.Lock()
	defer s.in.Unlock()
	if l := s.link.Load(); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
	}
	return s.pin, s.cancel != nil
}

func (s *session) snapshot(now time.Time) ClientSnapshot {
	c := ClientSnapshot{
		ID: s.id, User: s.user, Database: s.db.Name, Replication: "none", Addr: s.addr.host, Port: s.addr.port,
		ConnectTime: time.Unix(0, s.began), PID: s.pid, TLS: s.tls(), BytesIn: s.received.Load(),
	}
	if s.pool.repl != "" {
		c.Replication = s.pool.repl
	}
	c.LocalAddr, c.LocalPort = hostPort(s.conn.LocalAddr())
	s.in.Lock()
	defer s.in.Unlock()
	c.State = stateIdle.String()
	if s.waiting {
		c.State = stateWaiting.String()
		c.Wait = max(0, now.Sub(s.ticket.Since)) // it may have begun after the snapshot
	}
	l := s.link.Load()
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.sess == s {
			c.State = stateActive.String()
			c.ServerID = l.srv.ID
		}
	}
	switch {
	case s.waiting:
		c.RequestTime = s.ticket.Since
	case s.asked != 0:
		c.RequestTime = time.Unix(0, s.asked)
	}
	if c.Pin = s.pin; s.pin != "" {
		c.PinnedSince = time.Unix(0, s.pinSince)
	}
	c.BytesOut, c.Unread = s.outBytes, s.conn.Unsent()
	c.PreparedStatements = s.names.len()
	c.ApplicationName, _ = s.told.get("application_name")
	c.CloseNeeded = s.ending.Load() != nil
	return c
}

func (p *pool) snapshot(now time.Time, snap *Snapshot) PoolSnapshot {
	ps := PoolSnapshot{Database: p.key.database, User: p.serverUser(), Of: p.of(), Mode: ModeTransaction.String()}
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
	buried := p.buried
	ps.Stats.ClientLogins = p.logins
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
	ps.Stats.Add(&buried)
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
		ID: l.srv.ID, User: l.pool.serverUser(), Database: l.pool.key.database, Of: l.pool.of(), Replication: "none", State: state,
		ConnectTime: l.srv.Born, RequestTime: l.stats.lately, CloseNeeded: st.CloseNeeded || l.srv.Closing() != "",
		PID: l.srv.PID, TLS: l.srv.TLS, PreparedStatements: len(l.shelf.m),
	}
	if l.pool.repl != "" {
		s.Replication = l.pool.repl
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
