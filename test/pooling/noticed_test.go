package pooling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestStillNoticed: what docs/compatibility.md says that a session can notice.
func TestStillNoticed(t *testing.T) {
	p, c, db := start(t, 2)
	s := login(t, p.Addr(), "app", db, "application_name", "me")
	seen := map[string]bool{}
	for range 4 {
		seen[s.must("select pg_backend_pid()").cell()] = true
	}
	if len(seen) != 2 {
		t.Errorf("pg_backend_pid() tells %v over four transactions", seen)
	}
	s.must("begin")
	pid := s.must("select pg_backend_pid()").cell()
	if again := s.must("select pg_backend_pid()").cell(); again != pid {
		t.Errorf("pg_backend_pid() changes from %s to %s within a transaction", pid, again)
	}
	if seen[fmt.Sprint(s.pid)] {
		t.Error("the PID that the client was told is a server's")
	}
	if got := value(t, c, "postgres", "select application_name from pg_stat_activity where pid = "+pid); got != "me" {
		t.Errorf("pg_stat_activity tells application_name %q", got)
	}
	if n := s.must("select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'").cell(); n != "2" {
		t.Errorf("pg_stat_activity has %s rows for one client and two servers", n)
	}
	port := s.must("select inet_client_port()").cell()
	for _, server := range p.Server().Snapshot().Servers {
		if fmt.Sprint(server.PID) == pid && fmt.Sprint(server.LocalPort) != port {
			t.Errorf("inet_client_port() is %s, the server's connection has %d", port, server.LocalPort)
		}
	}
	s.must("commit")
	if got := s.must("select current_setting('app.noticed', true) is null").cell(); got != "t" {
		t.Errorf("a custom setting that nobody has named is null: %s", got)
	}
	other := login(t, p.Addr(), "other", db)
	for range 4 {
		other.must("begin; set local app.noticed = 'x'; commit")
	}
	if got := s.must("select current_setting('app.noticed', true)").cell(); got != "" {
		t.Errorf("a custom setting that another session has named reads %q", got)
	}
}

// TestStillNoticedOfSettings: what docs/compatibility.md says of settings.
func TestStillNoticedOfSettings(t *testing.T) {
	p, c, db := start(t, 2)
	b := loginBoth(t, c, p.Addr(), db, "timezone", "Europe/Rome", "options", "-c app.a=start -c app.b=start")
	b.do("set app.b = 'x'; reset app.b; set app.a = ''")
	for range 2 {
		direct, pooled := b.direct.must("show app.a").cell(), b.pooled.must("show app.a").cell()
		if direct != "" || pooled != "start" {
			t.Errorf("a custom setting SET to '' beside a RESET is %q, directly %q", pooled, direct)
		}
	}
	b.do("set cpu_tuple_cost = 1234567")
	b.do("show cpu_tuple_cost")
	b.do("show cpu_tuple_cost")
	carried := map[string]bool{}
	for range 4 {
		carried[b.pooled.must("explain select 1").cell()] = true
	}
	if len(carried) == 1 && carried[b.direct.must("explain select 1").cell()] {
		t.Errorf("seven digits are carried: %v", carried)
	}
	b.do("reset cpu_tuple_cost")
	b.do("begin")
	direct, pooled := b.direct.must("set timezone = 'UTC'; reset timezone; show timezone"), b.pooled.must("set timezone = 'UTC'; reset timezone; show timezone")
	if direct.cell() != "Europe/Rome" || pooled.cell() == "Europe/Rome" {
		t.Errorf("RESET among others goes to %s, directly to %s", pooled, direct)
	}
	b.do("commit")
	b.do("show timezone")
	b.pooled.send(sql("set timezone = 'CET'"), sql("discard all"), sql("show timezone"))
	b.pooled.read()
	b.pooled.read()
	if got := b.pooled.read().cell(); got != "Europe/Rome" {
		t.Errorf("in the pipeline of a DISCARD ALL the time zone is %s", got)
	}
	if got := b.pooled.must("show timezone").cell(); got != "Europe/Rome" {
		t.Errorf("behind a DISCARD ALL the time zone is %s", got)
	}
	const source = "select source, reset_val from pg_settings where name = 'TimeZone'"
	if got := b.direct.must(source).rows[0]; got[0] != "client" || got[1] != "Europe/Rome" {
		t.Errorf("directly a startup parameter is %v", got)
	}
	if got := b.pooled.must(source).rows[0]; got[0] != "session" || got[1] == "Europe/Rome" {
		t.Errorf("a startup parameter is %v", got)
	}
	role := "taken_" + db
	value(t, c, "postgres", "create role "+role)
	s := login(t, p.Addr(), postgres.Superuser, db)
	s.must("set role " + role)
	value(t, c, "postgres", "drop role "+role)
	for range 3 {
		if r := s.query("select 1"); r.code() == "" || !strings.Contains(r.err.Message, role) {
			t.Errorf("under a role that was taken away: %s", r)
		}
	}
	other := login(t, p.Addr(), postgres.Superuser, db)
	for range 4 {
		other.must("select 1")
	}
	other.must("set client_encoding = 'SJIS'")
	other.must("select 1")
	if cl, _ := clientOf(p, other.pid); cl.Pin != "untracked" {
		t.Errorf("with client_encoding SJIS the pin is %q", cl.Pin)
	}
}

// TestStillNoticedInATransaction: what is found out too late for the server
// that the transaction runs on.
func TestStillNoticedInATransaction(t *testing.T) {
	p, c, db := start(t, 1, `create sequence s`)
	a := login(t, p.Addr(), "app", db)
	a.must("select nextval('s')")
	a.must("create temp table mine as select 1 as a; drop table mine")
	b := loginBoth(t, c, p.Addr(), db)
	b.do("begin")
	for _, q := range []string{"select lastval()"} {
		direct, pooled := b.direct.query(q), b.pooled.query(q)
		if direct.code() != "55000" || pooled.code() != "55000" {
			t.Errorf("%s gives %s, directly %s", q, pooled, direct)
		}
	}
	b.do("rollback")
	b.do("begin")
	if r := b.pooled.must("select pg_my_temp_schema()").cell(); r == "0" {
		t.Error("the server has no temporary schema")
	}
	if r := b.pooled.query("set temp_buffers = '3MB'"); r.code() != "22023" {
		t.Errorf("temp_buffers in the middle of a transaction: %s", r)
	}
	b.do("rollback")
	for range 2 {
		b.do("set temp_buffers = '3MB'")
		b.do("show temp_buffers")
	}
}

// TestFirstNumberInATransaction: the first in a pool that asks for currval, in
// the middle of a transaction, gets its own number or none.
func TestFirstNumberInATransaction(t *testing.T) {
	p, _, db := start(t, 1, "create sequence s; create table t (id serial, a int)")
	a, b, c := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	for range 3 {
		a.must("select nextval('s')")
	}
	c.must("declare held cursor with hold for select 1") // it keeps the server from now on
	if r := c.query("select lastval()"); r.code() != "55000" {
		t.Errorf("a session that keeps its server is told %s", r)
	}
	drawn := c.must("select nextval('s')").cell()
	if got := c.must("select lastval()").cell(); got != drawn {
		t.Errorf("lastval is %s, drawn was %s", got, drawn)
	}
	c.must("close held")
	c.must("discard sequences")
	b.must("begin")
	id := b.must("insert into t (a) values (1) returning id").cell()
	if got := b.must("select currval('t_id_seq')").cell(); got != id {
		t.Errorf("currval is %s, drawn was %s", got, id)
	}
	b.must("commit")
}

// TestStillNoticedAfterDDL: a literal keeps the meaning that it had at its
// Parse. PostgreSQL reads it again when a table of its statement changes.
func TestStillNoticedAfterDDL(t *testing.T) {
	p, c, db := start(t, 3, "create table d (a int); create table p (a int)")
	b := loginBoth(t, c, p.Addr(), db)
	b.do("set datestyle = 'ISO, DMY'")
	for i, peer := range []*peer{b.direct, b.pooled} {
		table := []string{"d", "p"}[i] // one for each, to be changed at its own time
		peer.send(&pgproto3.Parse{Name: "s", Query: "select '01/02/2003'::date::text, count(a) from " + table}, &pgproto3.Sync{})
		peer.read()
		peer.must("set datestyle = 'ISO, MDY'")
		ask := func() string {
			peer.send(&pgproto3.Bind{PreparedStatement: "s"}, &pgproto3.Execute{}, &pgproto3.Sync{})
			return peer.read().cell()
		}
		for range 3 {
			if got := ask(); got != "2003-02-01" {
				t.Errorf("%s: %s", table, got)
			}
		}
		peer.must("alter table " + table + " add b int")
		if got, want := ask(), []string{"2003-01-02", "2003-02-01"}[i]; got != want {
			t.Errorf("%s: after the change %s, want %s", table, got, want)
		}
	}
}

// TestStillNoticedOfTheServer: what is the server's own, and the client's
// connection's.
func TestStillNoticedOfTheServer(t *testing.T) {
	p, c, db := start(t, 2)
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	starts := map[string]bool{}
	for range 3 {
		for _, s := range []*peer{a, b} {
			starts[s.must("select backend_start from pg_stat_activity where pid = pg_backend_pid()").cell()] = true
		}
	}
	if len(starts) != 2 {
		t.Errorf("two sessions on two servers tell backend_start %v", starts)
	}
	direct := login(t, c.Addr(), postgres.Superuser, db).show("tcp_keepalives_idle")
	a.must("set tcp_keepalives_idle = 77")
	a.must("set client_connection_check_interval = 7000")
	for range 3 {
		for _, s := range []*peer{a, b} {
			if got := s.show("tcp_keepalives_idle") + " " + s.show("client_connection_check_interval"); got != direct+" 0" {
				t.Errorf("a server has %s, directly %s 0", got, direct)
			}
		}
	}
	before := inspections(p)
	a.must("select * from ts_stat($$ select set_config('work_mem', '5MB', false)::tsvector $$)")
	if inspections(p) == before {
		t.Error("nothing was asked behind a query that runs a text")
	}
	for range 3 {
		if got := a.show("work_mem") + " " + b.show("work_mem"); got != "5MB 4MB" {
			t.Errorf("what such a text has set: %s", got)
		}
	}
}
