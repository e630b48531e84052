package admin

import (
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"pgpoold/proxy"
)

// collector turns one Snapshot per scrape into metrics. What it says of a
// (database, user) is kept to a bounded number of pairs: a database "*" lets
// clients invent names, and a monitoring system pays for every one.
type collector struct {
	source  Source
	version string

	mu    sync.Mutex // guards known
	known map[[2]string]struct{}

	build, ready, draining                        *prometheus.Desc
	clients, servers                              *prometheus.Desc
	poolSize, poolMinSize, poolReady, poolMaxWait *prometheus.Desc
	pool                                          []poolCounter
	accepted, refused, failed                     *prometheus.Desc
	underWay, clientsConnected, serversConnected  *prometheus.Desc
	cancels, cancelsForwarded, acceptPauses       *prometheus.Desc
	closes, pins, pinsTotal, errors               *prometheus.Desc
	statements, statementsBytes                   *prometheus.Desc
}

// poolCounter is one counter of a pool.
type poolCounter struct {
	desc  *prometheus.Desc
	value func(proxy.PoolStats) float64
}

// maxPoolLabels is how many (database, user) pairs get series of their own;
// the rest are summed under otherLabel.
const (
	maxPoolLabels = 1000
	otherLabel    = "(other)"
)

func newCollector(source Source, version string) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pgpoold_"+name, help, labels, nil)
	}
	perPool := func(name, help string, more ...string) *prometheus.Desc {
		return desc(name, help, append([]string{"database", "user"}, more...)...)
	}
	count := func(name, help string, f func(proxy.PoolStats) uint64) poolCounter {
		return poolCounter{perPool(name, help), func(s proxy.PoolStats) float64 { return float64(f(s)) }}
	}
	return &collector{
		source: source, version: version, known: make(map[[2]string]struct{}),
		build:       desc("build_info", "Always 1; the labels say what runs.", "version", "goversion"),
		ready:       desc("ready", "Whether clients are served, as /readyz says: 1 or 0."),
		draining:    desc("draining", "Whether pgpoold is shutting down: 1 or 0."),
		clients:     perPool("clients", "Logged-in clients, by what they do.", "state"),
		servers:     perPool("servers", "Server connections, by what they do.", "state"),
		poolSize:    perPool("pool_size", "Most server connections of the pool; 0 is unlimited."),
		poolMinSize: perPool("pool_min_size", "Fewest server connections that the pool keeps."),
		poolReady:   perPool("pool_ready", "Whether PostgreSQL could be reached: 1 or 0."),
		poolMaxWait: perPool("pool_max_wait_seconds", "How long the first client in the queue has waited."),
		pool: []poolCounter{
			count("server_assignments_total", "Times that a client was given a server.", func(s proxy.PoolStats) uint64 { return s.ServerAssignments }),
			count("server_switches_total", "Assignments of another server than the client had last.", func(s proxy.PoolStats) uint64 { return s.Switches }),
			count("transactions_total", "Transactions.", func(s proxy.PoolStats) uint64 { return s.Xacts }),
			count("queries_total", "Queries.", func(s proxy.PoolStats) uint64 { return s.Queries }),
			count("received_bytes_total", "Bytes from clients.", func(s proxy.PoolStats) uint64 { return s.BytesReceived }),
			count("sent_bytes_total", "Bytes to clients.", func(s proxy.PoolStats) uint64 { return s.BytesSent }),
			{perPool("transaction_seconds_total", "Time in transactions."), func(s proxy.PoolStats) float64 { return s.XactTime.Seconds() }},
			{perPool("query_seconds_total", "Time in queries."), func(s proxy.PoolStats) float64 { return s.QueryTime.Seconds() }},
			{perPool("client_wait_seconds_total", "Time that clients waited for a server."), func(s proxy.PoolStats) float64 { return s.WaitTime.Seconds() }},
			count("client_parses_total", "Parse messages from clients.", func(s proxy.PoolStats) uint64 { return s.ClientParses }),
			count("server_parses_total", "Parse messages to servers.", func(s proxy.PoolStats) uint64 { return s.ServerParses }),
			count("binds_total", "Bind messages from clients.", func(s proxy.PoolStats) uint64 { return s.Binds }),
			count("client_logins_total", "Clients that logged in.", func(s proxy.PoolStats) uint64 { return s.ClientLogins }),
			count("server_dials_total", "Attempts to connect to PostgreSQL.", func(s proxy.PoolStats) uint64 { return s.Dials }),
			count("server_dial_errors_total", "Attempts that failed.", func(s proxy.PoolStats) uint64 { return s.DialErrors }),
		},
		accepted:         desc("clients_accepted_total", "Connections that were accepted."),
		refused:          desc("clients_refused_total", "Connections refused by max_client_conn or by the cap on logins under way."),
		failed:           desc("logins_failed_total", "Logins that failed."),
		underWay:         desc("logins_under_way", "Connections that have not logged in yet."),
		clientsConnected: desc("clients_connected", "Logged-in clients, over all pools."),
		serversConnected: desc("servers_connected", "Server connections, over all pools."),
		cancels:          desc("cancel_requests_total", "Cancel requests for a client of ours."),
		cancelsForwarded: desc("cancels_forwarded_total", "Cancel requests passed on to PostgreSQL."),
		acceptPauses:     desc("accept_pauses_total", "Times that accepting stopped for want of descriptors."),
		closes:           desc("server_closes_total", "Server connections that were closed.", "reason"),
		pins:             desc("pins", "Clients that keep their server beyond the transaction.", "reason"),
		pinsTotal:        desc("pins_total", "Times that a client began to keep its server.", "reason"),
		errors:           desc("errors_total", "Errors that pgpoold itself sent to clients.", "sqlstate"),
		statements:       desc("statements", "Distinct prepared statements that are kept."),
		statementsBytes:  desc("statements_bytes", "Memory that they take."),
	}
}

// Describe sends nothing: the set of metrics depends on the pools there are.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect takes one Snapshot.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	snap := c.source.Snapshot()
	ready, _ := c.source.Ready()
	gauge(c.build, 1, c.version, runtime.Version())
	gauge(c.ready, oneIf(ready))
	gauge(c.draining, oneIf(snap.Draining))

	for key, p := range c.pools(snap) {
		db, user := key[0], key[1]
		gauge(c.poolSize, float64(p.Size), db, user)
		gauge(c.poolMinSize, float64(p.MinSize), db, user)
		gauge(c.poolReady, oneIf(p.Ready), db, user)
		gauge(c.poolMaxWait, p.MaxWait.Seconds(), db, user)
		gauge(c.clients, float64(p.ClActive), db, user, "active")
		gauge(c.clients, float64(p.ClWaiting), db, user, "waiting")
		gauge(c.clients, float64(p.ClActiveCancelReq), db, user, "active_cancel_req")
		gauge(c.clients, float64(p.ClWaitingCancelReq), db, user, "waiting_cancel_req")
		gauge(c.servers, float64(p.SvActive), db, user, "active")
		gauge(c.servers, float64(p.SvActiveCancel), db, user, "active_cancel")
		gauge(c.servers, float64(p.SvBeingCanceled), db, user, "being_canceled")
		gauge(c.servers, float64(p.SvIdle), db, user, "idle")
		gauge(c.servers, float64(p.SvUsed), db, user, "used")
		gauge(c.servers, float64(p.SvTested), db, user, "tested")
		gauge(c.servers, float64(p.SvLogin), db, user, "login")
		for _, m := range c.pool {
			counter(m.desc, m.value(p.Stats), db, user)
		}
	}

	t := snap.Totals
	counter(c.accepted, float64(t.ClientsAccepted))
	counter(c.refused, float64(t.ClientsRefused))
	counter(c.failed, float64(t.LoginsFailed))
	gauge(c.underWay, float64(t.LoginsUnderWay))
	gauge(c.clientsConnected, float64(t.ClientsConnected))
	gauge(c.serversConnected, float64(t.ServersConnected))
	counter(c.cancels, float64(t.CancelRequests))
	counter(c.cancelsForwarded, float64(t.CancelsForwarded))
	counter(c.acceptPauses, float64(t.AcceptPauses))
	for reason, n := range t.ServerCloses {
		counter(c.closes, float64(n), reason)
	}
	for reason, n := range t.PinsByReason {
		gauge(c.pins, float64(n), reason)
	}
	for reason, n := range t.PinsTotal {
		counter(c.pinsTotal, float64(n), reason)
	}
	for sqlstate, n := range t.ErrorsBySQLState {
		counter(c.errors, float64(n), sqlstate)
	}
	gauge(c.statements, float64(t.StatementsKept))
	gauge(c.statementsBytes, float64(t.StatementsBytes))
}

// pools are the snapshot's pools by their labels. A pair that got series of
// its own keeps them, so that its counters never jump.
func (c *collector) pools(snap proxy.Snapshot) map[[2]string]proxy.PoolSnapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := make(map[[2]string]proxy.PoolSnapshot, len(snap.Pools))
	for _, p := range snap.Pools {
		key := [2]string{p.Database, p.User}
		if _, ok := c.known[key]; !ok {
			if len(c.known) < maxPoolLabels {
				c.known[key] = struct{}{}
			} else {
				key = [2]string{otherLabel, otherLabel}
			}
		}
		sum, ok := by[key]
		if !ok {
			by[key] = p
			continue
		}
		by[key] = addPools(sum, p)
	}
	return by
}

// addPools sums what metrics show of two pools.
func addPools(a, b proxy.PoolSnapshot) proxy.PoolSnapshot {
	a.Size += b.Size
	a.MinSize += b.MinSize
	a.Ready = a.Ready && b.Ready
	a.MaxWait = max(a.MaxWait, b.MaxWait)
	a.ClActive += b.ClActive
	a.ClWaiting += b.ClWaiting
	a.ClActiveCancelReq += b.ClActiveCancelReq
	a.ClWaitingCancelReq += b.ClWaitingCancelReq
	a.SvActive += b.SvActive
	a.SvActiveCancel += b.SvActiveCancel
	a.SvBeingCanceled += b.SvBeingCanceled
	a.SvIdle += b.SvIdle
	a.SvUsed += b.SvUsed
	a.SvTested += b.SvTested
	a.SvLogin += b.SvLogin
	a.Stats = addStats(a.Stats, b.Stats)
	return a
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
