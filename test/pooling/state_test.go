package pooling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// stateFunctions hide what they do from whoever reads only the query.
const stateFunctions = `create function app(text) returns text language sql as $$ select set_config('app.tenant', $1, false) $$;
	create schema evil; create function evil.current_setting(text) returns text language sql as $$ select 'forged' $$;
	create function evil.current_setting(text, boolean) returns text language sql as $$ select 'forged' $$;
	create function evil.forged(text, text) returns boolean language sql as $$ select false $$;
	create operator evil.= (leftarg = text, rightarg = text, function = evil.forged);
	create function evil.set_config(text, text, boolean) returns text language sql as $$ select 'forged' $$`

// both asks one question of PostgreSQL itself and through pgpoold.
type both struct{ direct, pooled *peer }

func loginBoth(t testing.TB, c *postgres.Cluster, pooler, db string, params ...string) both {
	t.Helper()
	return both{login(t, c.Addr(), postgres.Superuser, db, params...), login(t, pooler, postgres.Superuser, db, params...)}
}

// do runs the same on both sides, which must answer the same.
func (b both) do(sql string) {
	b.direct.t.Helper()
	want, got := b.direct.query(sql), b.pooled.query(sql)
	if got.String() != want.String() {
		b.direct.t.Errorf("%s gives %s, directly %s", sql, got, want)
	}
}

// TestStateFollows: a transaction leaves through pgpoold exactly what it
// leaves directly, on whichever server the session is next.
func TestStateFollows(t *testing.T) {
	p, c, db := start(t, 3, stateFunctions)
	ask := []string{"show work_mem", "show search_path", "select coalesce(current_setting('app.tenant', true), '')", "show statement_timeout",
		"show default_transaction_isolation", "select current_user, session_user", "show timezone", "show exit_on_error"}
	other := loginBoth(t, c, p.Addr(), db)
	for _, test := range []struct {
		name string
		do   []string
	}{
		{"plain", []string{"set work_mem = '5MB'"}},
		{"committed", []string{"begin", "set work_mem = '5MB'", "commit"}},
		{"rolled back", []string{"set work_mem = '5MB'", "begin", "set work_mem = '6MB'", "set app.tenant = 'a'", "rollback"}},
		{"savepoints", []string{"begin", "set work_mem = '5MB'", "savepoint a", "set work_mem = '6MB'", "savepoint b", "set app.tenant = 'x'", "rollback to a", "commit"}},
		{"released savepoint", []string{"begin", "savepoint a", "set work_mem = '6MB'", "release a", "commit"}},
		{"failed", []string{"begin", "set work_mem = '5MB'", "select 1/0", "commit"}},
		{"fails itself", []string{"set work_mem = '5MB'", "set work_mem = 'much'"}},
		{"string that fails behind it", []string{"set work_mem = '5MB'; select 1/0"}},
		{"string that commits first", []string{"begin; set work_mem = '5MB'; commit; select 1/0"}},
		{"LOCAL under SESSION", []string{"begin", "set work_mem = '5MB'", "set local work_mem = '6MB'", "commit"}},
		{"SESSION under LOCAL", []string{"begin", "set local work_mem = '6MB'", "set work_mem = '5MB'", "commit"}},
		{"list", []string{`set search_path = "$user", "a b", public, pg_catalog`}},
		{"empty list", []string{"set search_path = ''"}},
		{"reset one", []string{"set work_mem = '5MB'", "set search_path = pg_catalog", "reset work_mem"}},
		{"reset all", []string{"set work_mem = '5MB'", "set app.tenant = 'x'", "reset all"}},
		{"reset rolled back", []string{"set work_mem = '5MB'", "begin", "reset all", "rollback"}},
		{"discard all", []string{"set work_mem = '5MB'", "set role pg_monitor", "discard all"}},
		{"custom", []string{"set app.tenant = 'it''s \\ \" , 7'"}},
		{"custom, empty", []string{"set app.tenant = ''"}},
		{"custom, local", []string{"begin", "set local app.tenant = '7'", "commit"}},
		{"custom, local by set_config", []string{"select set_config('app.tenant', '7', true)"}},
		{"custom in DO", []string{"do $$ begin perform set_config('app.tenant', '7', false); end $$"}},
		{"custom by EXECUTE in DO", []string{"do $$ begin execute 'set app.tenant = ''7'''; end $$"}},
		{"custom, rolled back", []string{"begin", "set app.tenant = '7'", "rollback"}},
		{"no ASCII", []string{"set app.tenant = 'Grüße, 世界'"}},
		{"no ASCII in another encoding", []string{"set client_encoding = 'latin1'", "set app.tenant = 'stra\xdfe'"}},
		{"encoding behind the value", []string{"set app.tenant = 'straße'", "set client_encoding = 'latin1'"}},
		{"role", []string{"set role pg_monitor"}},
		{"role and a setting", []string{"set role pg_monitor", "set work_mem = '5MB'", "set role pg_read_all_data"}},
		{"role none", []string{"set role pg_monitor", "set role none"}},
		{"authorization", []string{"set session authorization pg_monitor", "set work_mem = '5MB'"}},
		{"authorization and back", []string{"set session authorization pg_monitor", "reset session authorization"}},
		{"superuser's setting behind a role", []string{"set log_min_messages = 'fatal'", "set role pg_monitor"}},
		{"characteristics", []string{"set session characteristics as transaction isolation level serializable, read only, deferrable"}},
		{"timeout", []string{"set statement_timeout = '1min'", "set lock_timeout = 70000"}},
		{"timeout of no round number", []string{"set statement_timeout = 61001"}},
		{"own exit_on_error", []string{"set exit_on_error = on"}},
		{"forged functions", []string{"set search_path = evil, pg_catalog", "set work_mem = '5MB'"}},
		{"no standard strings", []string{"set standard_conforming_strings = off", "set app.tenant = 'a\\\\b'''"}},
		{"float", []string{"set seq_page_cost = 1.25", "set cpu_tuple_cost = '1e-3'"}},
		{"startup parameter again", []string{"set timezone = 'UTC'", "reset timezone"}},
		{"startup parameters again", []string{"set timezone = 'UTC'", "set work_mem = '9MB'", "reset all"}},
		{"startup parameter, default", []string{"begin", "set timezone = 'Asia/Tokyo'", "set timezone to default", "commit"}},
		{"reset in a transaction", []string{"begin", "set timezone = 'UTC'", "reset timezone", "show timezone", "commit"}},
		{"reset all in a transaction", []string{"begin", "set work_mem = '9MB'", "set role pg_monitor", "reset all;", "show work_mem", "show timezone", "select current_user", "select 1", "rollback"}},
		{"default in a transaction", []string{"begin", "set timezone = 'UTC'", "savepoint a", "set TimeZone=default", "show timezone", "rollback to a", "show timezone", "set local time zone default",
			"show timezone", "set work_mem to default ;", "show work_mem", "commit"}},
		{"custom reset in a transaction", []string{"begin", "set app.tenant = 'x'", `reset app."tenant"`, "select coalesce(current_setting('app.tenant', true), '')", "commit"}},
		{"reset that fails in a transaction", []string{"begin", "reset no_such", "reset all", "rollback"}},
		{"long", []string{"set app.tenant = '" + strings.Repeat("long ' value ", 3000)[:39000-1] + "'''"}},
		{"many", []string{"do $$ begin for i in 1..50 loop perform set_config('work_mem', (100 + i) || 'kB', false); end loop; end $$"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, params := range [][]string{nil, {"timezone", "Europe/Rome", "options", "-c work_mem=7MB -c app.tenant=start"}} {
				b := loginBoth(t, c, p.Addr(), db, params...)
				b.direct.t, b.pooled.t = t, t
				for _, q := range test.do {
					b.do(q)
				}
				for range 3 {
					for _, q := range ask {
						b.do(q)
					}
				}
				if cl, _ := clientOf(p, b.pooled.pid); cl.Pin != "" {
					t.Errorf("it is pinned: %s", cl.Pin)
				}
				b.direct.send(&pgproto3.Terminate{})
				b.pooled.vanish()
				clients(t, p, 1)
				// A custom setting cannot be taken away from a server again.
				want := other.direct.state()
				for range 3 {
					if got := other.pooled.state(); got != want {
						t.Errorf("another client finds\n%s, directly\n%s", got, want)
					}
				}
			}
		})
	}
	p.RequireSwitched(t)
	if n := closes(p, "pin") + closes(p, "tainted"); n != 0 {
		t.Errorf("%d servers were closed for settings", n)
	}
}

// TestStateByExtendedProtocol: the same for prepared statements, parameters
// and pipelines.
func TestStateByExtendedProtocol(t *testing.T) {
	p, c, db := start(t, 3)
	b := loginBoth(t, c, p.Addr(), db)
	steps := func(msgs func() []pgproto3.FrontendMessage, replies int) {
		t.Helper()
		b.direct.send(msgs()...)
		b.pooled.send(msgs()...)
		for range replies {
			want, got := b.direct.read(), b.pooled.read()
			if got.String() != want.String() {
				t.Errorf("got %s, directly %s", got, want)
			}
		}
	}
	sync := &pgproto3.Sync{}
	steps(func() []pgproto3.FrontendMessage { // a name that is a parameter
		return []pgproto3.FrontendMessage{
			&pgproto3.Parse{Name: "s", Query: "select set_config($1, $2, $3)", ParameterOIDs: []uint32{25, 25, 16}},
			&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("app.one"), []byte("1"), []byte("f")}}, &pgproto3.Execute{}, sync,
		}
	}, 1)
	for i := range 3 {
		steps(func() []pgproto3.FrontendMessage {
			return []pgproto3.FrontendMessage{
				&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("app.two"), []byte(fmt.Sprint(i)), []byte("f")}}, &pgproto3.Execute{}, sync,
			}
		}, 1)
		b.do("select current_setting('app.one'), current_setting('app.two')")
	}
	steps(func() []pgproto3.FrontendMessage { // a pipeline that fails in the middle
		return append(append(append(append(batch("set work_mem = '5MB'"), sync), append(batch("select 1/0"), sync)...), append(batch("set app.one = '2'"), sync)...),
			append(append(batch("set app.two = 'lost'"), batch("select 1/0")...), sync)...)
	}, 4)
	for range 3 {
		b.do("select current_setting('work_mem'), current_setting('app.one'), current_setting('app.two')")
	}
	if cl, _ := clientOf(p, b.pooled.pid); cl.Pin != "" {
		t.Errorf("it is pinned: %s", cl.Pin)
	}
	// A name that is put together cannot be known.
	b.do("select set_config('app.' || 'three', '3', false)")
	for range 3 {
		b.do("select current_setting('app.three')")
	}
	if cl, _ := clientOf(p, b.pooled.pid); cl.Pin != "untracked" {
		t.Errorf("pin is %q", cl.Pin)
	}
	p.RequireSwitched(t)
}

// TestShortTimeout: a session whose timeout would end the inspection still has
// its settings kept.
func TestShortTimeout(t *testing.T) {
	p, c, db := start(t, 2)
	b := loginBoth(t, c, p.Addr(), db)
	for i := range 30 {
		b.pooled.must("set statement_timeout = 1")
		b.pooled.query(fmt.Sprintf("set app.i = %d", i)) // may itself be cut short
		b.pooled.query("set statement_timeout = 0")
		b.pooled.query("reset statement_timeout")
	}
	if got := b.pooled.show("statement_timeout"); got != "0" && got != "1ms" {
		t.Errorf("statement_timeout is %s", got)
	}
}

// TestPinsEnd: what holds a server holds it no longer than it exists.
func TestPinsEnd(t *testing.T) {
	p, c, db := start(t, 2, "create table kept (a int)")
	_ = c
	for _, test := range []struct{ pin, do, undo string }{
		{"temp", "create temp table mine (a int)", "drop table mine"},
		{"temp", "create temp view mine as select 1", "drop view mine"},
		{"temp", "create temp sequence mine", "drop sequence mine"},
		{"temp", "create function pg_temp.mine() returns int language sql as 'select 1'", "drop function pg_temp.mine()"},
		{"temp", "create type pg_temp.mine as enum ('a')", "drop type pg_temp.mine"},
		{"temp", "create temp table mine (a int)", "discard temp"},
		{"temp", "create temp table mine (a int)", "discard all"},
		{"advisory_lock", "select pg_advisory_lock(1)", "select pg_advisory_unlock(1)"},
		{"advisory_lock", "select pg_advisory_lock_shared(1, 2)", "select pg_advisory_unlock_shared(1, 2)"},
		{"advisory_lock", "select pg_try_advisory_lock(1)", "select pg_advisory_unlock_all()"},
		{"advisory_lock", "begin; select pg_advisory_lock(1); rollback", "discard all"},
		{"hold_cursor", "declare mine cursor with hold for select 1", "close mine"},
		{"hold_cursor", "declare mine cursor with hold for select 1", "close all"},
		{"listen", "listen a", "unlisten a"},
		{"listen", "listen a; listen b", "unlisten *"},
		{"", "begin; create temp table mine (a int) on commit drop; commit", "select 1"},
		{"", "begin; create temp table mine (a int); rollback", "select 1"},
		{"", "begin; declare mine cursor with hold for select 1; rollback", "select 1"},
		{"", "begin; listen a; rollback", "select 1"},
		{"", "begin; select pg_advisory_lock(2); select pg_advisory_unlock(2); commit", "select 1"},
	} {
		s := login(t, p.Addr(), "app", db)
		s.must(test.do)
		if cl, _ := clientOf(p, s.pid); cl.Pin != test.pin {
			t.Errorf("%s: pin is %q, want %q", test.do, cl.Pin, test.pin)
		}
		s.must("select 1")
		s.must("set timezone = 'Asia/Tokyo'")
		if cl, _ := clientOf(p, s.pid); cl.Pin != test.pin {
			t.Errorf("%s: later the pin is %q, want %q", test.do, cl.Pin, test.pin)
		}
		s.must(test.undo)
		if cl, _ := clientOf(p, s.pid); cl.Pin != "" {
			t.Errorf("%s: pin is still %q after %s", test.do, cl.Pin, test.undo)
		}
		s.must("select 1")
		s.send(&pgproto3.Terminate{})
		clients(t, p, 0)
	}
}
