package daemon

import "testing"

// TestThreads: one more at once when those there are are busy, one less only
// after a while of calm.
func TestThreads(t *testing.T) {
	th := threads{most: 8, now: 1}
	for i, step := range []struct {
		used  float64
		times int
		want  int
	}{
		{0.1, 100, 1},         // idle
		{0.74, 100, 1},        // busy, but not crowded
		{0.8, 1, 2},           // one more at once
		{0.8, 100, 2},         // and it stays: one alone would be crowded again
		{0.5, calmFor - 1, 2}, // a moment's calm is none
		{0.9, 1, 2},
		{0.5, calmFor, 1},
		{5, 1, 7}, // as many as that load needs
		{8, 1, 8},
		{8, 100, 8}, // never more than there may be
		{0, calmFor, 7},
		{0, 6 * calmFor, 1},
		{0, 100, 1}, // and one at least
	} {
		for range step.times {
			th.next(step.used)
		}
		if th.now != step.want {
			t.Errorf("step %d: %d threads, want %d", i, th.now, step.want)
		}
	}
}
