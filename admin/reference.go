package admin

import (
	"fmt"
	"strings"

	"pgpoold/proxy"
)

// constant is a column of PgBouncer's that means nothing here, or less: what
// it shows instead, and why.
type constant struct{ table, column, shows, why string }

// constants are all of them.
func constants() []constant {
	return []constant{
		{"databases", "load_balance_hosts", "NULL", "hosts are tried in their order"},
		{"pools", "load_balance_hosts", "NULL", "hosts are tried in their order"},
		{"clients", "close_needed", "0", "1 only in the moment in which a client is closed"},
		{"clients, servers", "ptr, link", "c7, s3", "the number of the client or server, not an address"},
		{"clients", "remote_pid", "a number", "the PID that the client was told, which names no process"},
		{"servers", "wait, wait_us", "0", "servers wait for nobody"},
		{"users", "reserve_pool_size", "empty", "a reserve is a database's, not a user's"},
		{"lists", "peers, peer_pools, free_clients, free_servers, dns_*", "0", "one process, no free lists, no cache of names"},
		{"mem", "size, free, memtotal", "NULL, 0, NULL", "Go does not tell; memtotal of server_prepared_statement_cache is what their texts take"},
		{"sockets, active_sockets", "recv_pos to send_avail", "NULL", "buffers are no part of a connection here"},
		{"stats", "the row pgbouncer", "bytes, commands, logins", "what the console itself did"},
		{"dns_hosts, dns_zones, peers, peer_pools", "all", "no rows", "see lists"},
	}
}

// ConsoleReference is the text of docs/console.md.
func ConsoleReference() string {
	var b strings.Builder
	b.WriteString("# The console\n\n" +
		"Generated from the code in `admin/` by `go test ./admin -update`; a test keeps it true.\n\n" +
		"    psql postgres://ops@127.0.0.1:6432/pgbouncer\n\n" +
		"The database `pgbouncer` (or `pgpoold`) on the client port, for `admin.users` and `admin.stats_users`. Commands, columns,\n" +
		"types and error texts are those of PgBouncer " + spoken + ". It speaks the simple and the extended protocol, in text and binary,\n" +
		"so every driver can use it as it comes; `BEGIN`, `COMMIT` and `ROLLBACK`, which drivers put around everything, do nothing.\n" +
		"Like PgBouncer's it refuses `SELECT 1`. A user of `admin.stats_users` may only SHOW.\n\n## Commands\n\n| command | what it does |\n|---|---|\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(v.usage, "|", `\|`), v.does)
	}
	b.WriteString("| `SET key = value` | Gives a setting another value until the next RELOAD. What needs a restart is refused, with a word that it does: docs/settings.md says which. |\n" +
		"\nUnlike PgBouncer's: RESUME undoes KILL and every PAUSE; a PAUSE that is done answers only its own console, and one that\n" +
		"RESUME undid before it was done says so; Ctrl-C on a waiting PAUSE undoes that one and no other; a RELOAD with a mistake\n" +
		"changes nothing; a pinned client counts like one in session mode: PAUSE waits for it (SHOW PINS lists them).\n\n" +
		"## SHOW\n\n`SHOW HELP` lists the commands. SHOW EXTENDED has more columns, behind those of SHOW; it is meant for people.\n" +
		"\n| SHOW | rows | columns | more in SHOW EXTENDED |\n|---|---|---|---|\n")
	c := NewConsole(Options{Source: nothing{}})
	for _, sh := range shows {
		plain, extended := c.show(sh.name, false), c.show(sh.name, true)
		more := strings.Join(extended.names()[len(plain.columns):], ", ")
		if sh.own {
			more = "(pgpoold's own table)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.ToUpper(sh.name), sh.of, strings.Join(plain.names(), ", "), more)
	}
	b.WriteString("\n## Columns without a meaning here\n\nThey carry the nearest true figure, or NULL.\n\n| SHOW | column | shows | because |\n|---|---|---|---|\n")
	for _, k := range constants() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.ToUpper(k.table), k.column, k.shows, k.why)
	}
	b.WriteString("\nTwo more words: `cl_active_cancel_req` and `sv_active_cancel` both count cancel requests on their way to PostgreSQL, pgpoold's\n" +
		"own included; `sv_tested` counts servers that run something of pgpoold's own (a check, a reset, a trial of startup settings).\n")
	return b.String()
}

// MetricsReference is the text of docs/metrics.md.
func MetricsReference() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n" +
		"Generated from the code in `admin/` by `go test ./admin -update`; a test keeps it true.\n\n" +
		"`/metrics` on the admin port has these, beside Go's own (`go_*`) and the process's (`process_*`). Units are seconds and bytes.\n" +
		"`database` and `user` are the pool's; the first " + fmt.Sprint(maxPoolLabels) + " pairs get series of their own, the rest is summed under `" + otherLabel + "`.\n" +
		"What a client can make up (application names, texts of queries) is no label.\n\n" +
		"`/metrics/pgbouncer` has the families that prometheus-community's pgbouncer_exporter makes of the console, with the same names,\n" +
		"labels and values, so that dashboards for PgBouncer work unchanged and the exporter is not needed.\n\n" +
		"`deploy/grafana/` has a dashboard, `deploy/prometheus/alerts.yaml` alert rules. They want the job to be called pgpoold:\n\n" +
		"```yaml\nscrape_configs:\n  - job_name: pgpoold\n    authorization: {credentials: \"<admin.token>\"}\n    static_configs: [{targets: [\"127.0.0.1:6433\"]}]\n```\n\n" +
		"| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range families() {
		fmt.Fprintf(&b, "| `pgpoold_%s` | %s | %s | %s |\n", f.name, f.kind, strings.Join(f.labels, ", "), f.help)
	}
	b.WriteString("\nThe histograms' buckets end at ")
	for i, s := range bucketSeconds {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, s)
	}
	b.WriteString(" seconds.\n")
	return b.String()
}

// nothing is a Source that has nothing, for the columns of tables alone.
type nothing struct{}

// Snapshot is empty.
func (nothing) Snapshot() proxy.Snapshot { return proxy.Snapshot{} }
func (nothing) Summary() proxy.Snapshot  { return proxy.Snapshot{} }

// Pools are none.
func (nothing) Pools() []proxy.PoolSnapshot { return nil }

// Fingerprints are none.
func (nothing) Fingerprints() []proxy.FingerprintSnapshot { return nil }

// Ready is never so.
func (nothing) Ready() (bool, string) { return false, "" }
