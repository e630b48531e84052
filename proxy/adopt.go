package proxy

import (
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/wire/stream"
)

// Adopted is a session that another process offers. Nothing of it has been
// read here until Begin.
type Adopted struct {
	s    *session
	sock *stream.Socket
}

// errLeaving refuses a session of a process that leaves itself.
var errLeaving = errors.New("the successor is shutting down")

// Adopt makes a session of what another process has packed, and its socket,
// which it takes. Exactly one of Begin and Keep follows. The limits on clients
// do not hold for it: it has its place already.
func (px *Server) Adopt(m *Moved, nc net.Conn) (*Adopted, error) {
	a, err := px.adopt(m, nc)
	if err != nil {
		_ = nc.Close()
	}
	return a, err
}

func (px *Server) adopt(m *Moved, nc net.Conn) (*Adopted, error) {
	db := px.database(m.Database)
	if db == nil {
		return nil, fmt.Errorf("database %q is not configured in the successor", m.Database)
	}
	if len(m.Input) > stream.BufferSize && m.Big == 0 || m.Big > 0 && len(m.Input) > m.Big {
		return nil, fmt.Errorf("%d bytes of input do not fit", len(m.Input))
	}
	_ = px.opts.Keepalive.Apply(nc) // it has the other process's, or package net's
	sock, err := stream.NewSocket(nc)
	if err != nil {
		return nil, err
	}
	conn, err := stream.New(sock, nil)
	if err != nil {
		return nil, err
	}
	own := px.live().users[m.User]
	s := &session{px: px, id: m.ID, db: db, user: shared(m.User), mode: db.Mode, conn: conn, addr: addrOf(nc.RemoteAddr())}
	conn.ParkWith(px.parker, s)
	s.timeouts.Store(px.timeoutsOf(db, m.User))
	if own.Mode != nil {
		s.mode = *own.Mode
	}
	px.mu.Lock()
	leaving := px.closed || px.Draining()
	if !leaving {
		px.sessions.Add(1)
		if px.clients[s.id] != nil {
			s.id = px.lastSession.Add(1)
		}
	}
	px.mu.Unlock()
	if leaving {
		return nil, errLeaving
	}
	if s.pool, err = px.poolFor(db, identityOf(m.Credentials), own.Size, "", 0); err != nil {
		px.sessions.Done()
		return nil, err
	}
	s.govern(own)
	s.unpack(m)
	s.demand()
	s.put(m.Input, m.Big)
	if !px.keys.adopt(s) {
		s.in.Lock()
		s.clear()
		s.in.Unlock()
		px.forgetPool(s)
		px.sessions.Done()
		return nil, errors.New("its cancel key is taken")
	}
	px.admitted.Add(1)
	px.enter(db.Name, m.User)
	return &Adopted{s, sock}, nil
}

// identityOf is whose credentials a pool's are.
func identityOf(c backend.Credentials) identity {
	return identity{User: c.User, Password: c.Password, ClientKey: c.ClientKey, ServerKey: c.ServerKey, MD5Secret: c.MD5Secret}
}

// govern sets what the configuration says about a session's state.
func (s *session) govern(own UserOptions) {
	s.upstream = s.db.Pool.UpstreamPooler
	s.level = s.db.State.Level
	if own.Level != nil {
		s.level = *own.Level
	}
	s.carries = !s.upstream && s.level != StateIgnore && s.mode != ModeSession
}

// put makes b what the session has read already.
func (s *session) put(b []byte, big int) {
	switch {
	case big > 0:
		s.big = append(make([]byte, 0, big), b...)
	case len(b) > 0:
		s.buf = stream.GetBuffer()
		s.n = copy(s.buf[:], b)
	}
}

// clear gives up the session's statements and buffer. in is held.
func (s *session) clear() {
	for _, st := range s.names.clear() {
		s.px.statements.drop(st)
	}
	if s.buf != nil {
		s.pos, s.n = 0, 0
	}
	s.tidyBuffer()
	s.px.counts.settingsBytes.Add(-s.settingsSize)
}

// adopt takes a session in under the key that its client knows; false: another
// one has it.
func (k *cancelKeys) adopt(s *session) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pid == nil {
		k.pid = map[uint32]*session{}
	}
	if k.pid[s.pid] != nil || k.console[s.pid] != nil {
		return false
	}
	k.pid[s.pid] = s
	return true
}

// Begin lets the session go on here.
func (a *Adopted) Begin() { go a.s.goOn(a.sock) }

// goOn begins a session that has moved here. It waits, as a login does, until
// it is known what the names in its texts hide. Joined by Server.Close.
func (s *session) goOn(sock *stream.Socket) {
	defer s.px.sessions.Done()
	if s.carries {
		s.pool.seeHidden(sock.HungUp)
	}
	s.conn.Wake() // to what it has brought along
	s.px.begin(s)
	s.px.workers.do(job{s: s})
	s.px.opts.Log.Debug("session came", zap.Uint64("session", s.id), zap.String("user", s.user), zap.String("database", s.db.Name))
}

// Keep leaves the session to the process that has it.
func (a *Adopted) Keep() {
	s := a.s
	_ = a.sock.Close()
	s.in.Lock()
	s.clear()
	s.in.Unlock()
	s.px.keys.forget(s)
	s.px.forgetPool(s)
	s.px.uncountClient(s.db.Name, s.user)
	s.px.unadmit()
	s.px.sessions.Done()
}
