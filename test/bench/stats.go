package main

import (
	"math"
	"slices"
)

// spread is a median of several rounds with the smallest and the largest.
type spread struct {
	Median, Min, Max float64
}

// valid reports whether there was anything to take a median of.
func (s spread) valid() bool { return !math.IsNaN(s.Median) }

// inverse is the spread of the ratios turned over.
func (s spread) inverse() spread { return spread{1 / s.Median, 1 / s.Max, 1 / s.Min} }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	mid := len(v) / 2
	median := v[mid]
	if len(v)%2 == 0 {
		median = (v[mid-1] + v[mid]) / 2
	}
	return spread{Median: median, Min: v[0], Max: v[len(v)-1]}
}

// wider holds all that two spreads hold.
func wider(a, b spread) spread {
	if !a.valid() || !b.valid() {
		return spreadOf(nil)
	}
	return spread{(a.Median + b.Median) / 2, min(a.Min, b.Min), max(a.Max, b.Max)}
}

// ratios divides a's rounds by b's, round by round: what disturbed a round
// disturbed both.
func ratios(a, b []result, value func(result) float64) spread {
	var out []float64
	for i := range min(len(a), len(b)) {
		if d := value(b[i]); d > 0 {
			out = append(out, value(a[i])/d)
		}
	}
	return spreadOf(out)
}

func over(rs []result, value func(result) float64) spread {
	out := make([]float64, len(rs))
	for i, r := range rs {
		out[i] = value(r)
	}
	return spreadOf(out)
}

// percentile of sorted latencies, by the nearest rank.
func percentile(sorted []int64, p float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
