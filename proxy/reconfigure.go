package proxy

import (
	"time"

	"pgpoold/backend"
	"pgpoold/wire"
)

// liveOptions are the part of the options that Reconfigure replaces. They never
// change themselves.
type liveOptions struct {
	auth                   *authenticator
	tls                    *ClientTLS
	databases              map[string]*Database
	users                  map[string]UserOptions
	adminUsers, statsUsers []string
	maxClientConn          int
	limits                 Limits
	pinDrain, dnsMaxTTL    time.Duration
}

// errRemoved ends the clients of a database that is not configured any more.
var errRemoved = &wire.Error{Severity: wire.SeverityFatal, Code: "57P01", Message: "database removed",
	Detail: "It is not in pgpoold's configuration any more."}

func (px *Server) live() *liveOptions { return px.current.Load() }

func newLive(opts *Options) (*liveOptions, error) {
	auth, err := newAuthenticator(opts.Auth)
	if err != nil {
		return nil, err
	}
	return &liveOptions{auth: auth, tls: opts.TLS, databases: opts.Databases, users: opts.Users,
		adminUsers: opts.AdminUsers, statsUsers: opts.StatsUsers, maxClientConn: opts.MaxClientConn, limits: opts.Limits, pinDrain: opts.PinDrainTimeout, dnsMaxTTL: opts.DNSMaxTTL}, nil
}

// Reconfigure takes from the options what may change while the server runs:
// who may log in and with what, TLS for clients, limits and timeouts, and the
// databases. Clients notice nothing, but for those of a database that is gone:
// they end when they are next idle. Servers that were dialled differently are
// replaced when they are next free. When it fails nothing was changed.
func (px *Server) Reconfigure(opts Options) error {
	next, err := newLive(&opts)
	if err != nil {
		return err
	}
	px.current.Store(next)
	for _, s := range px.allSessions() {
		px.renewTimeouts(s)
	}
	for _, p := range px.allPools() {
		if db := px.database(p.key.database); db != nil {
			p.reconfigure(next, db)
		}
	}
	return px.openKnown()
}

// openKnown makes the pools that are known in advance and lets them connect.
func (px *Server) openKnown() error {
	for _, db := range px.live().databases {
		if db.Name == "*" || db.Pool.Credentials.User == "" {
			continue
		}
		p, err := px.poolFor(db, identity{}, nil, "", 0)
		if err != nil {
			return err
		}
		p.servers.Tick(time.Now())
		px.letGo(p)
	}
	return nil
}

// reconfigure brings a pool in line with its database.
func (p *pool) reconfigure(live *liveOptions, db *Database) {
	if p.key.session != 0 || (db.Pool.Credentials.User == "") != (p.key.user != "") {
		return // its servers are its client's own
	}
	target := db.Pool
	if target.Credentials.User == "" {
		target.Credentials = p.servers.Target().Credentials
	}
	if target.DBName == "" {
		target.DBName = p.key.database
	}
	target.Caps = p.px.capsOf(live, db, target.Credentials.User)
	p.servers.Retarget(target)
	p.maxPinned.Store(int64(db.State.MaxPinned))
	if limits := p.limits(live, db); limits != p.servers.Limits() {
		p.servers.SetLimits(limits)
	}
}

// limits are those that the configuration gives the pool.
func (p *pool) limits(live *liveOptions, db *Database) backend.Limits {
	limits := db.Pool.Limits()
	if own := live.users[p.key.client].Size; own != nil {
		limits.Size = *own
	}
	return limits
}

// endRemoved ends the idle clients of databases that are gone, and their
// pools when nobody uses them any more.
func (px *Server) endRemoved() {
	var drop []*pool
	used := false // by clients that are left
	px.mu.Lock()
	for key, p := range px.pools {
		if px.database(key.database) != nil {
			continue
		}
		if p.holds > 0 {
			used = true
		} else {
			delete(px.pools, key)
			drop = append(drop, p)
		}
	}
	px.mu.Unlock()
	if used {
		for _, s := range px.allSessions() {
			if px.database(s.db.Name) == nil && s.idle() {
				s.end(errRemoved)
			}
		}
	}
	for _, p := range drop {
		px.closePool(p)
	}
}
