package config

import "time"

const (
	week    = 7 * 24 * time.Hour
	maxConn = 1_000_000
)

// Settings returns the table of all settings, in the order of SHOW CONFIG and
// of the sample file.
func Settings() []Setting {
	return append(append(globalSettings(), poolSettings()...), append(databaseSettings(), processSettings()...)...)
}

func globalSettings() []Setting {
	return []Setting{
		{Name: "listen_addr", Path: "listen.addr", Kind: KindList, Default: "127.0.0.1:6432",
			Doc:    "Where clients connect: one address or a list of host:port, :port (every interface) and unix:/dir, which makes the socket .s.PGSQL.<port> in that directory, with the port of the first TCP address, else 6432.",
			global: func(c *Config) any { return &c.Listen.addr }},
		{Name: "max_client_conn", Path: "listen.max_client_conn", Kind: KindInt, Default: "10000", Min: 1, Max: maxConn,
			Doc:    "Most client connections; the next one gets 53300. PgBouncer's default is 100.",
			global: func(c *Config) any { return &c.Listen.MaxClientConn }},
		{Name: "max_login_conn", Path: "listen.max_login_conn", Kind: KindInt, Default: "2000", Min: 1, Max: maxConn,
			Doc:    "Most clients that are connected and not yet logged in.",
			global: func(c *Config) any { return &c.Listen.MaxLoginConn }},
		{Name: "client_login_timeout", Path: "listen.client_login_timeout", Kind: KindDuration, Default: "60s", MaxTime: week,
			Doc:    "A client that has not logged in after this time is closed. 0 is off.",
			global: func(c *Config) any { return &c.Listen.ClientLoginTimeout }},
		{Name: "unix_socket_mode", Path: "listen.unix_socket_mode", Kind: KindOctal, Default: "0777",
			Doc:    "Permissions of the Unix sockets.",
			global: func(c *Config) any { return &c.Listen.UnixSocketMode }},
		{Name: "tcp_keepalive", Path: "listen.tcp_keepalive", Kind: KindBool, Default: "true",
			Doc:    "TCP keepalive for clients and servers. A DSN's keepalives keys are nearer for its servers, here and below.",
			global: func(c *Config) any { return &c.Listen.Keepalive.Enable }},
		{Name: "tcp_keepidle", Path: "listen.tcp_keepidle", Kind: KindDuration, Default: "60s", MaxTime: 32767 * time.Second,
			Doc:    "Silence before the first probe. 0 leaves the system's value, which is PgBouncer's default here and in the next three.",
			global: func(c *Config) any { return &c.Listen.Keepalive.Idle }},
		{Name: "tcp_keepintvl", Path: "listen.tcp_keepintvl", Kind: KindDuration, Default: "30s", MaxTime: 32767 * time.Second,
			Doc:    "Time between probes. 0 leaves the system's value.",
			global: func(c *Config) any { return &c.Listen.Keepalive.Interval }},
		{Name: "tcp_keepcnt", Path: "listen.tcp_keepcnt", Kind: KindInt, Default: "8", Max: 127,
			Doc:    "Unanswered probes that end a connection. 0 leaves the system's value.",
			global: func(c *Config) any { return &c.Listen.Keepalive.Count }},
		{Name: "tcp_user_timeout", Path: "listen.tcp_user_timeout", Kind: KindDuration, Default: "5m", MaxTime: week, Milliseconds: true,
			Doc:    "A connection whose sent bytes stay unacknowledged, or unread, for this long is closed (Linux). 0 leaves the system's value.",
			global: func(c *Config) any { return &c.Listen.Keepalive.UserTimeout }},
		{Name: "client_tls_sslmode", Path: "listen.tls.mode", Kind: KindWord, Default: "allow",
			Words:  []string{"disable", "allow", "require", "verify-ca", "verify-full"},
			Doc:    "TLS for clients: refused, taken where the client asks, or demanded; verify-ca also demands a certificate of ca_file, verify-full one whose CN is the user. PgBouncer's default is disable.",
			global: func(c *Config) any { return &c.Listen.TLS.Mode }},
		{Name: "client_tls_cert_file", Path: "listen.tls.cert_file", Kind: KindPath,
			Doc:    "Certificate shown to clients (PEM, the chain behind it). Without one a self-signed certificate is made at start.",
			global: func(c *Config) any { return &c.Listen.TLS.CertFile }},
		{Name: "client_tls_key_file", Path: "listen.tls.key_file", Kind: KindPath,
			Doc:    "The certificate's private key (PEM).",
			global: func(c *Config) any { return &c.Listen.TLS.KeyFile }},
		{Name: "client_tls_ca_file", Path: "listen.tls.ca_file", Kind: KindPath,
			Doc:    "Certificates (PEM) that clients' certificates must descend from, for verify-ca and verify-full.",
			global: func(c *Config) any { return &c.Listen.TLS.CAFile }},

		{Name: "admin_addr", Path: "admin.addr", Kind: KindString, Default: "127.0.0.1:6433",
			Doc:    "The HTTP port for /healthz, /readyz and /metrics: host:port, :port, or off.",
			global: func(c *Config) any { return &c.Admin.Addr }},
		{Name: "admin_users", Path: "admin.users", Kind: KindList, Default: "",
			Doc:    "Users who may do everything in the console, the database pgbouncer (or pgpoold) on the client port.",
			global: func(c *Config) any { return &c.Admin.Users }},
		{Name: "stats_users", Path: "admin.stats_users", Kind: KindList, Default: "",
			Doc:    "Users who may only look: SHOW in the console, GET on the HTTP port.",
			global: func(c *Config) any { return &c.Admin.StatsUsers }},
		{Name: "admin_token", Path: "admin.token", Kind: KindSecret,
			Doc:    "Bearer token of the HTTP port.",
			global: func(c *Config) any { return &c.Admin.Token }},

		{Name: "auth_type", Path: "auth.type", Kind: KindWord, Default: "scram-sha-256",
			Words:  []string{"trust", "any", "password", "md5", "scram-sha-256"},
			Doc:    "How clients prove who they are. trust asks known users for nothing; any also takes unknown names, where every DSN has a user; md5 asks users whose secret is a SCRAM verifier for SCRAM. PgBouncer's default is md5.",
			global: func(c *Config) any { return &c.Auth.Type }},
		{Name: "auth_file", Path: "auth.file", Kind: KindPath,
			Doc:    `PgBouncer's userlist.txt, lines of "user" "secret", beside auth.users.`,
			global: func(c *Config) any { return &c.Auth.File }},
	}
}

func poolSettings() []Setting {
	return []Setting{
		{Name: "pool_mode", Path: "pool.mode", Kind: KindWord, Scope: ScopePool, Default: "transaction",
			Words: []string{"transaction", "session", "statement"},
			Doc:   "When a server goes back to the pool: after each transaction, when the client leaves, or after each statement (then transaction blocks are refused). PgBouncer's default is session.",
			pool:  func(p *Pool) any { return &p.Mode }},
		{Name: "default_pool_size", Path: "pool.size", Kind: KindInt, Scope: ScopePool, Default: "20", Max: 100_000,
			Doc:  "Most servers of one pool, that is of one database and server user. 0 is unlimited.",
			pool: func(p *Pool) any { return &p.Size }},
		{Name: "min_pool_size", Path: "pool.min_size", Kind: KindInt, Scope: ScopePool, NotForUsers: true, Default: "0", Max: 100_000,
			Doc:  "Servers that are kept open while idle. With a DSN from the environment alone it is 5.",
			pool: func(p *Pool) any { return &p.MinSize }},
		{Name: "server_round_robin", Path: "pool.round_robin", Kind: KindBool, Scope: ScopePool, NotForUsers: true, Default: "false",
			Doc:  "Use the server that has been idle longest, instead of the last one used.",
			pool: func(p *Pool) any { return &p.RoundRobin }},
		{Name: "query_wait_timeout", Path: "pool.query_wait_timeout", Kind: KindDuration, Scope: ScopePool, NotForUsers: true, Default: "120s", MaxTime: week,
			Doc:  "A query that waited this long for a server is refused. 0 is off.",
			pool: func(p *Pool) any { return &p.QueryWaitTimeout }},
		{Name: "session_state", Path: "pool.session_state", Kind: KindWord, Scope: ScopePool, PoolOnly: true, Default: "preserve",
			Words: []string{"preserve", "strict", "reject", "ignore"}, NotYet: []string{"strict", "reject"},
			Doc:  "What a session has SET follows it from server to server (preserve) or not (ignore, as in PgBouncer). strict and reject are not in this version.",
			pool: func(p *Pool) any { return &p.SessionState }},
		{Name: "client_gone", Path: "pool.client_gone", Kind: KindWord, Scope: ScopePool, PoolOnly: true, Default: "cancel",
			Words: []string{"cancel", "finish"},
			Doc:   "What becomes of a running query whose client vanished: cancelled, or run to its end as PostgreSQL does.",
			pool:  func(p *Pool) any { return &p.ClientGone }},
		{Name: "server_idle_timeout", Path: "pool.server_idle_timeout", Kind: KindDuration, Scope: ScopePool, NotForUsers: true, Default: "600s", MaxTime: 52 * week,
			Doc:  "A server idle for this long is closed, down to min_size. 0 is off.",
			pool: func(p *Pool) any { return &p.ServerIdleTimeout }},
		{Name: "server_lifetime", Path: "pool.server_lifetime", Kind: KindDuration, Scope: ScopePool, NotForUsers: true, Default: "3600s", MaxTime: 52 * week,
			Doc:  "A server this old is closed when it is idle; up to 5 % less, so that not all go at once. 0 is off.",
			pool: func(p *Pool) any { return &p.ServerLifetime }},
		{Name: "server_connect_timeout", Path: "pool.server_connect_timeout", Kind: KindDuration, Scope: ScopePool, NotForUsers: true, Default: "15s", MaxTime: week,
			Doc:  "Bound on connecting and logging in to one server. A DSN's connect_timeout is nearer than pool's. 0 is off.",
			pool: func(p *Pool) any { return &p.ServerConnectTimeout }},
		{Name: "server_login_retry", Path: "pool.server_login_retry", Kind: KindDuration, Scope: ScopePool, NotForUsers: true, Default: "15s", MaxTime: week,
			Doc:  "The longest pause between attempts to connect to a server that fails.",
			pool: func(p *Pool) any { return &p.ServerLoginRetry }},
		{Name: "server_check_delay", Path: "pool.server_check_delay", Kind: KindDuration, Scope: ScopePool, NotForUsers: true, Default: "30s", MaxTime: 52 * week,
			Doc:  "A server idle longer than this is asked whether it lives before a client gets it. 0 is off (PgBouncer: asks always).",
			pool: func(p *Pool) any { return &p.ServerCheckDelay }},
	}
}

func databaseSettings() []Setting {
	sslmodes := []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	return []Setting{
		{Name: "dsn", Path: "dsn", Kind: KindSecret, Scope: ScopeDatabase, Example: "${SUPABASE_POSTGRES_DSN}",
			Doc:      "The server: a URL or libpq's key=value form, several hosts allowed. It means what it says: no PG* variable, password file or service file adds to it. Without a user each client's own identity is used; without a database the name that the client asked for.",
			database: func(d *databaseEntry) any { return &d.dsn }},
		{Name: "user", Path: "user", Kind: KindString, Scope: ScopeDatabase, Example: "app",
			Doc:      "Replaces the DSN's user. No percent-encoding here and in the next two.",
			database: func(d *databaseEntry) any { return &d.user }},
		{Name: "password", Path: "password", Kind: KindSecret, Scope: ScopeDatabase, Example: "${SEARCH_PASSWORD}",
			Doc:      "Replaces the DSN's password.",
			database: func(d *databaseEntry) any { return &d.password }},
		{Name: "dbname", Path: "dbname", Kind: KindString, Scope: ScopeDatabase, Example: "postgres",
			Doc:      "Replaces the DSN's database.",
			database: func(d *databaseEntry) any { return &d.dbname }},
		{Name: "users", Path: "users", Kind: KindList, Scope: ScopeDatabase, Example: "[app, report]",
			Doc:      "Users who may enter; without it all that can log in.",
			database: func(d *databaseEntry) any { return &d.users }},
		{Name: "upstream_pooler", Path: "upstream_pooler", Kind: KindBool, Scope: ScopeDatabase, Default: "false", Example: "false",
			Doc:      "The server is itself a transaction pooler and shall be used all the same: nothing is pipelined or replayed and no named statement is sent.",
			database: func(d *databaseEntry) any { return &d.upstreamPooler }},
		{Name: "server_tls_sslmode", Path: "tls.mode", Kind: KindWord, Scope: ScopeDatabase, Words: sslmodes, Example: "verify-full",
			Doc:      "TLS to the server, else the DSN's sslmode, else prefer. Only verify-full checks the host name.",
			database: func(d *databaseEntry) any { return &d.tls.Mode }},
		{Name: "server_tls_ca_file", Path: "tls.ca_file", Kind: KindPath, Scope: ScopeDatabase, Example: "prod-ca-2021.crt",
			Doc:      "Certificates (PEM) that the server's must descend from, else the DSN's sslrootcert, else (or with system) the system's.",
			database: func(d *databaseEntry) any { return &d.tls.CAFile }},
		{Name: "server_tls_cert_file", Path: "tls.cert_file", Kind: KindPath, Scope: ScopeDatabase, Example: "client.crt",
			Doc:      "pgpoold's own certificate for the server, else the DSN's sslcert.",
			database: func(d *databaseEntry) any { return &d.tls.CertFile }},
		{Name: "server_tls_key_file", Path: "tls.key_file", Kind: KindPath, Scope: ScopeDatabase, Example: "client.key",
			Doc:      "Its private key, else the DSN's sslkey.",
			database: func(d *databaseEntry) any { return &d.tls.KeyFile }},
	}
}

func processSettings() []Setting {
	return []Setting{
		{Name: "log_level", Path: "log.level", Kind: KindWord, Default: "info", Words: []string{"debug", "info", "warn", "error"}, Changeable: true,
			Doc:    "The least level that is logged.",
			global: func(c *Config) any { return &c.Log.Level }},
		{Name: "log_format", Path: "log.format", Kind: KindWord, Default: "console", Words: []string{"console", "json"},
			Doc:    "Lines for people or for machines.",
			global: func(c *Config) any { return &c.Log.Format }},
		{Name: "drain_timeout", Path: "drain_timeout", Kind: KindDuration, Default: "30s", MaxTime: week,
			Doc:    "At SIGTERM transactions have this long to end. 0 is off: they have for ever.",
			global: func(c *Config) any { return &c.DrainTimeout }},
		{Name: "cancel_wait_timeout", Path: "cancel_wait_timeout", Kind: KindDuration, Default: "10s", MaxTime: week,
			Doc:    "A cancel request that could not be passed on after this time is dropped. 0 is off.",
			global: func(c *Config) any { return &c.CancelWaitTimeout }},
	}
}
