package admin

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"pgpoold/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a Source with a state that the test chooses.
type source struct {
	mu   sync.Mutex
	snap proxy.Snapshot
	why  string // "": ready
}

func (s *source) Summary() proxy.Snapshot { return s.Snapshot() }

func (s *source) Snapshot() proxy.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snap
}

func (s *source) Pools() []proxy.PoolSnapshot { return s.Snapshot().Pools }

func (s *source) Fingerprints() []proxy.FingerprintSnapshot {
	return []proxy.FingerprintSnapshot{{Database: "search", Text: "select ? from <b>t</b>", Calls: 4, Time: 8 * time.Second, Longest: 3 * time.Second, Last: s.Snapshot().Started}}
}

func (s *source) Ready() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why == "", s.why
}

func (s *source) set(f func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// level is a LogLevel that takes debug and info.
type level struct {
	mu  sync.Mutex
	now string
}

func (l *level) Level() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *level) SetLevel(s string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s != "debug" && s != "info" {
		return errUnknownLevel
	}
	l.now = s
	return nil
}

var errUnknownLevel = errorText("log.level: not one of debug, info")

type errorText string

func (e errorText) Error() string { return string(e) }

// state is one client on one server, one that waits, and a pool.
func state() proxy.Snapshot {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	return proxy.Snapshot{
		Started: at,
		Clients: []proxy.ClientSnapshot{
			{ID: 7, User: "app", Database: "search", Replication: "none", State: "active", Addr: "10.0.0.9", Port: 50123,
				LocalAddr: "10.0.0.1", LocalPort: 6432, ConnectTime: at, RequestTime: at.Add(time.Second), ServerID: 3,
				PID: 4194400, TLS: "TLSv1.3/TLS_AES_128_GCM_SHA256", ApplicationName: "exec", PreparedStatements: 2,
				Pin: "untracked", PinnedSince: at, BytesIn: 10, BytesOut: 20},
			{ID: 8, User: "<b>app</b>", Database: "search", State: "waiting", Addr: "unix",
				ConnectTime: at, Wait: 2*time.Second + 345*time.Microsecond},
		},
		Servers: []proxy.ServerSnapshot{
			{ID: 3, User: "owner", Database: "search", State: "active", Addr: "10.0.0.2", Port: 5432, ClientID: 7,
				ConnectTime: at, RequestTime: at, PID: 991, ApplicationName: "exec"},
			{ID: 4, User: "owner", Database: "search", State: "login", Addr: "10.0.0.2", Port: 5432, ConnectTime: at},
		},
		Pools: []proxy.PoolSnapshot{
			{Database: "search", User: "owner", Mode: "transaction", Size: 20, MinSize: 5, Ready: true,
				ClActive: 1, ClWaiting: 2, ClActiveCancelReq: 3, ClWaitingCancelReq: 4, SvActive: 5, SvActiveCancel: 6,
				SvBeingCanceled: 7, SvIdle: 8, SvUsed: 9, SvTested: 10, SvLogin: 11, MaxWait: 2*time.Second + 345*time.Microsecond,
				Stats: proxy.PoolStats{ServerAssignments: 12, Xacts: 4, Queries: 8, BytesReceived: 100, BytesSent: 200,
					XactTime: 4 * time.Second, QueryTime: 2 * time.Second, WaitTime: 6 * time.Second,
					ClientParses: 5, ServerParses: 6, Binds: 7, ClientLogins: 3, Switches: 2, Dials: 9, DialErrors: 1}},
		},
		Totals: proxy.Totals{
			ClientsAccepted: 30, ClientsRefused: 1, LoginsFailed: 2, LoginsUnderWay: 6, ClientsConnected: 2, ServersConnected: 2,
			ServerCloses: map[string]uint64{"idle": 4}, PinsByReason: map[string]int{"untracked": 1},
			PinsTotal: map[string]uint64{"untracked": 5}, ErrorsBySQLState: map[string]uint64{"57014": 3},
			StatementsKept: 11, StatementsBytes: 2222,
		},
	}
}

// options are for a console and an admin port over src.
func options(src *source) Options {
	three := 3
	level := &level{now: "info"}
	return Options{
		Source: src, Version: "9.8.7",
		AdminUsers: []string{"ops"}, StatsUsers: []string{"grafana"},
		CheckPassword: func(user, password string) bool { return password == user+"-secret" },
		Databases: []Database{
			{Name: "search", Host: "10.0.0.2", Port: 5432, DBName: "postgres", ForceUser: "owner", PoolSize: 20, MinPoolSize: 5,
				ServerLifetime: time.Hour, Mode: "transaction"},
			{Name: "*", Host: "10.0.0.3", Port: 5432, DBName: "*", PoolSize: 10},
		},
		Users:       []User{{Name: "app", PoolSize: &three, Mode: "session"}, {Name: "ops"}, {Name: "owner"}},
		Operator:    &operator{},
		Process:     &process{level},
		Settings:    []Setting{{Key: "max_client_conn", Value: "10000", Default: "10000"}, {Key: "log_level", Value: "info", Default: "info", Changeable: true}},
		Level:       level,
		StatsPeriod: time.Hour,
		Log:         zap.NewNop(),
	}
}

// operator notes what it is asked.
type operator struct {
	mu    sync.Mutex
	asked []string
}

func (o *operator) note(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, s)
}

func (o *operator) Knows(db string) bool { return db == "search" }
func (o *operator) Pause(db string) (uint64, bool, error) {
	o.note("pause " + db)
	return 1, true, nil
}
func (o *operator) Paused(string, uint64) (bool, bool) { return true, true }
func (o *operator) Unpause(string, uint64)             {}
func (o *operator) Resume(db string) error             { o.note("resume " + db); return nil }
func (o *operator) Kill(db string)                     { o.note("kill " + db) }
func (o *operator) KillClient(id uint64) error         { return proxy.ErrNoClient }
func (o *operator) Reconnect(db string)                { o.note("reconnect " + db) }
func (o *operator) CloseNeeded(string) int             { return 0 }
func (o *operator) Disable(db string, off bool) {
	if off {
		o.note("enable " + db)
	} else {
		o.note("disable " + db)
	}
}

// process is a Process whose settings are log_level and one that is fixed.
type process struct{ level *level }

func (process) Upgrades() (int, error) { return 0, nil }

func (process) Reload() ([]string, error) {
	return []string{"listen_addr was changed: it needs a restart"}, nil
}
func (p process) Set(name, value string) error {
	if name == "listen_addr" {
		return ErrRestart
	}
	if name != "log_level" || value != "debug" {
		return errUnknownLevel
	}
	return p.level.SetLevel(value)
}
func (process) Shutdown(ShutdownMode) {}
