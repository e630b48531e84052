package proxy

import (
	"strings"
	"time"

	"pgpoold/backend"
	"pgpoold/wire"
)

// Limits are of the whole proxy; 0 is unlimited. Databases and users have
// limits of their own that are nearer.
type Limits struct {
	UserConnections       int // max_user_connections: servers of one server user
	HostConnections       int // max_host_connections: servers on one host
	UserClientConnections int // max_user_client_connections
	Pools                 int // max_pools: those that "*" makes
	AutoDBIdle            time.Duration
}

// settingPaths are the places of the settings that errors name.
var settingPaths = map[string]string{
	"default_pool_size":    "pool.size",
	"reserve_pool_size":    "pool.reserve_size",
	"max_db_connections":   "pool.max_db_connections",
	"max_user_connections": "pool.max_user_connections",
	"max_host_connections": "pool.max_host_connections",
}

// errLimit refuses a client because of a limit.
func errLimit(message, setting, path string) *wire.Error {
	return &wire.Error{Severity: wire.SeverityFatal, Code: "53300", Message: message + " (" + setting + ")",
		Detail: "The limit is " + setting + " (" + path + ")."}
}

// waitTimeout is the refusal of somebody who has waited for too long, because
// of a limit where one is known.
func waitTimeout(setting, severity string) *wire.Error {
	e := *errWaitTimeout
	e.Severity = severity
	if path := settingPaths[setting]; path != "" {
		e.Detail = "No server became free in time (pool.query_wait_timeout), and " + setting + " (" + path + ") allows no more."
		if setting != "default_pool_size" {
			e.Hint = "All servers that " + setting + " allows are busy: raise it, or look for long or idle transactions."
		}
	}
	return &e
}

// clientCounts are the logged-in clients by database and by user.
type clientCounts struct {
	db, user map[string]int
}

// countClient counts a client of a database and user, unless a limit of
// theirs is reached.
func (px *Server) countClient(db *Database, user string) *wire.Error {
	perUser := px.live().limits.UserClientConnections
	if own := px.live().users[user].ClientConnections; own != nil {
		perUser = *own
	}
	px.mu.Lock()
	defer px.mu.Unlock()
	c := &px.clientCounts
	switch {
	case db.ClientConnections > 0 && c.db[db.Name] >= db.ClientConnections:
		return errLimit("client connections exceeded", "max_db_client_connections", "pool.max_db_client_connections, databases.X.max_db_client_connections")
	case perUser > 0 && c.user[user] >= perUser:
		return errLimit("client connections exceeded", "max_user_client_connections", "pool.max_user_client_connections, users.X.max_user_client_connections")
	}
	if c.db == nil {
		c.db, c.user = map[string]int{}, map[string]int{}
	}
	c.db[db.Name]++
	c.user[user]++
	return nil
}

// enter counts a client whatever the limits say.
func (px *Server) enter(database, user string) {
	px.mu.Lock()
	defer px.mu.Unlock()
	c := &px.clientCounts
	if c.db == nil {
		c.db, c.user = map[string]int{}, map[string]int{}
	}
	c.db[database]++
	c.user[user]++
}

func (px *Server) uncountClient(database, user string) {
	px.mu.Lock()
	defer px.mu.Unlock()
	less(px.clientCounts.db, database)
	less(px.clientCounts.user, user)
}

func less(counts map[string]int, key string) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// capsOf are the limits that a pool has in common with others. They are in
// force before it is made.
func (px *Server) capsOf(live *liveOptions, db *Database, user string) []backend.CapKey {
	ofDB := backend.CapKey{Setting: "max_db_connections", Of: db.Name}
	ofUser := backend.CapKey{Setting: "max_user_connections", Of: user}
	px.shares.SetCap(ofDB, db.ServerConnections)
	perUser := live.limits.UserConnections
	if own := live.users[user].ServerConnections; own != nil {
		perUser = *own
	}
	px.shares.SetCap(ofUser, perUser)
	keys := []backend.CapKey{ofDB, ofUser}
	for _, h := range db.Pool.Hosts {
		key := backend.CapKey{Setting: "max_host_connections", Of: strings.ToLower(h.String())}
		px.shares.SetCap(key, live.limits.HostConnections)
		keys = append(keys, key)
	}
	return keys
}

// isAuto reports whether a pool is one that "*" has made.
func (px *Server) isAuto(key poolKey) bool {
	return key.session == 0 && px.live().databases[key.database] == nil
}

// roomForAutoLocked makes room for one more of the pools that "*" makes; it
// returns the pool that has to be closed for it.
func (px *Server) roomForAutoLocked() (*pool, *wire.Error) {
	most := px.live().limits.Pools
	if most <= 0 {
		return nil, nil
	}
	n := 0
	var unused *pool
	for key, p := range px.pools {
		if !px.isAuto(key) {
			continue
		}
		n++
		if p.holds == 0 && (unused == nil || p.unusedSince.Before(unused.unusedSince)) {
			unused = p
		}
	}
	switch {
	case n < most:
		return nil, nil
	case unused == nil:
		return nil, errLimit("no more pools allowed", "max_pools", "pool.max_pools")
	}
	delete(px.pools, unused.key)
	return unused, nil
}

// letGo tells that a client does not use its pool any more.
func (px *Server) letGo(p *pool) {
	px.mu.Lock()
	p.holds--
	p.unusedSince = time.Now()
	px.mu.Unlock()
}

// dropUnused forgets the pools that "*" has made and that nobody has used for
// autodb_idle_timeout. A paused one stays.
func (px *Server) dropUnused(now time.Time) {
	after := px.live().limits.AutoDBIdle
	if after <= 0 {
		return
	}
	var drop []*pool
	px.mu.Lock()
	for key, p := range px.pools {
		if px.isAuto(key) && p.holds == 0 && now.Sub(p.unusedSince) >= after && !px.holds(key.database) {
			delete(px.pools, key)
			drop = append(drop, p)
		}
	}
	px.mu.Unlock()
	for _, p := range drop {
		px.closePool(p)
	}
}

// closePool closes a pool that nobody can get any more; Close joins it.
func (px *Server) closePool(p *pool) {
	p.servers.Close(errShutdown)
	px.helpers.Add(1)
	go px.joinPool(p)
}

// joinPool waits for the end of a closed pool.
func (px *Server) joinPool(p *pool) {
	defer px.helpers.Done()
	p.servers.Wait()
	if p.key.session != 0 {
		px.bury(p)
	}
}
