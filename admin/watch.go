package admin

import (
	"sync"
	"time"

	"pgpoold/backend"
	"pgpoold/proxy"
)

// How often the pools are looked at for the page, for how long that is kept,
// and of how many pools.
const (
	watchEvery = time.Second
	watchKeeps = 300
	watchPools = 64
	// watchLately is the span of the page's rates and percentiles.
	watchLately = 10
	// slowReaderAfter is how long a client's socket must have been full.
	slowReaderAfter = 2 * time.Second
)

// watch keeps the recent past of the pools, for the page's charts. One
// goroutine, run, samples.
type watch struct {
	source     Source
	stop, done chan struct{}

	mu     sync.Mutex
	pools  map[[3]string]*poolPast // guarded by mu
	unread map[uint64]time.Time    // guarded by mu: since when a client's socket was seen full
	seen   time.Time               // guarded by mu: when that was looked at last
}

// point is what the page draws of a pool at one moment. Rates are per second,
// percentiles of the second before it, times in seconds.
type point struct {
	At       int64   `json:"at"` // unix milliseconds
	Active   int     `json:"active"`
	Idle     int     `json:"idle"`
	Waiting  int     `json:"waiting"`
	Clients  int     `json:"clients"`
	Xacts    float64 `json:"xacts"`
	Queries  float64 `json:"queries"`
	Errors   float64 `json:"errors"`
	WaitP95  float64 `json:"wait_p95"`
	QueryP95 float64 `json:"query_p95"`
}

// poolPast is the past of one pool, the oldest first.
type poolPast struct {
	points []point
	stats  []proxy.PoolStats // of the last watchLately+1 samples
	at     []time.Time
}

func newWatch(source Source) *watch {
	return &watch{source: source, stop: make(chan struct{}), done: make(chan struct{}),
		pools: map[[3]string]*poolPast{}, unread: map[uint64]time.Time{}}
}

func (w *watch) run() {
	defer close(w.done)
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	w.take(time.Now(), w.source.Pools())
	for {
		select {
		case <-w.stop:
			return
		case now := <-t.C:
			w.take(now, w.source.Pools())
		}
	}
}

func (w *watch) close() {
	close(w.stop)
	<-w.done
}

// take adds a sample. A pool that is gone is forgotten with its last point.
func (w *watch) take(now time.Time, pools []proxy.PoolSnapshot) {
	pools = merged(pools, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range pools {
		p := &pools[i]
		key := [3]string{p.Database, p.User, p.Of}
		past := w.pools[key]
		if past == nil {
			if len(w.pools) >= watchPools {
				continue
			}
			past = &poolPast{}
			w.pools[key] = past
		}
		past.add(now, p)
	}
	oldest := now.Add(-watchKeeps * watchEvery).UnixMilli()
	for key, past := range w.pools {
		if past.points[len(past.points)-1].At < oldest {
			delete(w.pools, key)
		}
	}
}

func (past *poolPast) add(now time.Time, p *proxy.PoolSnapshot) {
	pt := point{At: now.UnixMilli(), Active: p.SvActive, Idle: p.SvIdle + p.SvUsed, Waiting: p.ClWaiting, Clients: p.ClActive + p.ClWaiting}
	if n := len(past.stats); n > 0 {
		if span := now.Sub(past.at[n-1]).Seconds(); span > 0 {
			d := difference(p.Stats, past.stats[n-1])
			pt.Xacts, pt.Queries, pt.Errors = float64(d.Xacts)/span, float64(d.Queries)/span, float64(d.Errors)/span
			pt.WaitP95, pt.QueryP95 = d.Waits.Quantile(0.95).Seconds(), d.QueryTimes.Quantile(0.95).Seconds()
		}
	}
	past.points = append(past.points, pt)
	if n := len(past.points) - watchKeeps; n > 0 {
		past.points = append(past.points[:0], past.points[n:]...)
	}
	past.stats, past.at = append(past.stats, p.Stats), append(past.at, now)
	if n := len(past.stats) - watchLately - 1; n > 0 {
		past.stats = append(past.stats[:0], past.stats[n:]...)
		past.at = append(past.at[:0], past.at[n:]...)
	}
}

// past is what is drawn of a pool, and what it has done lately; span is how
// many seconds that are.
func (w *watch) past(key [3]string) (points []point, lately proxy.PoolStats, span float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	past := w.pools[key]
	if past == nil {
		return nil, proxy.PoolStats{}, 0
	}
	n := len(past.stats) - 1
	return append([]point(nil), past.points...), difference(past.stats[n], past.stats[0]), past.at[n].Sub(past.at[0]).Seconds()
}

// slowReaders are the clients whose sockets were full at every look for
// slowReaderAfter, and for how long. Whoever asks looks.
func (w *watch) slowReaders(now time.Time, clients []proxy.ClientSnapshot) map[uint64]time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.seen) > 4*slowReaderAfter {
		clear(w.unread) // nobody has looked in between
	}
	w.seen = now
	slow := map[uint64]time.Duration{}
	still := make(map[uint64]time.Time, len(w.unread))
	for i := range clients {
		c := &clients[i]
		if !c.Unread {
			continue
		}
		since, ok := w.unread[c.ID]
		if !ok {
			since = now
		}
		still[c.ID] = since
		if d := now.Sub(since); d >= slowReaderAfter {
			slow[c.ID] = d
		}
	}
	w.unread = still
	return slow
}

// bucketSeconds are the bounds of a Histogram for Prometheus.
var bucketSeconds = func() (all []float64) {
	for _, b := range backend.HistogramBounds {
		all = append(all, b.Seconds())
	}
	return all
}()
