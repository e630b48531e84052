package pooling_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// leaks is one of each kind of state.
var leaks = []struct{ kind, do string }{
	{"setting", "set work_mem = '5MB'"},
	{"reported setting", "set timezone = 'Asia/Tokyo'"},
	{"custom setting", "set app.tenant = 'seven'"},
	{"set_config", "select set_config('app.tenant', 'seven', false)"},
	{"role", "set role pg_monitor"},
	{"authorization", "set session authorization pg_monitor"},
	{"characteristics", "set session characteristics as transaction isolation level serializable"},
	{"temporary table", "create temp table mine as select 42 as a"},
	{"temporary function", "create function pg_temp.mine() returns int language sql as 'select 42'"},
	{"advisory lock", "select pg_advisory_lock_shared(7)"},
	{"cursor", "declare mine cursor with hold for select 42"},
	{"LISTEN", "listen mine"},
	{"PREPARE", "prepare mine as select 42"},
}

// TestLeaks: however state was made and its client has left, the next ones on
// the same server find nothing of it, and its own session finds what it would
// find directly.
func TestLeaks(t *testing.T) {
	ways := map[string]func(c *peer, do string){
		"plain":       func(c *peer, do string) { c.query(do) },
		"committed":   func(c *peer, do string) { c.query("begin"); c.query(do); c.query("commit") },
		"rolled back": func(c *peer, do string) { c.query("begin"); c.query(do); c.query("rollback") },
		"behind a savepoint": func(c *peer, do string) {
			for _, q := range []string{"begin", "savepoint a", do, "rollback to a", "commit"} {
				c.query(q)
			}
		},
		"in a pipeline that fails": func(c *peer, do string) {
			c.send(append(append(append(batch(do), &pgproto3.Sync{}), append(batch("select 1/0"), &pgproto3.Sync{})...), append(batch("select 1"), &pgproto3.Sync{})...)...)
			for range 3 {
				c.read()
			}
		},
		"in a batch that fails": func(c *peer, do string) {
			c.send(append(append(batch(do), batch("select 1/0")...), &pgproto3.Sync{})...)
			c.read()
		},
		"in a DO":           func(c *peer, do string) { c.query("do $do$ begin execute $x$" + do + "$x$; end $do$") },
		"among others":      func(c *peer, do string) { c.query("select 1; " + do + "; select 2") },
		"string that fails": func(c *peer, do string) { c.query("select 1; " + do + "; select 1/0") },
	}
	for how, make := range ways {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p, c, db := start(t, 1)
			first := login(t, p.Addr(), postgres.Superuser, db)
			clean := first.state()
			before := closes(p, "pin")
			for i, leak := range leaks {
				b := loginBoth(t, c, p.Addr(), db)
				make(b.direct, leak.do)
				make(b.pooled, leak.do)
				for range 2 {
					if got, want := b.pooled.state(), b.direct.state(); got != want {
						t.Errorf("%s: its session finds\n%s, directly\n%s", leak.kind, got, want)
					}
				}
				if cl, _ := clientOf(p, b.pooled.pid); cl.Pin == "" {
					if got := first.state(); got != clean {
						t.Errorf("%s: beside it another finds\n%s", leak.kind, got)
					}
					if closes(p, "pin") != before {
						t.Errorf("%s: a server was closed, and nothing pins", leak.kind)
					}
				}
				b.direct.send(&pgproto3.Terminate{})
				[]func(){b.pooled.vanish, b.pooled.reset, func() { b.pooled.send(&pgproto3.Terminate{}) }}[i%3]()
				clients(t, p, 1)
				resting(t, p, c, db)
				for range 3 {
					next := login(t, p.Addr(), postgres.Superuser, db)
					if got := next.state(); got != clean {
						t.Errorf("%s: left to the next\n%s, want\n%s", leak.kind, got, clean)
					}
					next.send(&pgproto3.Terminate{})
				}
				clients(t, p, 1)
				before = closes(p, "pin")
			}
		})
	}
}

// TestRandomState: scripts of state, of several sessions in turn, do through
// pgpoold what they do on connections of their own.
func TestRandomState(t *testing.T) {
	postgres.SkipBrief(t)
	steps := []string{
		"begin", "begin", "commit", "commit", "rollback", "savepoint a", "rollback to a", "release a", "select 1/0", "select 1",
		"set work_mem = '%dMB'", "set local work_mem = '%dMB'", "reset work_mem", "set search_path = pg_catalog, s%d", "set timezone = 'Etc/GMT-%d'", "reset timezone",
		"set app.a = '%d'", "set local app.a = 'l%d'", "select set_config('app.b', '%d', false)", "select set_config('app.b', '%d', true)", "reset app.a", "reset all",
		"set role pg_monitor", "set role pg_read_all_data", "reset role", "set session authorization pg_monitor", "reset session authorization",
		"set statement_timeout = %d0000", "set datestyle = 'German'", "set work_mem = 'x'", "do $$ begin perform set_config('work_mem', '%dMB', false); end $$",
		"do $$ begin execute 'set app.a = ''%d'''; end $$", "set application_name = 'n%d'", "discard all", "set work_mem = '%dMB'; select 1/0",
		"create temp table t%d (a int)", "drop table if exists t%d", "create temp view v%d as select 1", "discard temp", "declare c%d cursor with hold for select 1", "close all",
		"listen c%d", "unlisten *", "prepare p%d as select 1", "deallocate all",
	}
	const ask = `select current_setting('work_mem'), current_setting('search_path'), current_setting('timezone'), coalesce(current_setting('app.a', true), ''),
		coalesce(current_setting('app.b', true), ''), current_user, session_user, current_setting('statement_timeout'), current_setting('datestyle'), current_setting('application_name'),
		(select count(*) from pg_catalog.pg_class where relnamespace = pg_my_temp_schema()), (select count(*) from pg_catalog.pg_cursors where is_holdable),
		(select string_agg(c, ' ' order by c) from pg_listening_channels() c)`
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := startYAML(t, poolYAML(c, db, "size: 4, max_pinned: 4, round_robin: true", ""))
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var all []both
		for i := range 3 {
			var params []string
			if i == 1 {
				params = []string{"timezone", "Europe/Rome", "options", "-c work_mem=9MB -c app.a=start"}
			}
			all = append(all, loginBoth(t, c, p.Addr(), db, params...))
		}
		var script []string
		for range 70 {
			i := rng.IntN(len(all))
			q := steps[rng.IntN(len(steps))]
			if strings.Contains(q, "%d") {
				q = fmt.Sprintf(q, 1+rng.IntN(4))
			}
			script = append(script, fmt.Sprintf("%d: %s", i, q))
			before := t.Failed()
			for _, q := range []string{q, ask} {
				want, got := all[i].direct.query(q), all[i].pooled.query(q)
				if got.String() != want.String() {
					t.Errorf("seed %d: %s gives\n%s, directly\n%s", seed, q, got, want)
				}
			}
			if t.Failed() && !before {
				t.Fatalf("after\n%s", strings.Join(script, "\n"))
			}
		}
		for _, b := range all {
			b.direct.send(&pgproto3.Terminate{})
			b.pooled.vanish()
		}
		clients(t, p, 0)
	}
}
