package proxy

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
)

// pool is the proxy's half of a backend.Pool.
type pool struct {
	// Immutable.
	key     poolKey
	opts    *backend.PoolOptions
	servers *backend.Pool
	px      *Server
	state   StateOptions
	main    bool   // known from the configuration: pgpoold is not ready without it
	repl    string // the kind of its replication, "" for none

	epoch      atomic.Uint64                  // raised when plans may have gone stale
	ddl        atomic.Uint64                  // raised by each command seen that may make them so
	clients    atomic.Int64                   // logged in
	logging    atomic.Int64                   // clients that wait for a server at their login
	hidden     atomic.Pointer[sqlscan.Hidden] // what names of functions and tables hide; nil: not known yet
	maxPinned  atomic.Int64                   // max_pinned; 0: unlimited
	pins       atomic.Int64                   // sessions that keep a server
	loans      atomic.Int64                   // places that another process waits for among the clients
	pinWaiters atomic.Int64                   // of them, those that wait for a place under max_pinned
	usesLast   atomic.Bool                    // a session has asked for currval or lastval
	usedTemp   atomic.Bool                    // there have been temporary objects on some server

	holds       int       // guarded by px.mu: clients that use it, or are about to
	unusedSince time.Time // guarded by px.mu: since when none does

	hiding sync.Mutex // held while what names hide is read

	mu        sync.Mutex
	links     map[*link]struct{}    // guarded by mu
	retired   linkStats             // guarded by mu: of links that are gone
	buried    PoolStats             // guarded by mu: of replication sessions' pools that are gone
	started   map[settings]*startup // guarded by mu: startup parameters that PostgreSQL has accepted
	startedAs map[startAs]*startup  // guarded by mu: the same with an application_name
	logins    uint64                // guarded by mu
	lastErr   string                // guarded by mu: the dial error that was logged
	version   string                // guarded by mu: of what hidden was made from
	hiddenAt  time.Time             // guarded by mu: when it was last compared
	looking   bool                  // guarded by mu: it is being compared
	usedThen  uint64                // guarded by mu: assignments of its servers at the last time
	lookAfter time.Duration         // guarded by mu: when it is compared again while it is used
}

// poolKey tells pools apart.
type poolKey struct {
	database string
	user     string   // on the server, where each client is itself there; else ""
	client   string   // the client user, where it has a pool of its own
	secret   [32]byte // of what is presented to the server, where that is the client's
	session  uint64   // a replication session's own
}

// poolFor returns the pool for a client, making it if it is the first.
// Its user lets it go with forgetPool.
func (px *Server) poolFor(db *Database, id identity, size *int, replication string, session uint64) (*pool, error) {
	px.mu.Lock()
	defer px.mu.Unlock()
	if now := px.database(db.Name); now != nil && session == 0 {
		db = now // Reconfigure may have come in between
	}
	opts := db.Pool
	key := poolKey{database: db.Name}
	if opts.Credentials.User == "" {
		key.user = id.User
		opts.Credentials = id.credentials()
		c := opts.Credentials
		key.secret = sha256.Sum256([]byte(c.Password + "\x00" + string(c.ClientKey) + "\x00" + c.MD5Secret))
	}
	if opts.DBName == "" {
		opts.DBName = db.Name
	}
	if size != nil {
		opts.Size, key.client = *size, id.User
	}
	if replication != "" {
		opts.Replication, opts.Size, opts.MinSize, key.session = replication, 1, 0, session
	}
	if px.closed {
		return nil, errShutdown
	}
	if p := px.pools[key]; p != nil {
		p.holds++
		return p, nil
	}
	if px.isAuto(key) {
		unused, refused := px.roomForAutoLocked()
		if refused != nil {
			return nil, refused
		}
		if unused != nil {
			px.closePool(unused)
		}
	}
	opts.Shares, opts.Caps = &px.shares, px.capsOf(px.live(), db, opts.Credentials.User)
	p := &pool{key: key, opts: &opts, px: px, state: db.State, holds: 1, unusedSince: time.Now(), main: id.User == "" && session == 0, links: map[*link]struct{}{}, started: map[settings]*startup{}, startedAs: map[startAs]*startup{}, repl: replicationMode(replication)}
	p.maxPinned.Store(int64(db.State.MaxPinned))
	var err error
	p.servers, err = backend.NewPool(opts, backend.Callbacks{NewHandler: p.newLink, Dialled: p.dialled})
	if err != nil {
		return nil, err
	}
	if n := px.elsewhere(key); n > 0 {
		p.servers.SetElsewhere(n)
	}
	if px.frozen.Load() != nil {
		p.servers.Yield(0)
	}
	if px.picker != nil {
		p.servers.SetPicker(px.picker)
	}
	px.pools[key] = p
	if px.holds(key.database) {
		p.servers.Pause()
	}
	return p, nil
}

// serverUser is the user on the server.
func (p *pool) serverUser() string { return p.servers.Target().Credentials.User }

// newLink is the pool's NewHandler.
func (p *pool) newLink(srv *backend.Server) backend.Handler {
	l := newLink(p.px, p, srv)
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	return l
}

// retire keeps the counters of a link that is gone.
func (p *pool) retire(l *link, stats *linkStats) {
	reason := l.srv.Closing()
	p.mu.Lock()
	delete(p.links, l)
	p.retired.add(stats)
	p.mu.Unlock()
	p.px.countClose(reason)
	p.px.opts.Log.Debug("server closed", zap.String("database", p.key.database), zap.String("user", p.serverUser()),
		zap.Uint64("server", l.srv.ID), zap.String("reason", string(reason)), zap.Duration("age", time.Since(l.srv.Born)))
}

// dialled logs what is new about connecting: the first failure, another kind
// of failure, and the end of failing; not every attempt.
func (p *pool) dialled(_ *backend.Pool, _ time.Duration, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	p.mu.Lock()
	before := p.lastErr
	p.lastErr = text
	p.mu.Unlock()
	log := p.px.opts.Log.With(zap.String("database", p.key.database), zap.String("user", p.serverUser()))
	switch {
	case text == before:
	case err != nil:
		log.Warn("cannot connect to the server", zap.String("error", text), zap.String("hint", firstDayHint(err)))
	default:
		log.Info("connected to the server again")
	}
}

// each calls f with every link of the pool, without locks held.
func (p *pool) each(f func(*link)) {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		f(l)
	}
}

// tick closes servers that take too long to come clean, and does what time
// brings to the pool.
func (p *pool) tick(now time.Time) {
	var used uint64
	p.each(func(l *link) {
		l.mu.Lock()
		used += l.stats.assignments
		waits := l.asking != nil && !l.asking.waitsSince.IsZero()
		late := (l.state == linkOrphan || l.state == linkOurs && l.then != nil) && !l.leaveBy.IsZero() && now.After(l.leaveBy)
		l.mu.Unlock()
		if waits {
			l.slots(now)
		}
		l.idlePin(now)
		l.askedLong()
		if late {
			l.discard(backend.CloseClientGone)
		} else {
			l.cancelAgain()
		}
	})
	p.servers.Tick(now)
	p.lookAgain(now, used)
}
