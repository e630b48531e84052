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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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
	latency := regexp.MustCompile(`latency average = ([\d.]+) ms`)
	const clients, transactions = 8, 50
	own := -1
	for _, tt := range []struct {
		mode, script string
		queries      int // of a transaction: ReadyForQuery
		statements   int // named ones
	}{
		{"simple", "select-only", 1, 0},
		{"extended", "select-only", 1, 0},
		{"prepared", "select-only", 1, 1},
		{"simple", "tpcb-like", 7, 0},
		{"prepared", "tpcb-like", 7, 7},
	} {
		name := tt.mode + " " + tt.script
		before := s.one("STATS", "database", "search")
		totals := metricsOf(t, s)
		out := run("-n", "-M", tt.mode, "-b", tt.script, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(clients), "-t", strconv.Itoa(transactions))
		m := processed.FindStringSubmatch(out)
		if m == nil || m[1] != strconv.Itoa(clients*transactions) {
			t.Fatalf("pgbench says\n%s", out)
		}
		after := s.one("STATS", "database", "search")
		delta := func(col string) int { return after.int(t, col) - before.int(t, col) }
		const n = clients * transactions
		// A thread for each client: pgbench waits for the answer to its Parse, with
		// all clients of the thread. What it asks for itself before it begins is the same each time. In
		// prepared mode each client's Parse is a batch of its own: that of the
		// first statement outside of the transaction.
		xacts, queries := delta("total_xact_count")-n, delta("total_query_count")-n*tt.queries-clients*tt.statements
		if tt.statements > 0 {
			xacts -= clients
		}
		if own < 0 {
			own = xacts
		}
		if own < 1 || own > 3 || xacts != own || queries != own {
			t.Errorf("%s: %d transactions and %d queries more than pgbench counted; its own are %d", name, xacts, queries, own)
		}
		for column, want := range map[string]int{
			"total_server_assignment_count": delta("total_xact_count"),
			"total_bind_count":              n * tt.statements,
			"total_client_parse_count":      clients * tt.statements,
			"total_client_login_count":      clients + 1,
		} {
			if d := delta(column); d != want {
				t.Errorf("%s: %s moves by %d, want %d", name, column, d, want)
			}
		}
		// A statement is parsed at least once on one server, and on each once for
		// each client at most.
		if d := delta("total_server_parse_count"); d < tt.statements || d > clients*tt.statements*4 {
			t.Errorf("%s: total_server_parse_count moves by %d", name, d)
		}
		// Transactions take no longer here than there.
		ms, err := strconv.ParseFloat(latency.FindStringSubmatch(out)[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		there := ms * 1000 * n
		xactTime, queryTime, waitTime := float64(delta("total_xact_time")), float64(delta("total_query_time")), float64(delta("total_wait_time"))
		if xactTime <= 0 || queryTime <= 0 || xactTime > there*1.1+20_000 || queryTime > xactTime*1.1+20_000 || waitTime > there*1.1+20_000 {
			t.Errorf("%s: transactions took %v us, of it queries %v, and waits %v; pgbench measured %v", name, xactTime, queryTime, waitTime, there)
		}
		// The metrics say the same.
		now := metricsOf(t, s)
		for metric, col := range map[string]string{"transactions_total": "total_xact_count", "queries_total": "total_query_count",
			"server_assignments_total": "total_server_assignment_count", "received_bytes_total": "total_received", "sent_bytes_total": "total_sent",
			"transaction_seconds_count": "total_xact_count", "query_seconds_count": "total_query_count", "server_wait_seconds_count": "total_server_assignment_count",
			"binds_total": "total_bind_count", "client_parses_total": "total_client_parse_count", "server_parses_total": "total_server_parse_count", "client_logins_total": "total_client_login_count"} {
			if d := now[metric] - totals[metric]; int(d) != delta(col) {
				t.Errorf("%s: %s moves by %v, %s by %d", name, metric, d, col, delta(col))
			}
		}
		if d := now["query_errors_total"] - totals["query_errors_total"]; d != 0 {
			t.Errorf("%s: %v errors", name, d)
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
