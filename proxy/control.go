package proxy

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"pgpoold/wire"
)

// control is what the console has done to databases.
type control struct {
	mu       sync.Mutex
	all      uint64            // guarded by mu: which Pause or Kill holds all databases; 0: none
	paused   map[string]uint64 // guarded by mu: by database, which Pause or Kill holds it
	disabled map[string]bool   // guarded by mu
	last     uint64            // guarded by mu
}

// Errors of the console's commands; a person reads them.
var (
	ErrPaused     = errors.New("already suspended/paused")
	ErrNotPaused  = errors.New("pooler is not paused/suspended")
	ErrNoClient   = errors.New("client not found")
	ErrStopping   = errors.New("pooler is shutting down")
	errKilled     = &wire.Error{Severity: wire.SeverityFatal, Code: "57P01", Message: "database removed", Detail: "An administrator gave KILL on pgpoold's console."}
	errKillClient = &wire.Error{Severity: wire.SeverityFatal, Code: "57P01", Message: "admin forced disconnect", Detail: "An administrator gave KILL_CLIENT on pgpoold's console."}
	errStopping   = &wire.Error{Severity: wire.SeverityFatal, Code: "57P01", Message: "server shutting down", Detail: "pgpoold stops and hands out no more servers."}
)

// Knows reports whether a database is configured, or one that "*" stands for
// and a client has used.
func (px *Server) Knows(database string) bool {
	if px.live().databases[database] != nil {
		return database != "*"
	}
	for _, p := range px.allPools() {
		if p.key.database == database {
			return true
		}
	}
	return false
}

// poolsOf are the pools of a database; "" means all.
func (px *Server) poolsOf(database string) []*pool {
	return slices.DeleteFunc(px.allPools(), func(p *pool) bool { return database != "" && p.key.database != database })
}

// pausedLocked says which Pause or Kill holds a database, 0 for none.
func (c *control) pausedLocked(database string) uint64 {
	if c.all != 0 {
		return c.all
	}
	return c.paused[database]
}

// hold pauses a database ("" for all) and its pools. own is a new mark, or 0
// if somebody else held it already.
func (px *Server) hold(database string) (own uint64) {
	c := &px.control
	c.mu.Lock()
	switch {
	case database == "" && c.all == 0:
		c.last++
		own, c.all = c.last, c.last
	case database != "" && c.paused[database] == 0:
		c.last++
		if c.paused == nil {
			c.paused = map[string]uint64{}
		}
		own, c.paused[database] = c.last, c.last
	}
	c.mu.Unlock()
	px.settlePauses(px.poolsOf(database))
	return own
}

// holds reports whether a database is paused.
func (px *Server) holds(database string) bool {
	px.control.mu.Lock()
	defer px.control.mu.Unlock()
	return px.control.pausedLocked(database) != 0
}

// settlePauses brings pools in line with what holds them.
func (px *Server) settlePauses(pools []*pool) {
	c := &px.control
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range pools {
		if c.pausedLocked(p.key.database) != 0 {
			p.servers.Pause()
		} else {
			p.servers.Resume()
		}
	}
}

// Pause lets the servers of a database ("" for all) end when they are next
// free, and hands out none until Resume. Whoever wants one waits. The mark is
// for Paused and Unpause; own says whether this call made it.
func (px *Server) Pause(database string) (mark uint64, own bool, err error) {
	if px.Draining() {
		return 0, false, ErrStopping
	}
	c := &px.control
	if database == "" {
		c.mu.Lock()
		already := c.all != 0
		c.mu.Unlock()
		if already {
			return 0, false, ErrPaused
		}
	}
	if mark = px.hold(database); mark != 0 {
		return mark, true, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if database == "" {
		return c.all, false, nil
	}
	return c.paused[database], false, nil
}

// Paused reports whether the Pause with this mark still stands, and if so
// whether all its servers have gone.
func (px *Server) Paused(database string, mark uint64) (stands, done bool) {
	c := &px.control
	c.mu.Lock()
	stands = mark != 0 && (database == "" && c.all == mark || database != "" && c.paused[database] == mark)
	c.mu.Unlock()
	if !stands {
		return false, false
	}
	for _, p := range px.poolsOf(database) {
		if !p.servers.Empty() {
			return true, false
		}
	}
	return true, !px.keptElsewhere(database)
}

// Unpause undoes the Pause with this mark, if it still stands, and nothing
// else.
func (px *Server) Unpause(database string, mark uint64) {
	c := &px.control
	c.mu.Lock()
	switch {
	case database == "" && c.all == mark:
		c.all = 0
	case database != "" && c.paused[database] == mark:
		delete(c.paused, database)
	default:
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	px.settlePauses(px.poolsOf(database))
}

// Resume undoes Pause and Kill: of one database, or with "" of everything,
// however it was paused.
func (px *Server) Resume(database string) error {
	if px.Draining() {
		return ErrStopping
	}
	c := &px.control
	c.mu.Lock()
	was := c.paused[database] != 0
	if database == "" {
		was = c.all != 0 || len(c.paused) > 0
		c.all, c.paused = 0, nil
	} else {
		delete(c.paused, database)
	}
	c.mu.Unlock()
	if !was {
		if database != "" {
			return errors.New("database " + database + " is not paused")
		}
		return ErrNotPaused
	}
	px.settlePauses(px.poolsOf(database))
	return nil
}

// Kill ends every client and server of a database ("" for all) now, with what
// they run, and pauses it: Resume lets clients in again.
func (px *Server) Kill(database string) {
	for _, p := range px.poolsOf(database) {
		p.servers.Doom()
	}
	px.hold(database)
	pools := px.poolsOf(database)
	for _, s := range px.allSessions() {
		if slices.Contains(pools, s.pool) {
			s.end(errKilled)
		}
	}
	for _, p := range pools {
		p.each((*link).cancelRunning)
		p.servers.KillServers()
	}
}

// cancelRunning cancels what the server runs for its client: PostgreSQL would
// notice only at its end that the connection is gone.
func (l *link) cancelRunning() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sess != nil && !l.dead && l.ledger.Len() > 0 && !l.ledger.OwnQuery() {
		l.px.sendCancel(l, nil, nil)
	}
}

// KillClient ends one client.
func (px *Server) KillClient(id uint64) error {
	px.mu.Lock()
	s := px.clients[id]
	px.mu.Unlock()
	if s == nil {
		return ErrNoClient
	}
	s.end(errKillClient)
	return nil
}

// Reconnect lets the servers of a database ("" for all) end when they are
// next free; new ones take their place.
func (px *Server) Reconnect(database string) {
	for _, p := range px.poolsOf(database) {
		p.servers.Reconnect()
	}
}

// CloseNeeded is how many servers of a database ("" for all) are still to end
// because of Reconnect.
func (px *Server) CloseNeeded(database string) (n int) {
	for _, p := range px.poolsOf(database) {
		n += p.servers.Marked()
	}
	return n
}

// Disable refuses new clients of a database, or with off admits them again;
// those who are in stay.
func (px *Server) Disable(database string, off bool) {
	c := &px.control
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disabled == nil {
		c.disabled = map[string]bool{}
	}
	if c.disabled[database] = !off; off {
		delete(c.disabled, database)
	}
}

// refusesNew is the error of a client that would enter a disabled database.
func (px *Server) refusesNew(database string) *wire.Error {
	c := &px.control
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disabled[database] {
		return &wire.Error{Severity: wire.SeverityFatal, Code: "57P03", Message: `database "` + database + `" is disabled`,
			Hint: "An administrator gave DISABLE on pgpoold's console; ENABLE undoes it."}
	}
	return nil
}

// Controls is what the console has done to databases.
type Controls struct {
	AllPaused        bool
	Paused, Disabled map[string]bool
}

// Controls returns a copy.
func (px *Server) Controls() Controls {
	c := &px.control
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Controls{AllPaused: c.all != 0, Paused: map[string]bool{}, Disabled: maps.Clone(c.disabled)}
	for db := range c.paused {
		out.Paused[db] = true
	}
	return out
}

// Draining reports whether nobody is let in any more.
func (px *Server) Draining() bool { return px.draining.Load() || px.handover.Load() != nil }

// StopAccepting closes the listeners and lets nobody else in; who is in
// stays.
func (px *Server) StopAccepting() { px.closeListeners() }

// RefuseWaiters ends everybody who waits for a server, and during Shutdown
// whoever comes to wait.
func (px *Server) RefuseWaiters() {
	px.refusing.Store(true)
	for _, p := range px.allPools() {
		p.servers.RefuseWaiters(errStopping)
	}
}

// Clients is how many clients are logged in or about to be.
func (px *Server) Clients() int { return int(px.admitted.Load()) + px.logins.count() }
