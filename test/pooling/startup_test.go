package pooling_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestStartupParameters hold for the client that sent them, on every server,
// and for nobody else.
func TestStartupParameters(t *testing.T) {
	p, _, db := start(t, 3, "create schema other; create table other.t as select 'other' as a; create table public.t as select 'public' as a")
	plain := login(t, p.Addr(), "plain", db)
	base := map[string]string{}
	ask := []string{"search_path", "statement_timeout", "extra_float_digits", "client_encoding", "application_name", "TimeZone", "DateStyle", "work_mem",
		"app.tenant", "lock_timeout", "geqo", "IntervalStyle", "default_transaction_isolation", "role"}
	get := func(c *peer, name string) string {
		t.Helper()
		return c.must("select coalesce(nullif(current_setting('" + name + "', true), ''), '-')").cell()
	}
	for _, name := range ask {
		base[name] = get(plain, name)
	}
	for _, test := range []struct {
		name   string
		params []string
		want   map[string]string
	}{
		{"search_path", []string{"search_path", "other, pg_catalog"}, map[string]string{"search_path": "other, pg_catalog"}},
		{"quoted search_path", []string{"search_path", `"$user", other`}, map[string]string{"search_path": `"$user", other`}},
		{"timeout", []string{"statement_timeout", "7s"}, map[string]string{"statement_timeout": "7s"}},
		{"asyncpg and JDBC", []string{"client_encoding", "'utf-8'", "extra_float_digits", "2", "DateStyle", "ISO", "TimeZone", "Asia/Tokyo", "application_name", "PostgreSQL JDBC Driver"},
			map[string]string{"extra_float_digits": "2", "client_encoding": "UTF8", "TimeZone": "Asia/Tokyo", "application_name": "PostgreSQL JDBC Driver"}},
		{"encoding", []string{"client_encoding", "latin1"}, map[string]string{"client_encoding": "LATIN1"}},
		{"options -c", []string{"options", "-c work_mem=5MB -c geqo=off"}, map[string]string{"work_mem": "5MB", "geqo": "off"}},
		{"options -cname", []string{"options", "-cwork_mem=5MB"}, map[string]string{"work_mem": "5MB"}},
		{"options --name", []string{"options", "--work-mem=5MB --lock_timeout=3s"}, map[string]string{"work_mem": "5MB", "lock_timeout": "3s"}},
		{"options escaped", []string{"options", `-c search_path=other,\ pg_catalog -c application_name=a\\b\ c`}, map[string]string{"search_path": "other, pg_catalog", "application_name": `a\b c`}},
		{"custom", []string{"options", "-c app.tenant=seven"}, map[string]string{"app.tenant": "seven"}},
		{"isolation", []string{"default_transaction_isolation", "serializable"}, map[string]string{"default_transaction_isolation": "serializable"}},
		{"role", []string{"role", "pg_monitor"}, map[string]string{"role": "pg_monitor"}},
		{"quotes", []string{"application_name", `it's "me" \ $1`}, map[string]string{"application_name": `it's "me" \ $1`}},
		{"not ASCII", []string{"application_name", "na\u00efve"}, nil},
		{"long name", []string{"application_name", strings.Repeat("x", 100)}, map[string]string{"application_name": strings.Repeat("x", 63)}},
		{"twice", []string{"TimeZone", "Asia/Tokyo", "timezone", "Europe/Rome"}, map[string]string{"TimeZone": "Europe/Rome"}},
		{"twice, the other way round", []string{"timezone", "Europe/Rome", "TimeZone", "Asia/Tokyo"}, map[string]string{"TimeZone": "Asia/Tokyo"}},
		{"three application_names", []string{"application_name", "a", "APPLICATION_NAME", "b", "Application_Name", "c"}, map[string]string{"application_name": "c"}},
		{"a long application_name behind another", []string{"application_name", "a", "application_name", strings.Repeat("x", 100)},
			map[string]string{"application_name": strings.Repeat("x", 63)}},
		{"an empty application_name behind a long one", []string{"application_name", strings.Repeat("x", 100), "application_name", ""}, map[string]string{"application_name": "-"}},
		{"three times", []string{"TimeZone", "Asia/Tokyo", "timezone", "Europe/Rome", "TIMEZONE", "Asia/Tokyo", "timezone", "Europe/Paris"},
			map[string]string{"TimeZone": "Europe/Paris"}},
		{"behind options", []string{"work_mem", "6MB", "options", "-c work_mem=5MB"}, map[string]string{"work_mem": "6MB"}},
		{"two databases", []string{"database", "no_such_database", "database", db}, nil},
		{"case", []string{"TIMEZONE", "Asia/Tokyo"}, map[string]string{"TimeZone": "Asia/Tokyo"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := login(t, p.Addr(), "app", db, test.params...)
			if test.name == "not ASCII" {
				test.want = map[string]string{"application_name": c.params["application_name"]} // as PostgreSQL spells it
			}
			if c.params["application_name"] != map[bool]string{true: test.want["application_name"]}[test.want["application_name"] != "-"] {
				t.Errorf("told application_name %q", c.params["application_name"])
			}
			for range 4 {
				for _, name := range ask {
					want, ok := test.want[name]
					if !ok {
						want = base[name]
					}
					if got := get(c, name); got != want {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
				for _, name := range ask {
					if got := get(plain, name); got != base[name] {
						t.Errorf("another client's %s is %q", name, got)
					}
				}
			}
			if strings.Contains(test.want["search_path"], "other, pg") {
				if got := c.must("select a from t").cell(); got != "other" {
					t.Errorf("reads the table in %s", got)
				}
			}
			// RESET goes back to the startup values.
			c.must("set timezone = 'Europe/Rome'")
			c.must("reset timezone")
			if want := test.want["TimeZone"]; want != "" && c.show("timezone") != want {
				t.Errorf("RESET goes to %s, want %s", c.show("timezone"), want)
			}
			if cl, _ := clientOf(p, c.pid); cl.Pin != "" {
				t.Errorf("it is pinned: %s", cl.Pin)
			}
			c.send(&pgproto3.Terminate{})
		})
	}
	p.RequireSwitched(t)
}

// TestStartupRefused: what PostgreSQL would refuse at login is refused at
// login, as PostgreSQL does.
func TestStartupRefused(t *testing.T) {
	p, c, db := start(t, 1)
	login(t, p.Addr(), "app", db).vanish()
	before := len(backends(p, db))
	for _, test := range []struct {
		params       []string
		code, says   string
		notDirect    bool // PostgreSQL takes it where pgpoold cannot
		directlySays string
	}{
		{params: []string{"statement_timeout", "soon"}, code: "22023", says: "statement_timeout"},
		{params: []string{"timezone", "Mars/Olympus"}, code: "22023", says: "Mars/Olympus"},
		{params: []string{"no_such_setting", "1"}, code: "42704", says: "no_such_setting"},
		{params: []string{"options", "-c no_such_setting=1"}, code: "42704", says: "no_such_setting"},
		{params: []string{"client_encoding", "klingon"}, code: "22023", says: "klingon"},
		{params: []string{"max_connections", "7"}, code: "55P02", says: "max_connections"},
		{params: []string{"server_version", "7"}, code: "55P02", says: "server_version"},
		{params: []string{"timezone", "Mars/Olympus", "timezone", "UTC"}, code: "22023", says: "Mars/Olympus"},
		{params: []string{"timezone", "Mars/Olympus", "TimeZone", "Asia/Tokyo", "timezone", "UTC"}, code: "22023", says: "Mars/Olympus"},
		{params: []string{"timezone", "UTC", "TimeZone", "Mars/Olympus", "work_mem", "many", "work_mem", "5MB", "timezone", "UTC"}, code: "22023", says: "invalid value for parameter"},
		{params: slices.Concat([]string{"work_mem", "1MB", "work_mem", "2MB", "work_mem", "3MB", "work_mem", "4MB", "work_mem", "5MB"},
			[]string{"work_mem", "6MB", "work_mem", "7MB", "work_mem", "8MB", "work_mem", "9MB", "work_mem", "10MB"}), code: "0A000", says: "work_mem", notDirect: true},
		{params: []string{"role", "no_such_role"}, code: "22023", says: "no_such_role"},
		{params: []string{"log_disconnections", "on"}, code: "0A000", says: "log_disconnections", notDirect: true},
		{params: []string{"jit_debugging_support", "on"}, code: "0A000", says: "jit_debugging_support", notDirect: true},
		{params: []string{"ignore_system_indexes", "on"}, code: "0A000", says: "ignore_system_indexes", notDirect: true},
		{params: []string{"options", "-e"}, code: "0A000", says: "options", notDirect: true},
	} {
		for range 2 {
			_, r := tryLogin(t, p.Addr(), "app", db, test.params...)
			if r.err == nil || r.err.Severity != "FATAL" || !strings.Contains(r.err.Message+r.err.Detail, test.says) || r.status != 0 {
				t.Errorf("%v: got %s", test.params, r)
				continue
			}
			want := test.code
			if !test.notDirect {
				_, direct := tryLogin(t, c.Addr(), postgres.Superuser, db, test.params...)
				if want = direct.code(); r.err.Message != direct.err.Message {
					t.Errorf("%v: %q, PostgreSQL says %q", test.params, r.err.Message, direct.err.Message)
				}
			}
			if want == "55P02" {
				want = "0A000" // pgpoold's code for what a running server does not take
			}
			if r.code() != want {
				t.Errorf("%v: got %s, want %s", test.params, r.code(), want)
			}
		}
	}
	clients(t, p, 0)
	login(t, p.Addr(), "app", db).must("select 1")
	if n := len(backends(p, db)); n > before {
		t.Errorf("%d servers instead of %d", n, before)
	}
	if n := closes(p, "server_error"); n > 0 {
		t.Errorf("%d servers died of a refused login", n)
	}
}

// TestKnownStartupCostsNothing: only the first login with a set of startup
// parameters asks a server.
func TestKnownStartupCostsNothing(t *testing.T) {
	c := postgres.StartForTest(t, postgres.Config{Settings: map[string]string{"log_statement": "all"}})
	p := startYAML(t, fmt.Sprintf("pool: {size: 1}\ndatabases: {postgres: {dsn: %q}}\n", c.SuperDSN("postgres")))
	logged := func() int {
		b, err := os.ReadFile(c.LogPath())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), "statement:")
	}
	sets := [][]string{nil, {"application_name", "a"}, {"search_path", "a"}, {"client_encoding", "utf-8"}, {"options", "-c work_mem=5MB"}}
	for _, set := range sets {
		login(t, p.Addr(), "app", "postgres", set...).vanish()
	}
	clients(t, p, 0)
	busy := login(t, p.Addr(), "app", "postgres")
	busy.must("begin") // no server is free now
	before := logged()
	for range 3 {
		for _, set := range sets {
			login(t, p.Addr(), "app", "postgres", set...).vanish()
		}
		login(t, p.Addr(), "app", "postgres", "application_name", "never seen").vanish()
	}
	clients(t, p, 1)
	if n := logged() - before; n != 0 {
		t.Errorf("%d statements", n)
	}
}

// TestReplayFails: settings that a server refuses when they are brought to it
// reach the client as the error that they raised; its query does not run under
// others.
func TestReplayFails(t *testing.T) {
	p, c, db := start(t, 2, "create role replayed login; create table t (who text); grant all on t to public")
	t.Cleanup(func() { _ = c.Exec(within(t), "postgres", "drop role if exists replayed") })
	client := login(t, p.Addr(), "app", db, "role", "replayed")
	other := login(t, p.Addr(), "other", db)
	client.must("insert into t values (current_user)")
	other.must("select 1")
	other.must("select 1") // no server has the role any more
	for _, q := range []string{"drop owned by replayed", "drop role replayed"} {
		value(t, c, db, q)
	}
	for name, msgs := range map[string][]pgproto3.FrontendMessage{
		"Query":          {sql("insert into t values (current_user)")},
		"batch":          append(batch("insert into t values (current_user)"), &pgproto3.Sync{}),
		"two in a batch": append(append(batch("insert into t values (current_user)"), batch("select 1")...), &pgproto3.Sync{}),
	} {
		other.must("select 1")
		other.must("select 1")
		client.send(msgs...)
		r := client.read()
		if r.code() != "22023" || r.err.Severity != "ERROR" || r.status != 'I' || r.types != "EZ" || !strings.Contains(r.err.Message, "replayed") {
			t.Errorf("%s: got %s", name, r)
		}
		if r := other.query("select current_user"); r.cell() != postgres.Superuser {
			t.Errorf("%s: another client got %s", name, r)
		}
	}
	// Two queries in one write: two errors.
	client.send(sql("insert into t values (1)"), sql("insert into t values (2)"))
	for range 2 {
		if r := client.read(); r.code() != "22023" || r.types != "EZ" {
			t.Errorf("pipelined: got %s", r)
		}
	}
	// A batch whose Sync comes later.
	client.send(append(batch("insert into t values (current_user)"), &pgproto3.Flush{})...)
	if r := client.until('E'); r.code() != "22023" {
		t.Errorf("without Sync: got %s", r)
	}
	client.send(&pgproto3.Sync{})
	if r := client.read(); r.types != "Z" {
		t.Errorf("its Sync: got %s", r)
	}
	if rows, err := c.Query(within(t), db, "select who from t"); err != nil || len(rows) != 1 {
		t.Errorf("the table holds %v, want the one row of before (%v)", rows, err)
	}
	if err := c.Exec(within(t), db, "create role replayed login; grant all on t to public"); err != nil {
		t.Fatal(err)
	}
	if got := client.must("select current_user").cell(); got != "replayed" {
		t.Errorf("with the role there again the client is %s", got)
	}
}

// TestReplayUnderTimeouts: what one client wishes for its own queries does not
// hit the replay for the next one (B9).
func TestReplayUnderTimeouts(t *testing.T) {
	p, _, db := start(t, 1)
	hasty := login(t, p.Addr(), "hasty", db, "statement_timeout", "1ms", "lock_timeout", "1ms")
	calm := login(t, p.Addr(), "calm", db, "application_name", "calm", "timezone", "Asia/Tokyo")
	for range 300 {
		hasty.query("select 1") // may well be cancelled
		if r := calm.query("show statement_timeout"); r.code() != "" || r.cell() != "0" {
			t.Fatalf("got %s", r)
		}
	}
}

// TestLeavingWhileStartupIsTried: a client that waits for a server to try its
// startup parameters, and leaves, gives up its place in the queue.
func TestLeavingWhileStartupIsTried(t *testing.T) {
	p, _, db := start(t, 1)
	a := login(t, p.Addr(), "app", db)
	a.must("begin") // has the only server
	nc, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c := newPeer(t, nc)
	c.send(&pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app", "database": db, "timezone": "Asia/Tokyo"}})
	queued := func() bool { return p.Server().Snapshot().Pools[0].MaxWait > 0 }
	eventually(t, func() string {
		if !queued() {
			return "nobody waits"
		}
		return ""
	})
	c.vanish()
	eventually(t, func() string {
		if queued() {
			return "it still waits"
		}
		return ""
	})
	a.must("end")
}
