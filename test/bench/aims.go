package main

import (
	"fmt"
	"math"
	"strings"
)

// aims are what the ratios of pgpoold to PgBouncer should be at a point: tps at
// least, the others at most. 0 is no aim.
type aims struct{ cpu, p99, p999, tps float64 }

// tailTransactions is how many transactions a round needs for its p99.9.
const tailTransactions = 100_000

func (p point) aims() aims {
	switch {
	case p.What == whatConnect:
		return aims{cpu: 1, tps: 1}
	case p.Idle > 0, p.What == whatWrite: // compared with pgpoold itself
		return aims{}
	case p.TLS != tlsNone:
		return aims{cpu: 0.9, tps: 1.2}
	case p.Depth > 0, p.What != whatSelect:
		return aims{cpu: 0.9}
	case p.Clients == 32, p.Clients == 200:
		return aims{cpu: 1, p99: 1, p999: 1, tps: 1}
	}
	return aims{cpu: 1, tps: 1}
}

// Whether an aim is met. Only what lies outside of what two equal programs
// differed by is met or missed.
const (
	met       = " ✓"
	undecided = " ~"
	missed    = " **✗**"
)

// verdict judges a ratio that should be at most the aim. aa is the ratio of two
// equal programs; without one every difference counts.
func verdict(s, aa spread, aim float64) string {
	if aim == 0 || !s.valid() {
		return ""
	}
	noise := 1.0
	if aa.valid() {
		noise = max(aa.Max, 1/aa.Min, 1)
	}
	switch r := s.Median / aim; {
	case r <= 1/noise:
		return met
	case r > noise && math.Round(100*s.Median) > math.Round(100*aim): // the table shows two digits
		return missed
	}
	return undecided
}

// verdictAtLeast judges a ratio that should be at least the aim.
func verdictAtLeast(s, aa spread, aim float64) string {
	if aim == 0 || !s.valid() {
		return ""
	}
	return verdict(s.inverse(), aa, 1/aim)
}

// deep reports whether every round had the transactions that a p99.9 needs.
func deep(rounds ...[]result) bool {
	for _, rs := range rounds {
		for _, r := range rs {
			if r.Transactions < tailTransactions {
				return false
			}
		}
	}
	return true
}

// full reports whether PgBouncer, which has one thread, had its processor full: only
// then can another throughput than its be had.
func full(pg []result) bool {
	busy := over(pg, func(r result) float64 { return r.CPU * r.TPS / 1e6 })
	return busy.valid() && busy.Median >= 0.9
}

// ownTable compares pgpoold with itself: idle clients, cores, and how unequal
// clients wait. Beside it stands the same of PgBouncer, and what two equal programs
// differed by where the two numbers come from.
func (r *report) ownTable(b *strings.Builder) {
	type row struct {
		what          string
		ratio, pg, aa spread
		aim           float64
	}
	at := func(p point) measurements {
		for _, m := range r.Points {
			if m.Point == p {
				return m
			}
		}
		return measurements{}
	}
	pair := func(p point, value func(result) float64) spread {
		m := at(p)
		return ratios(m.Rounds[namePgbouncerB], m.Rounds[namePgbouncer], value)
	}
	var rows []row
	for _, m := range r.Points {
		p := m.Point
		of, pg := m.Rounds[namePgpoold], m.Rounds[namePgbouncer]
		switch {
		case len(of) == 0 || p.leveled():
		case p.Idle > 0:
			plain := p
			plain.Idle = 0
			without := at(plain).Rounds
			rows = append(rows, row{fmt.Sprintf("p99, %s, over the same without them", p), ratios(of, without[namePgpoold], p99Of),
				ratios(pg, without[namePgbouncer], p99Of), wider(pair(p, p99Of), pair(plain, p99Of)), 1})
		case p.Cores > 1:
			one, free := p, p
			one.Cores, free.Cores = 1, 0
			rows = append(rows, row{fmt.Sprintf("CPU per transaction, %s, over GOMAXPROCS=1", p), ratios(of, at(one).Rounds[namePgpoold], cpuOf),
				spreadOf(nil), pair(free, cpuOf), 1.1})
		case p.Clients == 1000:
			rows = append(rows, row{fmt.Sprintf("fairness: p99.9 over p50, %s on %d servers", p, poolSize), over(of, unfairOf), over(pg, unfairOf), pair(p, unfairOf), 2})
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprint(b, "\n### pgpoold against itself\n\nMedian of the rounds, with the smallest and the largest. The A/A column is as above, where the numbers come from.\n\n"+
		"| what | ratio | A/A | PgBouncer's | aim, at most |\n|---|---|---|---|---|\n")
	for _, w := range rows {
		if w.ratio.valid() {
			fmt.Fprintf(b, "| %s | %s%s | %s | %s | %.2f |\n", w.what, ratioCell(w.ratio), verdict(w.ratio, w.aa, w.aim), ratioCell(w.aa), ratioCell(w.pg), w.aim)
		}
	}
}
