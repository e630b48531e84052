package admin

import (
	"cmp"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"pgpoold/proxy"
)

// Console answers the clients of the database "pgbouncer" (or "pgpoold"). It
// speaks the simple query protocol, as PgBouncer's console does, with its
// commands, columns and error texts.
type Console struct {
	opts  Options
	stats *statsHistory

	mu     sync.Mutex // guards what follows
	open   map[*consoleSession]struct{}
	nextID uint64
	closed bool
}

// consoleSession is one client of the console. Its fields never change, but
// for request, which Console.mu guards.
type consoleSession struct {
	id              uint64
	user            string
	admin           bool
	conn            net.Conn
	client          *pgproto3.Backend
	addr, localAddr string
	port, localPort int
	connected       time.Time
	applicationName string
	console         *Console
	request         time.Time
}

// A console client that does not read its answer is closed after this long.
const consoleWriteTimeout = 30 * time.Second

// Longest message that the console reads; a command is a line.
const maxConsoleMessage = 64 << 10

// firstConsoleID keeps the console's clients apart from the pools' clients.
const firstConsoleID = 1 << 48

// NewConsole makes a console; Start begins its averages.
func NewConsole(opts Options) *Console {
	return &Console{
		opts:   opts,
		stats:  newStatsHistory(opts.Source, opts.StatsPeriod),
		open:   make(map[*consoleSession]struct{}),
		nextID: firstConsoleID,
	}
}

// Start begins to sample what SHOW STATS averages, until Close.
func (c *Console) Start() { go c.stats.run() }

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
	s := &consoleSession{
		user: cc.User, admin: cc.Admin, conn: cc.Conn, console: c,
		client:    pgproto3.NewBackend(cc.Conn, cc.Conn),
		connected: time.Now(), applicationName: cc.Parameters["application_name"],
	}
	s.client.SetMaxBodyLen(maxConsoleMessage)
	s.addr, s.port = addrOf(cc.Conn.RemoteAddr())
	s.localAddr, s.localPort = addrOf(cc.Conn.LocalAddr())
	if !c.enter(s) {
		s.fatal("57P01", "terminating connection due to administrator command")
		return
	}
	defer c.leave(s)
	if err := s.serve(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		if c.isClosed() {
			s.fatal("57P01", "terminating connection due to administrator command")
			return
		}
		c.opts.Log.Info("console client lost", zap.String("user", s.user), zap.Error(err))
	}
}

func (c *Console) enter(s *consoleSession) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.nextID++
	s.id = c.nextID
	c.open[s] = struct{}{}
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

func addrOf(a net.Addr) (string, int) {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.IP.String(), tcp.Port
	}
	return "unix", 0
}

func (s *consoleSession) lastRequest() time.Time {
	s.console.mu.Lock()
	defer s.console.mu.Unlock()
	return s.request
}

// serve greets the client and answers its messages until it says goodbye.
func (s *consoleSession) serve() error {
	for _, p := range [][2]string{
		{"server_version", spoken + "/bouncer"},
		{"client_encoding", "UTF8"},
		{"server_encoding", "UTF8"},
		{"DateStyle", "ISO"},
		{"TimeZone", "GMT"},
		{"standard_conforming_strings", "on"},
		{"is_superuser", "on"},
	} {
		s.client.Send(&pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	s.ready()
	skipping := false // after an error, until Sync
	for {
		if err := s.flush(); err != nil {
			return err
		}
		msg, err := s.client.Receive()
		if err != nil {
			return err
		}
		switch msg := msg.(type) {
		case *pgproto3.Terminate:
			return nil
		case *pgproto3.Query:
			if !skipping {
				s.began()
				s.query(msg.String)
				s.ready()
			}
		case *pgproto3.Sync:
			skipping = false
			s.ready()
		case *pgproto3.Flush:
		default:
			if !skipping {
				s.sendError(noExtended)
				skipping = true
			}
		}
	}
}

func (s *consoleSession) began() {
	s.console.mu.Lock()
	defer s.console.mu.Unlock()
	s.request = time.Now()
}

func (s *consoleSession) flush() error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(consoleWriteTimeout)); err != nil {
		return err
	}
	if s.console.isClosed() { // Close may have set its deadline just before
		return net.ErrClosed
	}
	return s.client.Flush()
}

func (s *consoleSession) ready() { s.client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'}) }

func (s *consoleSession) sendError(text string) {
	s.client.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "08P01", Message: text})
}

// fatal says a last word to a client that can still hear it.
func (s *consoleSession) fatal(code, text string) {
	_ = s.conn.SetDeadline(time.Now().Add(time.Second))
	s.client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: text})
	_ = s.client.Flush()
}

func (s *consoleSession) done(tag string) {
	s.client.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
}

func (s *consoleSession) notice(text, detail string) {
	s.client.Send(&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: text, Detail: detail})
}

// query answers one command, up to its ReadyForQuery.
func (s *consoleSession) query(query string) {
	cmd, problem := parse(query)
	switch {
	case problem != "":
		s.sendError(problem)
	case cmd.name == "":
		s.client.Send(&pgproto3.EmptyQueryResponse{})
	case cmd.name == "show":
		s.show(strings.ToLower(cmd.arg), query)
	case cmd.name == "set" && cmd.val != "":
		s.set(strings.ToLower(cmd.arg), cmd.val)
	case !s.admin:
		s.sendError(accessNeeded)
	default:
		s.sendError(invalidCommand(query))
	}
}

func (s *consoleSession) show(what, query string) {
	if what == "help" {
		s.notice("Console usage", usage)
		s.done("SHOW")
		return
	}
	if value, ok := drivers(what); ok {
		t := &table{columns: columnsOf("s", what)}
		t.add(text(value))
		s.send(t)
		return
	}
	t := s.console.show(what)
	if t == nil {
		s.sendError(invalidCommand(query))
		return
	}
	s.send(t)
}

// drivers are the parameters that drivers ask for and set as they connect,
// with what the console says to it.
func drivers(name string) (value string, ok bool) {
	switch name {
	case "client_encoding":
		return "UTF-8", true
	case "default_transaction_isolation":
		return "read committed", true
	case "standard_conforming_strings":
		return "on", true
	case "datestyle":
		return "ISO", true
	case "timezone":
		return "GMT", true
	case "extra_float_digits":
		return "1", true
	}
	return "", false
}

func (s *consoleSession) set(name, value string) {
	if _, ok := drivers(name); ok {
		s.notice("SET ignored", "")
		s.done("SET")
		return
	}
	switch {
	case !s.admin:
		s.sendError(accessNeeded)
	case name != levelSetting || s.console.opts.Level == nil || s.console.opts.Level.SetLevel(value) != nil:
		s.sendError(setFailed)
	default:
		s.console.opts.Log.Info("log level changed from the console",
			zap.String("user", s.user), zap.String("level", value))
		s.done("SET " + name + "=" + value)
	}
}

// send answers with a table, in text format.
func (s *consoleSession) send(t *table) {
	fields := make([]pgproto3.FieldDescription, len(t.columns))
	for i, col := range t.columns {
		fields[i] = pgproto3.FieldDescription{
			Name:         []byte(col.name),
			DataTypeOID:  col.oid,
			DataTypeSize: col.typeLength(),
			TypeModifier: -1,
		}
	}
	s.client.Send(&pgproto3.RowDescription{Fields: fields})
	values := make([][]byte, len(t.columns))
	for _, row := range t.rows {
		for i, cell := range row {
			values[i] = nil
			if cell != nil {
				values[i] = []byte(*cell)
			}
		}
		s.client.Send(&pgproto3.DataRow{Values: values})
	}
	s.done("SHOW")
}
