package admin

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/proxy"
)

// consoleSession is one client of the console. What has no other note belongs
// to the goroutine of Serve.
type consoleSession struct {
	// Immutable once it has entered.
	id              uint64
	user            string
	admin           bool
	conn            net.Conn
	client          *pgproto3.Backend
	pid             uint32
	secret          []byte
	cancels         <-chan struct{}
	addr, localAddr string
	port, localPort int
	connected       time.Time
	tls             string
	applicationName string
	console         *Console

	request atomic.Int64 // of its last command, unix nanoseconds; 0: none yet
	killed  atomic.Bool

	tx       byte // what ReadyForQuery says
	after    func()
	skipping bool // after an error, until Sync
	prepared map[string]*prepared
	portals  map[string]*portal
}

// prepared is a statement of the extended protocol.
type prepared struct {
	cmd   command
	query string
}

// portal is one that is bound.
type portal struct {
	prepared
	formats []int16
	rows    *answer // what is left of an answer that was asked for in parts
	next    int
}

const (
	// A console client that does not read its answer is closed after this long.
	consoleWriteTimeout = 30 * time.Second
	// maxConsoleMessage is the longest message that is read; a command is a
	// line.
	maxConsoleMessage = 64 << 10
	// maxPrepared is how many statements, and portals, a session may have.
	maxPrepared = 100
)

// errEndNow ends a session without a word.
var errEndNow = errors.New("the connection ends here")

func newConsoleSession(c *Console, cc *proxy.ConsoleClient) *consoleSession {
	conn := countingConn{cc.Conn, c}
	s := &consoleSession{
		user: cc.User, admin: cc.Admin, conn: cc.Conn, console: c, pid: cc.PID, secret: cc.Secret, cancels: cc.Cancels,
		client:    pgproto3.NewBackend(conn, conn),
		connected: time.Now(), tls: cc.TLS, applicationName: cc.ApplicationName,
		tx: 'I', prepared: map[string]*prepared{}, portals: map[string]*portal{},
	}
	s.client.SetMaxBodyLen(maxConsoleMessage)
	s.addr, s.port = addrOf(cc.Conn.RemoteAddr())
	s.localAddr, s.localPort = addrOf(cc.Conn.LocalAddr())
	return s
}

// lastRequest is when its last command came.
func (s *consoleSession) lastRequest() time.Time {
	if n := s.request.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
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
	s.client.Send(&pgproto3.BackendKeyData{ProcessID: s.pid, SecretKey: s.secret})
	s.ready()
	for {
		if err := s.flush(); err != nil {
			return err
		}
		if s.after != nil {
			s.after()
			s.after = nil
		}
		msg, err := s.client.Receive()
		if err == nil && s.ended() { // it had come before the deadline that ends the session
			err = net.ErrClosed
		}
		if err != nil {
			return err
		}
		if err := s.message(msg); err != nil {
			return err
		}
	}
}

// errGoodbye ends a session whose client has said so.
var errGoodbye = fmt.Errorf("%w: the client said goodbye", errEndNow)

func (s *consoleSession) message(msg pgproto3.FrontendMessage) error {
	switch msg.(type) {
	case *pgproto3.Terminate:
		return errGoodbye
	case *pgproto3.Sync:
		s.skipping = false
		clear(s.portals)
		s.ready()
		return nil
	}
	if s.skipping {
		return nil
	}
	var err error
	switch msg := msg.(type) {
	case *pgproto3.Query:
		delete(s.prepared, "")
		clear(s.portals)
		err = s.simple(msg.String)
	case *pgproto3.Parse:
		s.parse(msg)
	case *pgproto3.Bind:
		s.bind(msg)
	case *pgproto3.Describe:
		s.describe(msg)
	case *pgproto3.Execute:
		err = s.execute(msg)
	case *pgproto3.Close:
		if msg.ObjectType == 'S' {
			delete(s.prepared, msg.Name)
		} else {
			delete(s.portals, msg.Name)
		}
		s.client.Send(&pgproto3.CloseComplete{})
	case *pgproto3.Flush:
		err = s.flush()
	case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.CopyFail:
	default:
		s.fail(fmt.Sprintf("unsupported packet type for admin console: %T", msg))
	}
	return err
}

func (s *consoleSession) flush() error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(consoleWriteTimeout)); err != nil {
		return err
	}
	if s.ended() { // they may have set their deadline just before
		return net.ErrClosed
	}
	return s.client.Flush()
}

// ended reports whether somebody else has ended the session.
func (s *consoleSession) ended() bool { return s.console.isClosed() || s.killed.Load() }

func (s *consoleSession) ready() { s.client.Send(&pgproto3.ReadyForQuery{TxStatus: s.tx}) }

// fail answers with an error and, in the extended protocol, skips to Sync.
func (s *consoleSession) fail(text string) {
	s.sendError(&problem{text: text})
	s.skipping = true
}

func (s *consoleSession) sendError(p *problem) {
	e := &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: p.code, Message: p.text, Detail: p.detail, Hint: p.hint}
	if e.Code == "" {
		e.Code = "08P01"
	}
	s.client.Send(e)
}

// fatal says a last word to a client that can still hear it.
func (s *consoleSession) fatal(code, text string) {
	_ = s.conn.SetDeadline(time.Now().Add(time.Second))
	s.client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: text})
	_ = s.client.Flush()
}

// simple answers a Query, with its ReadyForQuery.
func (s *consoleSession) simple(query string) error {
	cmd, wrong := parse(query)
	a := &answer{}
	switch {
	case wrong != "":
		a.problem = &problem{text: wrong}
	case cmd.parameters() > 0:
		a.problem = &problem{text: badArguments, detail: "Parameters need the extended query protocol."}
	default:
		a = s.run(cmd, query)
	}
	if a.end != nil {
		return a.end
	}
	s.notices(a)
	switch {
	case a.problem != nil:
		s.sendError(a.problem)
	case a.empty:
		s.client.Send(&pgproto3.EmptyQueryResponse{})
	default:
		if a.table != nil {
			s.client.Send(a.table.description(nil))
			s.rows(a.table.rows, a.table.columns, nil)
		}
		s.client.Send(&pgproto3.CommandComplete{CommandTag: []byte(a.tag)})
	}
	s.ready()
	return nil
}

func (s *consoleSession) notices(a *answer) {
	for _, n := range a.notices {
		s.client.Send(&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: n[0], Detail: n[1]})
	}
	a.notices, s.after = nil, a.after
}

func (s *consoleSession) rows(rows [][]*string, columns []column, formats []int16) {
	values := make([][]byte, len(columns))
	for _, row := range rows {
		for i, cell := range row {
			values[i] = nil
			if cell != nil {
				values[i] = columns[i].encode(*cell, formatOf(formats, i))
			}
		}
		s.client.Send(&pgproto3.DataRow{Values: values})
	}
}

// formatOf is the format code of a column or parameter, by the protocol's
// rule for short lists.
func formatOf(formats []int16, i int) int16 {
	switch {
	case len(formats) == 0:
		return 0
	case len(formats) == 1:
		return formats[0]
	case i < len(formats):
		return formats[i]
	}
	return 0
}

func (s *consoleSession) parse(msg *pgproto3.Parse) {
	cmd, wrong := parse(msg.Query)
	if wrong != "" {
		s.fail(wrong)
		return
	}
	if cmd.name == "show" && cmd.parameters() > 0 || len(s.prepared) >= maxPrepared {
		s.fail(badArguments)
		return
	}
	if msg.Name != "" && s.prepared[msg.Name] != nil {
		s.fail("prepared statement name is already in use")
		return
	}
	s.prepared[msg.Name] = &prepared{cmd: cmd, query: msg.Query}
	s.client.Send(&pgproto3.ParseComplete{})
}

func (s *consoleSession) bind(msg *pgproto3.Bind) {
	st := s.prepared[msg.PreparedStatement]
	if st == nil {
		s.fail("prepared statement did not exist")
		return
	}
	if len(msg.Parameters) != st.cmd.parameters() || len(s.portals) >= maxPrepared {
		s.fail(badArguments)
		return
	}
	p := &portal{prepared: *st, formats: append([]int16(nil), msg.ResultFormatCodes...)}
	for i, v := range msg.Parameters { // text is the same in both formats
		if v == nil || strings.IndexByte(string(v), 0) >= 0 {
			s.fail(badArguments)
			return
		}
		if p.cmd.argParam == i+1 {
			p.cmd.arg = string(v)
		}
		if p.cmd.valParam == i+1 {
			p.cmd.val = string(v)
		}
	}
	p.cmd.argParam, p.cmd.valParam = 0, 0
	if wrong := tooLong(p.cmd); wrong != "" {
		s.fail(wrong)
		return
	}
	s.portals[msg.DestinationPortal] = p
	s.client.Send(&pgproto3.BindComplete{})
}

func (s *consoleSession) describe(msg *pgproto3.Describe) {
	var of *prepared
	var formats []int16
	if msg.ObjectType == 'S' {
		if of = s.prepared[msg.Name]; of == nil {
			s.fail("prepared statement did not exist")
			return
		}
		s.client.Send(&pgproto3.ParameterDescription{ParameterOIDs: []uint32{oidText, oidText}[:of.cmd.parameters()]})
	} else {
		p := s.portals[msg.Name]
		if p == nil {
			s.fail("portal did not exist")
			return
		}
		of, formats = &p.prepared, p.formats
	}
	if of.cmd.name == "show" {
		a := s.show(of.cmd, of.query)
		if a.problem != nil {
			s.sendError(a.problem)
			s.skipping = true
			return
		}
		if a.table != nil {
			s.client.Send(a.table.description(formats))
			return
		}
	}
	s.client.Send(&pgproto3.NoData{})
}

func (s *consoleSession) execute(msg *pgproto3.Execute) error {
	p := s.portals[msg.Portal]
	if p == nil {
		s.fail("portal did not exist")
		return nil
	}
	if p.rows == nil {
		p.rows = s.run(p.cmd, p.query)
	}
	a := p.rows
	if a.end != nil {
		return a.end
	}
	s.notices(a)
	switch {
	case a.problem != nil:
		s.sendError(a.problem)
		s.skipping = true
		return nil
	case a.empty:
		s.client.Send(&pgproto3.EmptyQueryResponse{})
		return nil
	case a.table != nil:
		rest := a.table.rows[p.next:]
		if n := int(msg.MaxRows); n > 0 && n < len(rest) {
			s.rows(rest[:n], a.table.columns, p.formats)
			p.next += n
			s.client.Send(&pgproto3.PortalSuspended{})
			return nil
		}
		s.rows(rest, a.table.columns, p.formats)
		p.next = len(a.table.rows)
	}
	s.client.Send(&pgproto3.CommandComplete{CommandTag: []byte(a.tag)})
	return nil
}
