package proxy

import (
	"time"

	"pgpoold/backend"
)

// Snapshot is the state of the whole proxy at one moment. Its parts are each
// consistent in themselves, but taken one after the other.
type Snapshot struct {
	Started  time.Time
	Draining bool
	Clients  []ClientSnapshot
	Servers  []ServerSnapshot
	Pools    []PoolSnapshot
	Totals   Totals
	Controls Controls
}

// Totals are counters since the start, over all pools.
type Totals struct {
	ClientsAccepted  uint64
	ClientsRefused   uint64 // by max_client_conn or the cap on logins under way
	LoginsFailed     uint64
	CancelRequests   uint64 // CancelRequests that named a session of ours
	CancelsForwarded uint64
	TLSFailed        uint64 // TLS handshakes that failed
	AcceptPauses     uint64 // times accepting paused for want of descriptors
	LoginsUnderWay   int
	ClientsConnected int
	ServersConnected int
	ServerCloses     map[string]uint64 // by reason, see backend.CloseReason
	PinsByReason     map[string]int    // pinned sessions now
	ClientsByTLS     map[string]int    // by ClientSnapshot.TLS
	PinsTotal        map[string]uint64
	StateMissed      map[string]uint64 // state that only session_state_audit has found, by kind
	SettingsBytes    int64             // what sessions' settings take that an inspection has told
	ErrorsBySQLState map[string]uint64 // errors that pgpoold itself made, by SQLSTATE
	// ServerErrorsBySQLState are PostgreSQL's, passed on to clients.
	ServerErrorsBySQLState map[string]uint64
	StatementsKept         int // interned statements
	StatementsBytes        int64
}

// ClientSnapshot describes one logged-in client. State is PgBouncer's word:
// active, waiting, idle, active_cancel_req, waiting_cancel_req.
type ClientSnapshot struct {
	ID                 uint64
	User, Database     string
	Replication        string // "none", "logical", "physical"
	State              string
	Addr               string // "unix" or an IP
	Port               int
	LocalAddr          string
	LocalPort          int
	ConnectTime        time.Time
	RequestTime        time.Time // begin of the current or last query; zero: none yet
	Wait               time.Duration
	CloseNeeded        bool
	ServerID           uint64 // attached server; 0: none
	PID                uint32 // the backend PID the client was told
	TLS                string // "TLSv1.3/TLS_AES_128_GCM_SHA256", or ""
	ApplicationName    string
	PreparedStatements int
	Pin                string // reason; "" when not pinned
	PinnedSince        time.Time
	BytesIn, BytesOut  uint64
	// Unread says that something waits to be written to it.
	Unread bool
}

// ServerSnapshot describes one server connection. State is PgBouncer's word:
// active, idle, used, tested, login, active_cancel, being_canceled.
type ServerSnapshot struct {
	ID                 uint64
	User, Database, Of string // the pool's
	Replication        string
	State              string
	Addr               string
	Port               int
	LocalAddr          string
	LocalPort          int
	ConnectTime        time.Time
	RequestTime        time.Time
	CloseNeeded        bool
	ClientID           uint64 // attached client; 0: none
	PID                uint32
	TLS                string
	ApplicationName    string
	PreparedStatements int
	Pin                string
	// InTransaction is for how long its client has had a transaction open and
	// has asked nothing in it; Query for how long a query has been running.
	InTransaction, Query time.Duration
}

// PoolSnapshot describes one pool: the servers of one (database, user). Of
// whom it is says Of: "" where all its clients share it, a client user that has
// a size of its own, or ofReplication.
type PoolSnapshot struct {
	Database, User, Of string
	Mode               string
	Size, MinSize      int
	ClActive           int // attached or idle clients
	ClWaiting          int
	ClActiveCancelReq  int
	ClWaitingCancelReq int
	SvActive           int
	SvActiveCancel     int
	SvBeingCanceled    int
	SvIdle             int
	SvUsed             int
	SvTested           int
	SvLogin            int
	MaxWait            time.Duration // age of the oldest waiter
	LastError          string        // why the last dial failed; "" after a success
	Refused            bool          // PostgreSQL has refused the login then
	Paused             bool          // by PAUSE or KILL
	Ready              bool          // a server is connected, or the last dial succeeded
	Stats              PoolStats
}

// PoolStats are counters since the pool was made.
type PoolStats struct {
	ServerAssignments uint64
	Xacts             uint64
	Queries           uint64
	BytesReceived     uint64 // from clients
	BytesSent         uint64 // to clients
	XactTime          time.Duration
	QueryTime         time.Duration
	WaitTime          time.Duration
	ClientParses      uint64
	ServerParses      uint64
	Binds             uint64
	ClientLogins      uint64
	Switches          uint64 // attaches to another server than the session's last
	Kept              uint64 // attaches to the session's last server
	Inspections       uint64 // transactions after which PostgreSQL was asked what they had left
	Dials             uint64
	DialErrors        uint64
	Errors            uint64 // of PostgreSQL's, to clients
	// Named statements: found on the server, sent to it, and closed there for
	// want of room.
	StatementHits, StatementMisses, StatementEvictions uint64
	// Waits counts every assignment of a server, by how long it was waited for.
	Waits, XactTimes, QueryTimes, Connects backend.Histogram
	ConnectTime                            time.Duration // that Connects took together
}

// Add sums counters.
func (a *PoolStats) Add(b *PoolStats) {
	a.ServerAssignments += b.ServerAssignments
	a.Xacts += b.Xacts
	a.Queries += b.Queries
	a.BytesReceived += b.BytesReceived
	a.BytesSent += b.BytesSent
	a.XactTime += b.XactTime
	a.QueryTime += b.QueryTime
	a.WaitTime += b.WaitTime
	a.ClientParses += b.ClientParses
	a.ServerParses += b.ServerParses
	a.Binds += b.Binds
	a.ClientLogins += b.ClientLogins
	a.Switches += b.Switches
	a.Kept += b.Kept
	a.Inspections += b.Inspections
	a.Dials += b.Dials
	a.DialErrors += b.DialErrors
	a.Errors += b.Errors
	a.StatementHits += b.StatementHits
	a.StatementMisses += b.StatementMisses
	a.StatementEvictions += b.StatementEvictions
	a.Waits.Add(&b.Waits)
	a.XactTimes.Add(&b.XactTimes)
	a.QueryTimes.Add(&b.QueryTimes)
	a.Connects.Add(&b.Connects)
	a.ConnectTime += b.ConnectTime
}
