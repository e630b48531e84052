package proxy

import (
	"time"

	"go.uber.org/zap"

	"pgpoold/backend"
)

// Mode says for how long a session keeps a server.
type Mode uint8

// The pool modes, as PgBouncer's pool_mode.
const (
	ModeTransaction Mode = iota
	ModeSession
	ModeStatement
)

func (m Mode) String() string {
	switch m {
	case ModeSession:
		return "session"
	case ModeStatement:
		return "statement"
	default:
		return "transaction"
	}
}

// Options configure a Server. They are read once, by New.
type Options struct {
	MaxClientConn      int           // max_client_conn
	MaxLoginConn       int           // most clients that are not logged in yet
	ClientLoginTimeout time.Duration // client_login_timeout: from accept to ReadyForQuery, waiting for the first server excluded; looked at by Start's clock, four times a second
	ClientGone         ClientGone
	CancelWaitTimeout  time.Duration // cancel_wait_timeout
	PinDrainTimeout    time.Duration // pin_drain_timeout
	DNSMaxTTL          time.Duration // dns_max_ttl
	RecoverTimeout     time.Duration // how long a server left by its client may take to come clean
	Keepalive          backend.Keepalive
	UnixSocketMode     uint32

	Prepared PreparedLimits
	Limits   Limits

	Auth AuthOptions
	TLS  *ClientTLS // nil: TLS is refused

	// Databases by the name that clients use; "*" answers for all others.
	Databases map[string]*Database
	// Users' own settings, by name.
	Users map[string]UserOptions

	// Console serves a client of the database "pgbouncer" or "pgpoold" after
	// its login, until it returns. Nil: there is no console.
	Console func(c *ConsoleClient)
	// AdminUsers and StatsUsers may enter the console.
	AdminUsers []string
	StatsUsers []string

	Log *zap.Logger
}

// PreparedLimits bound prepared statements. 0 is off.
type PreparedLimits struct {
	PerServer   int   // max_prepared_statements: what a server holds of ours
	ServerBytes int64 // max_prepared_bytes: and what their texts take
	ClientBytes int64 // max_client_prepared_bytes: texts of one session's
	TotalBytes  int64 // prepared_statement_memory: texts of all, shared ones counted once
}

// ClientGone says what becomes of a query whose client vanished.
type ClientGone uint8

// GoneCancel cancels it; GoneFinish lets it end, as PostgreSQL does.
const (
	GoneCancel ClientGone = iota
	GoneFinish
)

// UserOptions are settings of one client user. Zero values mean "not set".
type UserOptions struct {
	Mode *Mode
	Size *int
	// Level is session_state.
	Level *StateLevel
	// ServerConnections is max_user_connections, ClientConnections
	// max_user_client_connections.
	ServerConnections, ClientConnections *int
	Timeouts                             UserTimeouts
}

// StateLevel is session_state: what becomes of a session's state.
type StateLevel uint8

// The levels.
const (
	StatePreserve StateLevel = iota // carried, or its server is kept
	StateStrict                     // and kept for whatever could matter
	StateReject                     // carried, or refused
	StateIgnore                     // left behind
)

// StateOptions say how the state of a database's sessions is kept.
type StateOptions struct {
	Level          StateLevel
	Audit          float64       // session_state_audit
	MaxPinned      int           // max_pinned; 0: unlimited
	PinIdleTimeout time.Duration // pin_idle_timeout
	SlotTimeout    time.Duration // how long a session waits whose state came when max_pinned was reached; 0: without end
	PinFunctions   []string      // pin_functions
}

// Database is one entry of the configuration's databases.
type Database struct {
	Name string
	Mode Mode
	// Users who may enter; nil: all that can log in.
	Users []string
	// State says what becomes of its sessions' state.
	State StateOptions
	// ServerConnections is max_db_connections, ClientConnections
	// max_db_client_connections. 0 is unlimited.
	ServerConnections, ClientConnections int
	Timeouts                             Timeouts
	// Pool is the template of its pools. Credentials.User "" means that each
	// client's own identity is used.
	Pool backend.PoolOptions
}

// farewellTimeout bounds the write of a login's last messages.
func (o *Options) farewellTimeout() time.Duration {
	if o.ClientLoginTimeout > 0 {
		return o.ClientLoginTimeout
	}
	return time.Minute
}
