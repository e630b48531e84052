package console

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"
)

// total is the sum of a family's values whose labels hold all of these
// texts; a histogram's is its count.
func total(families map[string]*dto.MetricFamily, name string, labels ...string) (sum float64, there bool) {
	f := families["pgpoold_"+name]
	for _, m := range f.GetMetric() {
		text := ""
		for _, l := range m.GetLabel() {
			text += l.GetName() + "=" + l.GetValue() + ","
		}
		fits := true
		for _, want := range labels {
			fits = fits && strings.Contains(text, want+",")
		}
		if fits {
			there = true
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum, there
}

// Every metric moves by what it stands for.
func TestMetricsMove(t *testing.T) {
	s := set(t, "size: 2, min_size: 1, query_wait_timeout: 60s", "")
	url := "http://" + s.p.AdminAddr() + "/metrics"
	moved := map[string]bool{}
	// step does something and sees a metric move by d, or at least by 1 for
	// d < 0.
	step := func(metric string, d float64, do func(), labels ...string) {
		t.Helper()
		before, _ := total(scrape(t, url), metric, labels...)
		do()
		var after float64
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			var there bool
			after, there = total(scrape(t, url), metric, labels...)
			if there && (d < 0 && after >= before+1 || d >= 0 && after == before+d) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s %q: from %v to %v, want a move of %v", metric, labels, before, after, d)
			}
		}
		moved[metric] = true
	}
	query := func(conn *pgx.Conn, sql string) func() {
		return func() { _, _ = conn.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol) }
	}
	refuse := func() {
		_, _ = pgx.Connect(within(t), s.p.DSN("app:wrong", "search"))
	}

	var a, b *pgx.Conn
	step("clients_accepted_total", 1, func() { a = s.client("a") })
	step("clients", 1, func() { b = s.client("b") }, "state=active")
	step("clients_connected", 1, func() { s.client("third") })
	step("client_logins_total", 1, func() { s.client("fourth") })
	step("transactions_total", 1, query(a, "select 1"))
	step("queries_total", 1, query(a, "select 1"))
	step("query_seconds", 1, query(a, "select 1"))
	step("transaction_seconds", 1, query(a, "select 1"))
	step("server_assignments_total", 1, query(a, "select 1"))
	step("server_wait_seconds", 1, query(a, "select 1"))
	step("received_bytes_total", -1, query(a, "select 1"))
	step("sent_bytes_total", -1, query(a, "select 1"))
	step("query_errors_total", 1, query(a, "select 1/0"))
	step("errors_total", 1, query(a, "select 1/0"), "side=server", "sqlstate=22012")
	step("errors_total", 1, refuse, "side=pgpoold", "sqlstate=28P01")
	step("logins_failed_total", 1, refuse)
	step("servers", 1, query(a, "begin"), "state=active")
	step("servers_connected", 1, query(b, "begin"))
	step("servers_idle_in_transaction", 2, func() {})
	query(a, "commit")()
	query(b, "commit")()
	step("inspections_total", -1, query(a, "set work_mem = '5MB'"))
	step("settings_bytes", -1, query(a, "set search_path = 'a_rather_long_name_of_a_schema'"))
	query(a, "reset all")()
	query(a, "begin")()
	query(b, "begin")()
	var waiting <-chan error
	step("clients", 1, func() { waiting = later(t, s.client("w"), "select 1") }, "state=waiting")
	step("pool_max_wait_seconds", -1, func() {})
	query(a, "commit")()
	query(b, "commit")()
	if err := ended(t, "the waiter", waiting); err != nil {
		t.Fatal(err)
	}

	// Prepared statements.
	prepare := func(name string) func() {
		return func() {
			if _, err := a.Prepare(within(t), name, "select 4711"); err != nil {
				t.Fatal(err)
			}
		}
	}
	step("client_parses_total", -1, prepare("one"))
	step("statements", 1, func() {
		if _, err := a.Prepare(within(t), "other", "select 4712"); err != nil {
			t.Fatal(err)
		}
	})
	step("statements_bytes", -1, func() {
		if _, err := a.Prepare(within(t), "third", "select 4713"); err != nil {
			t.Fatal(err)
		}
	})
	step("server_parses_total", -1, func() {
		if _, err := a.Prepare(within(t), "fourth", "select 4714"); err != nil {
			t.Fatal(err)
		}
	})
	step("statement_misses_total", -1, func() {
		if _, err := a.Prepare(within(t), "fifth", "select 4715"); err != nil {
			t.Fatal(err)
		}
	})
	use := func() {
		for range 4 { // on each server there is
			if _, err := a.Exec(within(t), "one"); err != nil {
				t.Fatal(err)
			}
		}
	}
	step("binds_total", 4, use)
	step("statement_hits_total", -1, use)
	step("statement_evictions_total", -1, func() {
		for i := range 250 {
			if _, err := a.Prepare(within(t), fmt.Sprint("many", i), fmt.Sprint("select ", 100000+i)); err != nil {
				t.Fatal(err)
			}
		}
	})

	// Cancels, TLS, pins.
	sleep := func() {
		done := later(t, b, "select pg_sleep(60)")
		s.sleeps(1) // a cancel that comes before finds nothing to cancel
		if err := b.PgConn().CancelRequest(within(t)); err != nil {
			t.Fatal(err)
		}
		if err := ended(t, "the query", done); code(err) != "57014" {
			t.Fatal(err)
		}
	}
	step("cancel_requests_total", 1, sleep)
	step("cancels_forwarded_total", 1, sleep)
	step("tls_connections", 1, func() {
		conn, err := pgx.Connect(within(t), strings.Replace(s.p.DSN("app:app", "search"), "sslmode=disable", "sslmode=require", 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}, "side=client", "version=TLS 1.3")
	step("tls_handshakes_failed_total", 1, func() {
		conn, err := net.Dial("tcp", s.p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47})
		_, _ = conn.Read(make([]byte, 1))
		_, _ = conn.Write([]byte("no TLS at all, but as long as a record has to be"))
	})
	step("logins_under_way", 1, func() {
		conn, err := net.Dial("tcp", s.p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	})
	step("pins", 1, query(b, "listen here"))
	_ = b.Close(within(t))
	b = s.client("b")
	step("pins_total", 1, query(b, "listen here"))

	// The pools.
	ops := s.console("ops")
	step("pool_paused", 1, func() { exec(t, ops, "KILL search") })
	exec(t, ops, "RESUME")
	step("server_dials_total", -1, func() { exec(t, ops, "RECONNECT"); exec(t, s.client("again"), "select 1") })
	step("server_connect_seconds", -1, func() { exec(t, ops, "RECONNECT"); exec(t, s.client("again"), "select 1") })
	step("server_closes_total", -1, func() { exec(t, ops, "RECONNECT") }, "reason=reconnect")
	step("pool_size", 1, func() { exec(t, ops, "SET default_pool_size = 3") })
	step("pool_min_size", 1, func() { exec(t, ops, "SET min_pool_size = 2") })
	step("server_switches_total", -1, func() {
		c, d := s.client("c"), s.client("d")
		exec(t, c, "select 1")
		for range 10 { // two sessions whose servers change hands
			exec(t, d, "begin")
			exec(t, c, "select 1")
			exec(t, d, "commit")
			exec(t, c, "begin")
			exec(t, d, "select 1")
			exec(t, c, "commit")
		}
	})
	step("clients_refused_total", 1, func() {
		exec(t, ops, "SET max_client_conn = 1")
		_, err := pgx.Connect(within(t), s.p.DSN("app:app", "search"))
		if code(err) != "53300" {
			t.Fatal(err)
		}
	})

	// A server that is away: readiness, and dials that fail.
	away := on(t, s.cluster, "postgres://gone@127.0.0.1:1/x", "size: 1", "")
	families := scrape(t, "http://"+away.p.AdminAddr()+"/metrics")
	for _, name := range []string{"ready", "pool_ready"} {
		here, _ := total(scrape(t, url), name)
		if v, there := total(families, name); v != 0 || !there || here != 1 {
			t.Errorf("%s: %v where the server is away (%v), %v here", name, v, there, here)
		}
		moved[name] = true
	}
	until(t, "failed dials", func() bool {
		v, _ := total(scrape(t, "http://"+away.p.AdminAddr()+"/metrics"), "server_dial_errors_total")
		return v > 0
	})
	moved["server_dial_errors_total"] = true

	// No metric is left out. Those here are about the process as a whole, or
	// about what only an audit finds: tests of signals, limits and session state
	// bring them about.
	for _, name := range []string{"build_info", "start_time_seconds", "draining", "accept_pauses_total", "state_missed_total"} {
		moved[name] = true
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `pgpoold_(\\w+)` ").FindAllStringSubmatch(string(text), -1) {
		if !moved[m[1]] {
			t.Errorf("nothing moves %s", m[1])
		}
	}
}
