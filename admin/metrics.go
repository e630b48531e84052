package admin

import (
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pgpoold/backend"
	"pgpoold/proxy"
)

// collector turns one Snapshot per scrape into metrics. What it says of a
// (database, user) is kept to a bounded number of pairs: a database "*" lets
// clients invent names, and a monitoring system pays for every one.
type collector struct {
	opts     func() *Options
	families []family

	mu    sync.Mutex // guards known
	known map[[2]string]struct{}
}

// family is one metric: its help for documents and scrapers, and where its
// values come from.
type family struct {
	name, help string // the name without "pgpoold_"
	kind       familyKind
	labels     []string
	desc       *prometheus.Desc

	values func(s *scrape, emit func(v float64, labels ...string))
	hists  func(s *scrape, emit func(h *backend.Histogram, sum time.Duration, labels ...string))
}

type familyKind string

const (
	kindGauge     familyKind = "gauge"
	kindCounter   familyKind = "counter"
	kindHistogram familyKind = "histogram"
)

// scrape is what one scrape sees.
type scrape struct {
	opts  *Options
	snap  proxy.Snapshot
	pools map[[2]string]proxy.PoolSnapshot
	ready bool
}

// maxPoolLabels is how many (database, user) pairs get series of their own;
// the rest are summed under otherLabel.
const (
	maxPoolLabels = 1000
	otherLabel    = "(other)"
)

func newCollector(opts func() *Options) *collector {
	c := &collector{opts: opts, known: make(map[[2]string]struct{}), families: families()}
	for i := range c.families {
		f := &c.families[i]
		f.desc = prometheus.NewDesc("pgpoold_"+f.name, f.help, f.labels, nil)
	}
	return c
}

// Describe sends nothing: the set of metrics depends on the pools there are.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect takes one Snapshot.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := &scrape{opts: c.opts()}
	s.snap = s.opts.Source.Summary()
	s.ready, _ = s.opts.Source.Ready()
	s.pools = c.pools(s.snap)
	for i := range c.families {
		f := &c.families[i]
		if f.kind == kindHistogram {
			f.hists(s, func(h *backend.Histogram, sum time.Duration, labels ...string) {
				out <- constHistogram(f.desc, h, sum, labels)
			})
			continue
		}
		kind := prometheus.GaugeValue
		if f.kind == kindCounter {
			kind = prometheus.CounterValue
		}
		f.values(s, func(v float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(f.desc, kind, v, labels...)
		})
	}
}

func constHistogram(desc *prometheus.Desc, h *backend.Histogram, sum time.Duration, labels []string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(bucketSeconds))
	n := uint64(0)
	for i, bound := range bucketSeconds {
		n += h.Buckets[i]
		buckets[bound] = n
	}
	return prometheus.MustNewConstHistogram(desc, h.Count(), sum.Seconds(), buckets, labels...)
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
	if a.Size == 0 || b.Size == 0 {
		a.Size = 0 // unlimited
	} else {
		a.Size += b.Size
	}
	a.MinSize += b.MinSize
	a.Ready = a.Ready && b.Ready
	a.Paused = a.Paused && b.Paused
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
	if a.LastError == "" {
		a.LastError, a.Refused = b.LastError, b.Refused
	}
	a.Stats.Add(&b.Stats)
	return a
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// poolFamily is a metric of one value for each pool.
func poolFamily(kind familyKind, name, help string, value func(p *proxy.PoolSnapshot) float64) family {
	return family{name: name, help: help, kind: kind, labels: []string{"database", "user"},
		values: func(s *scrape, emit func(float64, ...string)) {
			for key, p := range s.pools {
				emit(value(&p), key[0], key[1])
			}
		}}
}

func poolCounter(name, help string, value func(s *proxy.PoolStats) uint64) family {
	return poolFamily(kindCounter, name, help, func(p *proxy.PoolSnapshot) float64 { return float64(value(&p.Stats)) })
}

// poolHistogram is a histogram of each pool.
func poolHistogram(name, help string, value func(s *proxy.PoolStats) (*backend.Histogram, time.Duration)) family {
	return family{name: name, help: help, kind: kindHistogram, labels: []string{"database", "user"},
		hists: func(s *scrape, emit func(*backend.Histogram, time.Duration, ...string)) {
			for key, p := range s.pools {
				h, sum := value(&p.Stats)
				emit(h, sum, key[0], key[1])
			}
		}}
}

// plainFamily is a metric of one value.
func plainFamily(kind familyKind, name, help string, value func(s *scrape) float64) family {
	return family{name: name, help: help, kind: kind, values: func(s *scrape, emit func(float64, ...string)) { emit(value(s)) }}
}

// labelled is a metric of one value for each of a few words.
func labelled[N int | uint64](kind familyKind, name, help, label string, value func(s *scrape) map[string]N) family {
	return family{name: name, help: help, kind: kind, labels: []string{label},
		values: func(s *scrape, emit func(float64, ...string)) {
			for word, n := range value(s) {
				emit(float64(n), word)
			}
		}}
}

func buildInfo(s *scrape, emit func(float64, ...string)) { emit(1, s.opts.Version, runtime.Version()) }
