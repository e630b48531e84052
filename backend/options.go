package backend

import (
	"context"
	"net"
	"time"

	"go.uber.org/zap"
)

// TLSMode is libpq's sslmode for connections to PostgreSQL.
type TLSMode string

// The modes, with libpq's meaning. Allow and Prefer differ only in which
// attempt comes first; only VerifyFull checks the host name.
const (
	TLSDisable    TLSMode = "disable"
	TLSAllow      TLSMode = "allow"
	TLSPrefer     TLSMode = "prefer"
	TLSRequire    TLSMode = "require"
	TLSVerifyCA   TLSMode = "verify-ca"
	TLSVerifyFull TLSMode = "verify-full"
)

// TLSOptions says how a server connection is encrypted and what it must prove.
type TLSOptions struct {
	Mode     TLSMode
	CAFile   string // "" or "system": the system's roots
	CertFile string
	KeyFile  string
}

// Host is one address a pool may dial. Network is "tcp" or "unix"; for unix
// Host is the socket's directory, as in libpq.
type Host struct {
	Network string
	Host    string
	Port    uint16
}

// Credentials are what pgpoold presents to PostgreSQL for one pool. At most
// one of the three secrets is set; none means that PostgreSQL must not ask.
type Credentials struct {
	User      string
	Password  string
	ClientKey []byte // SCRAM pass-through: PostgreSQL must hold the same verifier
	ServerKey []byte // with ClientKey: proves the server
	MD5Secret string // "md5" and 32 hex digits
}

// PoolOptions is everything a pool needs to know; it never changes once the
// pool is made. Durations of 0 mean off.
type PoolOptions struct {
	Database    string // the name that clients connect to
	Hosts       []Host // tried in order
	DBName      string // the database's name on the server
	Credentials Credentials
	TLS         TLSOptions
	// RuntimeParams are sent in every startup packet to the server (from the DSN).
	RuntimeParams map[string]string
	// TargetSessionAttrs is libpq's: any, read-write, read-only, primary, standby, prefer-standby.
	TargetSessionAttrs string

	Size       int // most servers of this pool; 0 is unlimited
	MinSize    int
	RoundRobin bool
	// ReserveSize is how many servers more the pool may have while somebody
	// has waited for ReserveTimeout.
	ReserveSize    int
	ReserveTimeout time.Duration
	// Shares, if not nil, has the limits that several pools have in common;
	// Caps are those of this pool.
	Shares *Shares
	Caps   []CapKey
	// Replication is the startup parameter replication=..., for servers that
	// one replication client uses and nobody else.
	Replication string

	ConnectTimeout   time.Duration // server_connect_timeout: dial, TLS and login together
	IdleTimeout      time.Duration // server_idle_timeout
	Lifetime         time.Duration // server_lifetime, shortened by a jitter of up to 5 %
	LoginRetry       time.Duration // server_login_retry: the longest back-off
	CheckDelay       time.Duration // server_check_delay
	QueryWaitTimeout time.Duration // query_wait_timeout
	Keepalive        Keepalive

	// UpstreamPooler says that the server is itself a transaction pooler:
	// nothing is pipelined or replayed, no named statement is sent.
	UpstreamPooler bool
	// Lookup finds the addresses of a host's name; nil is the system's way.
	Lookup func(ctx context.Context, host string) ([]net.IPAddr, error)
	// IsSelf reports whether a remote address is one of pgpoold's own
	// listeners; such a dial is refused.
	IsSelf func(network, addr string) bool

	Log *zap.Logger
}

// Keepalive is the TCP keepalive and TCP_USER_TIMEOUT of a connection.
// A zero duration leaves the system's value.
type Keepalive struct {
	Enable      bool
	Idle        time.Duration
	Interval    time.Duration
	Count       int
	UserTimeout time.Duration
}
