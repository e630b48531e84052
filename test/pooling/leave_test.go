package pooling_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// TestLeaving is every state in which a client can vanish: what was not
// committed is not, and the one server serves the next client.
func TestLeaving(t *testing.T) {
	insert := "insert into t values (1)"
	slow := "insert into t select 1 from pg_sleep(300)"
	big := strings.Repeat("x", 300_000)
	copyIn := sql("copy t from stdin")
	for _, test := range []struct {
		name string
		do   func(t *testing.T, c *peer)
		rows string // in the table afterwards
	}{
		{name: "idle", do: func(t *testing.T, c *peer) { c.must("select 1") }},
		{name: "before the first query", do: func(*testing.T, *peer) {}},
		{name: "in a transaction", do: func(t *testing.T, c *peer) {
			c.must("begin")
			c.must(insert)
		}},
		{name: "in a failed transaction", do: func(t *testing.T, c *peer) {
			c.must("begin")
			c.must(insert)
			c.query("select 1/0")
		}},
		{name: "in a query", do: func(t *testing.T, c *peer) {
			c.send(sql(slow))
		}},
		{name: "in a transaction's query", do: func(t *testing.T, c *peer) {
			c.must("begin; " + insert)
			c.send(sql(slow))
		}},
		{name: "after Flush without Sync", do: func(t *testing.T, c *peer) {
			c.send(append(batch(insert), &pgproto3.Flush{})...)
			if r := c.until('C'); r.types != "12C" {
				t.Fatalf("got %s", r)
			}
		}},
		{name: "without Flush or Sync", do: func(t *testing.T, c *peer) {
			c.send(batch(insert)...)
		}},
		{name: "after an error without Sync", do: func(t *testing.T, c *peer) {
			c.send(append(append(batch(insert), batch("select 1/0")...), &pgproto3.Flush{})...)
			if r := c.until('E'); r.code() != "22012" {
				t.Fatalf("got %s", r)
			}
		}},
		{name: "with a row limit, suspended", do: func(t *testing.T, c *peer) {
			c.send(parse("", "insert into t select g from generate_series(1, 3) g returning *"), bind(""), &pgproto3.Execute{MaxRows: 1}, &pgproto3.Flush{})
			if r := c.until('s'); r.types != "12Ds" {
				t.Fatalf("got %s", r)
			}
		}},
		{name: "in COPY IN by Query", do: func(t *testing.T, c *peer) {
			c.send(copyIn)
			c.until('G')
			c.send(&pgproto3.CopyData{Data: []byte("1\n")})
		}},
		{name: "in COPY IN by Query in a transaction", do: func(t *testing.T, c *peer) {
			c.must("begin")
			c.send(copyIn)
			c.until('G')
			c.send(&pgproto3.CopyData{Data: []byte("1\n")})
		}},
		{name: "in COPY IN by Execute", do: func(t *testing.T, c *peer) {
			c.send(append(batch("copy t from stdin"), &pgproto3.Flush{})...)
			c.until('G')
			c.send(&pgproto3.CopyData{Data: []byte("1\n")})
		}},
		{name: "in COPY IN by Execute with Sync", do: func(t *testing.T, c *peer) {
			c.send(append(batch("copy t from stdin"), &pgproto3.Sync{})...)
			c.until('G')
			c.send(&pgproto3.CopyData{Data: []byte("1\n")})
		}},
		{name: "before CopyInResponse", do: func(t *testing.T, c *peer) {
			c.send(copyIn)
		}},
		{name: "in COPY IN, half a message", do: func(t *testing.T, c *peer) {
			c.send(copyIn)
			c.until('G')
			b := encode(t, &pgproto3.CopyData{Data: []byte("1\n" + big)})
			_, _ = c.nc.Write(b[:100_000])
		}},
		{name: "in COPY OUT that nobody reads", do: func(t *testing.T, c *peer) {
			c.send(sql("copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout"))
			c.until('H')
		}},
		{name: "in rows that nobody reads", do: func(t *testing.T, c *peer) {
			c.send(sql("select repeat('x', 1000) from generate_series(1, 1000000)"))
			c.until('T')
		}},
		{name: "half a header", do: func(t *testing.T, c *peer) {
			_, _ = c.nc.Write([]byte{'Q', 0, 0})
		}},
		{name: "half a short message", do: func(t *testing.T, c *peer) {
			b := encode(t, sql(insert))
			_, _ = c.nc.Write(b[:len(b)-3])
		}},
		{name: "half a long message", do: func(t *testing.T, c *peer) {
			b := encode(t, sql(insert+" /* "+big+" */"))
			_, _ = c.nc.Write(b[:len(b)-10])
		}},
		{name: "half a message in a transaction", do: func(t *testing.T, c *peer) {
			c.must("begin; " + insert)
			b := encode(t, sql("select 1 /* "+big+" */"))
			_, _ = c.nc.Write(b[:len(b)-10])
		}},
		{name: "half a Bind", do: func(t *testing.T, c *peer) {
			b := encode(t, parse("", "insert into t values (length($1))"), bind("", big))
			_, _ = c.nc.Write(b[:len(b)-10])
		}},
		{name: "with the settings still to be replayed", do: func(t *testing.T, c *peer) {
			c.must("set timezone = 'Asia/Tokyo'")
			c.must("begin")
		}},
	} {
		for _, how := range []struct {
			name string
			go_  func(*peer)
		}{{"FIN", (*peer).vanish}, {"RST", (*peer).reset}} {
			t.Run(test.name+"/"+how.name, func(t *testing.T) {
				t.Parallel()
				p, c, db := start(t, 1, "create table t (a int)")
				leaver := login(t, p.Addr(), "app", db)
				test.do(t, leaver)
				how.go_(leaver)
				clients(t, p, 0)
				resting(t, p, c, db)
				rows := test.rows
				if rows == "" {
					rows = "0"
				}
				next := login(t, p.Addr(), "app", db)
				if got := next.must("select count(*) from t").cell(); got != rows {
					t.Errorf("%s rows are committed, want %s", got, rows)
				}
				if got := next.show("timezone"); got == "Asia/Tokyo" {
					t.Errorf("the next client has the last one's time zone")
				}
				if left := value(t, c, "postgres", "select count(*) from pg_locks l join pg_database d on d.oid = l.database where d.datname = '"+db+"' and locktype <> 'virtualxid'"); left != "0" {
					t.Errorf("%s locks are left", left)
				}
				if err := p.Check(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestLeavingReusesTheServer: what can be cleared costs no server.
func TestLeavingReusesTheServer(t *testing.T) {
	p, c, db := start(t, 1, "create table t (a int)")
	pid := login(t, p.Addr(), "app", db).must("select pg_backend_pid()").cell()
	for name, leave := range map[string]func(*peer){
		"transaction":   func(c *peer) { c.must("begin; insert into t values (1)") },
		"query":         func(c *peer) { c.send(sql("select pg_sleep(300)")) },
		"batch":         func(c *peer) { c.send(append(batch("insert into t values (1)"), &pgproto3.Flush{})...) },
		"copy":          func(c *peer) { c.send(sql("copy t from stdin")); c.until('G') },
		"copy, Execute": func(c *peer) { c.send(append(batch("copy t from stdin"), &pgproto3.Sync{})...); c.until('G') },
	} {
		leaver := login(t, p.Addr(), "app", db)
		leave(leaver)
		leaver.vanish()
		resting(t, p, c, db)
		if got := login(t, p.Addr(), "app", db).must("select pg_backend_pid()").cell(); got != pid {
			t.Errorf("%s: the server was replaced", name)
			pid = got
		}
	}
	if got := value(t, c, db, "select count(*) from t"); got != "0" {
		t.Errorf("%s rows were committed", got)
	}
}

// TestTerminateAfterQueries: complete messages ahead of a Terminate run to
// their end, as PostgreSQL does (W9), however they come.
func TestTerminateAfterQueries(t *testing.T) {
	insert := func(n int) *pgproto3.Query { return sql(fmt.Sprintf("insert into t values (%d)", n)) }
	for _, test := range []struct {
		name string
		msgs func() []pgproto3.FrontendMessage
		want string
	}{
		{"one Query", func() []pgproto3.FrontendMessage { return []pgproto3.FrontendMessage{insert(1)} }, "1"},
		{"many Queries", func() []pgproto3.FrontendMessage {
			var m []pgproto3.FrontendMessage
			for i := range 50 {
				m = append(m, insert(i))
			}
			return m
		}, "50"},
		{"slow Queries", func() []pgproto3.FrontendMessage {
			return []pgproto3.FrontendMessage{sql("select pg_sleep(0.2)"), insert(1), sql("select pg_sleep(0.2)"), insert(2)}
		}, "2"},
		{"a slow insert", func() []pgproto3.FrontendMessage {
			return []pgproto3.FrontendMessage{sql("insert into t select 1 from pg_sleep(0.3)")}
		}, "1"},
		{"batches", func() []pgproto3.FrontendMessage {
			var m []pgproto3.FrontendMessage
			for range 20 {
				m = append(append(m, batch("insert into t values (1)")...), &pgproto3.Sync{})
			}
			return m
		}, "20"},
		{"a transaction", func() []pgproto3.FrontendMessage {
			return []pgproto3.FrontendMessage{sql("begin"), insert(1), sql("commit")}
		}, "1"},
		{"an open transaction", func() []pgproto3.FrontendMessage { return []pgproto3.FrontendMessage{sql("begin"), insert(1)} }, "0"},
		{"a batch without Sync", func() []pgproto3.FrontendMessage { return batch("insert into t values (1)") }, "0"},
	} {
		for _, busy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/busy=%v", test.name, busy), func(t *testing.T) {
				t.Parallel()
				p, c, db := start(t, 1, "create table t (a int)")
				leaver := login(t, p.Addr(), "app", db)
				if busy {
					// Others queue for the one server all the time.
					stop := make(chan struct{})
					defer close(stop)
					for range 3 {
						other := login(t, p.Addr(), "app", db)
						go other.keepBusy(stop)
					}
				}
				leaver.send(append(test.msgs(), &pgproto3.Terminate{})...)
				clients := func() int {
					n := 0
					for _, cl := range p.Server().Snapshot().Clients {
						if cl.PID == leaver.pid {
							n++
						}
					}
					return n
				}
				leaver.vanish()
				eventually(t, func() string {
					if clients() > 0 {
						return "the client is still there"
					}
					return ""
				})
				if !busy {
					resting(t, p, c, db)
				}
				eventually(t, func() string {
					if got := value(t, c, db, "select count(*) from t"); got != test.want {
						return fmt.Sprintf("%s rows, want %s", got, test.want)
					}
					return ""
				})
			})
		}
	}
}

// keepBusy runs queries until stop is closed.
func (c *peer) keepBusy(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			c.vanish()
			return
		default:
		}
		if _, err := c.nc.Write([]byte("Q\x00\x00\x00\x0dselect 1\x00")); err != nil {
			return
		}
		if r := c.read(); r.status == 0 {
			return
		}
	}
}

// TestClientGone: a FIN without Terminate cancels an autocommit query, or lets
// it end, as client_gone says.
func TestClientGone(t *testing.T) {
	for _, mode := range []string{"cancel", "finish"} {
		t.Run(mode, func(t *testing.T) {
			c := postgres.ForTest(t)
			db := newDB(t, c, "create table t (a int)")
			p := startYAML(t, fmt.Sprintf("pool: {size: 1, client_gone: %s}\ndatabases: {%q: {dsn: %q}}\n", mode, db, c.SuperDSN(db)))
			leaver := login(t, p.Addr(), "app", db)
			leaver.send(sql("insert into t select 1 from pg_sleep(1)"))
			running(t, c, db, "pg_sleep")
			leaver.vanish()
			resting(t, p, c, db)
			want := map[string]string{"cancel": "0", "finish": "1"}[mode]
			if got := value(t, c, db, "select count(*) from t"); got != want {
				t.Errorf("%s rows are committed, want %s", got, want)
			}
		})
	}
}

// TestHalfClose: a client that shuts down its sending side and reads on.
func TestHalfClose(t *testing.T) {
	p, c, db := start(t, 1, "create table t (a int)")
	leaver := login(t, p.Addr(), "app", db)
	leaver.send(sql("insert into t values (1)"), &pgproto3.Terminate{})
	if err := leaver.nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if r := leaver.read(); r.code() != "" || len(r.tags) != 1 {
		t.Errorf("the reply did not arrive: %s", r)
	}
	clients(t, p, 0)
	if got := value(t, c, db, "select count(*) from t"); got != "1" {
		t.Errorf("%s rows", got)
	}
}

// TestNothingIsLeft: after clients have left in every way, and pgpoold has
// ended, no goroutine and no server connection is left.
func TestNothingIsLeft(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (a int)")
	before := goleak.IgnoreCurrent()
	p := harness.Start(t, harness.Options{DSN: c.SuperDSN(db), Size: 40, Lucky: true})
	for i := range 60 {
		s := login(t, p.Addr(), "app", db)
		switch i % 6 {
		case 0:
			s.must("select 1")
		case 1:
			s.must("begin")
		case 2:
			s.send(sql("select pg_sleep(300)"))
		case 3:
			s.must("create temp table mine (a int)")
		case 4:
			s.send(sql("select repeat('x', 1000) from generate_series(1, 100000)"))
		}
		switch i % 4 {
		case 0:
			s.vanish()
		case 1:
			s.reset()
		case 2:
			s.send(&pgproto3.Terminate{})
			s.vanish()
		case 3: // pgpoold ends it
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.Server().Shutdown(ctx)
	p.Close()
	opts := append(postgres.LeakOptions(), before)
	goleak.VerifyNone(t, opts...)
	eventually(t, func() string {
		return value(t, c, "postgres", "select state || query from pg_stat_activity where datname = '"+db+"' and query not like '%pg_sleep%'")
	})
	value(t, c, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+db+"'")
}

// TestHalfSentMessage: a server that has read half of a message is nobody
// else's until the rest has come, also where its transaction is over.
func TestHalfSentMessage(t *testing.T) {
	p, _, db := start(t, 1, "create table t (a int)")
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	a.send(sql("copy t from stdin"))
	a.until('G')
	data := encode(t, &pgproto3.CopyData{Data: []byte("1\n2\n3\n")})
	if _, err := a.nc.Write(append(encode(t, &pgproto3.CopyData{Data: []byte("bad\n")}), data[:7]...)); err != nil {
		t.Fatal(err)
	}
	if r := a.read(); r.code() != "22P02" {
		t.Fatalf("the COPY got %s", r)
	}
	b.send(sql("select 'whole'"))
	waiting(t, p, 1)
	if _, err := a.nc.Write(data[7:]); err != nil {
		t.Fatal(err)
	}
	if r := b.read(); r.cell() != "whole" {
		t.Errorf("who waited got %s", r)
	}
	a.must("select 1")
}
