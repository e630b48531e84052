package pooling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestSettingsFollow: what PostgreSQL reports follows the client from server
// to server, and nobody else.
func TestSettingsFollow(t *testing.T) {
	fn := `create function set_zone(text) returns void language plpgsql as $$ begin perform set_config('TimeZone', $1, false); end $$;
		create function set_style() returns void language sql as $$ set datestyle = 'SQL, DMY' $$`
	p, _, db := start(t, 3, fn)
	other := login(t, p.Addr(), "other", db)
	base := map[string]string{}
	names := []string{"TimeZone", "DateStyle", "IntervalStyle", "client_encoding", "application_name", "standard_conforming_strings", "default_transaction_read_only"}
	for _, n := range names {
		base[n] = other.show(n)
	}
	for _, test := range []struct {
		name string
		do   []string
		want map[string]string // what differs from the base afterwards
	}{
		{"SET", []string{"set timezone = 'Asia/Tokyo'"}, map[string]string{"TimeZone": "Asia/Tokyo"}},
		{"SET SESSION", []string{"set session datestyle = 'German'"}, map[string]string{"DateStyle": "German, DMY"}},
		{"SET TIME ZONE", []string{"set time zone -3"}, map[string]string{"TimeZone": "<-03>+03"}},
		{"SET TIME ZONE INTERVAL", []string{"set time zone interval '+05:30' hour to minute"}, map[string]string{"TimeZone": "<+05:30>-05:30"}},
		{"SET NAMES", []string{"set names 'latin1'"}, map[string]string{"client_encoding": "LATIN1"}},
		{"many in one Query", []string{"set timezone = 'UTC'; set datestyle = 'SQL'; set application_name = 'it''s \\ me'; set intervalstyle = iso_8601"},
			map[string]string{"TimeZone": "UTC", "DateStyle": "SQL, MDY", "application_name": `it's \ me`, "IntervalStyle": "iso_8601"}},
		{"backslashes", []string{"set standard_conforming_strings = off", `set application_name = 'a\\b'`},
			map[string]string{"standard_conforming_strings": "off", "application_name": `a\b`}},
		{"committed", []string{"begin", "set timezone = 'Asia/Tokyo'", "commit"}, map[string]string{"TimeZone": "Asia/Tokyo"}},
		{"rolled back", []string{"begin", "set timezone = 'Asia/Tokyo'", "rollback"}, nil},
		{"rolled back to a value", []string{"set timezone = 'UTC'", "begin", "set timezone = 'Asia/Tokyo'", "rollback"}, map[string]string{"TimeZone": "UTC"}},
		{"savepoint", []string{"begin", "set timezone = 'UTC'", "savepoint a", "set timezone = 'Asia/Tokyo'", "rollback to a", "commit"}, map[string]string{"TimeZone": "UTC"}},
		{"SET LOCAL", []string{"begin", "set local timezone = 'Asia/Tokyo'", "commit"}, nil},
		{"failed transaction", []string{"begin", "set timezone = 'Asia/Tokyo'", "select 1/0", "commit"}, nil},
		{"RESET", []string{"set timezone = 'Asia/Tokyo'", "reset timezone"}, nil},
		{"SET TO DEFAULT", []string{"set timezone = 'Asia/Tokyo'", "set timezone to default"}, nil},
		{"RESET ALL", []string{"set timezone = 'Asia/Tokyo'", "set datestyle = 'German'", "reset all"}, nil},
		{"DISCARD ALL", []string{"set timezone = 'Asia/Tokyo'", "discard all"}, nil},
		{"read only", []string{"set default_transaction_read_only = on"}, map[string]string{"default_transaction_read_only": "on"}},
		{"in a function", []string{"select set_style()"}, map[string]string{"DateStyle": "SQL, DMY"}},
		{"with set_config", []string{"select set_zone('Europe/Rome')"}, map[string]string{"TimeZone": "Europe/Rome"}},
		{"cleared name", []string{"set application_name = 'a'", "set application_name = ''"}, map[string]string{"application_name": ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := login(t, p.Addr(), "app", db)
			told := map[string]string{}
			for n, v := range c.params {
				told[n] = v
			}
			for _, q := range test.do {
				for n, v := range c.query(q).params {
					told[n] = v
				}
			}
			for round := range 6 { // on each of the servers
				for _, n := range names {
					want := base[n]
					if v, ok := test.want[n]; ok {
						want = v
					}
					r := c.query("show " + n)
					if got := r.cell(); got != want {
						t.Errorf("round %d: %s is %q, want %q", round, n, got, want)
					}
					for name, v := range r.params {
						t.Errorf("told %s = %q once more", name, v)
					}
					if told[n] != want {
						t.Errorf("told that %s is %q, want %q", n, told[n], want)
					}
				}
			}
			for _, n := range names {
				r := other.query("show " + n)
				if got := r.cell(); got != base[n] {
					t.Errorf("another client's %s is %q", n, got)
				}
				for name, v := range r.params {
					t.Errorf("another client was told %s = %q", name, v)
				}
			}
			c.send(&pgproto3.Terminate{})
		})
	}
	p.RequireSwitched(t)
}

// TestExtendedSet: the same by the extended protocol, pipelined.
func TestExtendedSet(t *testing.T) {
	p, _, db := start(t, 2)
	c := login(t, p.Addr(), "app", db)
	var m []pgproto3.FrontendMessage
	m = append(append(m, batch("set timezone = 'Asia/Tokyo'")...), &pgproto3.Sync{})
	m = append(append(m, batch("show timezone")...), &pgproto3.Sync{})
	m = append(append(m, batch("set datestyle = 'German'")...), &pgproto3.Sync{})
	m = append(append(m, batch("select current_setting('timezone') || current_setting('datestyle')")...), &pgproto3.Sync{})
	c.send(m...)
	var got []string
	for range 4 {
		for _, row := range c.read().rows {
			got = append(got, row[0])
		}
	}
	if s := strings.Join(got, " "); s != "Asia/Tokyo Asia/TokyoGerman, DMY" {
		t.Errorf("got %s", s)
	}
	for range 4 {
		if got := c.show("timezone") + c.show("datestyle"); got != "Asia/TokyoGerman, DMY" {
			t.Errorf("later %s", got)
		}
	}
}

// state is all that one session could leave to the next.
const state = `select 'set ' || name || '=' || setting from pg_settings where setting is distinct from reset_val
	union all select 'user ' || session_user || ' ' || current_user
	union all select 'app ' || coalesce(nullif(current_setting('app.tenant', true), ''), '')
	union all select 'prepared ' || name from pg_prepared_statements where name not like 'pgpoold%'
	union all select 'cursor ' || name from pg_cursors where is_holdable
	union all select 'listen ' || c from pg_listening_channels() c
	union all select 'lock ' || objid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
	union all select 'temp ' || relname from pg_class where relnamespace = pg_my_temp_schema()
	order by 1`

func (c *peer) state() string {
	c.t.Helper()
	var s []string
	for _, row := range c.must(state).rows {
		s = append(s, row[0])
	}
	return strings.Join(s, "; ")
}

// untracked is what makes state that PostgreSQL does not report.
var untracked = []struct{ name, do, ask, want, pin string }{
	{"SET", "set work_mem = '5MB'", "show work_mem", "5MB", ""},
	{"SET search_path", "set search_path = pg_catalog", "show search_path", "pg_catalog", ""},
	{"SET SESSION", "set session work_mem = '5MB'", "show work_mem", "5MB", ""},
	{"quoted SET", `set "work_mem" = '5MB'`, "show work_mem", "5MB", ""},
	{"comment in SET", "/* a */ set /* b */ -- c\n work_mem to '5MB'", "show work_mem", "5MB", ""},
	{"second statement", "select 1; set work_mem = '5MB'", "show work_mem", "5MB", ""},
	{"custom setting", "set app.tenant = 'seven'", "show app.tenant", "seven", ""},
	{"set_config", "select set_config('app.tenant', 'seven', false)", "show app.tenant", "seven", ""},
	{"qualified set_config", "select pg_catalog.set_config('work_mem', '5MB', false)", "show work_mem", "5MB", ""},
	{"quoted set_config", `select "set_config"('work_mem', '5MB', false)`, "show work_mem", "5MB", ""},
	{"set_config by a comment", "select set_config/**/('work_mem', '5MB', false)", "show work_mem", "5MB", ""},
	{"set_config with true in text", "select set_config('app.tenant', 'x, true)', false)", "show app.tenant", "x, true)", ""},
	{"SET ROLE", "set role pg_monitor", "select current_user", "pg_monitor", ""},
	{"SET SESSION AUTHORIZATION", "set session authorization pg_monitor", "select session_user", "pg_monitor", ""},
	{"SESSION CHARACTERISTICS", "set session characteristics as transaction isolation level serializable", "show default_transaction_isolation", "serializable", ""},
	{"DO", "do $$ begin set work_mem = '5MB'; end $$", "show work_mem", "5MB", ""},
	{"DO with EXECUTE", "do $$ begin execute 'set work_mem = ''5MB'''; end $$", "show work_mem", "5MB", ""},
	{"DO with set_config", "do 'begin perform set_config(''work_mem'', ''5MB'', false); end'", "show work_mem", "5MB", ""},
	{"WITH HOLD", "declare mine cursor with hold for select 42", "fetch mine", "42", "hold_cursor"},
	{"CREATE TEMP", "create temp table mine as select 42 as a", "select a from mine", "42", "temp"},
	{"CREATE TEMPORARY VIEW", "create or replace temporary view mine as select 42 as a", "select a from mine", "42", "temp"},
	{"SELECT INTO TEMP", "select 42 as a into temp mine", "select a from mine", "42", "temp"},
	{"pg_temp", "create table pg_temp.mine as select 42 as a", "select a from mine", "42", "temp"},
	{"LISTEN", "listen mine", "select pg_listening_channels()", "mine", "listen"},
	{"LOAD", "load 'auto_explain'", "show auto_explain.log_min_duration", "-1", "load"},
	{"advisory lock", "select pg_advisory_lock(7)", "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "1", "advisory_lock"},
	{"try advisory lock", "select pg_try_advisory_lock_shared(7)", "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "1", "advisory_lock"},
	{"in a transaction", "begin; set work_mem = '5MB'; commit", "show work_mem", "5MB", ""},
}

// TestUntracked: what PostgreSQL does not report follows the client, or holds
// its server, and nobody else sees it, however the client leaves. A server is
// closed only for what cannot be undone.
func TestUntracked(t *testing.T) {
	leave := []struct {
		how string
		do  func(*peer)
	}{
		{"Terminate", func(c *peer) { c.send(&pgproto3.Terminate{}) }},
		{"FIN", (*peer).vanish},
		{"RST", (*peer).reset},
	}
	for _, extended := range []bool{false, true} {
		t.Run(fmt.Sprintf("extended=%v", extended), func(t *testing.T) {
			t.Parallel()
			c := postgres.ForTest(t)
			db := newDB(t, c)
			p := startYAML(t, fmt.Sprintf("pool: {size: 2, round_robin: true}\ndatabases: {%q: {dsn: %q}}\n", db, c.SuperDSN(db)))
			other := login(t, p.Addr(), "other", db)
			clean := other.state()
			for i, test := range untracked {
				if extended && strings.Contains(test.do, ";") && !strings.HasPrefix(test.do, "do ") {
					continue // one statement only
				}
				leave := leave[i%len(leave)]
				closed := closes(p, "pin")
				s := login(t, p.Addr(), "app", db)
				if extended {
					s.send(append(batch(test.do), &pgproto3.Sync{})...)
					if r := s.read(); r.code() != "" {
						t.Fatalf("%s: %s", test.do, r)
					}
				} else {
					s.must(test.do)
				}
				for range 3 {
					if got := s.must(test.ask).cell(); got != test.want {
						t.Errorf("%s: %s gives %q, want %q", test.name, test.ask, got, test.want)
					}
					if got := other.state(); got != clean {
						t.Errorf("%s: another client's state is\n%s\nwant\n%s", test.name, got, clean)
					}
					if strings.HasPrefix(test.ask, "fetch") {
						break
					}
				}
				if cl, _ := clientOf(p, s.pid); cl.Pin != test.pin {
					t.Errorf("%s: pin is %q, want %q", test.name, cl.Pin, test.pin)
				}
				want := closed
				switch test.pin {
				case "load", "untracked":
					want++
				}
				leave.do(s)
				clients(t, p, 1)
				eventually(t, func() string {
					if n := closes(p, "pin"); n != want {
						return fmt.Sprintf("%s, %s: %d servers were closed for the pin, want %d", test.name, leave.how, n-closed, want-closed)
					}
					return ""
				})
				for range 4 {
					if got := other.state(); got != clean {
						t.Errorf("%s, %s: left to the next client\n%s\nwant\n%s", test.name, leave.how, got, clean)
					}
				}
			}
		})
	}
}

// TestLeavingWithState: a client that vanishes before its transaction, or its
// query, has ended leaves no state on the one server.
func TestLeavingWithState(t *testing.T) {
	for how, leave := range map[string]func(c *peer, do string){
		"in a transaction":        func(c *peer, do string) { c.query("begin"); c.query(do); c.vanish() },
		"in a failed transaction": func(c *peer, do string) { c.query("begin"); c.query(do); c.query("select 1/0"); c.vanish() },
		"not answered":            func(c *peer, do string) { c.send(sql(do)); c.vanish() },
		"goodbye, not answered":   func(c *peer, do string) { c.send(sql(do), &pgproto3.Terminate{}); c.vanish() },
		"batch, not answered":     func(c *peer, do string) { c.send(append(batch(do), &pgproto3.Sync{})...); c.vanish() },
		"batch, goodbye": func(c *peer, do string) {
			c.send(append(batch(do), &pgproto3.Sync{}, &pgproto3.Terminate{})...)
			c.vanish()
		},
		"batch, not ended": func(c *peer, do string) {
			c.send(append(batch(do), &pgproto3.Flush{})...)
			c.until('C')
			c.vanish()
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p, c, db := start(t, 1)
			next := login(t, p.Addr(), "app", db)
			clean := next.state()
			for _, test := range untracked {
				s := login(t, p.Addr(), "app", db)
				leave(s, test.do)
				clients(t, p, 1)
				resting(t, p, c, db)
				if got := next.state(); got != clean {
					t.Errorf("%s: left\n%s\nwant\n%s", test.name, got, clean)
				}
			}
		})
	}
}

// TestLeavingWithSettings is the same for settings that are carried: the label
// of the server must say what is in force.
func TestLeavingWithSettings(t *testing.T) {
	do := "set timezone = 'Asia/Tokyo'"
	for how, leave := range map[string]func(*peer){
		"answered":              func(c *peer) { c.must(do); c.vanish() },
		"not answered":          func(c *peer) { c.send(sql(do)); c.vanish() },
		"goodbye, not answered": func(c *peer) { c.send(sql(do), &pgproto3.Terminate{}); c.vanish() },
		"batch, goodbye":        func(c *peer) { c.send(append(batch(do), &pgproto3.Sync{}, &pgproto3.Terminate{})...); c.vanish() },
		"in a transaction":      func(c *peer) { c.must("begin"); c.must(do); c.vanish() },
		"transaction, goodbye":  func(c *peer) { c.send(sql("begin"), sql(do), sql("commit"), &pgproto3.Terminate{}); c.vanish() },
		"reset, goodbye":        func(c *peer) { c.must(do); c.send(sql("reset all"), &pgproto3.Terminate{}); c.vanish() },
		"batch, not ended":      func(c *peer) { c.send(append(batch(do), &pgproto3.Flush{})...); c.until('C'); c.vanish() },
		"batch, no Flush":       func(c *peer) { c.send(batch(do)...); c.vanish() },
		"local in a function": func(c *peer) {
			c.send(sql("do 'begin perform set_config(''timezone'', ''Asia/Tokyo'', true); end'"))
			c.vanish()
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p, c, db := start(t, 1)
			first := login(t, p.Addr(), "app", db)
			clean := first.state()
			first.send(&pgproto3.Terminate{})
			clients(t, p, 0)
			for range 5 {
				s := login(t, p.Addr(), "app", db)
				leave(s)
				clients(t, p, 0)
				resting(t, p, c, db)
				next := login(t, p.Addr(), "app", db)
				if got := next.state(); got != clean {
					t.Errorf("left\n%s\nwant\n%s", got, clean)
				}
				// One who wants the same zone must get it, too.
				if got := next.must("set timezone = 'Asia/Tokyo'"); got.params["TimeZone"] != "Asia/Tokyo" && next.params["TimeZone"] != "Asia/Tokyo" {
					t.Errorf("not told of its own zone: %s", got)
				}
				if got := next.show("timezone"); got != "Asia/Tokyo" {
					t.Errorf("a client's own zone is %s", got)
				}
				next.send(&pgproto3.Terminate{})
				clients(t, p, 0)
			}
		})
	}
}

// TestNothingPins: what ends with the transaction, or is text only, keeps no
// server.
func TestNothingPins(t *testing.T) {
	p, _, db := start(t, 2, "create table t (a int); create sequence s")
	c := login(t, p.Addr(), "app", db)
	for _, q := range []string{
		"select 'set work_mem = 1'", "select 1 -- set work_mem = '5MB'", "select $$ listen a $$", `select 1 as "listen a"`,
		"begin; set local work_mem = '5MB'; commit", "select set_config('work_mem', '5MB', true)", "select pg_advisory_xact_lock(1)",
		"begin; declare c cursor for select 1; commit", "update t set a = 1", "begin; savepoint set_a; commit", "notify a", "unlisten *",
		"select nextval('s')", "set transaction isolation level serializable", "begin; select lo_open(lo_create(0), 131072); commit", "explain select 1", "set timezone = 'UTC'",
	} {
		c.must(q)
		if cl, _ := clientOf(p, c.pid); cl.Pin != "" {
			t.Fatalf("%s pins: %s", q, cl.Pin)
		}
	}
	p.RequireSwitched(t)
}

// TestPinnedServerDies: a session that had state on its server ends with it.
func TestPinnedServerDies(t *testing.T) {
	p, c, db := start(t, 2)
	s := login(t, p.Addr(), "app", db)
	s.must("create temp table mine (a int)")
	pid := s.must("select pg_backend_pid()").cell()
	value(t, c, "postgres", "select pg_terminate_backend("+pid+")")
	r := s.read() // nothing was asked
	if r.code() != "57P01" || r.err.Severity != "FATAL" || r.status != 0 {
		t.Errorf("got %s", r)
	}
}
