package backend

import "time"

// HistogramBounds are the upper bounds of a Histogram's buckets; one more
// bucket has no bound.
var HistogramBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
}

// Histogram counts durations. It is a field of what sees the events and is
// guarded by that one's lock: an event costs one increment.
type Histogram struct {
	Buckets [len(HistogramBounds) + 1]uint64
}

// Observe counts one.
func (h *Histogram) Observe(d time.Duration) {
	for i := range HistogramBounds {
		if d <= HistogramBounds[i] {
			h.Buckets[i]++
			return
		}
	}
	h.Buckets[len(HistogramBounds)]++
}

// Count is how many were counted.
func (h *Histogram) Count() (n uint64) {
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// Add adds another one's counts.
func (h *Histogram) Add(o *Histogram) {
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
}

// Sub is what was counted since o was taken; where a count has gone back
// (its pool was made anew), nothing.
func (h Histogram) Sub(o Histogram) Histogram {
	for i := range h.Buckets {
		if h.Buckets[i] < o.Buckets[i] {
			return Histogram{}
		}
		h.Buckets[i] -= o.Buckets[i]
	}
	return h
}

// Quantile estimates the duration that a share q of those counted did not
// exceed; 0 if nothing was counted. Within a bucket it is interpolated.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank, sum := q*float64(total), 0.0
	for i, n := range h.Buckets {
		if n == 0 || sum+float64(n) < rank {
			sum += float64(n)
			continue
		}
		if i == len(HistogramBounds) {
			break
		}
		low := time.Duration(0)
		if i > 0 {
			low = HistogramBounds[i-1]
		}
		return low + time.Duration((rank-sum)/float64(n)*float64(HistogramBounds[i]-low))
	}
	return HistogramBounds[len(HistogramBounds)-1]
}
