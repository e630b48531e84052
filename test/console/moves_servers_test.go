package console

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

func moveCancels(t *testing.T, l *ledger) {
	first, g := throughGate(t, calm)
	until(t, "one idle server", func() bool { return first.pool()["sv_idle"] == "1" })
	c := first.client("warm")
	exec(t, c, "select 1")
	_ = c.Close(within(t))
	w := watch(first, l)
	a := w.counted("a")
	exec(t, a.Conn, "select 1")
	running := later(t, a.Conn, "select pg_sleep(1.5)")
	until(t, "it runs", func() bool { return w.pool()["sv_active"] == "1" })
	goesOn := effects{"SERVERS[1].query_us": "maybe", "clients_accepted_total": "+1"}
	canceled := make(chan error, 1)
	w.does("a cancel request comes, and is on its way", func() { go func() { canceled <- a.PgConn().CancelRequest(within(t)) }() },
		goesOn.with(effects{"cancel_requests_total": "+1", "cancels_forwarded_total": "+1", "POOLS.cl_active_cancel_req": "+1", "clients[active_cancel_req]": "+1", "POOLS.sv_active_cancel": "+1", "servers[active_cancel]": "+1", "logins_under_way": "maybe"}))
	w.does("the query ends before it has come", func() {
		if err := ended(t, "the query", running); err != nil {
			t.Fatal(err)
		}
	}, query("a").with(ends).with(frees("a")).with(effects{"POOLS.sv_idle": "", "servers[idle]": "", "POOLS.sv_being_canceled": "+1", "servers[being_canceled]": "+1", "SERVERS[1].state": "=being_canceled",
		"SERVERS[1].query_us": "maybe", "STATS.total_received": "maybe", "received_bytes_total": "maybe", "CLIENTS[a].bytes_received": "", "STATS.query_p*": "maybe", "logins_under_way": "maybe"}))
	w.does("it has come", func() {
		close(g.open)
		if err := ended(t, "the cancel", canceled); err != nil {
			t.Fatal(err)
		}
	}, effects{"POOLS.cl_active_cancel_req": "-1", "clients[active_cancel_req]": "-1", "POOLS.sv_active_cancel": "-1", "servers[active_cancel]": "-1", "POOLS.sv_being_canceled": "-1", "servers[being_canceled]": "-1",
		"POOLS.sv_idle": "+1", "servers[idle]": "+1", "SERVERS[1].state": "=idle", "logins_under_way": "maybe"})
}

func moveErrors(t *testing.T, l *ledger) {
	w := ready(t, l, calm+", session_state_audit: 1", "")
	a := w.counted("a")
	exec(t, a.Conn, "select 1")
	w.does("an error of PostgreSQL's", func() { _, _ = a.Exec(within(t), "select 1/0") },
		transaction("a").with(effects{"query_errors_total": "+1", "errors_total[server 22012]": "new", "inspections_total": "maybe"}))
	w.does("the same again", func() { _, _ = a.Exec(within(t), "select 1/0") },
		transaction("a").with(effects{"query_errors_total": "+1", "errors_total[server 22012]": "+1", "inspections_total": "maybe"}))
	refuse := func() { _, _ = pgx.Connect(within(t), w.p.DSN("app:wrong", "search")) }
	w.does("a wrong password", refuse, effects{"clients_accepted_total": "+1", "logins_failed_total": "+1", "errors_total[pgpoold 28P01]": "new", "logins_under_way": "maybe"})
	w.does("again", refuse, effects{"clients_accepted_total": "+1", "logins_failed_total": "+1", "errors_total[pgpoold 28P01]": "+1", "logins_under_way": "maybe"})
	var half net.Conn
	w.does("somebody connects and says nothing", func() {
		var err error
		if half, err = net.Dial("tcp", w.p.Addr()); err != nil {
			t.Fatal(err)
		}
	}, effects{"clients_accepted_total": "+1", "logins_under_way": "+1"})
	w.does("and goes", func() { half.Close() }, effects{"logins_under_way": "-1"})
	w.does("a TLS handshake fails", func() {
		conn, err := net.Dial("tcp", w.p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47})
		_, _ = conn.Read(make([]byte, 1))
		_, _ = conn.Write([]byte("no TLS at all, but as long as a record has to be"))
		_, _ = conn.Read(make([]byte, 100))
	}, effects{"clients_accepted_total": "+1", "tls_handshakes_failed_total": "+1", "logins_under_way": "maybe"})
	w.does("there are no descriptors left", func() { exhaust(t, w.p.Addr()) }, effects{"clients_accepted_total": "+1", "accept_pauses_total": "more", "logins_under_way": "maybe"})

	// What the texts of queries do not tell, and pgpoold does not know yet.
	if err := w.cluster.Exec(within(t), w.db, "create function sly() returns void language sql as $$ select set_config('work_mem', '5MB', false) $$"); err != nil {
		t.Fatal(err)
	}
	w.does("state that only the audit finds", w.simple(a, "select sly()"), transaction("a").with(effects{"state_missed_total[settings]": "new", "inspections_total": "maybe", "settings_bytes": "maybe",
		"STATS.total_sent": "more", "sent_bytes_total": "more"}))

	ops := w.console("ops")
	exec(t, ops, "SET max_client_conn = 1")
	w.does("one client too many", func() {
		if _, err := pgx.Connect(within(t), w.p.DSN("app:app", "search")); code(err) != "53300" {
			t.Fatal(err)
		}
	}, effects{"clients_accepted_total": "+1", "clients_refused_total": "+1", "errors_total[pgpoold 53300]": "new", "logins_under_way": "maybe"})
}

// exhaust takes every descriptor that the process may have, connects, and
// gives them back.
func exhaust(t *testing.T, addr string) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	highest := 0
	for _, f := range open {
		if n, err := strconv.Atoi(f.Name()); err == nil {
			highest = max(highest, n)
		}
	}
	low := limit
	low.Cur = uint64(highest) + 8
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	files[0].Close()
	conn, err := net.Dial("tcp", addr) // takes the last one
	time.Sleep(20 * time.Millisecond)
	for _, f := range files[1:] {
		f.Close()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // it is accepted now
	conn.Close()
}

func moveCommands(t *testing.T, l *ledger) {
	w := ready(t, l, calm, "")
	a := w.counted("a")
	exec(t, a.Conn, "select 1")
	ops := w.console("ops")
	closes := effects{"SERVERS[1].*": "gone", "DATABASES.current_connections": "-1", "USERS[server].current_connections": "-1", "servers_connected": "-1", "POOLS.sv_idle": "-1", "servers[idle]": "-1", "tls_connections[server none]": "-1"}
	dials := effects{"SERVERS[1].*": "new", "DATABASES.current_connections": "+1", "USERS[server].current_connections": "+1", "servers_connected": "+1", "POOLS.sv_idle": "+1", "servers[idle]": "+1", "tls_connections[server none]": "+1",
		"STATS.total_server_dial_count": "+1", "server_dials_total": "+1", "server_connect_seconds": "+1", "server_connect_seconds_sum": "more", "server_wait_seconds": "maybe", "STATS.wait_p*": "maybe"}
	paused := effects{"DATABASES.paused": "=1", "POOLS.paused": "=1", "pool_paused": "+1"}
	resumed := effects{"DATABASES.paused": "=0", "POOLS.paused": "=0", "pool_paused": "-1"}
	for _, db := range []string{"", " search"} {
		w.does("PAUSE"+db, func() { exec(t, ops, "PAUSE"+db) }, closes.with(paused).with(effects{"server_closes_total[pause]": "+1"}))
		w.does("RESUME"+db, func() { exec(t, ops, "RESUME"+db) }, dials.with(resumed))
	}
	w.does("DISABLE", func() { exec(t, ops, "DISABLE search") }, effects{"DATABASES.disabled": "=1"})
	w.does("ENABLE", func() { exec(t, ops, "ENABLE search") }, effects{"DATABASES.disabled": "=0"})
	exec(t, a.Conn, "begin")
	goesOn := effects{"SERVERS[1].idle_in_transaction_us": "maybe", "servers_idle_in_transaction": "maybe"}
	w.does("RECONNECT", func() { exec(t, ops, "RECONNECT search") }, goesOn.with(effects{"SERVERS[1].close_needed": "=1"}))
	w.does("which waits for the transaction", w.simple(a, "commit"), query("a").with(ends).with(frees("a")).with(goesOn).with(effects{"SERVERS[1].*": "maybe", "server_closes_total[reconnect]": "+1", "POOLS.sv_idle_in_transaction": "-1",
		"STATS.total_server_dial_count": "+1", "server_dials_total": "+1", "server_connect_seconds": "+1", "server_connect_seconds_sum": "more", "server_wait_seconds": "maybe", "STATS.wait_p*": "maybe",
		"SERVERS[1].state": "maybe", "SERVERS[1].link": "maybe", "SERVERS[1].application_name": "maybe"}))
	w.does("KILL", func() { exec(t, ops, "KILL search") }, closes.with(paused).with(leaves("a")).with(effects{"server_closes_total[kill]": "+1", "errors_total[pgpoold 57P01]": "maybe"}))
	w.does("RESUME", func() { exec(t, ops, "RESUME") }, dials.with(resumed))

}

func moveSettings(t *testing.T, l *ledger) {
	const more = "  other: {dsn: 'postgres://x@127.0.0.1:1/x'}\nusers: {app: {max_user_client_connections: 9}}"
	w := ready(t, l, calm, more)
	text, err := os.ReadFile(w.p.File())
	if err != nil {
		t.Fatal(err)
	}
	was := string(text)
	change := func(old, with string) func() {
		return func() {
			t.Helper()
			next := strings.Replace(was, old, with, 1)
			if next == was {
				t.Fatalf("no %q in\n%s", old, was)
			}
			if notes, err := w.p.Reload(next); err != nil || len(notes) > 0 {
				t.Fatal(notes, err)
			}
			was = next
		}
	}
	db := func(extra string) string { return fmt.Sprintf("search: {dsn: %q%s}", w.dsn, extra) }
	w.does("pool_size", change(db(""), db(", size: 5")), effects{"DATABASES.pool_size": "=5", "POOLS.pool_size": "=5", "pool_size": "=5"})
	w.does("reserve_size", change(db(", size: 5"), db(", size: 5, reserve_size: 3")), effects{"DATABASES.reserve_pool_size": "=3"})
	w.does("max_db_connections", change(", reserve_size: 3", ", max_db_connections: 7"), effects{"DATABASES.reserve_pool_size": "=0", "DATABASES.max_connections": "=7"})
	w.does("max_db_client_connections", change(", max_db_connections: 7", ", max_db_client_connections: 8"), effects{"DATABASES.max_connections": "=0", "DATABASES.max_client_connections": "=8"})
	w.does("server_lifetime", change(", max_db_client_connections: 8", ", server_lifetime: 90s"), effects{"DATABASES.max_client_connections": "=0", "DATABASES.server_lifetime": "=90"})
	w.does("min_size", change(", server_lifetime: 90s", ", min_size: 2"), effects{"DATABASES.server_lifetime": "=3600", "DATABASES.min_pool_size": "=2", "POOLS.min_pool_size": "=2", "pool_min_size": "=2",
		"SERVERS[2].*": "new", "DATABASES.current_connections": "+1", "USERS[server].current_connections": "+1", "servers_connected": "+1", "POOLS.sv_idle": "+1", "servers[idle]": "+1", "tls_connections[server none]": "+1",
		"STATS.total_server_dial_count": "+1", "server_dials_total": "+1", "server_connect_seconds": "+1", "server_connect_seconds_sum": "more"})
	w.does("mode", change(", min_size: 2", ", min_size: 2, mode: statement"), effects{"DATABASES.pool_mode": "=statement", "POOLS.pool_mode": "=statement"})
	w.does("a user's size", change("max_user_client_connections: 9", "max_user_client_connections: 9, size: 4"), effects{"USERS[app].pool_size": "=        4"})
	w.does("a user's mode", change(", size: 4}", ", mode: session}"), effects{"USERS[app].pool_size": "=", "USERS[app].pool_mode": "=session"})
	w.does("max_user_connections", change(", mode: session}", ", max_user_connections: 6}"), effects{"USERS[app].pool_mode": "=NULL", "USERS[app].max_user_connections": "=6"})
	w.does("max_user_client_connections", change("max_user_client_connections: 9", "max_user_client_connections: 11"), effects{"USERS[app].max_user_client_connections": "=11"})

	// Another server: first none that answers, then one again.
	moved := effects{"SERVERS[*": "gone", "DATABASES.current_connections": "-2", "USERS[server].*": "maybe", "servers_connected": "-2", "POOLS.sv_idle": "-2", "servers[idle]": "-2", "tls_connections[server none]": "-2",
		"server_closes_total[reload]": "+2", "STATS.total_server_dial_count": "more", "server_dials_total": "more", "STATS.total_server_dial_error_count": "more", "server_dial_errors_total": "more", "POOLS.sv_login": "maybe", "servers[login]": "maybe"}
	w.does("a server that is away", change(w.dsn, "postgres://nobody@localhost:1/elsewhere?sslmode=disable"), moved.with(effects{"DATABASES.host": "=localhost", "DATABASES.port": "=1", "DATABASES.database": "=elsewhere", "DATABASES.force_user": "=nobody",
		"POOLS.user": "=nobody", "POOLS.last_error": "maybe", "POOLS.ready": "=0", "DATABASES.ready": "=0", "pool_ready": "-1", "ready": "maybe"}))
	if e := w.look()["POOLS.last_error"]; !strings.Contains(e, "refused") {
		t.Errorf("last_error %q", e)
	}
	l.moved["POOLS.last_error"] = true
}

// What only servers of another kind show, or several.
func moveServers(t *testing.T, l *ledger) {
	// Two that take turns.
	w := ready(t, l, "size: 2, min_size: 2, round_robin: true, server_check_delay: 1h", "")
	a := w.counted("a")
	until(t, "two servers", func() bool { return w.look()["POOLS.sv_idle"] == "2" })
	for range 4 {
		exec(t, a.Conn, "select 1")
	}
	w.does("it gets the other server", w.simple(a, "select 1"), transaction("a").with(effects{"SERVERS[1].application_name": "", "SERVERS[2].request_time": "maybe",
		"STATS.total_server_switch_count": "+1", "server_switches_total": "+1"}))

	// One that has been idle for long is checked, which takes as long as it takes.
	w = watch(set(t, "size: 1, min_size: 1, server_check_delay: 500ms", ""), l)
	a = w.counted("a")
	exec(t, a.Conn, "select 1")
	pid := backend(t, a.Conn)
	until(t, "it is idle", func() bool { return w.look()["POOLS.sv_idle"] == "1" })
	w.does("it is idle for long", func() {}, effects{"POOLS.sv_idle": "-1", "servers[idle]": "-1", "POOLS.sv_used": "+1", "servers[used]": "+1", "SERVERS[1].state": "=used"})
	thaw := freeze(t, pid)
	var done <-chan error
	waits := effects{"CLIENTS[a].wait": "maybe", "CLIENTS[a].wait_us": "more", "POOLS.maxwait": "maybe", "POOLS.maxwait_us": "more", "pool_max_wait_seconds": "more",
		"POOLS.cl_waiting": "+1", "clients[waiting]": "+1", "POOLS.cl_active": "-1", "clients[active]": "-1", "CLIENTS[a].state": "=waiting", "CLIENTS[a].bytes_received": "+in", "CLIENTS[a].request_time": "maybe"}
	w.does("it is checked", func() { done = later(t, a.Conn, "select 1") }, waits.with(effects{"POOLS.sv_used": "-1", "servers[used]": "-1", "POOLS.sv_tested": "+1", "servers[tested]": "+1", "SERVERS[1].state": "=tested"}))
	thaw()
	if err := ended(t, "the query", done); err != nil {
		t.Fatal(err)
	}

	// A cancel request that waits for the client's own query to have its turn.
	w = ready(t, l, calm, "")
	a, b := w.counted("a"), w.counted("b")
	exec(t, b.Conn, "select 1")
	exec(t, a.Conn, "select 1")
	thaw = freeze(t, backend(t, a.Conn))
	done = later(t, b.Conn, "select 1") // behind its application_name
	until(t, "it has the server", func() bool { return w.look()["CLIENTS[b].state"] == "active" })
	canceled := make(chan error, 1)
	w.does("a cancel request has to wait", func() { go func() { canceled <- b.PgConn().CancelRequest(within(t)) }() },
		effects{"SERVERS[1].query_us": "maybe", "clients_accepted_total": "+1", "cancel_requests_total": "+1", "POOLS.cl_waiting_cancel_req": "+1", "clients[waiting_cancel_req]": "+1", "logins_under_way": "maybe"})
	thaw()
	if err := ended(t, "the cancel", canceled); err != nil {
		t.Fatal(err)
	}
	_ = ended(t, "the query", done)

	// One that lets itself be dialled and says nothing; then it is away.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w = watch(on(t, w.cluster, "postgres://mute@"+mute.Addr().String()+"/x?sslmode=disable", "size: 1, server_connect_timeout: 700ms, server_login_retry: 500ms", ""), l)
	w.facts(map[string]string{"POOLS.ready": "0", "DATABASES.ready": "0", "ready": "0", "pool_ready": "0"})
	until(t, "a dial", func() bool { return w.look()["POOLS.sv_login"] == "0" })
	goesOn := effects{"STATS.total_server_dial_*": "maybe", "server_dial*": "maybe", "POOLS.last_error": "maybe", "errors_total*": "maybe"}
	w.does("it is dialled", func() {}, goesOn.with(effects{"POOLS.sv_login": "+1", "servers[login]": "+1"}))
	mute.Close()

	// One with TLS, and a client that replicates, which has a server of its own.
	certs, err := postgres.NewTLS("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c := postgres.StartForTest(t, postgres.Config{TLS: certs})
	w = watch(on(t, c, strings.Replace(c.SuperDSN("postgres"), "sslmode=disable", "sslmode=require", 1), calm, ""), l)
	until(t, "its server", func() bool { return w.look()["POOLS.sv_idle"] == "1" })
	r := w.look()
	if r["tls_connections[server TLSv1.3]"] != "1" || !strings.HasPrefix(r["SERVERS[1].tls"], "TLSv1.3/TLS_") {
		t.Errorf("%q, %s connections", r["SERVERS[1].tls"], r["tls_connections[server TLSv1.3]"])
	}
	l.moved["SERVERS.tls"] = true
	var repl *pgconn.PgConn
	before := w.look()
	w.does("a client replicates", func() {
		if repl, err = pgconn.Connect(within(t), w.p.DSN("app:app", "search")+"&application_name=repl&replication=database"); err != nil {
			t.Fatal(err)
		}
		for range 7 {
			if _, err := repl.Exec(within(t), "IDENTIFY_SYSTEM").ReadAll(); err != nil {
				t.Fatal(err)
			}
		}
	}, comes("repl").with(effects{"POOLS.*": "maybe", "SERVERS[2].*": "new", "POOLS.cl_active": "+1", "POOLS.pool_size": "+1", "DATABASES.current_connections": "+1", "USERS[server].current_connections": "+1", "servers_connected": "+1", "tls_connections[server TLSv1.3]": "+1", "servers[*": "maybe",
		"clients[*": "maybe", "STATS.*": "maybe", "pool_size": "maybe", "query_*": "maybe", "queries_total": "+7", "transaction*": "maybe", "server_*": "maybe", "sent_bytes_total": "more", "received_bytes_total": "more", "inspections_total": "maybe"}))
	w.facts(map[string]string{"CLIENTS[repl].replication": "logical", "SERVERS[2].replication": "logical", "SERVERS[1].replication": "none"})
	if n := len(w.show("POOLS")); n != 2 {
		t.Errorf("SHOW POOLS has %d rows", n)
	}
	_ = repl.Close(within(t))
	until(t, "it is gone", func() bool { r := w.look(); return r["CLIENTS[repl].id"] == "" && r["SERVERS[2].id"] == "" })
	after := w.look()
	for _, name := range []string{"queries_total", "STATS.total_query_count", "client_logins_total", "server_dials_total"} {
		n, _ := strconv.Atoi(before[name])
		m, _ := strconv.Atoi(after[name])
		if m <= n || strings.Contains(name, "quer") && m != n+7 {
			t.Errorf("%s was %d before a client replicated, and is %d when it has left", name, n, m)
		}
	}
}

// moveUsers is about a database whose DSN names no user: each client is itself
// on the server, and each user has a pool.
func moveUsers(t *testing.T, l *ledger) {
	c := postgres.ForTest(t)
	for _, role := range []string{"app", "report"} {
		if err := c.Exec(within(t), "postgres", "do $$ begin create role "+role+" login; exception when duplicate_object then null; end $$"); err != nil {
			t.Fatal(err)
		}
	}
	dsn := c.SuperDSN("postgres")
	s := on(t, c, strings.Replace(dsn, superuserInfo(dsn), "", 1), "size: 1", "")
	exec(t, s.as("app", "first"), "select 1")
	w := watch(s, l)
	// Of what else moves the other scenes tell.
	w.does("another user comes", func() { exec(t, s.as("report", "second"), "select 1") }, effects{"*": "maybe", "DATABASES.pools": "+1"})
}

// Averages are of the last period that is complete: counts per second, times
// for each query, transaction and assignment.
func moveAverages(t *testing.T, l *ledger) {
	s := set(t, calm, "", "stats_period: 1s")
	w := watch(s, l)
	a, b := w.counted("a"), w.counted("b")
	exec(t, b.Conn, "select 1")
	averages := map[string]string{} // by column: what it is the average of
	for _, column := range strings.Fields("server_assignment_count xact_count query_count client_parse_count server_parse_count bind_count client_login_count xact_time query_time wait_time") {
		averages["avg_"+column] = "total_" + column
	}
	averages["avg_recv"], averages["avg_sent"] = "total_received", "total_sent"
	of := map[string]string{"avg_xact_time": "total_xact_count", "avg_query_time": "total_query_count", "avg_wait_time": "total_server_assignment_count"}
	number := func(r reading, column string) int { return record(r).int(t, "STATS."+column) }
	nothing := func(r reading) bool {
		for column := range averages {
			if number(r, column) != 0 {
				return false
			}
		}
		return true
	}
	// all are right if what was done was done within one period.
	right := func(before, after, r reading) (wrong []string, seen []string) {
		for column, total := range averages {
			d, low, high, got := number(after, total)-number(before, total), 0, 0, number(r, column)
			if base, ok := of[column]; !ok {
				low, high = max(d*9/10-1, 0), d
			} else if n := number(after, base) - number(before, base); n > 0 {
				low, high = d/n, d/n
			}
			if got < low || got > high {
				wrong = append(wrong, fmt.Sprintf("%s is %d, want %d to %d", column, got, low, high))
			}
			if got > 0 {
				seen = append(seen, column)
			}
		}
		return wrong, seen
	}
	for _, burst := range []struct {
		what string
		do   func()
		not  string // columns that stay as they are
	}{
		{"queries", func() {
			for range 50 {
				exec(t, b.Conn, "select 1")
			}
		}, "avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count avg_wait_time"},
		{"statements", func() {
			for i := range 20 {
				if _, err := b.Prepare(within(t), fmt.Sprint("s", i), fmt.Sprint("select ", i)); err != nil {
					t.Fatal(err)
				}
				if r := b.PgConn().ExecPrepared(within(t), fmt.Sprint("s", i), nil, nil, nil).Read(); r.Err != nil {
					t.Fatal(r.Err)
				}
				if err := b.Deallocate(within(t), fmt.Sprint("s", i)); err != nil {
					t.Fatal(err)
				}
			}
		}, "avg_client_login_count avg_wait_time"},
		{"logins", func() {
			for range 5 {
				_ = s.client("b").Close(within(t))
			}
		}, "avg_xact_count avg_query_count avg_xact_time avg_query_time avg_recv avg_sent avg_client_parse_count avg_server_parse_count avg_bind_count avg_server_assignment_count avg_wait_time"},
		{"waits", func() {
			exec(t, b.Conn, "begin")
			done := later(t, a.Conn, "select 1")
			until(t, "a waiter", func() bool { return w.pool()["cl_waiting"] == "1" })
			exec(t, b.Conn, "commit")
			if err := ended(t, "the waiter", done); err != nil {
				t.Fatal(err)
			}
		}, "avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count"},
	} {
		var wrong, seen []string
		for range 8 {
			until(t, "a calm period", func() bool { return nothing(w.look()) })
			before := w.look()
			burst.do()
			after := w.look()
			var r reading
			until(t, "an average", func() bool { r = w.look(); return !nothing(r) })
			if wrong, seen = right(before, after, r); len(wrong) == 0 {
				break
			}
		}
		if len(wrong) > 0 {
			t.Errorf("%s: %s", burst.what, strings.Join(wrong, "; "))
		}
		for _, column := range seen {
			l.moved["STATS."+column] = true
			if slices.Contains(strings.Fields(burst.not), column) {
				t.Errorf("%s: %s moves", burst.what, column)
			}
		}
	}
}

// The end: nobody is let in, and who is in stays.
func moveEnd(t *testing.T, l *ledger) {
	began := time.Now()
	w := ready(t, l, calm, "")
	r := w.look()
	if at, err := strconv.ParseFloat(r["start_time_seconds"], 64); err != nil || at < float64(began.Unix()) || at > float64(time.Now().Unix()+1) {
		t.Errorf("started at %s", r["start_time_seconds"])
	}
	var build string
	for name := range r {
		if strings.HasPrefix(name, "build_info[") {
			build = name
		}
	}
	if want := "build_info[" + runtime.Version() + " test]"; build != want || r[build] != "1" {
		t.Errorf("%s %s, want %s", build, r[build], want)
	}
	l.moved["start_time_seconds"], l.moved["build_info"] = true, true
	w.counted("stays")
	// What SHUTDOWN WAIT_FOR_CLIENTS begins with.
	w.does("it is to end when all have left", func() { w.p.Server().StopAccepting() }, effects{"draining": "=1", "ready": "=0"})
}
