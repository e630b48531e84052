package pooling_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// rvOpen logs a client in, with startup parameters as pairs.
type rvOpen func(params ...string) *peer

// rvSame runs a script directly and through a pool of size servers, and wants
// the same lines from both.
func rvSame(t *testing.T, size int, setup []string, script func(t *testing.T, open rvOpen) []string) (*harness.Pgpoold, *postgres.Cluster, string) {
	t.Helper()
	p, c, db := start(t, size, setup...)
	through := func(addr string) []string {
		var all []*peer
		defer func() {
			for _, one := range all {
				one.vanish()
			}
		}()
		return script(t, func(params ...string) *peer {
			one := login(t, addr, postgres.Superuser, db, params...)
			_ = one.nc.SetDeadline(time.Now().Add(patience))
			all = append(all, one)
			return one
		})
	}
	rvEqual(t, through(p.Addr()), through(c.Addr()))
	return p, c, db
}

// rvEqual compares lines with those of a direct connection.
func rvEqual(t *testing.T, got, want []string) {
	t.Helper()
	short := func(s string) string {
		if len(s) > 300 {
			s = s[:300] + "..."
		}
		return s
	}
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d: %s\ndirectly: %s", i, short(g), short(w))
			return
		}
	}
}

// rvGist is what a client must find the same: all but the ParameterStatus
// messages, whose moments differ.
func rvGist(r reply) string {
	s := fmt.Sprintf("%s %v %v %c", strings.ReplaceAll(r.types, "S", ""), r.rows, r.tags, max(r.status, '-'))
	for _, e := range r.errs {
		s += fmt.Sprintf(" %s %s %s", e.Severity, e.Code, e.Message)
	}
	return s
}

// rvFrames reads whole messages as they are, up to the nth ReadyForQuery.
func (c *peer) rvFrames(ready int) []string {
	var all []string
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(c.nc, head); err != nil {
			return append(all, err.Error())
		}
		size := binary.BigEndian.Uint32(head[1:])
		if size < 4 || size > 1<<26 {
			return append(all, fmt.Sprintf("not a header: %q", head))
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(c.nc, body); err != nil {
			return append(all, err.Error())
		}
		all = append(all, fmt.Sprintf("%c %q", head[0], body))
		if head[0] == 'Z' {
			if ready--; ready == 0 {
				return all
			}
		}
	}
}

// rvMiddle stands between pgpoold and PostgreSQL.
type rvMiddle struct {
	ln       net.Listener
	upstream string
	wg       sync.WaitGroup // accept, and one or two goroutines per connection

	mu      sync.Mutex
	conns   []net.Conn
	closed  bool
	down    func(b []byte, write func([]byte)) (end bool) // what the server says goes through it; nil: as it is
	up      func(b []byte)                                // sees what pgpoold sends
	cancels chan chan struct{}                            // not nil: a cancel request waits until what it puts here is closed
}

func rvBetween(t testing.TB, c *postgres.Cluster) *rvMiddle {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &rvMiddle{ln: ln, upstream: c.Addr()}
	m.wg.Add(1)
	go m.accept()
	t.Cleanup(m.close)
	return m
}

// dsn is a superuser's through the middle.
func (m *rvMiddle) dsn(db string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", postgres.Superuser, m.ln.Addr(), db)
}

func (m *rvMiddle) set(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
}

func (m *rvMiddle) close() {
	_ = m.ln.Close()
	m.set(func() {
		m.closed = true
		for _, nc := range m.conns {
			_ = nc.Close()
		}
	})
	m.wg.Wait()
}

func (m *rvMiddle) keep(nc net.Conn) {
	m.set(func() {
		m.conns = append(m.conns, nc)
		if m.closed {
			_ = nc.Close()
		}
	})
}

func (m *rvMiddle) accept() {
	defer m.wg.Done()
	for {
		nc, err := m.ln.Accept()
		if err != nil {
			return
		}
		m.keep(nc)
		m.wg.Add(1)
		go m.serve(nc)
	}
}

func (m *rvMiddle) serve(nc net.Conn) {
	defer m.wg.Done()
	defer nc.Close()
	first := make([]byte, 8)
	if _, err := io.ReadFull(nc, first); err != nil {
		return
	}
	if binary.BigEndian.Uint32(first[4:]) == 80877102 {
		var cancels chan chan struct{}
		m.set(func() { cancels = m.cancels })
		if cancels != nil {
			free := make(chan struct{})
			cancels <- free
			<-free
		}
	}
	server, err := net.Dial("tcp", m.upstream)
	if err != nil {
		return
	}
	m.keep(server)
	m.wg.Add(1)
	go m.back(server, nc)
	b := make([]byte, 32<<10)
	for n := copy(b, first); ; {
		var up func([]byte)
		m.set(func() { up = m.up })
		if up != nil {
			up(b[:n])
		}
		if _, err := server.Write(b[:n]); err != nil {
			break
		}
		if n, err = nc.Read(b); err != nil {
			break
		}
	}
	_ = server.(*net.TCPConn).CloseWrite()
}

func (m *rvMiddle) back(server, nc net.Conn) {
	defer m.wg.Done()
	defer server.Close()
	write := func(p []byte) { _, _ = nc.Write(p) }
	b := make([]byte, 32<<10)
	for {
		n, err := server.Read(b)
		if err != nil {
			_ = nc.(*net.TCPConn).CloseWrite()
			return
		}
		var down func([]byte, func([]byte)) bool
		m.set(func() { down = m.down })
		if down == nil {
			write(b[:n])
		} else if down(b[:n], write) {
			_ = nc.Close()
			return
		}
	}
}

// rvIdle reports whether b ends with a ReadyForQuery outside a transaction.
func rvIdle(b []byte) bool { return bytes.HasSuffix(b, []byte("Z\x00\x00\x00\x05I")) }

// rvError is an ErrorResponse, or with type N a NoticeResponse.
func rvError(t testing.TB, typ byte, severity, code, message string) []byte {
	t.Helper()
	b, err := (&pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: message}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	b[0] = typ
	return b
}

// rvDB is a database of the test's own on the shared cluster.
func rvDB(t testing.TB) (*postgres.Cluster, string) {
	t.Helper()
	c := postgres.ForTest(t)
	return c, newDB(t, c)
}
