package daemon

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgpoold/admin"
	"pgpoold/backend"
	"pgpoold/config"
	"pgpoold/proxy"
	"pgpoold/wire/scram"
)

// recoverTimeout is how long a server that a client left in the middle of
// something may take to come clean before it is closed.
const recoverTimeout = 10 * time.Second

// proxyOptions turns the configuration into what the proxy takes. Listeners,
// TLS, the console and the client limit are the caller's.
func proxyOptions(cfg *config.Config, isSelf func(network, addr string) bool, log *zap.Logger) proxy.Options {
	opts := proxy.Options{
		MaxClientConn:      cfg.Listen.MaxClientConn,
		MaxLoginConn:       cfg.Listen.MaxLoginConn,
		ClientLoginTimeout: cfg.Listen.ClientLoginTimeout,
		CancelWaitTimeout:  cfg.CancelWaitTimeout,
		RecoverTimeout:     recoverTimeout,
		PinDrainTimeout:    cfg.PinDrainTimeout,
		DNSMaxTTL:          cfg.DNSMaxTTL,
		Keepalive:          keepalive(cfg.Listen.Keepalive),
		UnixSocketMode:     uint32(cfg.Listen.UnixSocketMode),
		Auth:               proxy.AuthOptions{Type: cfg.Auth.Type, Users: secrets(cfg.Auth.Users)},
		Databases:          make(map[string]*proxy.Database, len(cfg.Databases)),
		Users:              make(map[string]proxy.UserOptions, len(cfg.Users)),
		AdminUsers:         cfg.Admin.Users,
		StatsUsers:         cfg.Admin.StatsUsers,
		Log:                log,
	}
	opts.Prepared = proxy.PreparedLimits{
		PerServer:   cfg.Pool.MaxPreparedStatements,
		ServerBytes: int64(cfg.Pool.MaxPreparedBytes),
		ClientBytes: int64(cfg.Pool.MaxClientPreparedBytes),
		TotalBytes:  int64(cfg.PreparedStatementMemory),
	}
	opts.Limits = proxy.Limits{
		UserConnections:       cfg.Pool.MaxUserConnections,
		HostConnections:       cfg.Pool.MaxHostConnections,
		UserClientConnections: cfg.Pool.MaxUserClientConnections,
		Pools:                 cfg.Pool.MaxPools,
		AutoDBIdle:            cfg.Pool.AutoDBIdleTimeout,
	}
	if cfg.Pool.ClientGone == "finish" {
		opts.ClientGone = proxy.GoneFinish
	}
	for name, d := range cfg.Databases {
		pool := cfg.Effective(name, "")
		opts.Databases[name] = &proxy.Database{
			Name:  name,
			Mode:  poolMode(pool.Mode),
			Users: d.Users,
			State: proxy.StateOptions{
				Level: stateLevel(pool.SessionState), Audit: pool.SessionStateAudit, MaxPinned: maxPinned(pool),
				PinIdleTimeout: pool.PinIdleTimeout, SlotTimeout: pool.QueryWaitTimeout, PinFunctions: pool.PinFunctions,
			},
			Pool:              poolOptions(d, pool, isSelf, log),
			ServerConnections: pool.MaxDBConnections,
			ClientConnections: pool.MaxDBClientConnections,
			Timeouts: proxy.Timeouts{
				QueryWaitNotify: pool.QueryWaitNotify,
				Query:           pool.QueryTimeout,
				IdleTransaction: pool.IdleTransactionTimeout,
				Transaction:     pool.TransactionTimeout,
				ClientIdle:      pool.ClientIdleTimeout,
				ClientWrite:     pool.ClientWriteTimeout,
			},
		}
	}
	for name, u := range cfg.Users {
		own := u.Overrides.Values()
		var user proxy.UserOptions
		if u.Overrides.Has("pool_mode") {
			mode := poolMode(own.Mode)
			user.Mode = &mode
		}
		if u.Overrides.Has("default_pool_size") {
			user.Size = &own.Size
		}
		if u.Overrides.Has("session_state") {
			level := stateLevel(own.SessionState)
			user.Level = &level
		}
		for _, t := range []struct {
			name string
			to   **time.Duration
			from *time.Duration
		}{
			{"query_timeout", &user.Timeouts.Query, &own.QueryTimeout},
			{"idle_transaction_timeout", &user.Timeouts.IdleTransaction, &own.IdleTransactionTimeout},
			{"transaction_timeout", &user.Timeouts.Transaction, &own.TransactionTimeout},
			{"client_idle_timeout", &user.Timeouts.ClientIdle, &own.ClientIdleTimeout},
			{"client_write_timeout", &user.Timeouts.ClientWrite, &own.ClientWriteTimeout},
		} {
			if u.Overrides.Has(t.name) {
				*t.to = t.from
			}
		}
		if u.Overrides.Has("max_user_connections") {
			user.ServerConnections = &own.MaxUserConnections
		}
		if u.Overrides.Has("max_user_client_connections") {
			user.ClientConnections = &own.MaxUserClientConnections
		}
		opts.Users[name] = user
	}
	return opts
}

// poolOptions are the template of a database's pools.
func poolOptions(d *config.Database, pool config.Pool, isSelf func(network, addr string) bool, log *zap.Logger) backend.PoolOptions {
	hosts := make([]backend.Host, len(d.Hosts))
	for i, h := range d.Hosts {
		hosts[i] = backend.Host{Network: h.Network, Host: h.Host, Port: h.Port}
	}
	return backend.PoolOptions{
		Database:           d.Name,
		Hosts:              hosts,
		DBName:             d.DBName,
		Credentials:        backend.Credentials{User: d.User, Password: string(d.Password)},
		TLS:                backend.TLSOptions{Mode: backend.TLSMode(d.TLS.Mode), CAFile: d.TLS.CAFile, CertFile: d.TLS.CertFile, KeyFile: d.TLS.KeyFile},
		RuntimeParams:      maps.Clone(d.RuntimeParams),
		TargetSessionAttrs: d.TargetSessionAttrs,
		Size:               pool.Size,
		MinSize:            pool.MinSize,
		RoundRobin:         pool.RoundRobin,
		ReserveSize:        pool.ReserveSize,
		ReserveTimeout:     pool.ReserveTimeout,
		ConnectTimeout:     pool.ServerConnectTimeout,
		IdleTimeout:        pool.ServerIdleTimeout,
		Lifetime:           pool.ServerLifetime,
		LoginRetry:         pool.ServerLoginRetry,
		CheckDelay:         pool.ServerCheckDelay,
		QueryWaitTimeout:   pool.QueryWaitTimeout,
		Keepalive:          keepalive(d.Keepalive),
		UpstreamPooler:     d.UpstreamPooler,
		IsSelf:             isSelf,
		Log:                log,
	}
}

func stateLevel(word string) proxy.StateLevel {
	switch word {
	case "strict":
		return proxy.StateStrict
	case "reject":
		return proxy.StateReject
	case "ignore":
		return proxy.StateIgnore
	}
	return proxy.StatePreserve
}

// maxPinned is max_pinned for a pool; 0: unlimited.
func maxPinned(pool config.Pool) int {
	switch {
	case pool.MaxPinned > 0:
		return pool.MaxPinned
	case pool.Size > 0:
		return max(1, pool.Size/2)
	}
	return 0
}

func poolMode(word string) proxy.Mode {
	switch word {
	case "session":
		return proxy.ModeSession
	case "statement":
		return proxy.ModeStatement
	}
	return proxy.ModeTransaction
}

func keepalive(k config.Keepalive) backend.Keepalive {
	return backend.Keepalive{Enable: k.Enable, Idle: k.Idle, Interval: k.Interval, Count: k.Count, UserTimeout: k.UserTimeout}
}

func secrets(users map[string]config.Secret) map[string]string {
	plain := make(map[string]string, len(users))
	for name, s := range users {
		plain[name] = string(s)
	}
	return plain
}

// adminOptions are for the console and the HTTP port.
func (d *Daemon) adminOptions(cfg *config.Config) admin.Options {
	opts := admin.Options{
		Source:     source{d.server, d},
		Version:    d.opts.Version,
		Token:      string(cfg.Admin.Token),
		AdminUsers: cfg.Admin.Users,
		StatsUsers: cfg.Admin.StatsUsers,
		CheckPassword: func(user, password string) bool {
			secret, ok := cfg.Auth.Users[user]
			return ok && checkPassword(string(secret), user, password)
		},
		Level:    d.log,
		Log:      d.log.Logger,
		Pprof:    cfg.Admin.Pprof,
		Operator: d.server,
		Process:  process{d},

		StatsPeriod: cfg.Admin.StatsPeriod,
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Auth.Users)) {
		effective := cfg.Effective("", name)
		u := admin.User{Name: name, MaxConnections: effective.MaxUserConnections, MaxClientConnections: effective.MaxUserClientConnections}
		if own := cfg.Users[name]; own != nil {
			if size := own.Overrides.Values().Size; own.Overrides.Has("default_pool_size") {
				u.PoolSize = &size
			}
			u.Mode = own.Overrides.Values().Mode
		}
		opts.Users = append(opts.Users, u)
	}
	for _, r := range cfg.Rows() {
		opts.Settings = append(opts.Settings, admin.Setting(r))
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Databases)) {
		db, pool := cfg.Databases[name], cfg.Effective(name, "")
		row := admin.Database{
			Name: name, DBName: db.DBName, ForceUser: db.User,
			PoolSize: pool.Size, MinPoolSize: pool.MinSize, ServerLifetime: pool.ServerLifetime,
			ReservePoolSize: pool.ReserveSize, MaxConnections: pool.MaxDBConnections, MaxClientConnections: pool.MaxDBClientConnections,
		}
		if db.Overrides.Has("pool_mode") {
			row.Mode = pool.Mode
		}
		hosts := make([]string, len(db.Hosts))
		for i, h := range db.Hosts {
			hosts[i] = h.Host
			row.Port = int(db.Hosts[0].Port)
		}
		row.Host = strings.Join(hosts, ",")
		opts.Databases = append(opts.Databases, row)
	}
	return opts
}

// source is the proxy as the console and the HTTP port see it.
type source struct {
	*proxy.Server
	d *Daemon
}

// Ready is the proxy's, unless ready_requires_server is off: then only the
// end of pgpoold counts.
func (s source) Ready() (bool, string) {
	if !s.d.config().Admin.ReadyRequiresServer && !s.Draining() {
		return true, ""
	}
	return s.Server.Ready()
}

// isPlain reports whether a secret is a password, and not made of one.
func isPlain(secret string) bool {
	return secret != "" && !scram.HasVerifierPrefix(secret) && !scram.IsMD5Secret(secret)
}

// checkPassword compares a password with a user's secret of any kind. An
// empty secret admits nobody.
func checkPassword(secret, user, password string) bool {
	if secret == "" {
		return false
	}
	if scram.HasVerifierPrefix(secret) {
		v, err := scram.ParseVerifier(secret)
		return err == nil && v.CheckPassword(password)
	}
	given := password
	if scram.IsMD5Secret(secret) {
		given = scram.MD5Secret(password, user)
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
