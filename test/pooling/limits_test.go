package pooling_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestReject: at session_state: reject, for a database or one user, what would
// pin is refused by name, PostgreSQL's transaction fails as with an error of
// its own, and settings are carried all the same.
func TestReject(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (a int)")
	p := startYAML(t, poolYAML(c, db, "size: 2, round_robin: true, session_state: reject", "users: {free: {session_state: preserve}}\n"))
	s, free := login(t, p.Addr(), "app", db), login(t, p.Addr(), "free", db)
	for _, r := range [][2]string{
		{"create temp table x (a int)", "temp"}, {"select pg_advisory_lock(1)", "advisory_lock"}, {"declare x cursor with hold for select 1", "hold_cursor"},
		{"listen x", "listen"}, {"load 'auto_explain'", "load"}, {"select setseed(0.5)", "setseed"}, {"select dblink_connect('x')", "function"},
	} {
		for _, extended := range []bool{false, true} {
			s.must("begin")
			s.must("insert into t values (1)")
			var got reply
			if extended {
				s.send(append(batch(r[0]), &pgproto3.Sync{})...)
				got = s.read()
			} else {
				got = s.query(r[0])
			}
			if got.code() != "0A000" || !strings.Contains(got.err.Message, r[1]) || got.status != 'E' {
				t.Errorf("%s: %s", r[0], got)
			}
			if got := s.query("commit"); got.tags[0] != "ROLLBACK" {
				t.Errorf("COMMIT gives %s", got)
			}
		}
		if got := s.query(r[0]); got.code() != "0A000" || got.status != 'I' {
			t.Errorf("%s outside of a transaction: %s", r[0], got)
		}
	}
	if n := s.must("select count(*) from t").cell(); n != "0" {
		t.Errorf("%s rows were committed", n)
	}
	s.must("begin; create temp table x (a int) on commit drop; commit")
	s.must("set work_mem = '5MB'")
	for range 3 {
		if got := s.show("work_mem"); got != "5MB" {
			t.Errorf("work_mem is %s", got)
		}
	}
	free.must("create temp table x (a int)")
	if cl, _ := clientOf(p, free.pid); cl.Pin != "temp" {
		t.Errorf("a user with a level of its own has pin %q", cl.Pin)
	}
}

// TestStrict: at session_state: strict numbers are drawn on a server of the
// session's own.
func TestStrict(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create sequence s; create table t (id serial, a int)")
	p := startYAML(t, poolYAML(c, db, "size: 3, round_robin: true, session_state: strict, max_pinned: 2", ""))
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	drawn := a.must("select nextval('s')").cell()
	b.must("insert into t (a) values (1)")
	if got := a.must("select currval('s')").cell(); got != drawn {
		t.Errorf("currval is %s", got)
	}
	if got := b.must("select lastval()").cell(); got != "1" {
		t.Errorf("lastval is %s", got)
	}
	for _, s := range []*peer{a, b} {
		if cl, _ := clientOf(p, s.pid); cl.Pin != "sequence" {
			t.Errorf("pin is %q", cl.Pin)
		}
		s.must("discard sequences")
		if cl, _ := clientOf(p, s.pid); cl.Pin != "" {
			t.Errorf("pin is still %q", cl.Pin)
		}
	}
}

// TestMaxPinned: pins leave servers to others. What certainly pins is refused
// at the limit, what has turned out to pin waits.
func TestMaxPinned(t *testing.T) {
	postgres.SkipBrief(t)
	c := postgres.ForTest(t)
	db := newDB(t, c, "create function hidden() returns void language sql as 'select pg_advisory_lock(7)'")
	p := startYAML(t, poolYAML(c, db, "size: 4, max_pinned: 2, query_wait_timeout: 2s", ""))
	var held []*peer
	for i := range 2 {
		s := login(t, p.Addr(), "app", db)
		s.must(fmt.Sprintf("select pg_advisory_lock(%d)", i))
		held = append(held, s)
	}
	s := login(t, p.Addr(), "app", db)
	for _, q := range []string{"listen x", "create temp table x (a int)"} {
		if r := s.query(q); r.code() != "53300" || r.status != 'I' || !strings.Contains(r.err.Message, "max_pinned") {
			t.Errorf("%s at the limit: %s", q, r)
		}
	}
	s.must("select 1")
	held[0].must("create temp table x (a int)") // it has its server already
	// A function's state is known when it is there.
	late := login(t, p.Addr(), "app", db)
	late.send(sql("select hidden()"))
	late.until('C')
	held[1].must("select pg_advisory_unlock_all()")
	if r := late.read(); r.status != 'I' {
		t.Errorf("after another pin's end: %s", r)
	}
	if cl, _ := clientOf(p, late.pid); cl.Pin != "advisory_lock" {
		t.Errorf("pin is %q", cl.Pin)
	}
	// And past the bound it is closed.
	last := login(t, p.Addr(), "app", db)
	last.send(sql("create or replace function hidden2() returns void language sql as 'select pg_advisory_lock(8)'"))
	last.read()
	last.send(sql("select hidden2()"))
	if r := last.until('Z'); r.code() != "53300" || r.err.Severity != "FATAL" {
		t.Errorf("past the bound: %s", r)
	}
	// Nothing is lost of the account.
	for _, h := range append(held, late) {
		h.send(&pgproto3.Terminate{})
	}
	clients(t, p, 1)
	s.must("listen x")
}

// TestStrictMaxPinned: at strict a text that draws numbers, or names a custom
// setting, makes its session keep its server, so at the limit it is refused before
// it runs; nobody waits with a server for that.
func TestStrictMaxPinned(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (id serial, a int)")
	p := startYAML(t, poolYAML(c, db, "size: 3, session_state: strict, max_pinned: 2", ""))
	sync := &pgproto3.Sync{}
	early := login(t, p.Addr(), "app", db)
	early.send(parse("i", "insert into t (a) values (0)"), sync)
	early.read()
	early.must("prepare j as insert into t (a) values (0)")
	early.must("discard sequences") // the word INSERT has made it keep its server
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	a.must("begin")
	a.must("insert into t (a) values (1)") // it will keep its server, and is counted
	b.must("insert into t (a) values (2)")
	refused := func(what string, r reply, status byte) {
		t.Helper()
		if r.code() != "53300" || r.status != status || !strings.Contains(r.err.Message, "max_pinned") {
			t.Errorf("%s at the limit: %s", what, r)
		}
	}
	for _, text := range []string{"insert into t (a) values (3)", "copy t (a) from stdin", "select nextval('t_id_seq')", "set app.x = '1'", "execute j"} {
		refused(text, early.query(text), 'I')
		early.must("select 1")
	}
	early.send(bind("i"), &pgproto3.Execute{}, sync)
	refused("a Bind", early.read(), 'I')
	early.send(append(batch("execute j"), sync)...)
	refused("an EXECUTE by the extended protocol", early.read(), 'I')
	early.must("begin")
	refused("in a transaction", early.query("insert into t (a) values (3)"), 'E')
	early.query("rollback")
	a.must("rollback")
	if cl, _ := clientOf(p, a.pid); cl.Pin != "sequence" {
		t.Errorf("pin is %q", cl.Pin)
	}
	a.must("discard sequences")
	early.send(bind("i"), &pgproto3.Execute{}, sync)
	if r := early.read(); r.code() != "" {
		t.Errorf("after a pin's end: %s", r)
	}
	refused("the third", a.query("insert into t (a) values (4)"), 'I')
	for _, s := range []*peer{early, b} {
		s.send(&pgproto3.Terminate{})
	}
	clients(t, p, 1)
	a.must("begin")
	a.must("insert into t (a) values (5)")
	a.vanish() // in the middle of a transaction
	clients(t, p, 0)
	for range 2 { // nothing is lost of the account
		login(t, p.Addr(), "app", db).must("insert into t (a) values (6)")
	}
	if got := value(t, c, db, "select string_agg(a::text, ' ' order by id) from t"); got != "2 0 6 6" {
		t.Errorf("the rows are %s", got)
	}
}

// TestStrictNames: at strict and at the limit, what names no custom setting runs,
// and a refused or only parsed text that names one makes nobody keep a server.
func TestStrictNames(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (id serial, a int)")
	p := startYAML(t, poolYAML(c, db, "size: 3, session_state: strict, max_pinned: 1", ""))
	login(t, p.Addr(), "app", db).must("insert into t (a) values (1)")
	sync := &pgproto3.Sync{}
	unpinned := func(s *peer) {
		t.Helper()
		if cl, _ := clientOf(p, s.pid); cl.Pin != "" {
			t.Errorf("pin is %q", cl.Pin)
		}
	}
	others, parsed, bound := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	others.must("select set_config('work_mem', '5MB', false)")
	others.must("select set_config('work_mem', '6MB', true)")
	others.send(parse("i", "select set_config($1, '7MB', false)"), &pgproto3.Bind{PreparedStatement: "i", Parameters: [][]byte{[]byte("work_mem")}}, &pgproto3.Execute{}, sync)
	if r := others.read(); r.code() != "" {
		t.Errorf("a setting named by a parameter: %s", r)
	}
	if got := others.show("work_mem"); got != "7MB" {
		t.Errorf("work_mem is %s", got)
	}
	unpinned(others)
	others.send(&pgproto3.Bind{PreparedStatement: "i", Parameters: [][]byte{[]byte("app.x")}}, &pgproto3.Execute{}, sync)
	if r := others.read(); r.code() != "53300" {
		t.Errorf("a custom setting named by a parameter: %s", r)
	}
	others.must("select set_config('work_mem', '8MB', false)")
	unpinned(others)
	parsed.send(parse("i", "select set_config('app.x', '1', false)"), sync)
	parsed.read()
	parsed.must("set work_mem = '5MB'")
	unpinned(parsed)
	bound.send(append(batch("select set_config('app.x', '1', false)"), sync)...)
	if r := bound.read(); r.code() != "53300" {
		t.Errorf("a Bind: %s", r)
	}
	bound.must("set work_mem = '5MB'")
	unpinned(bound)
}

// TestManualPin: a session keeps its server by hand.
func TestManualPin(t *testing.T) {
	p, _, db := start(t, 2)
	s := login(t, p.Addr(), "app", db)
	s.must("set pgpoold.pin = on")
	pid := s.must("select pg_backend_pid()").cell()
	for range 4 {
		if got := s.must("select pg_backend_pid()").cell(); got != pid {
			t.Fatalf("it is on %s, not %s", got, pid)
		}
	}
	if cl, _ := clientOf(p, s.pid); cl.Pin != "manual" {
		t.Errorf("pin is %q", cl.Pin)
	}
	s.must("set pgpoold.pin = off")
	if cl, _ := clientOf(p, s.pid); cl.Pin != "" {
		t.Errorf("pin is still %q", cl.Pin)
	}
	s.must("begin")
	s.must("set pgpoold.pin = on")
	s.must("rollback")
	if cl, _ := clientOf(p, s.pid); cl.Pin != "" {
		t.Errorf("after a rollback the pin is %q", cl.Pin)
	}
}

// TestPinFunctions: functions that the configuration names pin to the end.
func TestPinFunctions(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create function opaque() returns int language sql as 'select 1'; create function calls() returns int language sql as 'select opaque()'")
	p := startYAML(t, poolYAML(c, db, "size: 2, pin_functions: [opaque]", ""))
	for _, q := range []string{"select opaque()", "select calls()"} {
		s := login(t, p.Addr(), "app", db)
		s.must(q)
		if cl, _ := clientOf(p, s.pid); cl.Pin != "function" {
			t.Errorf("%s: pin is %q", q, cl.Pin)
		}
		closed := closes(p, "pin")
		s.send(&pgproto3.Terminate{})
		clients(t, p, 0)
		eventually(t, func() string {
			if closes(p, "pin") != closed+1 {
				return "its server is not closed"
			}
			return ""
		})
	}
}

// TestIdleTimeouts: an idle session ends by its own idle_session_timeout, which
// no server gets, and a pinned one by pin_idle_timeout.
func TestIdleTimeouts(t *testing.T) {
	postgres.SkipBrief(t)
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, poolYAML(c, db, "size: 2, min_size: 2, pin_idle_timeout: 1s", ""))
	set, opt, pinned, calm := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db, "idle_session_timeout", "1s"), login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	parked, busy := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	parked.must("set idle_session_timeout = '5s'") // it is parked by then
	set.must("set idle_session_timeout = '1s'")
	busy.must("set idle_session_timeout = '1s'")
	busy.must("select pg_sleep(3)") // it asks nothing, and is not idle
	pinned.must("listen x")
	for name, s := range map[string]*peer{"SET": set, "startup parameter": opt, "pinned": pinned, "busy": busy, "parked": parked} {
		if r := s.read(); r.code() != "57P05" || r.err.Severity != "FATAL" {
			t.Errorf("%s: %s", name, r)
		}
	}
	time.Sleep(1500 * time.Millisecond) // a server that had the setting would end
	for range 3 {
		if got := calm.show("idle_session_timeout"); got != "0" {
			t.Errorf("a server has idle_session_timeout %s", got)
		}
	}
	for reason, n := range p.Server().Snapshot().Totals.ServerCloses {
		if n > 0 && reason != "pin" {
			t.Errorf("%d servers were closed: %s", n, reason)
		}
	}
}

// TestAudit: what nothing announces is found, kept, counted and logged once.
func TestAudit(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, poolYAML(c, db, "size: 2, round_robin: true, session_state_audit: 1", ""))
	s := login(t, p.Addr(), "app", db)
	s.must("select 1")
	// Others make it, behind pgpoold's back; it would be seen within minutes.
	if err := c.Exec(within(t), db, "create function sly() returns void language sql as $$ select set_config('work_mem', '5MB', false) $$"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.must("select sly()")
		if got := s.show("work_mem"); got != "5MB" {
			t.Errorf("work_mem is %s", got)
		}
	}
	if n := p.Server().Snapshot().Totals.StateMissed["settings"]; n != 1 {
		t.Errorf("%d findings were counted", n)
	}
	if n := strings.Count(p.Log(), "do not announce"); n != 1 {
		t.Errorf("it was logged %d times", n)
	}
}
