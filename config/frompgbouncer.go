package config

import (
	"fmt"
	"slices"
	"strings"
)

// pgbouncerSetting is one setting of pgbouncer.ini.
type pgbouncerSetting struct {
	name string
	here string // canonical name of the setting that stands for it; "" where there is none, or where it has the same name
	note string // what differs, or why there is none
}

// pgbouncerSettings are all of the [pgbouncer] section, in the order of its
// SHOW CONFIG.
func pgbouncerSettings() []pgbouncerSetting {
	return []pgbouncerSetting{
		{name: "admin_users"},
		{name: "application_name_add_host", note: "None: application_name is the client's. SHOW CLIENTS has its address."},
		{name: "auth_dbname", note: "None: there is no auth_query in this version."},
		{name: "auth_file", note: "The same file. auth.users can stand beside it."},
		{name: "auth_hba_file", note: "None in this version."},
		{name: "auth_ident_file", note: "None in this version."},
		{name: "auth_ldap_options", note: "None in this version."},
		{name: "auth_query", note: "None in this version: users stand in auth.users or auth_file."},
		{name: "auth_type", note: "trust, any, password (plain there), md5 and scram-sha-256. The default is scram-sha-256, not md5."},
		{name: "auth_user", note: "None: there is no auth_query in this version."},
		{name: "autodb_idle_timeout", note: "It forgets idle pools of \"*\", of which max_pools bounds the number."},
		{name: "cancel_wait_timeout"},
		{name: "client_idle_timeout", note: "Counts outside a transaction, also for a client that keeps its server. Under databases.X too."},
		{name: "client_login_timeout", note: "Waiting for the first server does not count: query_wait_timeout does."},
		{name: "client_tls13_ciphers", note: "None: Go's standard library chooses."},
		{name: "client_tls_ca_file"},
		{name: "client_tls_cert_file", note: "Without one a self-signed certificate is made."},
		{name: "client_tls_ciphers", note: "None: Go's standard library chooses; TLS 1.2 and 1.3."},
		{name: "client_tls_dheparams", note: "None: only elliptic curves are used."},
		{name: "client_tls_ecdhcurve", note: "None: Go's standard library chooses."},
		{name: "client_tls_key_file"},
		{name: "client_tls_protocols", note: "None: TLS 1.2 and 1.3."},
		{name: "client_tls_sslmode", note: "prefer is allow; the default is allow, not disable. verify-full also demands that the certificate's CN is the user."},
		{name: "conffile", note: "None: the file is the one of --config or PGPOOLD_CONFIG."},
		{name: "default_pool_size", note: "Also under databases.X and users.X, where PgBouncer says pool_size."},
		{name: "disable_pqexec", note: "None."},
		{name: "dns_max_ttl", note: "Names are looked up at least this often while they are used. 0 is off."},
		{name: "dns_nxdomain_ttl", note: "None: a name that could not be resolved is looked up again with the next attempt to connect."},
		{name: "dns_zone_check_period", note: "None."},
		{name: "idle_transaction_timeout", note: "Ends with 25P03. Under databases.X too."},
		{name: "ignore_startup_parameters", note: "None, and not needed: every startup parameter that PostgreSQL takes is applied to the session."},
		{name: "job_name", note: "None: it names a service of Windows."},
		{name: "listen_addr", note: "Addresses with their ports, and unix:/dir. The default is 127.0.0.1:6432."},
		{name: "listen_backlog", note: "None: the system's limit (net.core.somaxconn)."},
		{name: "listen_port", here: "listen_addr", note: "The port stands behind the address."},
		{name: "log_connections", here: "log_level", note: "Connections are logged at info."},
		{name: "log_disconnections", here: "log_level", note: "One line for each session's end, at info."},
		{name: "log_pooler_errors", here: "log_level", note: "Refused logins are logged at info."},
		{name: "log_stats", note: "None: the metrics have it."},
		{name: "logfile", note: "None: the log goes to standard error."},
		{name: "login_notify_message", note: "None."},
		{name: "max_client_conn", note: "The default is 10000, not 100. Refused with 53300 in place of 08P01."},
		{name: "max_db_client_connections", note: "Refused with 53300 in place of 08P01."},
		{name: "max_db_connections", note: "Places go to the pool with the fewest servers; a pool with more gives one up at the end of a transaction. max_host_connections bounds a PostgreSQL over all databases."},
		{name: "max_packet_size", note: "None: messages stream through, and PostgreSQL's own limits hold."},
		{name: "max_prepared_statements", note: "At least 1; max_prepared_bytes bounds their bytes. Statements in SQL (PREPARE) are kept too."},
		{name: "max_user_client_connections", note: "Refused with 53300 in place of 08P01."},
		{name: "max_user_connections", note: "As max_db_connections."},
		{name: "min_pool_size", note: "Kept also while no client is there, where the DSN has a user."},
		{name: "peer_id", note: "None: one process uses all cores, so that a cancel never reaches another."},
		{name: "pidfile", note: "None: pgpoold stays in the foreground."},
		{name: "pkt_buf", note: "None."},
		{name: "pool_idle_timeout", here: "autodb_idle_timeout", note: "Of the pools of \"*\" only."},
		{name: "pool_mode", note: "The default is transaction, not session."},
		{name: "query_timeout", note: "Cancels the query on the server (PgBouncer closes both connections and lets the query run); the session lives on. Time in the queue does not count. Under databases.X too."},
		{name: "query_wait_notify", note: "The same text."},
		{name: "query_wait_timeout", note: "Ends the query with 53300; the session lives on."},
		{name: "reserve_pool_size", note: "Under databases.X too, not under users.X."},
		{name: "reserve_pool_timeout"},
		{name: "resolv_conf", note: "None: the system's."},
		{name: "sbuf_loopcnt", note: "None: a connection lets others run after 256 KiB."},
		{name: "scram_iterations", note: "None: 4096."},
		{name: "server_check_delay", note: "0 is off; in PgBouncer 0 asks always."},
		{name: "server_check_query", note: "None: an empty query."},
		{name: "server_connect_timeout"},
		{name: "server_fast_close", note: "None: in session mode a server ends with its client."},
		{name: "server_idle_timeout"},
		{name: "server_lifetime", note: "Up to 5 % less, so that not all go at once. 0 is off; in PgBouncer 0 uses each once."},
		{name: "server_login_retry", note: "The longest pause; the first is 100 ms. For this long those who want a server wait, if one was there before."},
		{name: "server_reset_query", note: "None: DISCARD ALL in session mode; in transaction mode state is carried or undone by what the session has done."},
		{name: "server_reset_query_always", note: "None, and not needed."},
		{name: "server_round_robin"},
		{name: "server_tls13_ciphers", note: "None: Go's standard library chooses."},
		{name: "server_tls_ca_file", note: "For each database."},
		{name: "server_tls_cert_file", note: "For each database."},
		{name: "server_tls_ciphers", note: "None: Go's standard library chooses."},
		{name: "server_tls_key_file", note: "For each database."},
		{name: "server_tls_protocols", note: "None: TLS 1.2 and 1.3."},
		{name: "server_tls_sslmode", note: "For each database; allow means what it means in libpq. Cancel requests are encrypted too."},
		{name: "service_name", note: "None: it names a service of Windows."},
		{name: "so_reuseport", note: "None: one process uses all cores, and an upgrade passes the listening sockets on."},
		{name: "stats_period", note: "Averages are of the last complete period, as in PgBouncer; nothing is logged."},
		{name: "stats_users"},
		{name: "suspend_timeout", note: "None, as in PgBouncer 1.26."},
		{name: "syslog", note: "None: the log goes to standard error."},
		{name: "syslog_facility", note: "None."},
		{name: "syslog_ident", note: "None."},
		{name: "tcp_defer_accept", note: "None."},
		{name: "tcp_keepalive"},
		{name: "tcp_keepcnt", note: "The default is 8, not the system's."},
		{name: "tcp_keepidle", note: "The default is 60s, not the system's."},
		{name: "tcp_keepintvl", note: "The default is 30s, not the system's."},
		{name: "tcp_socket_buffer", note: "None."},
		{name: "tcp_user_timeout", note: "Needs a unit, for PgBouncer's plain number is milliseconds. The default is 5m, not off."},
		{name: "track_extra_parameters", note: "None, and not needed: every setting is tracked, also those that PostgreSQL does not report."},
		{name: "transaction_timeout", note: "Ends with 25P04, and cancels what runs. Under databases.X too."},
		{name: "unix_socket_dir", here: "listen_addr", note: "unix:/dir. The default is none."},
		{name: "unix_socket_group", note: "None."},
		{name: "unix_socket_mode"},
		{name: "user", note: "None: start it as the user it is to run as."},
		{name: "verbose", here: "log_level", note: "debug."},
	}
}

// pgbouncerKeys are those of its other sections; here is a path of ours.
func pgbouncerKeys() []struct{ section, name, here, note string } {
	return []struct{ section, name, here, note string }{
		{"databases", "dbname", "databases.X.dbname", "Or in the DSN."},
		{"databases", "host", "databases.X.dsn", "Several hosts are tried in their order; target_session_attrs chooses."},
		{"databases", "port", "databases.X.dsn", ""},
		{"databases", "user", "databases.X.user", "Or in the DSN. Without one each client is itself on the server."},
		{"databases", "password", "databases.X.password", "Or in the DSN."},
		{"databases", "auth_user", "", "None in this version."},
		{"databases", "auth_query", "", "None in this version."},
		{"databases", "auth_dbname", "", "None in this version."},
		{"databases", "client_encoding", "databases.X.dsn", "client_encoding=... in the DSN, as any other setting of PostgreSQL's."},
		{"databases", "datestyle", "databases.X.dsn", "Likewise."},
		{"databases", "timezone", "databases.X.dsn", "Likewise."},
		{"databases", "application_name", "databases.X.dsn", "Likewise; a client's own is nearer."},
		{"databases", "pool_size", "databases.X.size", ""},
		{"databases", "min_pool_size", "databases.X.min_size", ""},
		{"databases", "reserve_pool_size", "databases.X.reserve_size", ""},
		{"databases", "query_wait_timeout", "databases.X.query_wait_timeout", ""},
		{"databases", "max_db_connections", "databases.X.max_db_connections", ""},
		{"databases", "max_db_client_connections", "databases.X.max_db_client_connections", ""},
		{"databases", "server_lifetime", "databases.X.server_lifetime", "0 is off; in PgBouncer it is the general value."},
		{"databases", "load_balance_hosts", "", "None: hosts are tried in their order."},
		{"databases", "pool_mode", "databases.X.mode", ""},
		{"databases", "connect_query", "", "None: settings can stand in the DSN."},
		{"users", "pool_mode", "users.X.mode", ""},
		{"users", "pool_size", "users.X.size", ""},
		{"users", "reserve_pool_size", "", "None: under databases.X."},
		{"users", "max_user_connections", "users.X.max_user_connections", ""},
		{"users", "max_user_client_connections", "users.X.max_user_client_connections", ""},
		{"users", "query_timeout", "users.X.query_timeout", ""},
		{"users", "query_wait_timeout", "", "None: under databases.X."},
		{"users", "idle_transaction_timeout", "users.X.idle_transaction_timeout", ""},
		{"users", "transaction_timeout", "users.X.transaction_timeout", ""},
		{"users", "client_idle_timeout", "users.X.client_idle_timeout", ""},
		{"peers", "host, port, pool_size", "", "None: one process uses all cores, so that a cancel never reaches another."},
	}
}

// pgbouncerNames are PgBouncer's names for a setting.
func (s *Setting) pgbouncerNames() []string {
	var names []string
	for _, p := range pgbouncerSettings() {
		if p.here == s.Name || p.here == "" && p.name == s.Name {
			names = append(names, p.name)
		}
	}
	if key := (map[string]string{"user": "user", "password": "password", "dbname": "dbname", "dsn": "host"})[s.Name]; s.Scope == ScopeDatabase && key != "" {
		names = []string{key}
	}
	return names
}

// FromPgBouncer is the text of docs/from-pgbouncer.md.
func FromPgBouncer() string {
	var b strings.Builder
	b.WriteString("# From PgBouncer\n\n" +
		"Generated from the tables in `config/frompgbouncer.go` and `config/table.go` by `go generate ./config`; a test keeps it true.\n\n" +
		"Every setting of `pgbouncer.ini` (1.25), where it stands here, and what differs. [settings.md](settings.md) describes\n" +
		"each. Times here need no unit (a plain number is seconds, as there), and `0` is off everywhere.\n\n" +
		"Three things hold for all of them:\n\n" +
		"- A reload is taken whole or not at all. In PgBouncer the first bad line leaves the rest at their defaults.\n" +
		"- `SET` and `RELOAD` of what needs a restart say so; in PgBouncer they report success and do nothing.\n" +
		"- An error names the setting that causes it, with its place in the file in the DETAIL.\n\n" +
		"`-R` and `-d` have no equal. An upgrade is `pgpoold upgrade`, or SIGUSR2 to the running process, which starts the new one and passes it\n" +
		"the listening sockets, the counters, and the sessions that are between transactions, with their settings, statements and cancel keys (PgBouncer 1.26\n" +
		"has no `-R` any more, and several processes with `so_reuseport` and peers instead). As with `-R`, TLS sessions do not move; unlike there, servers do not either:\n" +
		"they are dialled anew, and both processes together keep the limits.\n\n" +
		"## `[pgbouncer]`\n\n| pgbouncer.ini | here | default | differs |\n|---|---|---|---|\n")
	settings := Settings()
	for _, p := range pgbouncerSettings() {
		name := p.name
		if p.here != "" {
			name = p.here
		}
		place, def := "-", "-"
		if i := slices.IndexFunc(settings, func(s Setting) bool {
			return s.Name == name && (p.here != "" || s.Scope != ScopeDatabase || p.name != "user")
		}); i >= 0 {
			s := &settings[i]
			place, def = "`"+s.place()+"`", s.defaultText()
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p.name, place, def, p.note)
	}
	section := ""
	for _, k := range pgbouncerKeys() {
		if k.section != section {
			section = k.section
			fmt.Fprintf(&b, "\n## `[%s]`\n\n| pgbouncer.ini | here | differs |\n|---|---|---|\n", section)
		}
		place := "-"
		if k.here != "" {
			place = "`" + k.here + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.name, place, k.note)
	}
	b.WriteString("\n## What PgBouncer does not have\n\n| here | meaning |\n|---|---|\n")
	for _, s := range settings {
		if len(s.pgbouncerNames()) == 0 {
			fmt.Fprintf(&b, "| `%s` | %s |\n", s.place(), strings.ReplaceAll(s.Doc, "|", `\|`))
		}
	}
	return b.String()
}

// place is where the setting stands in YAML.
func (s *Setting) place() string {
	if s.Scope == ScopeDatabase {
		return "databases.X." + s.Path
	}
	return s.Path
}
