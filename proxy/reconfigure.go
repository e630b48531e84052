package proxy

import "pgpoold/backend"

// liveOptions are the part of the options that Reconfigure replaces. They never
// change themselves.
type liveOptions struct {
	auth                   *authenticator
	databases              map[string]*Database
	users                  map[string]UserOptions
	adminUsers, statsUsers []string
	maxClientConn          int
}

func (px *Server) live() *liveOptions { return px.current.Load() }

func newLive(opts *Options) (*liveOptions, error) {
	auth, err := newAuthenticator(opts.Auth)
	if err != nil {
		return nil, err
	}
	return &liveOptions{auth: auth, databases: opts.Databases, users: opts.Users,
		adminUsers: opts.AdminUsers, statsUsers: opts.StatsUsers, maxClientConn: opts.MaxClientConn}, nil
}

// Reconfigure takes from the options what may change while the server runs:
// who may log in and with what, max_client_conn, and of each database its
// users and the limits of its pools. Databases that came or went, and where
// a database is, need another Server. When it fails nothing was changed.
func (px *Server) Reconfigure(opts Options) error {
	next, err := newLive(&opts)
	if err != nil {
		return err
	}
	old := px.live()
	next.databases = make(map[string]*Database, len(old.databases))
	for name, was := range old.databases {
		db := *was
		if want := opts.Databases[name]; want != nil {
			db.Users = want.Users
			takeLimits(&db.Pool, &want.Pool)
		}
		next.databases[name] = &db
	}
	px.current.Store(next)
	for _, p := range px.allPools() {
		db := px.database(p.key.database)
		if db == nil || p.key.session != 0 {
			continue
		}
		limits := db.Pool.Limits()
		if own := next.users[p.key.client].Size; own != nil {
			limits.Size = *own
		}
		if limits != p.servers.Limits() {
			p.servers.SetLimits(limits)
		}
	}
	return nil
}

// takeLimits copies what a running pool may change.
func takeLimits(to, from *backend.PoolOptions) {
	to.Size, to.MinSize, to.RoundRobin = from.Size, from.MinSize, from.RoundRobin
	to.ConnectTimeout, to.IdleTimeout, to.Lifetime = from.ConnectTimeout, from.IdleTimeout, from.Lifetime
	to.LoginRetry, to.CheckDelay, to.QueryWaitTimeout = from.LoginRetry, from.CheckDelay, from.QueryWaitTimeout
}
