package console

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// gate is a way to PostgreSQL that holds cancel requests until it is opened.
type gate struct {
	net.Listener
	to   string
	open chan struct{}
	wg   sync.WaitGroup
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: l, to: to, open: make(chan struct{})}
	g.wg.Add(1)
	go g.serve()
	t.Cleanup(func() {
		l.Close()
		g.wg.Wait()
	})
	return g
}

func (g *gate) serve() {
	defer g.wg.Done()
	for {
		conn, err := g.Accept()
		if err != nil {
			return
		}
		g.wg.Add(1)
		go func() {
			defer g.wg.Done()
			defer conn.Close()
			g.pass(conn)
		}()
	}
}

func (g *gate) pass(conn net.Conn) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(conn, head); err != nil {
		return
	}
	if head[4] == 4 && head[5] == 210 && head[6] == 22 && head[7] == 46 { // CancelRequest
		<-g.open
	}
	up, err := net.Dial("tcp", g.to)
	if err != nil {
		return
	}
	defer up.Close()
	if _, err := up.Write(head); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, conn)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(conn, up)
	conn.Close()
	<-done
}

// freeze stops a backend, so that it answers nothing; the returned function
// lets it go on.
func freeze(t *testing.T, pid int) (thaw func()) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Skipf("backend %d cannot be stopped: %v", pid, err)
	}
	var once sync.Once
	thaw = func() { once.Do(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) }
	t.Cleanup(thaw)
	return thaw
}

func backend(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	var pid int
	if err := conn.QueryRow(within(t), "select pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func gatePort(g *gate) string {
	_, port, _ := net.SplitHostPort(g.Addr().String())
	return port
}

func databaseOf(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Path, "/")
}

// throughGate is a scene whose server is behind a gate.
func throughGate(t *testing.T, pool string) (*scene, *gate) {
	t.Helper()
	first := set(t, "size: 1", "")
	u, err := url.Parse(first.dsn)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, u.Host)
	u.Host = g.Addr().String()
	return on(t, first.cluster, u.String(), pool, ""), g
}

// expect waits until the columns of a row have these values.
func (s *scene) expect(what, column, value string, want record) {
	s.t.Helper()
	var row record
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		row = s.one(what, column, value)
		wrong := ""
		for col, v := range want {
			if row[col] != v {
				wrong += fmt.Sprintf(" %s=%s, want %s;", col, row[col], v)
			}
		}
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("SHOW %s, %s %s:%s", what, column, value, wrong)
		}
	}
}

// poolIs waits until the row of POOLS is all zero but for these, so that a
// state moves its column and no other.
func (s *scene) poolIs(want record) {
	s.t.Helper()
	full := record{}
	for _, col := range strings.Fields("cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login") {
		full[col] = "0"
	}
	maps.Copy(full, want)
	s.expect("POOLS", "database", "search", full)
}

func TestColumnsOfPools(t *testing.T) {
	s, g := throughGate(t, "size: 2")
	s.poolIs(record{"pool_mode": "transaction", "maxwait": "0", "maxwait_us": "0", "sv_idle": "1"})
	user := s.pool()["user"]
	a := s.client("a")
	exec(t, a, "select 1")
	s.poolIs(record{"cl_active": "1", "sv_idle": "1"})
	exec(t, a, "begin")
	s.poolIs(record{"cl_active": "1", "sv_active": "1"})
	s.expect("DATABASES", "name", "search", record{"current_connections": "1", "current_client_connections": "1", "pool_size": "2", "min_pool_size": "0", "force_user": user, "paused": "0", "disabled": "0",
		"host": "127.0.0.1", "port": gatePort(g), "database": databaseOf(s.dsn), "server_lifetime": "3600", "pool_mode": "", "reserve_pool_size": "0",
		"max_connections": "0", "max_client_connections": "0", "load_balance_hosts": ""})
	b := s.client("b")
	exec(t, b, "begin")
	s.poolIs(record{"cl_active": "2", "sv_active": "2"})
	s.expect("DATABASES", "name", "search", record{"current_connections": "2", "current_client_connections": "2"})
	s.expect("USERS", "name", "app", record{"current_client_connections": "2", "current_connections": "0"})
	s.expect("USERS", "name", user, record{"current_connections": "2", "current_client_connections": "0"})
	c := s.client("c")
	waiter := later(t, c, "select 1")
	s.poolIs(record{"cl_active": "2", "cl_waiting": "1", "sv_active": "2"})
	s.expect("POOLS", "database", "search", record{"maxwait": "1"})
	if us := s.pool().int(t, "maxwait_us"); us < 0 || us > 999999 {
		t.Errorf("maxwait_us %d", us)
	}
	s.expect("CLIENTS", "application_name", "c", record{"state": "waiting"})
	exec(t, a, "commit")
	if err := ended(t, "the waiter", waiter); err != nil {
		t.Fatal(err)
	}
	exec(t, b, "commit")
	_ = c.Close(within(t))
	s.poolIs(record{"cl_active": "2", "sv_idle": "2"})

	// A cancel request on its way, and a server that waits for its end.
	sleep := later(t, a, "select pg_sleep(1)")
	s.poolIs(record{"cl_active": "2", "sv_active": "1", "sv_idle": "1"})
	canceled := make(chan error, 1)
	go func() { canceled <- a.PgConn().CancelRequest(within(t)) }()
	s.poolIs(record{"cl_active": "2", "sv_active": "1", "sv_idle": "1", "cl_active_cancel_req": "1", "sv_active_cancel": "1"})
	if err := ended(t, "the query", sleep); err != nil {
		t.Fatal(err)
	}
	s.poolIs(record{"cl_active": "2", "sv_being_canceled": "1", "sv_idle": "1", "cl_active_cancel_req": "1", "sv_active_cancel": "1"})
	close(g.open)
	if err := ended(t, "the cancel", canceled); err != nil {
		t.Fatal(err)
	}
	s.poolIs(record{"cl_active": "2", "sv_idle": "2"})
}

// What only a server that does not answer shows.
func TestColumnsOfSlowServers(t *testing.T) {
	s := set(t, "size: 1, server_check_delay: 300ms", "")
	a := s.client("a")
	pid := backend(t, a)
	s.poolIs(record{"cl_active": "1", "sv_used": "1"}) // idle for longer than server_check_delay
	s.expect("SERVERS", "remote_pid", strconv.Itoa(pid), record{"state": "used"})
	thaw := freeze(t, pid)
	check := later(t, a, "select 1")
	s.poolIs(record{"cl_waiting": "1", "sv_tested": "1"})
	thaw()
	if err := ended(t, "the query", check); err != nil {
		t.Fatal(err)
	}

	// A cancel request that waits until the client's own query has its turn.
	calm := set(t, "size: 1", "")
	a, b := calm.client("a"), calm.client("b")
	pid = backend(t, a)
	thaw = freeze(t, pid)
	replayed := later(t, b, "select pg_sleep(60)") // behind its application_name
	calm.poolIs(record{"cl_active": "2", "sv_active": "1"})
	canceled := make(chan error, 1)
	go func() { canceled <- b.PgConn().CancelRequest(within(t)) }()
	calm.poolIs(record{"cl_active": "2", "sv_active": "1", "cl_waiting_cancel_req": "1"})
	thaw()
	if err := ended(t, "the cancel", canceled); err != nil {
		t.Fatal(err)
	}
	// As with a direct connection, a cancel that comes before PostgreSQL has
	// begun with the query finds nothing to cancel.
	for pending := true; pending; {
		select {
		case err := <-replayed:
			if code(err) != "57014" {
				t.Fatalf("it ends with %v", err)
			}
			pending = false
		case <-time.After(500 * time.Millisecond):
			if err := b.PgConn().CancelRequest(within(t)); err != nil {
				t.Fatal(err)
			}
		}
	}

	// A server that lets itself be dialled and says nothing.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mute := on(t, s.cluster, "postgres://mute@"+l.Addr().String()+"/x?sslmode=disable", "size: 1", "")
	mute.poolIs(record{"sv_login": "1"})
	if n := mute.one("DATABASES", "name", "search")["current_connections"]; n != "0" {
		t.Errorf("current_connections %s", n)
	}
}

func TestColumnsOfClientsAndServers(t *testing.T) {
	s := set(t, "size: 2", "")
	began := time.Now().Add(-2 * time.Second)
	conn, err := pgx.Connect(within(t), strings.Replace(s.p.DSN("app:app", "search"), "sslmode=disable", "sslmode=require", 1)+"&application_name=secure")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(within(t))
	local := conn.PgConn().Conn().LocalAddr().(*net.TCPAddr)
	remote := conn.PgConn().Conn().RemoteAddr().(*net.TCPAddr)
	exec(t, conn, "begin")
	exec(t, conn, "select 1")
	pid := backend(t, conn)
	if _, err := conn.Prepare(within(t), "mine", "select 7"); err != nil {
		t.Fatal(err)
	}
	client := s.one("CLIENTS", "application_name", "secure")
	server := s.one("SERVERS", "remote_pid", strconv.Itoa(pid))
	u, err := url.Parse(s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	for col, want := range (record{"type": "C", "user": "app", "database": "search", "replication": "none", "state": "active",
		"addr": local.IP.String(), "port": strconv.Itoa(local.Port), "local_addr": remote.IP.String(), "local_port": strconv.Itoa(remote.Port),
		"wait": "0", "wait_us": "0", "close_needed": "0", "link": server["ptr"], "ptr": "c" + client["id"],
		"remote_pid": strconv.FormatUint(uint64(conn.PgConn().PID()), 10)}) {
		if client[col] != want {
			t.Errorf("CLIENTS %s: %q, want %q", col, client[col], want)
		}
	}
	for col, want := range (record{"type": "S", "database": "search", "replication": "none", "state": "active", "addr": u.Hostname(), "port": u.Port(),
		"local_addr": "127.0.0.1", "wait": "0", "wait_us": "0", "close_needed": "0", "link": client["ptr"], "ptr": "s" + server["id"], "tls": "", "application_name": "secure"}) {
		if server[col] != want {
			t.Errorf("SERVERS %s: %q, want %q", col, server[col], want)
		}
	}
	if !strings.HasPrefix(client["tls"], "TLSv1.") && !strings.HasPrefix(client["tls"], "TLS 1.") {
		t.Errorf("CLIENTS tls: %q", client["tls"])
	}
	if client.int(t, "prepared_statements") < 1 || server.int(t, "prepared_statements") < 1 || server.int(t, "local_port") == 0 {
		t.Errorf("statements: %s of the client, %s on the server; local port %s", client["prepared_statements"], server["prepared_statements"], server["local_port"])
	}
	for _, row := range []record{client, server} {
		for _, col := range []string{"connect_time", "request_time"} {
			at, err := time.ParseInLocation("2006-01-02 15:04:05 MST", row[col], time.Local)
			if err != nil || at.Before(began.Truncate(time.Second)) || at.After(time.Now()) {
				t.Errorf("%s of %s: %q (%v)", col, row["type"], row[col], err)
			}
		}
	}
	exec(t, conn, "commit")
	s.expect("CLIENTS", "application_name", "secure", record{"state": "idle", "link": ""})
	s.expect("SERVERS", "remote_pid", strconv.Itoa(pid), record{"state": "idle", "link": ""})
	// A client for replication has a server of its own.
	repl, err := pgconn.Connect(within(t), s.p.DSN("app:app", "search")+"&replication=database&application_name=repl")
	if err != nil {
		t.Skipf("no replication here: %v", err)
	}
	defer repl.Close(within(t))
	if _, err := repl.Exec(within(t), "IDENTIFY_SYSTEM").ReadAll(); err != nil {
		t.Fatal(err)
	}
	s.expect("CLIENTS", "application_name", "repl", record{"replication": "logical"})
}

// What is set for one database or user stands in its row.
func TestColumnsOfSettings(t *testing.T) {
	s := set(t, "size: 5", "  other: {dsn: 'postgres://x@127.0.0.1:1/elsewhere', mode: session, size: 7, min_size: 0, server_lifetime: 90s}\nusers: {report: {mode: session, size: 3}}")
	s.expect("DATABASES", "name", "other", record{"database": "elsewhere", "force_user": "x", "pool_mode": "session", "pool_size": "7", "server_lifetime": "90"})
	s.expect("DATABASES", "name", "search", record{"pool_mode": "", "pool_size": "5", "server_lifetime": "3600"})
	s.expect("DATABASES", "name", "pgbouncer", record{"force_user": "pgbouncer", "pool_mode": "statement"})
	s.expect("USERS", "name", "report", record{"pool_size": "        3", "pool_mode": "session", "reserve_pool_size": "", "max_user_connections": "0", "max_user_client_connections": "0"})
	s.expect("USERS", "name", "app", record{"pool_size": "", "pool_mode": ""})
	s.expect("STATE", "key", "paused", record{"value": "no"})
	s.expect("LISTS", "list", "databases", record{"items": "3"})
	used := func(n int) func() bool {
		return func() bool { return int(s.one("LISTS", "list", "used_clients").int(t, "items")) == n }
	}
	until(t, "one client, the console that asks", used(1)) // those that asked before may still be leaving
	s.client("more")
	until(t, "one client more", used(2))
	exec(t, s.console("ops"), "PAUSE")
	s.expect("STATE", "key", "paused", record{"value": "yes"})
	s.expect("STATE", "key", "active", record{"value": "no"})
}

// What pgbench counts is what pgpoold counts, to the transaction.
func TestCountersEqualPgbench(t *testing.T) {
	s := set(t, "size: 4", "")
	install := s.cluster.Install()
	pgbench, err := install.Tool("pgbench")
	if err != nil {
		t.Skip("there is no pgbench")
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := osexec.Command(pgbench, append(args, s.p.DSN("app:app", "search"))...)
		cmd.Env = append(os.Environ(), "PGOPTIONS=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("pgbench %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("-i", "-q", "-s", "1")
	processed := regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	const clients, transactions = 8, 50
	own := -1
	for _, tt := range []struct {
		mode, script string
		perXact      int // queries of a transaction: ReadyForQuery
		binds        int
	}{
		{"simple", "select-only", 1, 0},
		{"extended", "select-only", 1, 1},
		{"prepared", "select-only", 1, 1},
		{"simple", "tpcb-like", 7, 0},
	} {
		before := s.one("STATS", "database", "search")
		totals := metricsOf(t, s)
		out := run("-n", "-M", tt.mode, "-b", tt.script, "-c", strconv.Itoa(clients), "-j", "2", "-t", strconv.Itoa(transactions))
		m := processed.FindStringSubmatch(out)
		if m == nil || m[1] != strconv.Itoa(clients*transactions) {
			t.Fatalf("pgbench says\n%s", out)
		}
		after := s.one("STATS", "database", "search")
		delta := func(col string) int { return after.int(t, col) - before.int(t, col) }
		// What pgbench asks for itself before it begins is the same each time;
		// in prepared mode each client's Parse is a batch of its own.
		xacts := delta("total_xact_count") - clients*transactions
		queries := delta("total_query_count") - clients*transactions*tt.perXact
		if tt.mode == "prepared" {
			xacts, queries = xacts-clients, queries-clients
		}
		if own < 0 {
			own = xacts
		}
		if own < 1 || own > 3 || xacts != own || queries != own {
			t.Errorf("%s %s: %d transactions and %d queries more than pgbench counted; its own are %d", tt.mode, tt.script, xacts, queries, own)
		}
		if d := delta("total_bind_count"); d != tt.binds*clients*transactions {
			t.Errorf("%s %s: %d binds", tt.mode, tt.script, d)
		}
		if d := delta("total_client_login_count"); d != clients+1 {
			t.Errorf("%s %s: %d logins", tt.mode, tt.script, d)
		}
		if tt.mode == "extended" && delta("total_client_parse_count") != clients*transactions || tt.mode == "simple" && delta("total_client_parse_count") != 0 {
			t.Errorf("%s %s: %d parses", tt.mode, tt.script, delta("total_client_parse_count"))
		}
		for _, col := range []string{"total_server_assignment_count", "total_received", "total_sent", "total_xact_time", "total_query_time"} {
			if delta(col) <= 0 {
				t.Errorf("%s %s: %s does not move", tt.mode, tt.script, col)
			}
		}
		now := metricsOf(t, s)
		for metric, col := range map[string]string{"transactions_total": "total_xact_count", "queries_total": "total_query_count",
			"server_assignments_total": "total_server_assignment_count", "received_bytes_total": "total_received", "sent_bytes_total": "total_sent",
			"transaction_seconds_count": "total_xact_count", "query_seconds_count": "total_query_count", "server_wait_seconds_count": "total_server_assignment_count"} {
			if d := now[metric] - totals[metric]; int(d) != delta(col) {
				t.Errorf("%s %s: %s moves by %v, %s by %d", tt.mode, tt.script, metric, d, col, delta(col))
			}
		}
	}
}

var metricLine = regexp.MustCompile(`(?m)^pgpoold_(\w+)\{database="search",user="\w+"\} (\S+)$`)

// metricsOf are the metrics of the pool search, by name without pgpoold_.
func metricsOf(t *testing.T, s *scene) map[string]float64 {
	t.Helper()
	_, body := s.get("/metrics")
	all := map[string]float64{}
	for _, m := range metricLine.FindAllStringSubmatch(body, -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		all[m[1]] = v
	}
	return all
}

// Averages are of the last stats period; the columns of the three tables and
// of TOTALS agree.
func TestStatsTablesAgree(t *testing.T) {
	s := set(t, "size: 2", "")
	c := s.client("a")
	for range 5 {
		exec(t, c, "select 1")
	}
	stats, totals := s.one("STATS", "database", "search"), s.one("STATS_TOTALS", "database", "search")
	for short, long := range map[string]string{"xact_count": "total_xact_count", "query_count": "total_query_count", "bytes_received": "total_received",
		"bytes_sent": "total_sent", "xact_time": "total_xact_time", "bind_count": "total_bind_count", "client_login_count": "total_client_login_count"} {
		if stats[long] != totals[short] {
			t.Errorf("%s is %s, %s is %s", long, stats[long], short, totals[short])
		}
	}
	if n := s.one("TOTALS", "name", "total_xact_count").int(t, "value"); n < stats.int(t, "total_xact_count") {
		t.Errorf("all databases together have %d transactions", n)
	}
	names := slices.Sorted(maps.Keys(s.one("STATS_AVERAGES", "database", "search")))
	if len(names) != 13 {
		t.Errorf("columns %q", names)
	}
}
