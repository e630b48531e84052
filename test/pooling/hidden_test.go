package pooling_test

import (
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// inspections is how many transactions were followed by a question about what
// they had left.
func inspections(p *harness.Pgpoold) (n uint64) {
	for _, pool := range p.Server().Snapshot().Pools {
		n += pool.Stats.Inspections
	}
	return n
}

// hiding are objects whose names show nothing of what they do.
const hiding = `create function tenant(text) returns text language sql as $$ select set_config('app.tenant', $1, false) $$;
	create function memory() returns void language plpgsql as $$ begin set work_mem = '5MB'; end $$;
	create function dynamic(t text) returns void language plpgsql as $$ begin execute t; end $$;
	create function outer_one() returns void language plpgsql as $$ begin perform memory(); end $$;
	create function report() returns void language plpgsql as $$ begin create temp table orders as select 'private' as a; end $$;
	create function guard(int) returns void language sql as $$ select pg_advisory_lock($1) $$;
	create function "Quoted Name"() returns void language sql as $$ select memory() $$;
	create function "MixedCase"() returns void language sql as $$ select memory() $$;
	create function harmless() returns int language plpgsql as $$ begin update calm set a = a; if found then return 1; else return 2; end if; end $$;
	create table t (a int); create table calm (a int); create table plain (a int);
	create function fires() returns trigger language plpgsql as $$ begin perform set_config('work_mem', '5MB', false); return new; end $$;
	create trigger fires before insert on t for each row execute function fires();
	create view v as select memory() is null as b, 1 as a; create view vv as select * from v;
	create function atomic() returns text language sql begin atomic select set_config('work_mem', '5MB', false); end;
	create procedure proc() language plpgsql as $$ begin listen hidden; end $$;`

// TestHiddenState: what functions, triggers and views do is seen, and nobody
// else sees it.
func TestHiddenState(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, hiding)
	p := startYAML(t, poolYAML(c, db, "size: 2, round_robin: true", ""))
	other := login(t, p.Addr(), "other", db)
	clean := other.state()
	for _, test := range []struct{ do, ask, want, pin string }{
		{"select tenant('seven')", "select current_setting('app.tenant', true)", "seven", ""},
		{"select memory()", "show work_mem", "5MB", ""},
		{"select outer_one()", "show work_mem", "5MB", ""},
		{"select dynamic('set work_mem = ''5MB''')", "show work_mem", "5MB", ""},
		{`select "MixedCase"()`, "show work_mem", "5MB", ""},
		{"select atomic()", "show work_mem", "5MB", "untracked"}, // the name that it sets cannot be seen,
		{"insert into t values (1)", "show work_mem", "5MB", ""},
		{"select a from v", "show work_mem", "5MB", ""},
		{"select * from vv", "show work_mem", "5MB", ""},
		{"do $$ begin perform memory(); end $$", "show work_mem", "5MB", ""},
		{"select report()", "select a from orders", "private", "temp"},
		{"select guard(3)", "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "1", "advisory_lock"},
		{"call proc()", "select pg_listening_channels()", "hidden", "listen"},
		{"select dynamic('create temp table orders as select ''private'' as a')", "select a from orders", "private", "temp"},
	} {
		for _, how := range []string{"simple", "prepared"} {
			s := login(t, p.Addr(), "app", db)
			if how == "simple" {
				s.must(test.do)
			} else {
				s.send(append(append([]pgproto3.FrontendMessage{&pgproto3.Parse{Name: "a", Query: test.do}}, &pgproto3.Sync{}),
					&pgproto3.Bind{PreparedStatement: "a"}, &pgproto3.Execute{}, &pgproto3.Sync{})...)
				s.read()
				if r := s.read(); r.code() != "" {
					t.Fatalf("%s: %s", test.do, r)
				}
			}
			for range 3 {
				if got := s.must(test.ask).cell(); got != test.want {
					t.Errorf("%s, %s: %s gives %q, want %q", test.do, how, test.ask, got, test.want)
				}
				if got := other.state(); got != clean {
					t.Errorf("%s, %s: another client finds\n%s, want\n%s", test.do, how, got, clean)
				}
			}
			if cl, _ := clientOf(p, s.pid); cl.Pin != test.pin {
				t.Errorf("%s, %s: pin is %q, want %q", test.do, how, cl.Pin, test.pin)
			}
			s.send(&pgproto3.Terminate{})
			clients(t, p, 1)
		}
	}
	// What comes later is seen from its first call on.
	for i, define := range []string{
		"create function later() returns void language sql as $$ select memory() $$",
		"create or replace function harmless() returns int language sql as $$ select 1 from memory() $$",
		"create view later_view as select harmless() as b",
		"create trigger later before insert on plain for each row execute function fires()",
	} {
		use := []string{"select later()", "select harmless()", "select * from later_view", "insert into plain values (1)"}[i]
		other.must(define)
		s := login(t, p.Addr(), "app", db)
		s.must(use)
		for range 2 {
			if got := s.show("work_mem"); got != "5MB" {
				t.Errorf("%s: work_mem is %s", use, got)
			}
			if got := other.state(); got != clean {
				t.Errorf("%s: another client finds\n%s, want\n%s", use, got, clean)
			}
		}
		s.send(&pgproto3.Terminate{})
		clients(t, p, 1)
	}
}

// TestHarmlessFunctions: a function that only reads and writes costs nothing.
func TestHarmlessFunctions(t *testing.T) {
	if os.Getenv(harness.EnvAudit) != "" {
		t.Skip("every transaction is audited")
	}
	p, _, db := start(t, 2, hiding)
	s := login(t, p.Addr(), "app", db)
	before := inspections(p)
	for range 5 {
		s.must("select harmless()")
		s.must("insert into plain values (1)")
		s.must("select now(), 'memory'")
	}
	if n := inspections(p) - before; n > 5 { // a literal that is such a name counts
		t.Errorf("%d transactions were inspected", n)
	}
}

// TestChangesOfOthers: what is made past pgpoold is noticed while the pool is
// used, whatever leads to it.
func TestChangesOfOthers(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table plain (a int); create function plainly() returns int language sql as $$ select 1 $$")
	p := startYAML(t, poolYAML(c, db, "size: 2, session_state_audit: 0", "")) // an audit finds what is not known yet
	s := login(t, p.Addr(), "app", db)
	for _, test := range []struct{ make, use string }{
		{"create function lately() returns int language plpgsql as $$ begin set work_mem = '5MB'; return 1; end $$", "select lately()"},
		{"create or replace function plainly() returns int language plpgsql as $$ begin set work_mem = '5MB'; return 1; end $$", "select plainly()"},
		{"alter table plain alter a set default plainly()", "insert into plain default values"},
	} {
		if err := c.Exec(within(t), db, test.make); err != nil {
			t.Fatal(err)
		}
		// A server must be idle for a moment to be asked, and is asked less often
		// where that takes long, on a machine that is busy.
		for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(2500 * time.Millisecond) {
			before := inspections(p)
			s.must(test.use)
			if inspections(p) > before {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not known yet", test.use)
			}
		}
	}
}

// TestChangesWithoutClients: where nobody is there nobody looks, and no server
// is opened for it; the next session looks first.
func TestChangesWithoutClients(t *testing.T) {
	t.Parallel()
	postgres.RequireFull(t) // it takes as long as nobody must have looked
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, poolYAML(c, db, "size: 2, server_idle_timeout: 1s", ""))
	s := login(t, p.Addr(), "app", db)
	s.must("select 1")
	s.vanish()
	clients(t, p, 0)
	servers := func() (n int) {
		for _, pool := range p.Server().Snapshot().Pools {
			n += int(pool.Stats.Dials)
		}
		return n
	}
	opened := servers()
	for end := time.Now().Add(130 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if n := servers(); n != opened {
			t.Fatalf("%d servers were opened for nobody", n-opened)
		}
	}
	if err := c.Exec(within(t), db, "create function lately() returns int language plpgsql as $$ begin set work_mem = '5MB'; return 1; end $$"); err != nil {
		t.Fatal(err)
	}
	s = login(t, p.Addr(), "app", db)
	before := inspections(p)
	s.must("select lately()")
	if inspections(p) == before {
		t.Error("what was made while nobody was there is not known")
	}
}
