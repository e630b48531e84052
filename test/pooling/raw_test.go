package pooling_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/wire"
)

func asPg(err error, target **pgconn.PgError) bool { return errors.As(err, target) }

// peer is a client that says exactly what the test tells it.
type peer struct {
	t      testing.TB
	nc     net.Conn
	fe     *pgproto3.Frontend
	pid    uint32
	key    []byte
	params map[string]string
}

// newPeer speaks over a connection that is there already.
func newPeer(t testing.TB, nc net.Conn) *peer {
	t.Helper()
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(60 * time.Second))
	return &peer{t: t, nc: nc, fe: pgproto3.NewFrontend(nc, nc), params: map[string]string{}}
}

// login connects and logs in with startup parameters given as pairs. The
// server must let it in without a password.
func login(t testing.TB, addr, user, db string, params ...string) *peer {
	t.Helper()
	c, r := tryLogin(t, addr, user, db, params...)
	if r.err != nil {
		t.Fatalf("login: %s %s", r.err.Code, r.err.Message)
	}
	return c
}

func tryLogin(t testing.TB, addr, user, db string, params ...string) (*peer, reply) {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	nc, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	c := newPeer(t, nc)
	if _, err := nc.Write(startupMessage(wire.Protocol30, user, db, params...)); err != nil {
		t.Fatalf("send: %v", err)
	}
	return c, c.read()
}

// startupMessage has its parameters in this order, and one may come again.
func startupMessage(version uint32, user, db string, params ...string) []byte {
	m := binary.BigEndian.AppendUint32(make([]byte, 4), version)
	for _, s := range append([]string{"user", user, "database", db}, params...) {
		m = append(append(m, s...), 0)
	}
	m = append(m, 0)
	binary.BigEndian.PutUint32(m, uint32(len(m)))
	return m
}

// send writes messages in one piece.
func (c *peer) send(msgs ...pgproto3.FrontendMessage) {
	c.t.Helper()
	if _, err := c.nc.Write(encode(c.t, msgs...)); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func encode(t testing.TB, msgs ...pgproto3.FrontendMessage) []byte {
	t.Helper()
	var b []byte
	for _, m := range msgs {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// reply is what came up to ReadyForQuery, or to the end of the connection.
type reply struct {
	rows   [][]string
	tags   []string
	oids   [][]uint32 // types of parameters
	types  string     // one letter per message
	errs   []*pgproto3.ErrorResponse
	err    *pgproto3.ErrorResponse // the first of errs
	params map[string]string
	status byte // 0: the connection ended
	end    error
}

// cell is the first column of the first row.
func (r reply) cell() string {
	if len(r.rows) == 0 {
		return fmt.Sprintf("no row (%s)", r)
	}
	return r.rows[0][0]
}

// code is the error's SQLSTATE, or "" for none; "gone" if the connection
// ended without a word.
func (r reply) code() string {
	if r.err != nil {
		return r.err.Code
	}
	if r.status == 0 {
		return "gone"
	}
	return ""
}

func (r reply) String() string {
	s := fmt.Sprintf("%s %v %v", r.types, r.rows, r.tags)
	for _, e := range r.errs {
		s += fmt.Sprintf(" %s %s %s", e.Severity, e.Code, e.Message)
	}
	if r.end != nil {
		s += " " + r.end.Error()
	}
	return s
}

// read reads up to ReadyForQuery or the end of the connection.
func (c *peer) read() reply { return c.until('Z') }

// until reads up to a message of the given type, an error, ReadyForQuery or the
// end.
func (c *peer) until(typ byte) reply {
	r := reply{params: map[string]string{}}
	for {
		m, err := c.fe.Receive()
		if err != nil {
			r.end = err
			return r
		}
		r.add(c, m)
		last := r.types[len(r.types)-1]
		if last == typ || last == 'Z' || last == 'E' && typ != 'Z' {
			return r
		}
	}
}

func (r *reply) add(c *peer, msg pgproto3.BackendMessage) {
	letter := byte('?')
	switch m := msg.(type) {
	case *pgproto3.AuthenticationOk:
		letter = 'R'
	case *pgproto3.ParameterStatus:
		letter = 'S'
		r.params[m.Name] = m.Value
		c.params[m.Name] = m.Value
	case *pgproto3.BackendKeyData:
		letter = 'K'
		c.pid, c.key = m.ProcessID, append([]byte(nil), m.SecretKey...)
	case *pgproto3.ReadyForQuery:
		letter = 'Z'
		r.status = m.TxStatus
	case *pgproto3.RowDescription:
		letter = 'T'
	case *pgproto3.ParameterDescription:
		letter = 't'
		r.oids = append(r.oids, slices.Clone(m.ParameterOIDs))
	case *pgproto3.NoData:
		letter = 'n'
	case *pgproto3.DataRow:
		letter = 'D'
		row := make([]string, len(m.Values))
		for i, v := range m.Values {
			row[i] = string(v)
		}
		r.rows = append(r.rows, row)
	case *pgproto3.CommandComplete:
		letter = 'C'
		r.tags = append(r.tags, string(m.CommandTag))
	case *pgproto3.EmptyQueryResponse:
		letter = 'I'
	case *pgproto3.ErrorResponse:
		letter = 'E'
		e := *m
		r.errs = append(r.errs, &e)
		if r.err == nil {
			r.err = &e
		}
	case *pgproto3.NoticeResponse:
		letter = 'N'
	case *pgproto3.ParseComplete:
		letter = '1'
	case *pgproto3.BindComplete:
		letter = '2'
	case *pgproto3.CloseComplete:
		letter = '3'
	case *pgproto3.PortalSuspended:
		letter = 's'
	case *pgproto3.CopyInResponse:
		letter = 'G'
	case *pgproto3.CopyOutResponse:
		letter = 'H'
	case *pgproto3.CopyData:
		letter = 'd'
	case *pgproto3.CopyDone:
		letter = 'c'
	case *pgproto3.NotificationResponse:
		letter = 'A'
	}
	r.types += string(letter)
}

// query runs a Query and reads its reply.
func (c *peer) query(sql string) reply {
	c.t.Helper()
	c.send(&pgproto3.Query{String: sql})
	return c.read()
}

// must is query, which must succeed.
func (c *peer) must(sql string) reply {
	c.t.Helper()
	r := c.query(sql)
	if r.code() != "" {
		c.t.Fatalf("%s: %s", sql, r)
	}
	return r
}

// show is a setting's value, asked in a transaction of its own.
func (c *peer) show(name string) string {
	c.t.Helper()
	return c.must("show " + name).cell()
}

// vanish closes the socket without Terminate.
func (c *peer) vanish() { _ = c.nc.Close() }

// reset closes it so that the other side sees a reset.
func (c *peer) reset() {
	if tc, ok := c.nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	_ = c.nc.Close()
}

// cancelRequest sends a CancelRequest and waits until its connection closes.
func cancelRequest(addr string, pid uint32, key []byte) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	return cancelOver(nc, pid, key)
}

func cancelOver(nc net.Conn, pid uint32, key []byte) error {
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(key)))
	b = binary.BigEndian.AppendUint32(b, 80877102)
	b = binary.BigEndian.AppendUint32(b, pid)
	b = append(b, key...)
	if _, err := nc.Write(b); err != nil {
		return err
	}
	var one [1]byte
	if _, err := nc.Read(one[:]); err != io.EOF && !errors.Is(err, net.ErrClosed) {
		if err == nil {
			return errors.New("a CancelRequest was answered")
		}
	}
	return nil
}

func sql(text string) *pgproto3.Query { return &pgproto3.Query{String: text} }

func parse(name, text string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: text} }

func bind(name string, values ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{PreparedStatement: name}
	for _, v := range values {
		b.Parameters = append(b.Parameters, []byte(v))
	}
	return b
}

// batch is an unnamed statement from Parse to Execute, without Sync.
func batch(text string) []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{parse("", text), bind(""), &pgproto3.Execute{}}
}

// sleepUntil is a context's wait that says whether it was cut short.
func sleepUntil(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
