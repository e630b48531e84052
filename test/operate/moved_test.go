package operate

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// raw is a client that speaks the protocol by itself.
type raw struct {
	t    *testing.T
	conn net.Conn
	f    *pgproto3.Frontend
}

func (p *pgpoold) raw(t *testing.T, network, addr string) *raw {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(hang))
	r := &raw{t, conn, pgproto3.NewFrontend(conn, conn)}
	r.send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": "postgres"}})
	for {
		switch m := r.next().(type) {
		case *pgproto3.AuthenticationCleartextPassword:
			r.send(&pgproto3.PasswordMessage{Password: "secret"})
		case *pgproto3.ErrorResponse:
			t.Fatal(m.Message)
		case *pgproto3.ReadyForQuery:
			return r
		}
	}
}

func (r *raw) send(messages ...pgproto3.FrontendMessage) {
	r.t.Helper()
	for _, m := range messages {
		r.f.Send(m)
	}
	if err := r.f.Flush(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) bytes(b []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) next() pgproto3.BackendMessage {
	r.t.Helper()
	m, err := r.f.Receive()
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// until reads up to a ReadyForQuery (or, where it is not to come, an error) and
// tells what came: values of rows, and codes of errors.
func (r *raw) until(ready bool) string {
	r.t.Helper()
	var got []string
	for {
		switch m := r.next().(type) {
		case *pgproto3.DataRow:
			for _, v := range m.Values {
				got = append(got, string(v))
			}
		case *pgproto3.ErrorResponse:
			got = append(got, m.Code)
			if !ready {
				return strings.Join(got, " ")
			}
		case *pgproto3.ReadyForQuery:
			return strings.Join(got, " ")
		}
	}
}

// TestMoved: what a client is in the middle of when its session moves goes on
// in the other process, on TCP and on a Unix socket.
func TestMoved(t *testing.T) {
	dsn, _ := table(t, "moving")
	dir := t.TempDir()
	p := serve(t, dsn, map[string]string{"PGPOOLD_LISTEN_ADDR": "127.0.0.1:0,unix:" + dir, "PGPOOLD_AUTH_TYPE": "password",
		"PGPOOLD_POOL_SIZE": "2"})
	query := func(sql string) []byte {
		b, err := (&pgproto3.Query{String: sql}).Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	long := "select length('" + strings.Repeat("x", 100_000) + "')"
	type step struct {
		name          string
		before, after func(r *raw)
	}
	ended := map[*raw]bool{}
	steps := []step{
		{"half a message", func(r *raw) { r.bytes(query("select 1")[:7]) }, func(r *raw) {
			r.bytes(query("select 1")[7:])
			if got := r.until(true); got != "1" {
				t.Errorf("the rest of a message gives %q", got)
			}
		}},
		{"half a large message", func(r *raw) { r.bytes(query(long)[:60_000]) }, func(r *raw) {
			r.bytes(query(long)[60_000:])
			if got := r.until(true); got != "100000" {
				t.Errorf("the rest of a large message gives %q", got)
			}
		}},
		{"an error before Sync", func(r *raw) {
			r.send(&pgproto3.Bind{PreparedStatement: "none"}, &pgproto3.Flush{})
			if got := r.until(false); got != "26000" {
				t.Errorf("Bind gives %q", got)
			}
		}, func(r *raw) {
			r.send(&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
			if got := r.until(true); got != "" {
				t.Errorf("what stands in front of Sync gives %q", got)
			}
		}},
		{"an unnamed statement", func(r *raw) {
			r.send(&pgproto3.Parse{Query: "select 'unnamed'"}, &pgproto3.Sync{})
			r.until(true)
		}, func(r *raw) {
			r.send(&pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
			if got := r.until(true); got != "unnamed" {
				t.Errorf("the unnamed statement gives %q", got)
			}
		}},
		{"a literal that was read under other settings", func(r *raw) {
			for _, sql := range []string{"set datestyle to iso, dmy", "", "set datestyle to iso, mdy"} {
				if sql == "" {
					r.send(&pgproto3.Parse{Name: "s", Query: "select '01/02/2003'::date"}, &pgproto3.Sync{})
				} else {
					r.send(&pgproto3.Query{String: sql})
				}
				r.until(true)
			}
		}, func(r *raw) {
			r.send(&pgproto3.Bind{PreparedStatement: "s"}, &pgproto3.Execute{}, &pgproto3.Sync{})
			if got := r.until(true); got != "2003-02-01" {
				t.Errorf("the literal gives %q", got)
			}
		}},
		{"a text in another encoding", func(r *raw) {
			r.send(&pgproto3.Query{String: "set client_encoding to latin1"})
			r.until(true)
			r.send(&pgproto3.Parse{Name: "latin", Query: "select 'd\xe9j\xe0'"}, &pgproto3.Sync{})
			r.until(true)
		}, func(r *raw) {
			r.send(&pgproto3.Bind{PreparedStatement: "latin"}, &pgproto3.Execute{}, &pgproto3.Sync{})
			if got := r.until(true); got != "d\xe9j\xe0" {
				t.Errorf("the text gives %q", got)
			}
		}},
		{"a role and a custom setting", func(r *raw) {
			r.send(&pgproto3.Query{String: "set my.tenant to '7'"})
			r.until(true)
		}, func(r *raw) {
			r.send(&pgproto3.Query{String: "select current_setting('my.tenant')"})
			if got := r.until(true); got != "7" {
				t.Errorf("the setting is %q", got)
			}
		}},
		{"an idle_session_timeout", func(r *raw) {
			r.send(&pgproto3.Query{String: "set idle_session_timeout to '8s'"})
			r.until(true)
		}, func(r *raw) {
			if got := r.until(false); got != "57P05" {
				t.Errorf("a session that is idle for longer than it wished gets %q", got)
			}
			ended[r] = true
		}},
	}
	var clients []*raw
	for _, s := range steps {
		for _, at := range [][2]string{{"tcp", p.addr}, {"unix", p.socket}} {
			r := p.raw(t, at[0], at[1])
			s.before(r)
			clients = append(clients, r)
		}
	}
	heirs := []*heir{}
	for range 2 {
		if said, code := p.upgradeBy(t); code != 0 {
			t.Fatalf("exit %d: %s", code, said)
		}
		heirs = append(heirs, p.successor(t))
		if len(heirs) == 1 {
			p.exit(t, 0)
		} else {
			heirs[0].exit(t)
			break
		}
		time.Sleep(2500 * time.Millisecond) // those that are quiet are parked
	}
	for i, r := range clients {
		if steps[i/2].after(r); ended[r] {
			continue
		}
		r.send(&pgproto3.Query{String: "select 'on'"})
		if got := r.until(true); got != "on" {
			t.Errorf("%s: afterwards it gives %q", steps[i/2].name, got)
		}
	}
	heirs[1].signal(t, syscall.SIGTERM)
	heirs[1].exit(t)
	if _, err := net.Dial("unix", p.socket); err == nil {
		t.Error("the Unix socket is still there")
	}
}
