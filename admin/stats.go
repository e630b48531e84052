package admin

import (
	"sort"
	"strings"
	"sync"
	"time"

	"pgpoold/backend"
	"pgpoold/proxy"
)

// statsHistory keeps the counters of the last two stats periods, from which
// SHOW STATS takes its averages. One goroutine, run, samples; mu guards prev
// and last.
type statsHistory struct {
	source Source
	period time.Duration
	stop   chan struct{}
	done   chan struct{}

	mu         sync.Mutex
	prev, last sample
}

// sample is the counters of all databases at one moment.
type sample struct {
	at  time.Time
	dbs map[string]proxy.PoolStats
}

func newStatsHistory(source Source, period time.Duration) *statsHistory {
	if period <= 0 {
		period = time.Minute
	}
	return &statsHistory{source: source, period: period, stop: make(chan struct{}), done: make(chan struct{})}
}

func (h *statsHistory) run() {
	defer close(h.done)
	tick := time.NewTicker(h.period)
	defer tick.Stop()
	h.take(time.Now())
	for {
		select {
		case <-h.stop:
			return
		case now := <-tick.C:
			h.take(now)
		}
	}
}

func (h *statsHistory) close() {
	close(h.stop)
	<-h.done
}

// take ends a stats period.
func (h *statsHistory) take(now time.Time) {
	next := sample{at: now, dbs: sumByDatabase(h.source.Pools())}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prev, h.last = h.last, next
}

// average is one database's counters over the last complete period, and that
// period's length in seconds; 0 while there is none.
func (h *statsHistory) average(database string) (proxy.PoolStats, float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.prev.at.IsZero() {
		return proxy.PoolStats{}, 0
	}
	return difference(h.last.dbs[database], h.prev.dbs[database]), h.last.at.Sub(h.prev.at).Seconds()
}

// sumByDatabase adds the pools of each database.
func sumByDatabase(pools []proxy.PoolSnapshot) map[string]proxy.PoolStats {
	dbs := make(map[string]proxy.PoolStats)
	for _, p := range pools {
		dbs[p.Database] = addStats(dbs[p.Database], p.Stats)
	}
	return dbs
}

func addStats(a, b proxy.PoolStats) proxy.PoolStats {
	a.Add(&b)
	return a
}

// difference is a-b, and nothing where a pool went away in between.
func difference(a, b proxy.PoolStats) proxy.PoolStats {
	less := func(a, b uint64) uint64 {
		if a < b {
			return 0
		}
		return a - b
	}
	return proxy.PoolStats{
		ServerAssignments: less(a.ServerAssignments, b.ServerAssignments),
		Xacts:             less(a.Xacts, b.Xacts),
		Queries:           less(a.Queries, b.Queries),
		BytesReceived:     less(a.BytesReceived, b.BytesReceived),
		BytesSent:         less(a.BytesSent, b.BytesSent),
		XactTime:          max(a.XactTime-b.XactTime, 0),
		QueryTime:         max(a.QueryTime-b.QueryTime, 0),
		WaitTime:          max(a.WaitTime-b.WaitTime, 0),
		ClientParses:      less(a.ClientParses, b.ClientParses),
		ServerParses:      less(a.ServerParses, b.ServerParses),
		Binds:             less(a.Binds, b.Binds),
		ClientLogins:      less(a.ClientLogins, b.ClientLogins),
		Errors:            less(a.Errors, b.Errors),
		Waits:             a.Waits.Sub(b.Waits),
		XactTimes:         a.XactTimes.Sub(b.XactTimes),
		QueryTimes:        a.QueryTimes.Sub(b.QueryTimes),
	}
}

// totals are one database's counters in the order of the columns.
func totals(s proxy.PoolStats) []*string {
	us := func(d time.Duration) *string { return number(d.Microseconds()) }
	return []*string{
		unsigned(s.ServerAssignments), unsigned(s.Xacts), unsigned(s.Queries),
		unsigned(s.BytesReceived), unsigned(s.BytesSent),
		us(s.XactTime), us(s.QueryTime), us(s.WaitTime),
		unsigned(s.ClientParses), unsigned(s.ServerParses), unsigned(s.Binds), unsigned(s.ClientLogins),
	}
}

// averages are the same columns over a period: counts per second, times in
// microseconds per transaction, query and assignment.
func averages(s proxy.PoolStats, period float64) []*string {
	rate := func(n uint64) *string {
		if period <= 0 {
			return text("0")
		}
		return unsigned(uint64(float64(n) / period))
	}
	each := func(d time.Duration, n uint64) *string {
		if n == 0 {
			return text("0")
		}
		return unsigned(uint64(d.Microseconds()) / n)
	}
	return []*string{
		rate(s.ServerAssignments), rate(s.Xacts), rate(s.Queries),
		rate(s.BytesReceived), rate(s.BytesSent),
		each(s.XactTime, s.Xacts), each(s.QueryTime, s.Queries), each(s.WaitTime, s.ServerAssignments),
		rate(s.ClientParses), rate(s.ServerParses), rate(s.Binds), rate(s.ClientLogins),
	}
}

// moreColumns are what SHOW EXTENDED STATS has beside.
func moreColumns() []column {
	return columnsOf("NNNNNNNNNNNNN", "total_server_switch_count", "total_server_dial_count", "total_server_dial_error_count",
		"total_statement_hit_count", "total_statement_miss_count", "total_statement_eviction_count",
		"wait_p50", "wait_p95", "wait_p99", "query_p50", "query_p95", "query_p99", "xact_p95")
}

func more(s proxy.PoolStats) []*string {
	at := func(h backend.Histogram, q float64) *string { return number(h.Quantile(q).Microseconds()) }
	return []*string{unsigned(s.Switches), unsigned(s.Dials), unsigned(s.DialErrors),
		unsigned(s.StatementHits), unsigned(s.StatementMisses), unsigned(s.StatementEvictions),
		at(s.Waits, 0.5), at(s.Waits, 0.95), at(s.Waits, 0.99),
		at(s.QueryTimes, 0.5), at(s.QueryTimes, 0.95), at(s.QueryTimes, 0.99), at(s.XactTimes, 0.95)}
}

func (c *Console) showStats(snap *proxy.Snapshot, extended bool) *table {
	h := c.stats
	t := &table{columns: columnsOf("s"+strings.Repeat("N", 24), "database",
		"total_server_assignment_count", "total_xact_count", "total_query_count", "total_received", "total_sent",
		"total_xact_time", "total_query_time", "total_wait_time",
		"total_client_parse_count", "total_server_parse_count", "total_bind_count", "total_client_login_count",
		"avg_server_assignment_count", "avg_xact_count", "avg_query_count", "avg_recv", "avg_sent",
		"avg_xact_time", "avg_query_time", "avg_wait_time",
		"avg_client_parse_count", "avg_server_parse_count", "avg_bind_count", "avg_client_login_count")}
	if extended {
		t.columns = append(t.columns, moreColumns()...)
	}
	c.eachDatabase(snap, func(database string, s proxy.PoolStats) {
		cells := append(append([]*string{text(database)}, totals(s)...), averages(h.average(database))...)
		if extended {
			cells = append(cells, more(s)...)
		}
		t.add(cells...)
	})
	return t
}

func (c *Console) showStatsTotals(snap *proxy.Snapshot, _ bool) *table {
	t := &table{columns: columnsOf("s"+strings.Repeat("N", 12), "database",
		"server_assignment_count", "xact_count", "query_count", "bytes_received", "bytes_sent",
		"xact_time", "query_time", "wait_time",
		"client_parse_count", "server_parse_count", "bind_count", "client_login_count")}
	c.eachDatabase(snap, func(database string, s proxy.PoolStats) {
		t.add(append([]*string{text(database)}, totals(s)...)...)
	})
	return t
}

func (c *Console) showStatsAverages(snap *proxy.Snapshot, _ bool) *table {
	h := c.stats
	t := &table{columns: columnsOf("s"+strings.Repeat("N", 12), "database",
		"server_assignment_count", "xact_count", "query_count", "bytes_received", "bytes_sent",
		"xact_time", "query_time", "wait_time",
		"avg_client_parse_count", "avg_server_parse_count", "avg_bind_count", "avg_client_login_count")}
	c.eachDatabase(snap, func(database string, _ proxy.PoolStats) {
		t.add(append([]*string{text(database)}, averages(h.average(database))...)...)
	})
	return t
}

// showTotals is SHOW TOTALS, which has its own words for the same things.
func (c *Console) showTotals(snap *proxy.Snapshot, _ bool) *table {
	var sum, lately proxy.PoolStats
	period := 0.0
	c.eachDatabase(snap, func(database string, s proxy.PoolStats) {
		sum = addStats(sum, s)
		d, p := c.stats.average(database)
		lately, period = addStats(lately, d), max(period, p)
	})
	names := []string{"server_assignment_count", "xact_count", "query_count", "client_bytes", "server_bytes", "xact_time", "query_time",
		"wait_time", "ps_client_parse_count", "ps_server_parse_count", "ps_bind_count", "client_login_count"}
	t := &table{columns: columnsOf("sN", "name", "value")}
	for i, v := range totals(sum) {
		name := "total_" + names[i]
		t.add(text(name), v)
	}
	for i, v := range averages(lately, period) {
		t.add(text("avg_"+names[i]), v)
	}
	return t
}

func (c *Console) eachDatabase(snap *proxy.Snapshot, f func(string, proxy.PoolStats)) {
	dbs := sumByDatabase(snap.Pools)
	dbs[consoleDatabase] = c.ownStats()
	names := make([]string, 0, len(dbs))
	for name := range dbs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		f(name, dbs[name])
	}
}
