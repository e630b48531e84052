package admin

import (
	"cmp"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/proxy"
)

// Console answers the clients of the database "pgbouncer" (or "pgpoold") with
// PgBouncer's commands, columns and error texts.
type Console struct {
	current atomic.Pointer[Options]
	stats   *statsHistory
	watch   *watch

	logins, commands, received, sent atomic.Uint64
	commandTime                      atomic.Int64

	mu     sync.Mutex // guards what follows
	open   map[*consoleSession]struct{}
	nextID uint64
	closed bool
}

// firstConsoleID keeps the console's clients apart from the pools' clients.
const firstConsoleID = 1 << 48

// NewConsole makes a console; Start begins its averages.
func NewConsole(opts Options) *Console {
	c := &Console{
		stats:  newStatsHistory(opts.Source, opts.StatsPeriod),
		watch:  newWatch(opts.Source),
		open:   make(map[*consoleSession]struct{}),
		nextID: firstConsoleID,
	}
	c.current.Store(&opts)
	return c
}

// opts are the options in force.
func (c *Console) opts() *Options { return c.current.Load() }

// Configure replaces what Options say of users, databases and settings; the
// console and the HTTP port that was made of it follow.
func (c *Console) Configure(opts Options) { c.current.Store(&opts) }

// Start begins to sample what SHOW STATS averages and what the page draws,
// until Close.
func (c *Console) Start() {
	go c.stats.run()
	go c.watch.run()
}

// Close ends the sampling, which Start must have begun, and every session of
// the console. It does not wait for Serve to return.
func (c *Console) Close() {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	for s := range c.open {
		_ = s.conn.SetDeadline(time.Unix(1, 0)) // Serve, which owns it, closes it
	}
	c.mu.Unlock()
	if !already {
		c.stats.close()
		c.watch.close()
	}
}

// sessions are the console's clients, oldest first.
func (c *Console) sessions() []*consoleSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*consoleSession, 0, len(c.open))
	for s := range c.open {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *consoleSession) int { return cmp.Compare(a.id, b.id) })
	return all
}

// Serve answers one client that has logged in, until it leaves or the console
// is closed, and closes its connection. It is for proxy.Options.Console.
func (c *Console) Serve(cc *proxy.ConsoleClient) {
	defer cc.Conn.Close()
	s := newConsoleSession(c, cc)
	if !c.enter(s) {
		s.fatal("57P01", "terminating connection due to administrator command")
		return
	}
	defer c.leave(s)
	err := s.serve()
	switch {
	case errors.Is(err, errEndNow):
	case c.isClosed():
		s.fatal("57P01", "terminating connection due to administrator command")
	case s.killed.Load():
		s.fatal("57P01", "admin forced disconnect")
	default: // the client has gone, or what it sent is beyond reading
		var tooLong *pgproto3.ExceededMaxBodyLenErr
		if errors.As(err, &tooLong) {
			s.fatal("08P01", "the command is too long")
		}
	}
}

// enter takes a session in, unless the console is closed.
func (c *Console) enter(s *consoleSession) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.nextID++
	s.id = c.nextID
	c.open[s] = struct{}{}
	c.logins.Add(1)
	return true
}

func (c *Console) leave(s *consoleSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, s)
}

func (c *Console) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// kill ends a client of the console.
func (c *Console) kill(id uint64) bool {
	for _, s := range c.sessions() {
		if s.id == id {
			s.killed.Store(true)
			_ = s.conn.SetDeadline(time.Unix(1, 0))
			return true
		}
	}
	return false
}

// ownStats are the console's counters, as those of a database.
func (c *Console) ownStats() proxy.PoolStats {
	n, took := c.commands.Load(), time.Duration(c.commandTime.Load())
	return proxy.PoolStats{Xacts: n, Queries: n, XactTime: took, QueryTime: took, ClientLogins: c.logins.Load(),
		BytesReceived: c.received.Load(), BytesSent: c.sent.Load()}
}

// countingConn counts the console's bytes.
type countingConn struct {
	net.Conn
	c *Console
}

// Read counts what came.
func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.c.received.Add(uint64(n))
	return n, err
}

// Write counts what went out.
func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.c.sent.Add(uint64(n))
	return n, err
}

func addrOf(a net.Addr) (string, int) {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String(), tcp.Port
	}
	return "unix", 0
}
