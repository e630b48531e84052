// Package admin is what operators see of a running pgpoold: the console on
// the client port, which speaks PgBouncer's commands, and the HTTP port with
// health, metrics, a page and a small API. What they show comes from one
// proxy.Snapshot, taken when it is asked for; what they change they ask an
// Operator and a Process for.
package admin

import (
	"crypto/tls"
	"time"

	"go.uber.org/zap"

	"pgpoold/proxy"
)

// Source is where everything shown comes from. *proxy.Server is one.
type Source interface {
	Snapshot() proxy.Snapshot
	Summary() proxy.Snapshot // without clients
	// Pools is the part of it that costs nothing for each client.
	Pools() []proxy.PoolSnapshot
	Fingerprints() []proxy.FingerprintSnapshot
	// Ready says whether clients are served; if not, why not, in one line.
	Ready() (bool, string)
}

// LogLevel is the logger's level, which operators may change.
type LogLevel interface {
	Level() string
	SetLevel(string) error
}

// Options configure the console and the HTTP port alike. They are replaced
// as a whole, by Console.Configure.
type Options struct {
	Source  Source
	Version string // pgpoold's own

	// Token is the HTTP bearer token; it opens everything. "" is none.
	Token string
	// AdminUsers may do everything, StatsUsers only look. CheckPassword says
	// whether an HTTP client that names one of them is that user; nil: no
	// user can log in over HTTP.
	AdminUsers, StatsUsers []string
	CheckPassword          func(user, password string) bool

	// TLS is for the HTTP port; nil: it is plain.
	TLS *tls.Config
	// Pprof opens /debug/pprof.
	Pprof bool

	Databases []Database
	Users     []User    // those known to the configuration
	Settings  []Setting // for SHOW CONFIG
	Level     LogLevel

	Operator Operator
	Process  Process

	// StatsPeriod is how long the averages of SHOW STATS reach back; 0 is a
	// minute.
	StatsPeriod time.Duration
	Log         *zap.Logger
}

// Setting is a row of SHOW CONFIG. Values are shown as they are: secrets have
// no place here.
type Setting struct {
	Key, Value, Default string
	Changeable          bool
}

// Database is what SHOW DATABASES tells of a configured database beyond what
// the snapshot holds.
type Database struct {
	Name        string
	Host        string // several joined by a comma; "" for none
	Port        int
	DBName      string
	ForceUser   string // "" where clients are themselves on the server
	PoolSize    int
	MinPoolSize int
	// ReservePoolSize, MaxConnections and MaxClientConnections are as
	// configured; 0 is none, and unlimited.
	ReservePoolSize, MaxConnections, MaxClientConnections int
	ServerLifetime                                        time.Duration
	Mode                                                  string
}

// User is what SHOW USERS tells of a configured user.
type User struct {
	Name     string
	PoolSize *int   // nil: none of its own
	Mode     string // "": none of its own
	// MaxConnections and MaxClientConnections are its limits; 0: unlimited.
	MaxConnections, MaxClientConnections int
}

// consoleDatabase is the name under which the console counts itself, as in
// PgBouncer.
const consoleDatabase = "pgbouncer"

// IsConsole reports whether a database name means the console.
func IsConsole(database string) bool {
	return database == consoleDatabase || database == "pgpoold"
}
