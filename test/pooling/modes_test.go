package pooling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// poolYAML is one database with the pool section given.
func poolYAML(c *postgres.Cluster, db, pool, more string) string {
	return fmt.Sprintf("pool: {%s}\ndatabases: {%q: {dsn: %q}}\n%s", pool, db, c.SuperDSN(db), more)
}

// TestSessionMode: a session has its server, and all state on it, until it
// leaves; the next one gets the server without that state.
func TestSessionMode(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, poolYAML(c, db, "size: 1, mode: session", ""))
	var pid, clean string
	for i, leave := range []func(*peer){
		func(c *peer) { c.send(&pgproto3.Terminate{}) }, (*peer).vanish, (*peer).reset,
		func(c *peer) { c.query("begin"); c.vanish() },
		func(c *peer) { c.send(sql("select pg_sleep(300)")); c.vanish() },
	} {
		s := login(t, p.Addr(), "app", db)
		got := s.must("select pg_backend_pid()").cell()
		if pid == "" {
			pid, clean = got, s.state()
		}
		if got != pid {
			t.Errorf("session %d: the server was not reused", i)
			pid = got
		}
		if got := s.state(); got != clean {
			t.Errorf("session %d finds\n%s\nwant\n%s", i, got, clean)
		}
		for _, q := range []string{"set work_mem = '5MB'", "set timezone = 'Asia/Tokyo'", "create temp table mine as select 42 as a",
			"prepare mine as select 42", "declare mine cursor with hold for select 42", "listen mine", "select pg_advisory_lock(7)", "set role pg_monitor", "reset role"} {
			s.must(q)
		}
		s.send(parse("named", "select 43"), &pgproto3.Sync{})
		s.read()
		for _, q := range []string{"select a from mine", "execute mine"} {
			if got := s.must(q).cell(); got != "42" {
				t.Errorf("%s: %s", q, got)
			}
		}
		if got := s.show("work_mem") + s.show("timezone"); got != "5MBAsia/Tokyo" {
			t.Errorf("settings are %s", got)
		}
		leave(s)
		clients(t, p, 0)
		resting(t, p, c, db)
	}
}

// TestSessionModeKeepsItsServer: others wait for as long as it lives.
func TestSessionModeKeepsItsServer(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, poolYAML(c, db, "size: 1, mode: session", ""))
	first := login(t, p.Addr(), "app", db)
	first.must("select 1")
	second := login(t, p.Addr(), "app", db)
	second.send(sql("select 2"))
	waiting(t, p, 1)
	first.must("select 1")
	first.send(&pgproto3.Terminate{})
	if r := second.read(); r.cell() != "2" {
		t.Errorf("got %s", r)
	}
}

// TestStatementMode: no transaction blocks.
func TestStatementMode(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (a int)")
	p := startYAML(t, poolYAML(c, db, "size: 1, mode: statement", ""))
	for name, begin := range map[string][]pgproto3.FrontendMessage{
		"Query":    {sql("begin")},
		"batch":    append(batch("begin"), &pgproto3.Sync{}),
		"in a row": {sql("insert into t values (1); begin; insert into t values (2)")},
	} {
		s := login(t, p.Addr(), "app", db)
		s.must("select 1")
		s.send(begin...)
		r := s.read()
		for r.err == nil && r.status != 0 {
			r = s.read()
		}
		if r.code() != "08P01" || r.err.Severity != "FATAL" || !strings.Contains(r.err.Message, "statement pooling mode") {
			t.Errorf("%s: got %s", name, r)
		}
		clients(t, p, 0)
		resting(t, p, c, db)
	}
	if n := value(t, c, db, "select count(*) from t where a = 2"); n != "0" {
		t.Errorf("%s rows of a refused transaction", n)
	}
	s := login(t, p.Addr(), "app", db)
	s.must("insert into t values (3); insert into t values (4)") // one implicit transaction
	s.send(append(batch("insert into t values (5)"), &pgproto3.Sync{})...)
	if r := s.read(); r.code() != "" {
		t.Error(r)
	}
	if got := value(t, c, db, "select count(*) from t where a > 2"); got != "3" {
		t.Errorf("%s rows", got)
	}
}

// TestNearestWins: user, database, pool, in this order.
func TestNearestWins(t *testing.T) {
	c := postgres.ForTest(t)
	plain, sessions := newDB(t, c), newDB(t, c)
	p := startYAML(t, fmt.Sprintf(`
pool: {size: 1}
users:
  report: {mode: session, size: 3}
  quick: {mode: transaction}
databases:
  %q: {dsn: %q}
  %q: {dsn: %q, mode: session, size: 2}
`, plain, c.SuperDSN(plain), sessions, c.SuperDSN(sessions)))
	keeps := func(user, db string) bool {
		t.Helper()
		s := login(t, p.Addr(), user, db)
		s.must("select 1")
		cl, _ := clientOf(p, s.pid)
		s.send(&pgproto3.Terminate{})
		eventually(t, func() string {
			if _, ok := clientOf(p, s.pid); ok {
				return "the client is still there"
			}
			return ""
		})
		resting(t, p, c, db)
		return cl.ServerID != 0
	}
	for _, test := range []struct {
		user, db string
		keeps    bool
	}{{"app", plain, false}, {"report", plain, true}, {"app", sessions, true}, {"report", sessions, true}, {"quick", sessions, false}} {
		if got := keeps(test.user, test.db); got != test.keeps {
			t.Errorf("%s in %s keeps its server: %v", test.user, test.db, got)
		}
	}
	// Sizes: as many as may be busy at once.
	for _, test := range []struct {
		user, db string
		size     int
	}{{"app", plain, 1}, {"report", plain, 3}, {"app", sessions, 2}} {
		var all []*peer
		for range test.size + 1 {
			s := login(t, p.Addr(), test.user, test.db)
			s.send(sql("begin"))
			all = append(all, s)
		}
		waiting(t, p, 1)
		for _, s := range all {
			s.vanish()
		}
		clients(t, p, 0)
		resting(t, p, c, test.db)
	}
}

// TestDatabases: "*", names that PostgreSQL or pgpoold does not know, and who
// may enter.
func TestDatabases(t *testing.T) {
	c := postgres.ForTest(t)
	one, two := newDB(t, c), newDB(t, c)
	star := startYAML(t, fmt.Sprintf("databases: {\"*\": {dsn: %q}, alias: {dsn: %q}}\n", strings.Replace(c.SuperDSN(""), "/?", "?", 1), c.SuperDSN(one)))
	for asked, want := range map[string]string{one: one, two: two, "alias": one} {
		if got := login(t, star.Addr(), "app", asked).must("select current_database()").cell(); got != want {
			t.Errorf("%s leads to %s, want %s", asked, got, want)
		}
	}
	if _, r := tryLogin(t, star.Addr(), "app", "nowhere"); r.code() != "3D000" || r.err.Severity != "FATAL" {
		t.Errorf("a database that PostgreSQL does not know: %s", r)
	}
	some := startYAML(t, fmt.Sprintf("auth: {type: scram-sha-256, users: {app: a, guest: g}}\ndatabases: {%q: {dsn: %q, users: [app]}}\n", one, c.SuperDSN(one)))
	dsn := func(user, db string) string { return some.DSN(user, db) }
	if got := loginCode(t, dsn("app:a", one)); got != "" {
		t.Errorf("app: %s", got)
	}
	for user, want := range map[string]string{"guest:g": "28000", "guest:wrong": "28P01", "app:wrong": "28P01", "nobody:wrong": "28P01"} {
		if got := loginCode(t, dsn(user, one)); got != want {
			t.Errorf("%s: %s, want %s", user, got, want)
		}
	}
	if got := loginCode(t, dsn("app:a", two)); got != "3D000" {
		t.Errorf("a database that pgpoold does not know: %s", got)
	}
	if got := loginCode(t, dsn("app:wrong", two)); got != "28P01" {
		t.Errorf("names of databases can be probed without a password: %s", got)
	}
}

// TestMaxClientConn: the one too many gets 53300, and a place when one leaves.
func TestMaxClientConn(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, fmt.Sprintf("listen: {max_client_conn: 3}\ndatabases: {%q: {dsn: %q}}\n", db, c.SuperDSN(db)))
	var all []*peer
	for range 3 {
		all = append(all, login(t, p.Addr(), "app", db))
	}
	for range 2 {
		if _, r := tryLogin(t, p.Addr(), "app", db); r.code() != "53300" || r.err.Severity != "FATAL" || !strings.Contains(r.err.Message, "max_client_conn") {
			t.Errorf("got %s", r)
		}
	}
	// A cancel still comes through.
	all[0].send(sql("select pg_sleep(300)"))
	running(t, c, db, "pg_sleep")
	if err := cancelRequest(p.Addr(), all[0].pid, all[0].key); err != nil {
		t.Fatal(err)
	}
	if r := all[0].read(); r.code() != "57014" {
		t.Errorf("got %s", r)
	}
	all[1].vanish()
	clients(t, p, 2)
	login(t, p.Addr(), "app", db).must("select 1")
}
