package console

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// calm keeps what goes by the clock out of a scene: one server, which stays.
const calm = "size: 1, min_size: 1, server_check_delay: 1h, query_wait_notify: 0"

// Each thing that can happen moves the columns and metrics that stand for it,
// by so much, and no others; and no column or metric is left out.
func TestEveryColumnAndMetricMoves(t *testing.T) {
	l := newLedger()
	scenes := []struct {
		name string
		play func(*testing.T, *ledger)
	}{
		{"clients", moveClients}, {"statements", moveStatements}, {"waits", moveWaits}, {"states", moveStates}, {"cancels", moveCancels}, {"errors", moveErrors},
		{"commands", moveCommands}, {"settings", moveSettings}, {"servers", moveServers}, {"users", moveUsers}, {"averages", moveAverages}, {"end", moveEnd},
	}
	played := 0
	for _, scene := range scenes {
		if !t.Run(scene.name, func(t *testing.T) {
			scene.play(t, l)
			played++
		}) {
			return // each wait for what does not come takes its time
		}
	}
	if played == len(scenes) { // -run may have chosen some
		l.complete(t)
	}
}

// What a client that comes moves, and one that leaves.
func comes(app string) effects {
	return effects{"CLIENTS[" + app + "].*": "new", "POOLS.cl_active": "+1", "DATABASES.current_client_connections": "+1", "USERS[app].current_client_connections": "+1",
		"STATS.total_client_login_count": "+1", "client_logins_total": "+1", "clients[active]": "+1", "clients_accepted_total": "+1", "clients_connected": "+1",
		"tls_connections[client none]": "+1"}
}

func leaves(app string) effects {
	return effects{"CLIENTS[" + app + "].*": "gone", "POOLS.cl_active": "-1", "DATABASES.current_client_connections": "-1", "USERS[app].current_client_connections": "-1",
		"clients[active]": "-1", "clients_connected": "-1", "tls_connections[client none]": "-1"}
}

// query is what one query moves whose client has the server already.
func query(app string) effects {
	return effects{"STATS.total_query_count": "+1", "queries_total": "+1", "query_seconds": "+1", "query_seconds_sum": "more", "STATS.total_query_time": "more",
		"STATS.query_p*": "maybe", "STATS.total_received": "+in", "received_bytes_total": "+in", "CLIENTS[" + app + "].bytes_received": "+in",
		"STATS.total_sent": "+out", "sent_bytes_total": "+out", "CLIENTS[" + app + "].bytes_sent": "+out",
		"CLIENTS[" + app + "].request_time": "maybe", "SERVERS[1].request_time": "maybe", "SERVERS[1].application_name": "is " + app}
}

// assigned is what being given a server moves; ended, the end of a
// transaction.
var (
	assigned = effects{"STATS.total_server_assignment_count": "+1", "server_assignments_total": "+1", "server_wait_seconds": "+1", "STATS.wait_p*": "maybe"}
	ends     = effects{"STATS.total_xact_count": "+1", "transactions_total": "+1", "transaction_seconds": "+1", "transaction_seconds_sum": "more",
		"STATS.total_xact_time": "more", "STATS.xact_p95": "maybe"}
)

// transaction is what a query that is a transaction of its own moves.
func transaction(app string) effects { return query(app).with(assigned).with(ends) }

// holds is what changes while a client has the server, and frees when it gives
// it back.
func holds(app string) effects {
	return effects{"CLIENTS[" + app + "].state": "=active", "CLIENTS[" + app + "].link": "maybe", "POOLS.sv_active": "+1", "POOLS.sv_idle": "-1",
		"SERVERS[1].state": "=active", "SERVERS[1].link": "maybe", "servers[active]": "+1", "servers[idle]": "-1"}
}

func frees(app string) effects {
	return effects{"CLIENTS[" + app + "].state": "=idle", "CLIENTS[" + app + "].link": "=", "POOLS.sv_active": "-1", "POOLS.sv_idle": "+1",
		"SERVERS[1].state": "=idle", "SERVERS[1].link": "=", "servers[active]": "-1", "servers[idle]": "+1"}
}

// times how many of an event there were; bytes and times stay what they are.
func (e effects) times(n int) effects {
	all := effects{}
	for name, v := range e {
		if v == "+1" {
			v = "+" + strconv.Itoa(n)
		}
		all[name] = v
	}
	return all
}

// ready is a scene whose server is there and has been used once.
func ready(t *testing.T, l *ledger, pool, more string) *watcher {
	t.Helper()
	s := set(t, pool, more)
	c := s.client("warm")
	exec(t, c, "select 1")
	_ = c.Close(within(t))
	until(t, "one idle server", func() bool {
		r := s.pool()
		return r["sv_active"] == "0" && r["sv_idle"] != "0" && r["cl_active"] == "0"
	})
	return watch(s, l)
}

func (w *watcher) simple(c *countedClient, sql string) func() {
	return func() {
		w.t.Helper()
		exec(w.t, c.Conn, sql)
	}
}

func moveClients(t *testing.T, l *ledger) {
	w := ready(t, l, calm, "")
	began := time.Now()
	var a, b, over *countedClient
	w.does("a client comes", func() { a = w.counted("a") }, comes("a"))
	w.does("another comes", func() { b = w.counted("b") }, comes("b"))
	w.does("one comes with TLS", func() { over = w.counted("over", "&sslmode=require") },
		comes("over").with(effects{"tls_connections[client none]": "", "tls_connections[client TLSv1.3]": "new"}))
	w.does("a query", w.simple(a, "select 1"), transaction("a"))
	w.does("a query of the other", w.simple(b, "select 1, 2"), transaction("b"))

	// What rows say of whom they are about.
	r := w.look()
	for _, c := range []struct {
		app  string
		conn *countedClient
	}{{"a", a}, {"b", b}, {"over", over}} {
		local, remote := c.conn.PgConn().Conn().LocalAddr().(*net.TCPAddr), c.conn.PgConn().Conn().RemoteAddr().(*net.TCPAddr)
		of := "CLIENTS[" + c.app + "]."
		w.facts(map[string]string{of + "type": "C", of + "user": "app", of + "database": "search", of + "replication": "none", of + "addr": local.IP.String(), of + "port": strconv.Itoa(local.Port),
			of + "local_addr": remote.IP.String(), of + "local_port": strconv.Itoa(remote.Port), of + "application_name": c.app, of + "ptr": "c" + r[of+"id"],
			of + "remote_pid": strconv.FormatUint(uint64(c.conn.PgConn().PID()), 10), of + "tls": c.conn.tls})
		w.between(of+"connect_time", began)
	}
	pid := backend(t, b.Conn)
	user := superuser(w.scene)
	w.facts(map[string]string{"SERVERS[1].type": "S", "SERVERS[1].user": user, "SERVERS[1].database": "search", "SERVERS[1].replication": "none",
		"SERVERS[1].addr": "127.0.0.1", "SERVERS[1].port": portOf(w.dsn), "SERVERS[1].local_addr": "127.0.0.1", "SERVERS[1].remote_pid": strconv.Itoa(pid), "SERVERS[1].ptr": "s" + r["SERVERS[1].id"], "SERVERS[1].tls": "",
		"POOLS.database": "search", "POOLS.user": user, "STATS.database": "search", "DATABASES.name": "search", "USERS[app].name": "app", "USERS[server].name": user})
	seen, err := w.cluster.Query(within(t), "postgres", "select client_port, application_name from pg_stat_activity where pid = "+strconv.Itoa(pid))
	if err != nil || len(seen) != 1 {
		t.Fatalf("%v %v", seen, err)
	}
	w.facts(map[string]string{"SERVERS[1].local_port": seen[0][0], "SERVERS[1].application_name": seen[0][1]})
	w.between("SERVERS[1].connect_time", began.Add(-patience))
	if id := r["CLIENTS[a].id"]; id == r["CLIENTS[b].id"] || id == "" {
		t.Errorf("both have the id %q", id)
	}
	exec(t, w.console("ops"), "KILL_CLIENT "+r["CLIENTS[over].id"])
	if err := over.Ping(within(t)); err == nil {
		t.Error("the id is another client's")
	}
	for _, name := range []string{"CLIENTS.id", "SERVERS.id", "CLIENTS.connect_time", "SERVERS.connect_time"} {
		l.moved[name] = true
	}
	until(t, "it is gone", func() bool { return w.look()["CLIENTS[over].id"] == "" })

	time.Sleep(1100 * time.Millisecond) // times are shown to the second
	w.does("a query after a while", w.simple(b, "select 1"), transaction("b").with(effects{"CLIENTS[b].request_time": "later", "SERVERS[1].request_time": "later"}))
	w.does("a setting of the session", w.simple(b, "set search_path = 'a_rather_long_name_of_a_schema'"),
		transaction("b").with(effects{"STATS.total_xact_count": "+1", "inspections_total": "+1", "settings_bytes": "more", "STATS.total_server_assignment_count": "+1"}))
	w.does("one leaves", func() { _ = a.Close(within(t)) }, leaves("a"))
	w.does("the other, with its setting", func() { _ = b.Close(within(t)) }, leaves("b").with(effects{"settings_bytes": "less"}))
}

// between checks that a column is a time since began.
func (w *watcher) between(name string, began time.Time) {
	w.t.Helper()
	v := w.look()[name]
	at, err := time.ParseInLocation("2006-01-02 15:04:05 MST", v, time.Local)
	if err != nil || at.Before(began.Truncate(time.Second)) || at.After(time.Now()) {
		w.t.Errorf("%s: %q (%v)", name, v, err)
	}
}

func portOf(dsn string) string {
	return regexp.MustCompile(`:(\d+)/`).FindStringSubmatch(dsn)[1]
}

func moveStatements(t *testing.T, l *ledger) {
	w := ready(t, l, calm+", max_prepared_statements: 2", "")
	a, b := w.counted("a"), w.counted("b")
	exec(t, a.Conn, "select 1")
	exec(t, b.Conn, "select 1")
	prepare := func(c *countedClient, name, sql string) func() {
		return func() {
			if _, err := c.Prepare(within(t), name, sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	run := func(c *countedClient, name string) func() {
		return func() {
			if r := c.PgConn().ExecPrepared(within(t), name, nil, nil, nil).Read(); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	parsed := effects{"STATS.total_client_parse_count": "+1", "client_parses_total": "+1"}
	missed := effects{"STATS.total_server_parse_count": "+1", "server_parses_total": "+1", "STATS.total_statement_miss_count": "+1", "statement_misses_total": "+1"}
	hit := effects{"STATS.total_statement_hit_count": "+1", "statement_hits_total": "+1"}
	bound := effects{"STATS.total_bind_count": "+1", "binds_total": "+1"}
	kept := effects{"statements": "+1", "statements_bytes": "more"}
	onServer := effects{"SERVERS[1].prepared_statements": "+1"}
	ofA, ofB := effects{"CLIENTS[a].prepared_statements": "+1"}, effects{"CLIENTS[b].prepared_statements": "+1"}
	w.does("a statement", prepare(a, "one", "select 4711"), transaction("a").with(parsed).with(missed).with(hit).with(kept).with(onServer).with(ofA))
	w.does("it runs", run(a, "one"), transaction("a").with(bound).with(hit))
	w.does("the same text of another client", prepare(b, "same", "select 4711"), transaction("b").with(parsed).with(hit).with(ofB).with(effects{"STATS.total_server_parse_count": "maybe",
		"server_parses_total": "maybe", "STATS.total_statement_*": "maybe", "statement_*": "maybe"}))
	w.does("a second statement", prepare(a, "two", "select 4712"), transaction("a").with(parsed).with(missed).with(hit).with(kept).with(onServer).with(ofA))
	w.does("a third, for which there is no room on the server", prepare(a, "three", "select 4713"),
		transaction("a").with(parsed).with(missed).with(hit).with(kept).with(ofA).with(effects{"STATS.total_statement_eviction_count": "+1", "statement_evictions_total": "+1"}))
	w.does("an unnamed one", func() {
		if r := a.PgConn().ExecParams(within(t), "select $1::int", [][]byte{[]byte("7")}, nil, nil, nil).Read(); r.Err != nil {
			t.Fatal(r.Err)
		}
	}, transaction("a"))
	w.does("it leaves, and what no server holds goes with it", func() { _ = a.Close(within(t)) }, leaves("a").with(effects{"statements": "maybe", "statements_bytes": "maybe"}))
}

// moveWaits is about how long clients have waited: nobody, and then most.
func moveWaits(t *testing.T, l *ledger) {
	w := ready(t, l, calm, "")
	a, b := w.counted("a"), w.counted("b")
	exec(t, b.Conn, "select 1")
	const rounds = 10
	w.does("many wait", func() {
		// Longer than whoever has waited for the first server to be dialled.
		longer := 2*w.p.Server().Pools()[0].Stats.WaitTime + 20*time.Millisecond
		for range rounds {
			exec(t, a.Conn, "begin")
			done := later(t, b.Conn, "select 1")
			until(t, "it waits", func() bool { return w.p.Server().Pools()[0].ClWaiting == 1 })
			exec(t, a.Conn, fmt.Sprintf("select pg_sleep(%f)", longer.Seconds()))
			exec(t, a.Conn, "commit")
			if err := ended(t, "the waiter", done); err != nil {
				t.Fatal(err)
			}
		}
	}, query("b").with(query("a")).with(assigned).with(ends).times(2*rounds).with(effects{"STATS.total_query_count": "+40", "queries_total": "+40", "query_seconds": "+40",
		"CLIENTS[a].bytes_received": "more", "CLIENTS[b].bytes_received": "more", "CLIENTS[a].bytes_sent": "more", "CLIENTS[b].bytes_sent": "more",
		"SERVERS[1].application_name": "maybe", "server_wait_seconds_sum": "more", "STATS.total_wait_time": "more", "STATS.wait_p50": "more", "STATS.wait_p95": "differs", "STATS.wait_p99": "differs"}))
}

func moveStates(t *testing.T, l *ledger) {
	w := ready(t, l, calm+", max_pinned: 1", "")
	a, b := w.counted("a"), w.counted("b")
	exec(t, a.Conn, "select 1")
	exec(t, b.Conn, "select 1")
	exec(t, a.Conn, "select 1")
	goesOn := effects{"SERVERS[1].idle_in_transaction_us": "maybe"}
	w.does("a transaction is opened", w.simple(a, "begin"), query("a").with(assigned).with(holds("a")).with(effects{"POOLS.sv_idle_in_transaction": "+1", "SERVERS[1].idle_in_transaction_us": "more"}))
	w.facts(map[string]string{"CLIENTS[a].link": w.look()["SERVERS[1].ptr"], "SERVERS[1].link": w.look()["CLIENTS[a].ptr"]})
	w.does("a query in it", w.simple(a, "select 1"), query("a").with(goesOn))
	w.does("it stays idle", func() { time.Sleep(5 * time.Second) }, goesOn.with(effects{"servers_idle_in_transaction": "+1"}))

	var waiter <-chan error
	waits := effects{"CLIENTS[b].wait": "maybe", "CLIENTS[b].wait_us": "maybe", "POOLS.maxwait": "maybe", "POOLS.maxwait_us": "maybe", "pool_max_wait_seconds": "maybe"}
	w.does("another waits", func() { waiter = later(t, b.Conn, "select 1") }, goesOn.with(effects{"CLIENTS[b].state": "=waiting", "CLIENTS[b].request_time": "maybe",
		"CLIENTS[b].bytes_received": "+in", "CLIENTS[b].wait": "maybe", "CLIENTS[b].wait_us": "more", "POOLS.cl_waiting": "+1", "POOLS.cl_active": "-1", "clients[waiting]": "+1", "clients[active]": "-1",
		"POOLS.maxwait": "maybe", "POOLS.maxwait_us": "more", "pool_max_wait_seconds": "more"}))
	w.does("for longer", func() { time.Sleep(1100 * time.Millisecond) }, goesOn.with(waits).with(effects{"CLIENTS[b].wait": "more", "POOLS.maxwait": "more", "pool_max_wait_seconds": "more"}))
	w.does("the first one commits", func() {
		exec(t, a.Conn, "commit")
		if err := ended(t, "the waiter", waiter); err != nil {
			t.Fatal(err)
		}
	}, query("b").with(query("a")).with(assigned).with(ends).times(2).with(frees("a")).with(waits).with(effects{"POOLS.sv_idle_in_transaction": "-1", "servers_idle_in_transaction": "-1",
		"SERVERS[1].idle_in_transaction_us": "=0", "CLIENTS[b].state": "=idle", "POOLS.cl_waiting": "-1", "POOLS.cl_active": "+1", "clients[waiting]": "-1", "clients[active]": "+1",
		"STATS.total_server_assignment_count": "+1", "server_assignments_total": "+1", "server_wait_seconds": "+1", "server_wait_seconds_sum": "more", "STATS.total_wait_time": "more", "STATS.wait_p99": "differs",
		"STATS.query_p50": "maybe", "STATS.query_p95": "maybe", "STATS.query_p99": "maybe", "STATS.xact_p95": "more", "SERVERS[1].application_name": "=b",
		"CLIENTS[a].bytes_received": "more", "CLIENTS[b].bytes_received": "", "STATS.total_received": "more", "received_bytes_total": "more", "CLIENTS[a].bytes_sent": "more", "CLIENTS[b].bytes_sent": "more",
		"CLIENTS[b].wait": "=0", "CLIENTS[b].wait_us": "=0", "POOLS.maxwait": "=0", "POOLS.maxwait_us": "=0", "pool_max_wait_seconds": "=0"}))
	w.does("many slow queries", func() {
		for range 80 {
			exec(t, b.Conn, "select pg_sleep(0.02)")
		}
	}, transaction("b").times(80).with(effects{"STATS.query_p50": "more", "STATS.query_p95": "differs", "STATS.query_p99": "differs", "inspections_total": "maybe"}))

	var running <-chan error
	w.does("a query runs", func() { running = later(t, b.Conn, "select pg_sleep(2)") }, holds("b").with(effects{"CLIENTS[b].bytes_received": "+in", "STATS.total_received": "maybe", "received_bytes_total": "maybe", "CLIENTS[b].request_time": "maybe",
		"STATS.total_server_assignment_count": "+1", "server_assignments_total": "+1", "server_wait_seconds": "+1", "STATS.wait_p*": "maybe", "SERVERS[1].query_us": "more"}))
	if err := ended(t, "it", running); err != nil {
		t.Fatal(err)
	}
	until(t, "it is idle", func() bool { return w.pool()["sv_idle"] == "1" })

	w.does("a client keeps its server", w.simple(b, "listen here"), query("b").with(assigned).with(ends).with(holds("b")).with(effects{"CLIENTS[b].pin": "maybe", "CLIENTS[b].pinned_since": "maybe",
		"SERVERS[1].pin": "maybe", "POOLS.sv_pinned": "+1", "pins[listen]": "new", "pins_total[listen]": "new", "inspections_total": "maybe", "settings_bytes": "maybe"}))
	pin := w.look()["SERVERS[1].pin"]
	w.facts(map[string]string{"CLIENTS[b].pin": "listen", "SERVERS[1].pin": "listen"})
	w.between("CLIENTS[b].pinned_since", time.Now().Add(-patience))
	l.moved["CLIENTS.pinned_since"] = true
	_ = pin
	w.does("and gives it back", w.simple(b, "unlisten *"), query("b").with(ends).with(frees("b")).with(effects{"CLIENTS[b].pin": "=NULL", "CLIENTS[b].pinned_since": "=NULL",
		"SERVERS[1].pin": "=NULL", "POOLS.sv_pinned": "-1", "pins[listen]": "gone", "inspections_total": "maybe"}))

	raw, err := w.counted("lazy").PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := (&pgproto3.Query{String: "select repeat('x', 8000) from generate_series(1, 20000)"}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.does("a client does not read", func() {
		if _, err := raw.Conn.Write(msg); err != nil {
			t.Fatal(err)
		}
	}, holds("lazy").with(effects{"CLIENTS[lazy].unread": "=1", "CLIENTS[lazy].bytes_received": "+in", "STATS.total_received": "+in", "received_bytes_total": "+in", "CLIENTS[lazy].bytes_sent": "more", "STATS.total_sent": "more", "sent_bytes_total": "more",
		"CLIENTS[lazy].request_time": "maybe", "SERVERS[1].application_name": "is lazy", "SERVERS[1].query_us": "more"}).with(assigned))
	raw.Conn.Close()
}
