package proxy

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"pgpoold/proxy/sqlscan"
)

// statement is a prepared statement that sessions have in common: a text
// with its parameter types, parsed under certain settings.
type statement struct {
	// Immutable.
	id    uint64
	name  string // on servers: pgpoold_<id>, or a client's own name
	body  string // of its Parse, without the name: text, NUL, parameter types; or the text of a PREPARE
	env   settings
	found sqlscan.Finding
	alone bool // never shared: what it means depends on the moment it was parsed, or on other names, or PREPARE made it
	print printCache
	own   bool // it has a client's own name, so that SQL can name it
	sql   bool // it is made by PREPARE, not by Parse

	utility bool // isUtility
	control bool // endsXact

	hidden atomic.Pointer[hiddenVerdict] // what names in it hide
	// unsettled says that env is only known when the transaction of its Parse
	// has ended. Then it is alone, and only its session sets it.
	unsettled bool
	blind     bool // likewise: env is that of the end of the batch of its Parse
	// outdated says of an unsettled one that what is parsed now may mean something
	// else. If the session keeps its server it stays both.
	outdated bool
	of       *statement // it is a copy of this one, which is alone, under the client's name; only its session sets what is said of it

	refs  int // guarded by statementTable.mu: names of sessions
	holds int // guarded by statementTable.mu: servers that hold it
}

// statementKey is compared in full. PostgreSQL coerces literals and looks
// names up at Parse, so the settings in force then are part of it.
type statementKey struct {
	body string
	env  settings
	own  string // the client's own name that it has on servers, or ""
}

// serverNamePrefix begins the name of every statement of ours on a server.
const serverNamePrefix = "pgpoold_"

// noSuchStatement is a name that no server ever holds.
const noSuchStatement = serverNamePrefix + "none"

// statementTable interns the statements of all sessions.
type statementTable struct {
	mu     sync.Mutex
	byKey  map[statementKey]*statement // guarded by mu
	lastID uint64                      // guarded by mu
	count  int                         // guarded by mu
	bytes  int64                       // guarded by mu
	named  int64                       // guarded by mu: those of them that sessions have names for
}

// statementCost is what a statement takes beside its text.
const statementCost = 200

// intern returns the statement for a Parse's body, with a reference for the
// caller.
func (t *statementTable) intern(body []byte, env settings, found sqlscan.Finding) *statement {
	return t.get(body, env, found, "", false)
}

// internOwn is intern for a statement that servers hold under a client's own
// name; sql says that body is the text of a PREPARE.
func (t *statementTable) internOwn(body []byte, env settings, found sqlscan.Finding, name string, sql bool) *statement {
	return t.get(body, env, found, name, sql)
}

func (t *statementTable) get(body []byte, env settings, found sqlscan.Finding, own string, sql bool) *statement {
	t.mu.Lock()
	defer t.mu.Unlock()
	alone := sql || found&(sqlscan.Moment|sqlscan.Names) != 0
	if !alone {
		if s := t.byKey[statementKey{string(body), env, own}]; s != nil {
			t.refer(s, 1)
			return s
		}
	}
	t.lastID++
	s := &statement{id: t.lastID, name: own, body: string(body), env: env, found: found, alone: alone, own: own != "", sql: sql}
	s.utility, s.control = !sql && isUtility(body), endsXact(body)
	if !s.own {
		s.name = serverNamePrefix + strconv.FormatUint(t.lastID, 10)
	}
	if !alone {
		if t.byKey == nil {
			t.byKey = map[statementKey]*statement{}
		}
		t.byKey[s.key()] = s
	}
	t.count++
	t.bytes += s.size()
	t.refer(s, 1)
	return s
}

// refer counts a reference of a session's, or one less.
func (t *statementTable) refer(s *statement, by int) {
	if by > 0 && s.refs == 0 {
		t.named += s.size()
	}
	if s.refs += by; s.refs == 0 {
		t.named -= s.size()
	}
}

func (s *statement) key() statementKey {
	k := statementKey{body: s.body, env: s.env}
	if s.own {
		k.own = s.name
	}
	return k
}

// imitates reports whether a client has given it a name that looks like one
// of ours.
func (s *statement) imitates() bool { return s.own && strings.HasPrefix(s.name, serverNamePrefix) }

// size is what the statement takes in memory.
func (s *statement) size() int64 { return int64(len(s.body)) + statementCost }

// drop gives a session's reference back.
func (t *statementTable) drop(s *statement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refer(s, -1)
	t.forget(s)
}

// hold adds a server's reference, release gives it back.
func (t *statementTable) hold(s *statement) {
	t.mu.Lock()
	s.holds++
	t.mu.Unlock()
}

func (t *statementTable) release(s *statement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.holds--
	t.forget(s)
}

// forget forgets a statement that nobody refers to.
func (t *statementTable) forget(s *statement) {
	if s.refs > 0 || s.holds > 0 {
		return
	}
	if !s.alone {
		delete(t.byKey, s.key())
	}
	t.count--
	t.bytes -= s.size()
}

// inSessions is what the statements take that sessions have names for.
func (t *statementTable) inSessions() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.named
}

// size is the number of statements and the bytes they take.
func (t *statementTable) size() (count int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count, t.bytes
}

// name is a client's name for a statement. Parse and Close take effect when
// the server has answered them: until then next is what the batch that sent
// them sees, and cur what is true if they fail. A client may have thousands.
type name struct {
	text    string     // shared
	cur     *statement // with a reference; nil: there is none
	shape   shape      // of cur's result when it was parsed; what a client may count on
	last    *change    // the last of those that are not settled; nil: all are
	ddl     uint32     // the pool's when cur's Parse was made up
	untried bool       // it was, and nothing has shown since that PostgreSQL would parse it so now
	adopt   bool       // shape is not known and is taken from the next Parse
	asks    uint16     // Describes of ours that will tell shape
}

// pending reports whether changes of the name are not settled.
func (e *name) pending() bool { return e.last != nil }

// next is what the last change that is not settled makes of the name.
func (e *name) next() *statement {
	if e.last == nil {
		return nil
	}
	return e.last.st
}

// change is a Parse or Close of a client's name, as the ledger's Ref.
type change struct {
	name *name
	st   *statement // nil: Close
	// batch is the one that sent it, and left how many changes of the name are
	// not settled; that of the last one counts.
	batch uint64
	left  int
	held  *held // where st is on its way to the server
	// The Parse is made up, for a server that holds st with this shape.
	madeUp bool
	shape  shape
	ddl    uint64 // the pool's
}

// names are the statements that one session knows by name.
type names struct {
	nameTable
	bytes int // what the texts of its statements take, each counted for itself

	coming int // bytes of the texts among them whose Parse is not settled
}

// lookup finds what a name stands for in this batch. ready is false while
// that hangs on the outcome of an earlier batch.
func (n *names) lookup(text []byte, batch uint64) (st *statement, ready bool) {
	e := n.get(text)
	switch {
	case e == nil:
		return nil, true
	case !e.pending():
		return e.cur, true
	case e.last.batch == batch:
		return e.next(), true
	}
	return nil, false
}

// begin notes a change that is being sent. st is nil for Close; else the
// reference to it passes to the name.
func (n *names) begin(text []byte, st *statement, batch uint64) *change {
	e := n.get(text)
	if e == nil {
		e = &name{text: shared(string(text))}
		n.put(e)
	}
	if st != nil {
		n.bytes += len(st.body) + statementCost
		n.coming += len(st.body) + statementCost
	}
	c := &change{name: e, st: st, batch: batch, left: 1}
	if e.last != nil {
		c.left += e.last.left
	}
	e.last = c
	return c
}

// settle notes a change's outcome; done says whether it took effect. It
// returns the statement whose reference is given up, or nil.
func (n *names) settle(c *change, done bool) (dropped *statement) {
	e := c.name
	e.last.left--
	if c.st != nil {
		n.coming -= len(c.st.body) + statementCost
	}
	if done {
		dropped, e.cur, e.shape, e.untried, e.ddl = e.cur, c.st, c.shape, c.madeUp, uint32(c.ddl)
	} else {
		dropped = c.st
	}
	if dropped != nil {
		n.bytes -= len(dropped.body) + statementCost
	}
	if e.last.left == 0 {
		e.last = nil
		if e.cur == nil {
			n.remove(e)
		}
	}
	return dropped
}

// clear forgets all names and returns the statements whose references are
// given up.
func (n *names) clear() []*statement {
	var all []*statement
	was := n.nameTable
	n.nameTable = nameTable{}
	for e := range was.all() {
		if e.cur != nil {
			all = append(all, e.cur)
			n.bytes -= len(e.cur.body) + statementCost
			e.cur = nil
		}
		if e.pending() {
			n.put(e)
		}
	}
	return all
}

// byServerName finds the client's name for a statement of ours that an error
// of PostgreSQL's mentions.
func (n *names) byServerName(server string) (client string, ok bool) {
	for e := range n.all() {
		if e.cur != nil && e.cur.name == server || e.pending() && e.last.st != nil && e.last.st.name == server {
			return e.text, true
		}
	}
	return "", false
}
