package proxy

import (
	"runtime"
	"sync"
	"time"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// link is the proxy's half of a server connection: what the server owes, what
// is in force on it and what it holds, and the session it is attached to. Its
// methods as a backend.Handler run on the server's pump.
//
// Lock order: session.in, then link.mu, then the pool's lock. A connection's
// write may be called under link.mu, because it does not block there.
type link struct {
	// Immutable.
	srv  *backend.Server
	px   *Server
	pool *pool
	base *reported // what the server reported at login: the values that RESET returns to

	// Owned by the pump.
	carry   []byte // bytes of a message that has not arrived whole
	left    int    // bytes of the current message that are still to come; written under mu
	keep    bool   // and whether they go to the client
	readErr error

	mu     sync.Mutex
	state  linkState
	sess   *session // attached; nil in any other state
	then   func(l *link, failed []byte)
	failed []byte // error to one of our own queries, for then
	dead   bool   // the pump has ended; the session is about to hear it

	ledger   wire.Ledger
	label    settings  // what is in force beyond the server's own start values
	known    bool      // whether label can be believed
	reported *reported // what the server reports now
	shelf    shelf
	// unnamed says whose unnamed statement the server will hold when it has
	// read everything sent so far.
	unnamedOf    uint64 // session id; 0: nobody's
	unnamedGen   uint64
	unnamedBatch uint64
	// What follows is about an unnamed statement that was injected.
	unnamedOurs  bool  // it was
	unnamedSure  bool  // and its ParseComplete was seen
	unnamedAsked bool  // the server is being asked for its shape
	unnamedShape shape // the answer

	asking    *inspection         // what PostgreSQL is asked about the attached session's state
	created   map[string]struct{} // custom settings that exist on it
	foreign   bool                // its sequences' last values may be another session's
	drew      bool                // the attached session has drawn numbers in a transaction that has ended
	hadTemp   bool                // temporary objects were made on it
	reports   []byte              // ParameterStatus that goes in front of the next ReadyForQuery
	strict    bool                // its last session is of level strict
	claimed   bool                // it is counted among those that keep a server, and its pin will come with the end of the transaction
	discarded bool                // the last that was answered, in an open batch, is a DISCARD ALL
	untold    bool                // the client is told what has changed in front of the ReadyForQuery of its open batch, behind which a Sync of ours stands
	returns   int                 // Queries that are owed and have something of ours added (returned)
	told      backend.Used        // the marks that the pool knows of

	prefix     []byte          // ours, to be written in front of what the session sends first
	half       bool            // a message has been sent in part
	firstBatch uint64          // the session's number of the first batch since the attach
	xactEndsIn uint64          // and of the last in which something is bound that may end the transaction
	readsElse  uint64          // and of the last in which something is bound that may change what literals are read under
	xactEnds   bool            // a portal of the transaction's may end it
	xactUnrun  bool            // the unnamed one may, and has not been executed
	xactNamed  bool            // and one that has a name
	unrun      []string        // portals that may change what literals are read under, and have not been executed
	foundSent  sqlscan.Finding // the session's found, but for the message that is being handled
	wrote      bool            // something was written to the server since the attach
	awaiting   bool            // nothing of the session's is sent until the server has answered the replay
	answered   bool            // the server has answered something since the attach
	madeUp     int             // replies made up since the attach
	cancels    int             // cancel requests under way
	clearing   chan struct{}   // not nil: one of them is for what stands in front of the client's own; closed when it has ended
	tainted    bool            // one of them may still hit a later query
	pinned     bool            // orphan: its session may have left what cannot be undone
	suspect    bool            // orphan: its session may have left what can
	reset      bool            // orphan: its session had it for itself and may have changed anything
	toCancel   bool            // orphan: what runs is to be cancelled as soon as it is the client's own
	canceled   bool            // orphan: and a cancel was sent
	canceledAt uint64          // orphan: the ledger's place then, if it was for something of ours
	askedAt    uint64          // the ledger's place of a description that the clock has seen waiting; 0: none
	enough     bool            // and a cancel is under way for it: nothing is sent that this could hit
	finished   bool            // orphan: what ends an open batch has been sent
	leaveBy    time.Time
	retrying   *wire.Error     // the client's batch is run again as soon as the server is ready, because of this
	retryOpen  bool            // and its Sync has not come
	asks       int             // answers of the server that the session's next message waits for
	late       bool            // it has waited for one, and the server may not have read it though it seems to run
	bringing   bool            // what the session's next message names has been asked for, in batches of its own
	brought    uint64          // the ledger's place of what was brought in an open batch in front of a Query, which waits for it; 0: nothing
	failsQuery bool            // and it has failed
	shapeless  []*name         // made by PREPARE since the attach: their shapes are not known
	params     []byte          // a ParameterDescription that waits for what comes behind it
	paramTypes string          // what the last Describe that is remembered tells of parameters
	muted      []muted         // errors to what was sent as batches of its own, in front of the client's
	fatal      []byte          // body of the ErrorResponse that ends the connection
	replayed   bool            // and it came while the replay was at the head
	doomed     bool            // it had come before the session was attached
	lastSess   uint64          // session that was attached last
	flushed    uint64          // the ledger's place up to which the client has asked for the replies
	forgetsAt  uint64          // the ledger's place behind the last text that may deallocate and whose transaction has not ended; 0: none
	forgets    sqlscan.Finding // orphan: what its session ran may have deallocated
	closing    bool            // the client has said goodbye, and the replies to what stands in front of it are awaited
	sure       bool            // and PostgreSQL would send it the current message
	withheld   []byte          // what it would not

	overdueAt    time.Time // the begin, then the end, of the last cancel for query_timeout; zero: none that could still hit
	overdueLimit time.Duration

	stats linkStats
	text  textSample // of the query under way, for fingerprints
}

// linkState says who has the server.
type linkState uint8

const (
	linkPooled   linkState = iota // the pool
	linkAttached                  // sess
	linkOurs                      // pgpoold itself: a check, a trial, a reset
	linkOrphan                    // nobody: its client has left, and what it left is being cleared
)

// linkStats are guarded by link.mu.
type linkStats struct {
	assignments, xacts, queries   uint64
	received, sent                uint64
	xactTime, queryTime           time.Duration
	clientParses, parses, binds   uint64
	switches, kept                uint64
	hits, misses, evictions       uint64 // of named statements on the server
	errors                        uint64
	xactTimes, queryTimes         backend.Histogram
	inspections                   uint64
	xactBegan, queryBegan, lately time.Time
}

func (a *linkStats) add(b *linkStats) {
	a.assignments += b.assignments
	a.xacts += b.xacts
	a.queries += b.queries
	a.received += b.received
	a.sent += b.sent
	a.xactTime += b.xactTime
	a.queryTime += b.queryTime
	a.clientParses += b.clientParses
	a.parses += b.parses
	a.binds += b.binds
	a.switches += b.switches
	a.kept += b.kept
	a.hits += b.hits
	a.misses += b.misses
	a.evictions += b.evictions
	a.errors += b.errors
	a.xactTimes.Add(&b.xactTimes)
	a.queryTimes.Add(&b.queryTimes)
	a.inspections += b.inspections
}

func newLink(px *Server, p *pool, srv *backend.Server) *link {
	r := newReported(srv.Params)
	return &link{srv: srv, px: px, pool: p, base: r, reported: r, label: noSettings, known: true}
}

// unknownLabel is the label of a server whose settings cannot be believed.
type unknownLabel struct{}

func (l *link) poolLabel() any {
	if !l.known {
		return unknownLabel{}
	}
	return l.label
}

// releasable reports whether the attached session's transaction has ended
// and nothing ties the session to the server.
func (l *link) releasable() bool {
	return l.sess != nil && !l.awaiting && !l.untold && !l.bringing && l.asking == nil && !l.sess.suspicious() && l.sess.mode != ModeSession && l.sess.pin == "" && l.ledger.Releasable() && !l.half && l.left == 0 && !l.srv.Conn.Queued()
}

// detach parts the session and the server. The caller holds mu and passes the
// server on with giveBack after it has dropped all locks.
func (l *link) detach() {
	s := l.sess
	s.lastServer.Store(l.srv)
	s.freeSent()
	s.again = 0
	s.dropCancel()
	l.noLongerCloses()
	l.unclaim()
	l.shapeless, l.bringing = nil, false
	l.lastSess = s.id
	l.sess = nil
	l.state = linkOurs
	l.overdueAt = time.Time{} // a cancel on its way keeps the server from being reused
	s.link.Store(nil)
}

// giveBack hands a clean server that belongs to nobody to the pool, or to the
// next in its queue. No locks are held.
func (l *link) giveBack() { l.giveBackAt(time.Now()) }

// giveBackAt is giveBack for a caller who knows what time it is.
func (l *link) giveBackAt(now time.Time) {
	l.mu.Lock()
	if l.cancels > 0 {
		// A cancel request on its way could hit the next user's query.
		l.then = (*link).giveBackAfterCancel
		l.leaveBy = time.Now().Add(l.px.opts.CancelWaitTimeout + l.px.opts.RecoverTimeout)
		l.mu.Unlock()
		l.pool.servers.Canceled(l.srv)
		return
	}
	if l.tainted || l.spent() {
		reason := backend.CloseTainted
		if !l.tainted {
			reason = backend.ClosePin
		}
		l.mu.Unlock()
		l.discard(reason)
		return
	}
	l.state = linkPooled
	label := l.poolLabel()
	news := l.marks() &^ l.told
	l.told |= news
	l.mu.Unlock()
	if news != 0 {
		l.pool.servers.Mark(l.srv, news)
	}
	if t := l.pool.servers.Release(l.srv, label, now); t != nil {
		t.W.Granted(l.srv)
	}
}

// giveBackLast is giveBackAt for the server's pump. If somebody waits for the server, what
// else has come is dealt with first: then many replies have gone out before many
// queries do, and a peer that is woken finds more than one.
func (l *link) giveBackLast(now time.Time) {
	if l.pool.servers.Waiting() {
		runtime.Gosched()
		now = time.Now()
	}
	l.giveBackAt(now)
}

func (l *link) giveBackAfterCancel([]byte) { l.giveBack() }

// discard closes a server that cannot be reused. No locks are held.
func (l *link) discard(reason backend.CloseReason) { l.pool.servers.Discard(l.srv, reason) }

// ask sends a query of pgpoold's own to a server that belongs to nobody, and
// calls then when it has been answered, without locks held; failed is the
// body of the error, or nil. The caller has set state to linkOurs.
func (l *link) ask(sql string, then func(l *link, failed []byte)) { l.askFor(sql, nil, then) }

// askFor is ask for a query whose rows go to ref.
func (l *link) askFor(sql string, ref any, then func(l *link, failed []byte)) {
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		then(l, lostError.Append(nil)[wire.HeaderLen:])
		return
	}
	l.then, l.failed = then, nil
	l.leaveBy = time.Now().Add(l.px.opts.RecoverTimeout)
	l.unnamedOf = 0
	l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow, Ref: ref})
	err := l.srv.Conn.Write(wire.AppendQuery(nil, sql), false)
	l.mu.Unlock()
	if err != nil {
		l.srv.Close(backend.CloseIO)
	}
}

// Check implements backend.Handler: an empty query, as PgBouncer's
// server_check_query.
func (l *link) Check() {
	l.mu.Lock()
	l.state = linkOurs
	l.mu.Unlock()
	l.ask("", func(l *link, failed []byte) {
		if failed != nil {
			l.discard(backend.CloseServerError)
			return
		}
		l.giveBack()
	})
}

// Woken implements backend.Handler.
func (l *link) Woken() bool { return l.srv.Closing() == "" }
