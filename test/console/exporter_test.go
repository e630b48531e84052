package console

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"pgpoold/test/guard"
	"pgpoold/test/postgres"
)

// exporterVersion is the version of prometheus-community's exporter that the
// comparison is with.
const exporterVersion = "v0.12.1"

// exporterFamilies are what that version makes of PgBouncer 1.26: each family
// with its type, and the table and column or row of the console that it is
// read from; microseconds become seconds.
var exporterFamilies = [][4]string{
	{"pgbouncer_up", "gauge", "", ""},
	{"pgbouncer_version_info", "gauge", "VERSION", ""},
	{"pgbouncer_client_connections", "gauge", "CLIENTS", ""},
	{"pgbouncer_databases", "gauge", "LISTS", "databases"},
	{"pgbouncer_users", "gauge", "LISTS", "users"},
	{"pgbouncer_pools", "gauge", "LISTS", "pools"},
	{"pgbouncer_free_clients", "gauge", "LISTS", "free_clients"},
	{"pgbouncer_used_clients", "gauge", "LISTS", "used_clients"},
	{"pgbouncer_login_clients", "gauge", "LISTS", "login_clients"},
	{"pgbouncer_free_servers", "gauge", "LISTS", "free_servers"},
	{"pgbouncer_used_servers", "gauge", "LISTS", "used_servers"},
	{"pgbouncer_cached_dns_names", "gauge", "LISTS", "dns_names"},
	{"pgbouncer_cached_dns_zones", "gauge", "LISTS", "dns_zones"},
	{"pgbouncer_in_flight_dns_queries", "gauge", "LISTS", "dns_queries"},
	{"pgbouncer_config_max_client_connections", "gauge", "CONFIG", "max_client_conn"},
	{"pgbouncer_config_max_user_connections", "gauge", "CONFIG", "max_user_connections"},
	{"pgbouncer_databases_pool_size", "gauge", "DATABASES", "pool_size"},
	{"pgbouncer_databases_reserve_pool", "gauge", "DATABASES", "reserve_pool_size"},
	{"pgbouncer_databases_max_connections", "gauge", "DATABASES", "max_connections"},
	{"pgbouncer_databases_current_connections", "gauge", "DATABASES", "current_connections"},
	{"pgbouncer_databases_paused", "gauge", "DATABASES", "paused"},
	{"pgbouncer_databases_disabled", "gauge", "DATABASES", "disabled"},
	{"pgbouncer_stats_totals_queries_pooled_total", "counter", "STATS_TOTALS", "query_count"},
	{"pgbouncer_stats_totals_queries_duration_seconds_total", "counter", "STATS_TOTALS", "query_time"},
	{"pgbouncer_stats_totals_received_bytes_total", "counter", "STATS_TOTALS", "bytes_received"},
	{"pgbouncer_stats_totals_sent_bytes_total", "counter", "STATS_TOTALS", "bytes_sent"},
	{"pgbouncer_stats_totals_client_wait_seconds_total", "counter", "STATS_TOTALS", "wait_time"},
	{"pgbouncer_stats_totals_sql_transactions_pooled_total", "counter", "STATS_TOTALS", "xact_count"},
	{"pgbouncer_stats_totals_server_in_transaction_seconds_total", "counter", "STATS_TOTALS", "xact_time"},
	{"pgbouncer_stats_totals_client_parses_total", "counter", "STATS_TOTALS", "client_parse_count"},
	{"pgbouncer_stats_totals_server_parses_total", "counter", "STATS_TOTALS", "server_parse_count"},
	{"pgbouncer_stats_totals_binds_total", "counter", "STATS_TOTALS", "bind_count"},
	{"pgbouncer_stats_totals_server_assignments_total", "counter", "STATS_TOTALS", "server_assignment_count"},
	{"pgbouncer_pools_client_active_connections", "gauge", "POOLS", "cl_active"},
	{"pgbouncer_pools_client_active_cancel_connections", "gauge", "POOLS", "cl_active_cancel_req"},
	{"pgbouncer_pools_client_waiting_connections", "gauge", "POOLS", "cl_waiting"},
	{"pgbouncer_pools_client_waiting_cancel_connections", "gauge", "POOLS", "cl_waiting_cancel_req"},
	{"pgbouncer_pools_server_active_connections", "gauge", "POOLS", "sv_active"},
	{"pgbouncer_pools_server_active_cancel_connections", "gauge", "POOLS", "sv_active_cancel"},
	{"pgbouncer_pools_server_being_canceled_connections", "gauge", "POOLS", "sv_being_canceled"},
	{"pgbouncer_pools_server_idle_connections", "gauge", "POOLS", "sv_idle"},
	{"pgbouncer_pools_server_used_connections", "gauge", "POOLS", "sv_used"},
	{"pgbouncer_pools_server_testing_connections", "gauge", "POOLS", "sv_tested"},
	{"pgbouncer_pools_server_login_connections", "gauge", "POOLS", "sv_login"},
	{"pgbouncer_pools_client_maxwait_seconds", "gauge", "POOLS", "maxwait"},
}

// exporterLabels are the labels of the families that are made of a table.
var exporterLabels = map[string][]string{
	"VERSION": {"version"}, "CLIENTS": {"application_name", "database", "state", "user"}, "LISTS": {}, "CONFIG": {}, "": {},
	"DATABASES": {"database", "force_user", "host", "name", "pool_mode", "port"}, "STATS_TOTALS": {"database"}, "POOLS": {"database", "user"},
}

// scrape reads the metrics at an address.
func scrape(t testing.TB, url string) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %d %v %s", url, resp.StatusCode, err, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return families
}

// series are a family's values by labels.
func series(f *dto.MetricFamily) map[string]float64 {
	all := map[string]float64{}
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		sort.Strings(labels)
		v := m.GetGauge().GetValue()
		if f.GetType() == dto.MetricType_COUNTER {
			v = m.GetCounter().GetValue()
		}
		all[strings.Join(labels, ",")] = v
	}
	return all
}

// ownPools gives a user a pool of its own beside the one that all share.
const ownPools = "users: {report: {size: 1}}"

// severalPools lets clients use several pools of one database and server
// user, which PgBouncer has one of: programs take no second row.
func severalPools(s *scene) {
	s.t.Helper()
	exec(s.t, s.as("report", "report"), "select 1")
	repl, err := pgconn.Connect(within(s.t), s.p.DSN("app:app", "search")+"&replication=database")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = repl.Close(context.Background()) })
	if _, err := repl.Exec(within(s.t), "IDENTIFY_SYSTEM").ReadAll(); err != nil {
		s.t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, row := range s.show("POOLS") {
		name := row["database"] + "/" + row["user"]
		if seen[name] {
			s.t.Errorf("SHOW POOLS has %s twice", name)
		}
		seen[name] = true
	}
}

// The endpoint has the exporter's families with their types and labels, each
// with the values that the console's tables have.
func TestLikeTheExporter(t *testing.T) {
	s := set(t, "size: 2", ownPools)
	c := s.client("app")
	severalPools(s)
	for range 3 {
		exec(t, c, "select 1")
	}
	exec(t, c, "begin")
	until(t, "one client is active", func() bool { return s.pool()["sv_active"] == "2" }) // and the one that replicates
	families := scrape(t, "http://"+s.p.AdminAddr()+"/metrics/pgbouncer")
	known := map[string]bool{}
	for _, f := range exporterFamilies {
		name, kind, table, column := f[0], f[1], f[2], f[3]
		known[name] = true
		got := families[name]
		if len(got.GetMetric()) == 0 {
			t.Errorf("%s has no value", name)
			continue
		}
		if is := strings.ToLower(got.GetType().String()); is != kind {
			t.Errorf("%s is a %s, not a %s", name, is, kind)
		}
		for _, m := range got.GetMetric() {
			labels := []string{}
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
			if slices.Sort(labels); !slices.Equal(labels, exporterLabels[table]) {
				t.Errorf("%s has the labels %q, want %q", name, labels, exporterLabels[table])
			}
		}
		switch table {
		case "LISTS", "CONFIG":
			if column == "used_clients" || column == "users" {
				continue // the console that asks is one
			}
			key, value := "list", "items"
			if table == "CONFIG" {
				key, value = "key", "value"
			}
			if v, want := series(got)[""], s.one(table, key, column)[value]; strconv.FormatFloat(v, 'f', -1, 64) != want {
				t.Errorf("%s is %v, SHOW %s says %s", name, v, table, want)
			}
		case "DATABASES", "STATS_TOTALS", "POOLS":
			for _, row := range s.show(table) {
				if row["database"] == "pgbouncer" {
					continue // it moves with each question
				}
				var labels []string
				for _, l := range exporterLabels[table] {
					labels = append(labels, l+"="+row[l])
				}
				want := float64(row.int(t, column))
				if strings.HasSuffix(column, "_time") {
					want /= 1e6
				}
				v, there := series(got)[strings.Join(labels, ",")]
				if d := v - want; !there || d > 1e-9 || d < -1e-9 {
					t.Errorf("%s of %q is %v (%v), SHOW %s says %v", name, labels, v, there, table, want)
				}
			}
		}
	}
	for name := range families {
		if !known[name] {
			t.Errorf("the exporter has no %s", name)
		}
	}
	if n := series(families["pgbouncer_client_connections"])["application_name=app,database=search,state=active,user=app"]; n != 1 {
		t.Errorf("clients: %v", series(families["pgbouncer_client_connections"]))
	}
}

// exporter finds prometheus-community's exporter, or builds it.
func exporter(t *testing.T) string {
	t.Helper()
	postgres.RequireFull(t)
	if path := os.Getenv("PGBOUNCER_EXPORTER"); path != "" {
		return path
	}
	if path, err := osexec.LookPath("pgbouncer_exporter"); err == nil {
		return path
	}
	if os.Getenv(postgres.EnvInstall) != "1" {
		t.Skip("there is no pgbouncer_exporter (INSTALL=1 builds it)")
	}
	dir, err := filepath.Abs(filepath.Join("..", "..", ".cache", "exporter-"+exporterVersion))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pgbouncer_exporter")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := osexec.Command("go", "install", "github.com/prometheus-community/pgbouncer_exporter@"+exporterVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod")
	cmd.Dir = t.TempDir() // outside of this module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("%s", out)
		t.Skip("pgbouncer_exporter could not be built: its module is not in every Go module proxy")
	}
	return path
}

// The exporter itself, asking the console, and the endpoint say the same.
func TestBesideTheExporter(t *testing.T) {
	path := exporter(t)
	s := set(t, "size: 2", "  other: {dsn: 'postgres://x@127.0.0.1:1/x', mode: session}\n"+ownPools)
	c := s.client("app")
	severalPools(s)
	exec(t, c, "begin")
	exec(t, c, "select 1")
	exec(t, s.console("ops"), "DISABLE other")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var said bytes.Buffer
	cmd := osexec.Command(path, "--web.listen-address="+addr, "--pgBouncer.connectionString=postgres://grafana:grafana@"+s.p.Addr()+"/pgbouncer?sslmode=disable")
	cmd.Stdout, cmd.Stderr = &said, &said
	g, err := guard.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the exporter says:\n%s", said.String())
		}
	})
	until(t, "the exporter listens", func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	theirs := map[string]*dto.MetricFamily{}
	for name, f := range scrape(t, "http://"+addr+"/metrics") {
		if strings.HasPrefix(name, "pgbouncer_") && !strings.HasPrefix(name, "pgbouncer_exporter_") {
			theirs[name] = f
		}
	}
	if up := series(theirs["pgbouncer_up"])[""]; up != 1 {
		t.Fatalf("pgbouncer_up is %v", up)
	}
	for _, f := range exporterFamilies { // the list is true
		their := theirs[f[0]]
		if their == nil || strings.ToLower(their.GetType().String()) != f[1] {
			t.Errorf("the exporter's %s is %v, not a %s", f[0], their.GetType(), f[1])
		}
		for _, m := range their.GetMetric() {
			for i, l := range m.GetLabel() {
				if want := exporterLabels[f[2]]; len(m.GetLabel()) != len(want) || l.GetName() != want[i] {
					t.Errorf("the exporter's %s has the labels %v, not %q", f[0], m.GetLabel(), want)
				}
			}
		}
	}
	ours := scrape(t, "http://"+s.p.AdminAddr()+"/metrics/pgbouncer")
	for name := range theirs {
		if ours[name] == nil {
			t.Errorf("the endpoint lacks %s", name)
		}
	}
	for name, f := range ours {
		their := theirs[name]
		if their == nil {
			t.Errorf("the exporter has no %s", name)
			continue
		}
		if f.GetType() != their.GetType() {
			t.Errorf("%s is %v, the exporter's is %v", name, f.GetType(), their.GetType())
		}
		got, want := series(f), series(their)
		for labels, v := range want {
			// The exporter itself is a client of the console, and what the
			// console counts of its own moves with each question.
			if strings.Contains(labels, "pgbouncer") || name == "pgbouncer_used_clients" || name == "pgbouncer_users" {
				continue
			}
			if w, ok := got[labels]; !ok || w != v && !strings.Contains(name, "seconds") {
				t.Errorf("%s{%s}: %v here, %v there (%v)", name, labels, w, v, ok)
			}
		}
		if len(want) == 0 {
			t.Errorf("%s has no value", name)
		}
	}
}
