package admin

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"pgpoold/proxy"
)

// liveJSON is what the page draws, once a second.
type liveJSON struct {
	Now        time.Time         `json:"now"`
	Version    string            `json:"version"`
	Started    time.Time         `json:"started"`
	Ready      bool              `json:"ready"`
	NotReady   string            `json:"not_ready,omitempty"`
	Who        string            `json:"who"`
	MayChange  bool              `json:"may_change"`
	AllPaused  bool              `json:"all_paused"`
	Findings   []finding         `json:"findings"`
	Pools      []livePool        `json:"pools"`
	PoolsMore  int               `json:"pools_more,omitempty"`
	Clients    []liveClient      `json:"clients"`
	ClientsAll int               `json:"clients_all"`
	Servers    []serverJSON      `json:"servers"`
	ServersAll int               `json:"servers_all"`
	Slowest    []liveStatement   `json:"slowest"`
	Frequent   []liveStatement   `json:"frequent"`
	Errors     map[string]uint64 `json:"errors"`        // PostgreSQL's, by SQLSTATE
	OwnErrors  map[string]uint64 `json:"pooler_errors"` // pgpoold's
}

type livePool struct {
	poolJSON
	Paused   bool    `json:"paused"`
	Disabled bool    `json:"disabled"`
	Xacts    float64 `json:"xacts_per_second"`
	Queries  float64 `json:"queries_per_second"`
	Errors   float64 `json:"errors_per_second"`
	WaitP50  float64 `json:"wait_p50"`
	WaitP95  float64 `json:"wait_p95"`
	WaitP99  float64 `json:"wait_p99"`
	QueryP50 float64 `json:"query_p50"`
	QueryP95 float64 `json:"query_p95"`
	QueryP99 float64 `json:"query_p99"`
	Points   []point `json:"points"`
}

type liveClient struct {
	clientJSON
	Slow float64 `json:"unread_seconds,omitempty"`
}

type liveStatement struct {
	Database string  `json:"database"`
	Text     string  `json:"text"`
	Calls    uint64  `json:"calls"`
	Time     float64 `json:"total_seconds"`
	Average  float64 `json:"average_seconds"`
	Longest  float64 `json:"longest_seconds"`
}

// How much the page gets of each list; the API's tables have everything.
const (
	livePools      = 40
	liveRows       = 100
	liveStatements = 15
)

func (h *HTTP) live(w http.ResponseWriter, r *http.Request) {
	opts := h.opts()
	now := time.Now()
	snap := opts.Source.Snapshot()
	snap.Pools = merged(sortedPools(snap), true)
	out := liveJSON{Now: now, Version: opts.Version, Started: snap.Started, AllPaused: snap.Controls.AllPaused,
		ClientsAll: len(snap.Clients), ServersAll: len(snap.Servers),
		Errors: snap.Totals.ServerErrorsBySQLState, OwnErrors: snap.Totals.ErrorsBySQLState}
	out.Ready, out.NotReady = opts.Source.Ready()
	has, who := h.rights(r)
	out.Who, out.MayChange = who, has >= mayChange
	slow := h.console.watch.slowReaders(now, snap.Clients)
	out.Findings = diagnose(&snap, slow, out.Ready, out.NotReady)
	if len(out.Findings) > livePools {
		out.Findings = out.Findings[:livePools]
	}
	slices.SortStableFunc(snap.Pools, func(a, b proxy.PoolSnapshot) int {
		return cmp.Or(-cmp.Compare(a.ClWaiting, b.ClWaiting), -cmp.Compare(a.ClActive, b.ClActive))
	})
	for i := range snap.Pools {
		if i == livePools {
			out.PoolsMore = len(snap.Pools) - i
			break
		}
		out.Pools = append(out.Pools, h.livePool(&snap.Pools[i], &snap))
	}
	out.Clients = liveClients(&snap, slow)
	out.Servers = liveServers(&snap)
	out.Slowest, out.Frequent = liveTexts(opts.Source.Fingerprints())
	h.writeJSON(w, http.StatusOK, out)
}

func (h *HTTP) livePool(p *proxy.PoolSnapshot, snap *proxy.Snapshot) livePool {
	points, s, span := h.console.watch.past([3]string{p.Database, p.User, p.Of})
	lp := livePool{poolJSON: poolToJSON(p), Paused: p.Paused, Disabled: snap.Controls.Disabled[p.Database], Points: points,
		WaitP50: s.Waits.Quantile(0.5).Seconds(), WaitP95: s.Waits.Quantile(0.95).Seconds(), WaitP99: s.Waits.Quantile(0.99).Seconds(),
		QueryP50: s.QueryTimes.Quantile(0.5).Seconds(), QueryP95: s.QueryTimes.Quantile(0.95).Seconds(), QueryP99: s.QueryTimes.Quantile(0.99).Seconds()}
	if span > 0 {
		lp.Xacts, lp.Queries, lp.Errors = float64(s.Xacts)/span, float64(s.Queries)/span, float64(s.Errors)/span
	}
	return lp
}

// liveClients are the clients of most interest: those that wait, hold a
// server back, or are active.
func liveClients(snap *proxy.Snapshot, slow map[uint64]time.Duration) []liveClient {
	rank := func(c *proxy.ClientSnapshot) int {
		switch {
		case c.State == "waiting":
			return 0
		case slow[c.ID] > 0:
			return 1
		case c.Pin != "":
			return 2
		case c.State == "active":
			return 3
		}
		return 4
	}
	all := slices.Clone(snap.Clients)
	slices.SortStableFunc(all, func(a, b proxy.ClientSnapshot) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), -cmp.Compare(a.Wait, b.Wait), cmp.Compare(a.ID, b.ID))
	})
	out := make([]liveClient, 0, min(len(all), liveRows))
	for _, c := range all[:min(len(all), liveRows)] {
		out = append(out, liveClient{clientToJSON(c), slow[c.ID].Seconds()})
	}
	return out
}

func liveServers(snap *proxy.Snapshot) []serverJSON {
	all := slices.Clone(snap.Servers)
	slices.SortStableFunc(all, func(a, b proxy.ServerSnapshot) int {
		return cmp.Or(-cmp.Compare(max(a.InTransaction, a.Query), max(b.InTransaction, b.Query)), cmp.Compare(a.ID, b.ID))
	})
	out := make([]serverJSON, 0, min(len(all), liveRows))
	for _, s := range all[:min(len(all), liveRows)] {
		out = append(out, serverToJSON(s))
	}
	return out
}

// liveTexts are the slowest and the most frequent statements.
func liveTexts(all []proxy.FingerprintSnapshot) (slowest, frequent []liveStatement) {
	top := func() []liveStatement {
		out := make([]liveStatement, 0, liveStatements)
		for _, p := range all[:min(len(all), liveStatements)] {
			out = append(out, liveStatement{p.Database, p.Text, p.Calls, p.Time.Seconds(), (p.Time / time.Duration(max(p.Calls, 1))).Seconds(), p.Longest.Seconds()})
		}
		return out
	}
	slices.SortStableFunc(all, func(a, b proxy.FingerprintSnapshot) int { return -cmp.Compare(a.Longest, b.Longest) })
	slowest = top()
	slices.SortStableFunc(all, func(a, b proxy.FingerprintSnapshot) int { return -cmp.Compare(a.Calls, b.Calls) })
	return slowest, top()
}
