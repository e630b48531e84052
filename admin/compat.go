package admin

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// compat gives the metrics that prometheus-community's pgbouncer_exporter
// makes of the console, from the same tables.
type compat struct{ console *Console }

// compatTable says what the exporter makes of a table: a series of each
// column here, with the labels of its row.
type compatTable struct {
	name    string
	labels  []string
	columns []compatColumn
}

type compatColumn struct {
	column, metric string
	kind           prometheus.ValueType
	factor         float64
	help           string
}

func compatTables() []compatTable {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	return []compatTable{
		{"databases", []string{"name", "host", "port", "database", "force_user", "pool_mode"}, []compatColumn{
			{"pool_size", "pool_size", gauge, 1, "Most server connections of one pool."},
			{"reserve_pool_size", "reserve_pool", gauge, 1, "Additional connections of one pool, while somebody waits for long."},
			{"max_connections", "max_connections", gauge, 1, "Most server connections of the database; 0 is unlimited."},
			{"current_connections", "current_connections", gauge, 1, "Server connections of the database."},
			{"paused", "paused", gauge, 1, "Whether the database is paused."},
			{"disabled", "disabled", gauge, 1, "Whether the database is disabled."},
		}},
		{"stats_totals", []string{"database"}, []compatColumn{
			{"query_count", "queries_pooled_total", counter, 1, "Queries."},
			{"query_time", "queries_duration_seconds_total", counter, 1e-6, "Time in queries."},
			{"bytes_received", "received_bytes_total", counter, 1, "Bytes from clients."},
			{"bytes_sent", "sent_bytes_total", counter, 1, "Bytes to clients."},
			{"wait_time", "client_wait_seconds_total", counter, 1e-6, "Time that clients waited for a server."},
			{"xact_count", "sql_transactions_pooled_total", counter, 1, "Transactions."},
			{"xact_time", "server_in_transaction_seconds_total", counter, 1e-6, "Time in transactions."},
			{"client_parse_count", "client_parses_total", counter, 1, "Named statements that clients parsed."},
			{"server_parse_count", "server_parses_total", counter, 1, "Named statements that servers parsed."},
			{"bind_count", "binds_total", counter, 1, "Uses of named statements by clients."},
			{"server_assignment_count", "server_assignments_total", counter, 1, "Times that a client was given a server."},
		}},
		{"pools", []string{"database", "user"}, []compatColumn{
			{"cl_active", "client_active_connections", gauge, 1, "Clients that have a server or are idle."},
			{"cl_active_cancel_req", "client_active_cancel_connections", gauge, 1, "Cancel requests that were passed on."},
			{"cl_waiting", "client_waiting_connections", gauge, 1, "Clients that wait for a server."},
			{"cl_waiting_cancel_req", "client_waiting_cancel_connections", gauge, 1, "Cancel requests that wait."},
			{"sv_active", "server_active_connections", gauge, 1, "Servers that a client has."},
			{"sv_active_cancel", "server_active_cancel_connections", gauge, 1, "Connections that carry a cancel request."},
			{"sv_being_canceled", "server_being_canceled_connections", gauge, 1, "Servers that wait for a cancel request to end."},
			{"sv_idle", "server_idle_connections", gauge, 1, "Idle servers."},
			{"sv_used", "server_used_connections", gauge, 1, "Servers idle for longer than server_check_delay."},
			{"sv_tested", "server_testing_connections", gauge, 1, "Servers that run something of pgpoold's own."},
			{"sv_login", "server_login_connections", gauge, 1, "Servers that are being connected."},
			{"maxwait", "client_maxwait_seconds", gauge, 1, "How long the first client in the queue has waited."},
		}},
	}
}

// compatLists and compatConfig name the metrics that are made of a row.
var (
	compatLists = [][2]string{
		{"databases", "databases"}, {"users", "users"}, {"pools", "pools"}, {"free_clients", "free_clients"}, {"used_clients", "used_clients"},
		{"login_clients", "login_clients"}, {"free_servers", "free_servers"}, {"used_servers", "used_servers"},
		{"dns_names", "cached_dns_names"}, {"dns_zones", "cached_dns_zones"}, {"dns_queries", "in_flight_dns_queries"},
	}
	compatConfig = [][2]string{{"max_client_conn", "config_max_client_connections"}, {"max_user_connections", "config_max_user_connections"}}
)

// maxCompatSeries bounds what client names of applications can make.
const maxCompatSeries = 1000

// Describe sends nothing, as the exporter's cannot either before it has asked.
func (c *compat) Describe(chan<- *prometheus.Desc) {}

// Collect asks the console's tables.
func (c *compat) Collect(out chan<- prometheus.Metric) {
	gauge := func(name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("pgbouncer_"+name, help, nil, nil), prometheus.GaugeValue, v)
	}
	for _, ct := range compatTables() {
		t := c.console.show(ct.name, false)
		for _, col := range ct.columns {
			desc := prometheus.NewDesc("pgbouncer_"+ct.name+"_"+col.metric, col.help, ct.labels, nil)
			for _, row := range t.rows {
				labels := make([]string, len(ct.labels))
				for i, l := range ct.labels {
					labels[i] = valueOf(row[t.index(l)])
				}
				out <- prometheus.MustNewConstMetric(desc, col.kind, floatOf(row[t.index(col.column)])*col.factor, labels...)
			}
		}
	}
	rows := func(table string, pairs [][2]string, help string) {
		values := map[string]*string{}
		for _, row := range c.console.show(table, false).rows {
			values[*row[0]] = row[1]
		}
		for _, p := range pairs {
			if v, ok := values[p[0]]; ok {
				gauge(p[1], help+p[0]+".", floatOf(v))
			}
		}
	}
	rows("lists", compatLists, "SHOW LISTS: ")
	rows("config", compatConfig, "SHOW CONFIG: ")
	c.clients(out)
	version := c.console.show("version", false).rows[0][0]
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc("pgbouncer_version_info", "SHOW VERSION.", []string{"version"}, nil), prometheus.GaugeValue, 1, *version)
	gauge("up", "Whether the console answers.", 1)
}

// clients counts SHOW CLIENTS by what it groups by.
func (c *compat) clients(out chan<- prometheus.Metric) {
	t := c.console.show("clients", false)
	labels := []string{"database", "user", "application_name", "state"}
	type key [4]string
	n := map[key]int{}
	for _, row := range t.rows {
		var k key
		for i, l := range labels {
			k[i] = valueOf(row[t.index(l)])
		}
		if _, known := n[k]; !known && len(n) >= maxCompatSeries {
			k = key{otherLabel, otherLabel, otherLabel, otherLabel}
		}
		n[k]++
	}
	desc := prometheus.NewDesc("pgbouncer_client_connections", "Clients, by database, user, application and state.", labels, nil)
	for k, v := range n {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), k[:]...)
	}
}

func (t *table) index(name string) int {
	for i, c := range t.columns {
		if c.name == name {
			return i
		}
	}
	panic("bug: no column " + name)
}

func valueOf(cell *string) string {
	if cell == nil {
		return ""
	}
	return *cell
}

func floatOf(cell *string) float64 {
	v, _ := strconv.ParseFloat(valueOf(cell), 64)
	return v
}
