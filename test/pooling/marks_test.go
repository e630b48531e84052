package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestTemporaryObjectsCostNoServer: once they are gone, by DROP or with their
// session, the server is as good as any.
func TestTemporaryObjectsCostNoServer(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, poolYAML(c, db, "size: 1, max_pinned: 1", ""))
	first := login(t, p.Addr(), "app", db)
	pid := first.must("select pg_backend_pid()").cell()
	first.send(&pgproto3.Terminate{})
	clients(t, p, 0)
	for i, do := range []string{
		"create temp table mine as select 42 as a", "create temp sequence mine", "create temp view mine as select 1",
		"create function pg_temp.mine() returns int language sql as 'select 42'", "create type pg_temp.mine as enum ('a')",
		"begin; create temp table mine (a int) on commit drop; commit", "create temp table mine (a serial primary key, b text); create temp table other (c int references mine)",
	} {
		s := login(t, p.Addr(), "app", db)
		s.must(do)
		if i%2 == 1 {
			s.must("discard temp")
			if cl, _ := clientOf(p, s.pid); cl.Pin != "" {
				t.Errorf("%s: pinned by %q after DISCARD TEMP", do, cl.Pin)
			}
		}
		s.vanish()
		clients(t, p, 0)
		next := login(t, p.Addr(), "app", db)
		if got := next.must("select pg_backend_pid()").cell(); got != pid {
			t.Errorf("%s: it has cost a server", do)
			pid = got
		}
		if got := next.must("select count(*) from pg_depend where refclassid = 'pg_namespace'::regclass and refobjid in (select oid from pg_namespace where nspname like 'pg_temp%')").cell(); got != "0" {
			t.Errorf("%s: it has left %s objects", do, got)
		}
		next.send(&pgproto3.Terminate{})
		clients(t, p, 0)
	}
}

// TestTemporaryObjectsAreNotNoticed: who asks for what their schema leaves
// behind gets a server that never had one.
func TestTemporaryObjectsAreNotNoticed(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	for _, size := range []int{1, 3} {
		p := startYAML(t, poolYAML(c, db, fmt.Sprintf("size: %d, max_pinned: %d, round_robin: true", size, size), ""))
		user := login(t, p.Addr(), "app", db)
		use := func() {
			t.Helper()
			for range size + 1 {
				user.must("create temp table mine as select 42 as a; drop table mine")
			}
		}
		for _, ask := range []string{"set search_path = pg_temp", "select pg_my_temp_schema()", "select current_schemas(true)", "set temp_buffers = '2MB'",
			"select set_config('temp_buffers', '3MB', false)"} {
			use()
			for _, how := range []string{"simple", "extended", "prepared"} {
				b := loginBoth(t, c, p.Addr(), db)
				for _, peer := range []*peer{b.direct, b.pooled} {
					if how == "prepared" {
						peer.send(&pgproto3.Parse{Name: "s", Query: ask}, &pgproto3.Sync{})
						peer.read()
					}
				}
				use()
				switch how {
				case "simple":
					b.do(ask)
				default:
					var got []string
					for _, peer := range []*peer{b.direct, b.pooled} {
						msgs := batch(ask)
						if how == "prepared" {
							msgs = []pgproto3.FrontendMessage{&pgproto3.Bind{PreparedStatement: "s"}, &pgproto3.Execute{}}
						}
						peer.send(append(msgs, &pgproto3.Sync{})...)
						got = append(got, peer.read().String())
					}
					if got[0] != got[1] {
						t.Errorf("size %d: %s, %s, gives %s, directly %s", size, ask, how, got[1], got[0])
					}
				}
				for range 2 { // it goes with the session, whatever others do
					use()
					b.do("show temp_buffers")
					b.do("begin; select current_schema() is null; prepare transaction 'never'")
					b.do("rollback")
				}
				b.direct.send(&pgproto3.Terminate{})
				b.pooled.send(&pgproto3.Terminate{})
				clients(t, p, 1)
			}
		}
		if n := closes(p, "tainted"); n != 0 {
			t.Errorf("%d servers were tainted", n)
		}
		user.send(&pgproto3.Terminate{})
	}
}

// TestStrictHasNoForeignSettings: at strict a custom setting that another
// session has named does not exist, and what a library would take for itself
// depends on the session's own doing.
func TestStrictHasNoForeignSettings(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create function hides() returns text language sql as $$ select set_config('app.hidden', 'x', true) $$")
	p := startYAML(t, poolYAML(c, db, "size: 3, max_pinned: 2, round_robin: true, session_state: strict", ""))
	other := login(t, p.Addr(), "other", db)
	for _, do := range []string{
		"set app.a = 'x'", "begin; set local app.a = 'x'; commit", "select set_config('app.a', 'x', true)", "begin; set app.a = 'x'; rollback", "select hides()",
	} {
		s := login(t, p.Addr(), "app", db)
		s.must(do)
		if cl, _ := clientOf(p, s.pid); cl.Pin != "custom" {
			t.Errorf("%s: pin is %q", do, cl.Pin)
		}
		nothing := func() {
			t.Helper()
			for range 4 {
				if got := other.must("select current_setting('app.a', true) is null and current_setting('app.hidden', true) is null").cell(); got != "t" {
					t.Errorf("%s: another session finds it", do)
				}
			}
		}
		nothing()
		s.vanish()
		clients(t, p, 1)
		nothing()
	}
	with := login(t, p.Addr(), "app", db, "options", "-c app.a=start")
	for range 3 {
		if got := with.must("select current_setting('app.a')").cell(); got != "start" {
			t.Errorf("a startup parameter is %q", got)
		}
		if got := other.must("select current_setting('app.a', true) is null").cell(); got != "t" {
			t.Error("another session finds a startup parameter")
		}
	}
	with.send(&pgproto3.Terminate{})
	clients(t, p, 1)
	for range 3 { // plpgsql is loaded everywhere
		other.must("do $$ begin perform 1; end $$")
	}
	b := loginBoth(t, c, p.Addr(), db)
	for _, q := range []string{"set plpgsql.extra = true", "show plpgsql.extra", "load 'plpgsql'", "set plpgsql.extra = true"} {
		b.do(q)
	}
	b.pooled.send(&pgproto3.Terminate{})
	clients(t, p, 1)
	for range 6 { // no server warns of that name
		if r := other.query("do $$ begin perform 1; end $$"); r.code() != "" {
			t.Errorf("%s", r)
		}
	}
}

// TestStrictStatistics: at strict a session's statistics come from one server,
// and a session is one of PostgreSQL's.
func TestStrictStatistics(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (a int)")
	p := startYAML(t, poolYAML(c, db, "size: 2, max_pinned: 2, round_robin: true, session_state: strict", ""))
	login(t, p.Addr(), "app", db).must("select 1")
	const sessions = "select sessions from pg_stat_database where datname = current_database()"
	a := login(t, p.Addr(), "app", db)
	a.must("select pg_stat_force_next_flush()")
	before := a.must(sessions).cell()
	b := login(t, p.Addr(), "app", db)
	b.must("select pg_stat_force_next_flush()")
	if got := b.must(sessions).cell(); got <= before && len(got) == len(before) {
		t.Errorf("sessions were %s and are %s", before, got)
	}
	a.must("select count(*) from t")
	a.must("select pg_stat_force_next_flush()")
	if got := a.must("select seq_scan from pg_stat_user_tables where relname = 't'").cell(); got != "1" {
		t.Errorf("its own scans are %s", got)
	}
	if cl, _ := clientOf(p, a.pid); cl.Pin != "statistics" {
		t.Errorf("pin is %q", cl.Pin)
	}
}

// TestFunctionsInC: what they keep in memory is in no catalog, so whoever calls
// one, or meets it in a trigger, keeps the server. Those of extensions are known.
func TestFunctionsInC(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, `create function validates(oid) returns void language c as '$libdir/plpgsql', 'plpgsql_validator';
		create function harmless() returns trigger language plpgsql as $$ begin begin perform validates(0); exception when others then null; end; return new; end $$;
		create function sound() returns void language sql as 'select';
		create table watched (a int); create trigger harmless before insert on watched for each row execute function harmless()`)
	p := startYAML(t, poolYAML(c, db, "size: 2, round_robin: true, max_pinned: 2", ""))
	for _, do := range []string{"select validates('sound'::regproc) where false", "insert into watched values (1)"} {
		s := login(t, p.Addr(), "app", db)
		s.must("select 1")
		s.must(do)
		if cl, _ := clientOf(p, s.pid); cl.Pin != "function" {
			t.Errorf("%s: pin is %q", do, cl.Pin)
		}
		s.send(&pgproto3.Terminate{})
		clients(t, p, 0)
	}
	if n := closes(p, "pin"); n != 2 {
		t.Errorf("%d servers were closed", n)
	}
	p = startYAML(t, poolYAML(c, db, "size: 2, round_robin: true, pin_functions: [-validates]", ""))
	s := login(t, p.Addr(), "app", db)
	for _, do := range []string{"select validates('sound'::regproc) where false", "insert into watched values (1)"} {
		s.must(do)
		if cl, _ := clientOf(p, s.pid); cl.Pin != "" {
			t.Errorf("%s: pin is %q, and pin_functions says that it makes nothing", do, cl.Pin)
		}
	}
}

// TestNamesInTexts: a prepared statement is there also for a function that runs
// EXECUTE, if its name stands in the query.
func TestNamesInTexts(t *testing.T) {
	p, c, db := start(t, 3, `create function run(text) returns setof text language plpgsql as $$ begin return query execute $1; end $$`)
	b := loginBoth(t, c, p.Addr(), db)
	b.do("prepare q1 (int) as select 'one ' || $1")
	b.do(`prepare "Q two" as select 'two'`)
	for range 6 {
		b.do("select run('execute q1(7)')")
		b.do(`select * from run('execute "Q two"') union all select * from run('execute q1(1)')`)
	}
	// Another's of that name is not found, neither is the name told only by a
	// parameter.
	other := loginBoth(t, c, p.Addr(), db)
	other.do("prepare q1 (int) as select 'another'")
	for range 4 {
		other.do("execute q1(1)")
		for _, peer := range []*peer{b.direct, b.pooled} {
			peer.send(&pgproto3.Parse{Query: "select run($1)"}, &pgproto3.Bind{Parameters: [][]byte{[]byte("execute q1(2)")}}, &pgproto3.Execute{}, &pgproto3.Sync{})
			if r := peer.read(); len(r.rows) != 1 || r.rows[0][0] != "one 2" {
				t.Errorf("EXECUTE by a parameter gives %s", r)
			}
		}
		other.do("execute q1(1)")
		b.do("do $$ begin execute 'execute q1(1)'; end $$")
	}
	b.do("deallocate q1")
	for range 4 {
		b.do("select run('execute q1(7)')")
		b.do("do $$ begin execute 'execute q1(1)'; end $$")
	}
	if cl, _ := clientOf(p, b.pooled.pid); cl.Pin != "" {
		t.Errorf("it is pinned: %s", cl.Pin)
	}
	p.RequireSwitched(t)
}
