package proxy

import (
	"bytes"
	"time"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// Moved is a session on its way to another process of pgpoold: all that is
// known of a client that is between transactions. It holds secrets, and goes
// nowhere but over the socket between the two.
type Moved struct {
	ID             uint64
	Database, User string
	Credentials    backend.Credentials // where the client is itself on the server
	PID            uint32
	Secret         []byte
	Began          time.Time

	Start, StartLink, Settings string // sets of settings
	StartTo, Told              Reported
	IdleLimit                  int64
	Customs                    []string
	UsesLast                   bool

	Skip           bool   // everything up to Sync is dropped
	Input          []byte // what has been read and not handled
	Big            int    // the size of a message that Input is a part of; 0: it is none
	Batch          uint64
	Received, Sent uint64

	Names   []MovedName
	Unnamed *MovedUnnamed
}

// Reported are parameters and their values, in order.
type Reported struct{ Names, Values []string }

// MovedName is a client's name for a statement.
type MovedName struct {
	Name  string
	Body  []byte // as statement.body
	Env   string // a set of settings
	Own   string // the client's own name that it has on servers, or ""
	SQL   bool   // it is made by PREPARE
	Alone bool   // it is never shared
	Shape Shape
	// Untried and Adopt are as name's.
	Untried, Adopt bool
}

// MovedUnnamed is an unnamed statement.
type MovedUnnamed struct {
	Generation uint64
	Exists     bool
	Body       []byte
	Env        string
	Alone      bool
	Shape      Shape
}

// Shape is what a client was told of a statement's result.
type Shape struct {
	Known      bool
	Text       string
	Parameters string // "": they are not known
}

func (s shape) exported() Shape {
	if s == (shape{}) {
		return Shape{}
	}
	return Shape{Known: true, Text: s.h.Value().rows, Parameters: s.params()}
}

func (s Shape) own() shape {
	if !s.Known {
		return shape{}
	}
	return newShape(s.Text, s.Parameters)
}

// exported is a set's text; that of the empty one is "".
func (s settings) exported() string {
	if s == noSettings {
		return ""
	}
	return s.h.Value().all
}

func settingsFrom(text string) settings {
	if text == "" {
		return noSettings
	}
	return newSettings(pairsOf(text))
}

func (r *reported) exported() Reported { return Reported{r.names, r.values} }

func (r Reported) own() *reported { return (&reported{names: r.Names, values: r.Values}).sealed() }

// pack describes a session that departs has held up. Nobody else changes it.
func (s *session) pack() *Moved {
	s.in.Lock()
	defer s.in.Unlock()
	m := &Moved{
		ID: s.id, Database: s.db.Name, User: s.user, PID: s.pid, Secret: []byte(s.secret), Began: time.Unix(0, s.began),
		Start: s.start.exported(), StartLink: s.startLink.exported(), Settings: s.settings.exported(),
		StartTo: s.startTo.exported(), Told: s.told.exported(), IdleLimit: int64(s.idleLimit.Load()), Customs: s.customs, UsesLast: s.usesLast,
		Skip: s.skip, Input: bytes.Clone(s.input()), Big: cap(s.big), Batch: s.batch, Received: s.received.Load(), Sent: s.outBytes,
	}
	if s.db.Pool.Credentials.User == "" {
		m.Credentials = s.pool.servers.Target().Credentials
	}
	ddl := s.pool.ddl.Load()
	for e := range s.names.all() {
		st := e.cur
		if st == nil {
			continue
		}
		s.settleEnv(st)
		n := MovedName{Name: e.text, Body: []byte(st.body), Env: st.env.exported(), SQL: st.sql, Alone: st.alone,
			Shape: e.shape.exported(), Untried: e.untried && e.ddl == uint32(ddl), Adopt: e.adopt}
		if st.own {
			n.Own = st.name
		}
		m.Names = append(m.Names, n)
	}
	if vs := s.unnamed.versions(); len(vs) == 1 {
		v := &vs[0]
		if v.unsettled {
			v.env, v.unsettled = s.settledEnv(v.env), false
		}
		m.Unnamed = &MovedUnnamed{Generation: v.gen, Exists: v.body != nil, Body: bytes.Clone(v.body), Env: v.env.exported(),
			Alone: v.found&sqlscan.Moment != 0, Shape: v.shape.exported()}
	}
	return m
}

// unpack fills a new session with what was packed; the caller has set what
// comes from the configuration. Its statements are found again in what they
// say: the two processes may see different things in them.
func (s *session) unpack(m *Moved) {
	s.pid, s.secret, s.began = m.PID, string(m.Secret), m.Began.UnixNano()
	s.start, s.startLink, s.settings = settingsFrom(m.Start), settingsFrom(m.StartLink), settingsFrom(m.Settings)
	s.startTo, s.told = m.StartTo.own(), m.Told.own()
	s.limitIdle(m.IdleLimit)
	s.customs = m.Customs
	if s.usesLast = m.UsesLast; s.usesLast {
		s.pool.usesLast.Store(true)
	}
	s.skip, s.batch, s.outBytes = m.Skip, m.Batch, m.Sent
	s.received.Store(m.Received)
	if s.settings != s.start {
		s.wishes(s.settings)
	}
	ddl := s.pool.ddl.Load()
	for i := range m.Names {
		s.unpackName(&m.Names[i], ddl)
	}
	if u := m.Unnamed; u != nil {
		v := version{gen: u.Generation, env: settingsFrom(u.Env), shape: u.Shape.own()}
		if u.Exists {
			v.body = append([]byte{}, u.Body...)
			v.found = s.foundAgain(sqlOf(u.Body), v.env)
			v.says = s.unnamed.said(u.Body, s.told.standard)
			if u.Alone {
				v.found |= sqlscan.Moment
			}
		}
		s.unnamed.all, s.unnamed.last = append(s.unnamed.all, v), u.Generation
	}
	s.findFrozen()
}

func (s *session) unpackName(n *MovedName, ddl uint64) {
	env := settingsFrom(n.Env)
	sql := n.Body
	if !n.SQL {
		sql = sqlOf(n.Body)
	}
	found := s.foundAgain(sql, env)
	if n.SQL {
		found &^= sqlscan.Names
	}
	if n.Alone && !n.SQL && found&sqlscan.Names == 0 {
		found |= sqlscan.Moment
	}
	st := s.px.statements.get(n.Body, env, found, n.Own, n.SQL)
	c := s.names.begin([]byte(n.Name), st, s.batch)
	c.shape, c.madeUp, c.ddl = n.Shape.own(), n.Untried, ddl
	s.names.settle(c, true)
	if e := s.names.get([]byte(n.Name)); e != nil {
		e.adopt = n.Adopt
	}
}

// sqlOf is the text in a Parse's body.
func sqlOf(body []byte) []byte {
	text, _, _ := wire.CString(body)
	return text
}

// foundAgain is what scan has found in a text that was parsed under env.
func (s *session) foundAgain(sql []byte, env settings) sqlscan.Finding {
	standard := s.startTo.standard
	if v, ok := env.get("standard_conforming_strings"); ok {
		standard = isOn(v)
	}
	found := sqlscan.Scan(sql, standard)
	if s.told.opaque {
		return found | sqlscan.Untracked | sqlscan.Opaque
	}
	if found&sqlscan.Customs != 0 && s.carries {
		found |= s.named(sqlscan.CustomNames(sql, standard), found)
	}
	return found
}
