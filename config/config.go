package config

import (
	"time"

	"pgpoold/config/dsn"
)

// Secret is a string that prints as [redacted]; converting it to string is the
// only way to its text.
type Secret = dsn.Secret

// Config is a whole configuration, checked and complete. It is not changed
// after Load and may be read by any goroutine.
type Config struct {
	// File is the file it was read from, "" without one.
	File string

	Listen    Listen
	Admin     Admin
	Auth      Auth
	Pool      Pool
	Users     map[string]*User
	Databases map[string]*Database
	Log       Log

	DrainTimeout            time.Duration
	PinDrainTimeout         time.Duration
	UpgradeTimeout          time.Duration
	DNSMaxTTL               time.Duration
	PreparedStatementMemory int
	CancelWaitTimeout       time.Duration

	// Warnings are for the log at start and for check, a sentence each.
	Warnings []string

	sources map[string]source // where the value at a YAML path came from; default: absent
}

// Listen is the clients' side.
type Listen struct {
	Addrs              []Addr
	MaxClientConn      int
	MaxLoginConn       int
	ClientLoginTimeout time.Duration
	UnixSocketMode     uint32
	TLS                ClientTLS
	Keepalive          Keepalive

	addr []string // as written
}

// Addr is one address to listen on. For "unix" Address is the socket's path.
type Addr struct{ Network, Address string }

// ClientTLS is TLS between clients and pgpoold. Mode is disable, allow,
// require, verify-ca or verify-full. Without CertFile a self-signed
// certificate is meant.
type ClientTLS struct {
	Mode, CertFile, KeyFile, CAFile string
}

// Keepalive is for the TCP connections of both sides; zero leaves the
// system's value.
type Keepalive struct {
	Enable      bool
	Idle        time.Duration
	Interval    time.Duration
	Count       int
	UserTimeout time.Duration
}

// Admin is the HTTP port and who may enter it and the console.
type Admin struct {
	Addr       string // host:port, "" for none
	Users      []string
	StatsUsers []string
	Token      Secret
	// TLSCertFile and TLSKeyFile make the HTTP port HTTPS.
	TLSCertFile, TLSKeyFile string
	Pprof                   bool
	StatsPeriod             time.Duration
	ReadyRequiresServer     bool
}

// Auth says how clients log in.
type Auth struct {
	Type string // trust, any, password, md5 or scram-sha-256
	File string
	// Users are all that can log in: auth.users and the file's together.
	Users map[string]Secret
}

// Pool holds the settings that pool, databases.X and users.X share.
type Pool struct {
	Mode              string // transaction, session or statement
	Size              int    // 0: unlimited
	MinSize           int
	RoundRobin        bool
	QueryWaitTimeout  time.Duration
	SessionState      string // preserve, strict, reject or ignore
	SessionStateAudit float64
	MaxPinned         int // 0: half of Size
	PinIdleTimeout    time.Duration
	PinFunctions      []string
	ClientGone        string // cancel or finish

	ReserveSize    int
	ReserveTimeout time.Duration

	// Limits of what pools have in common; 0: unlimited.
	MaxDBConnections         int
	MaxUserConnections       int
	MaxHostConnections       int
	MaxDBClientConnections   int
	MaxUserClientConnections int
	MaxPools                 int // that "*" can make
	AutoDBIdleTimeout        time.Duration

	QueryWaitNotify        time.Duration
	QueryTimeout           time.Duration
	IdleTransactionTimeout time.Duration
	TransactionTimeout     time.Duration
	ClientIdleTimeout      time.Duration
	ClientWriteTimeout     time.Duration

	MaxPreparedStatements  int // of one server
	MaxPreparedBytes       int // of one server
	MaxClientPreparedBytes int // of one session

	ServerIdleTimeout    time.Duration
	ServerLifetime       time.Duration
	ServerConnectTimeout time.Duration
	ServerLoginRetry     time.Duration
	ServerCheckDelay     time.Duration
}

// User is users.X: settings of one client user.
type User struct{ Overrides Overrides }

// Overrides are the pool settings that a database or user sets for itself.
type Overrides struct {
	values Pool
	set    map[string]bool // by canonical name
}

// Database is databases.X.
type Database struct {
	Name  string // what clients connect to, or "*"
	Hosts []dsn.Host

	// User, Password and DBName are what pgpoold presents to the server, the
	// DSN's own or their replacements. User "": each client's own identity.
	// DBName "": the name the client asked for ("*" without a database).
	User        string
	Password    Secret
	HasPassword bool
	DBName      string

	TLS                ServerTLS
	TargetSessionAttrs string
	RuntimeParams      map[string]string
	Keepalive          Keepalive // the DSN's, else listen's

	// Users who may enter; nil: all that can log in.
	Users          []string
	UpstreamPooler bool
	Overrides      Overrides

	// connectTimeout is the DSN's: nearer than the pool's, not as near as the
	// database's own server_connect_timeout.
	connectTimeout *time.Duration
}

// ServerTLS is TLS to PostgreSQL: libpq's sslmode words and files. CAFile ""
// and "system" are the system's roots.
type ServerTLS struct {
	Mode, CAFile, CertFile, KeyFile string
}

// databaseEntry is databases.X as written. It is not kept in the Database: fmt
// prints unexported fields without asking Secret.
type databaseEntry struct {
	dsn            Secret
	user           string
	password       Secret
	dbname         string
	tls            ServerTLS
	users          []string
	upstreamPooler bool
}

// Log says what is logged and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // console or json
}
