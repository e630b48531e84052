package main

import (
	"errors"
	"math"
	"os"
	"testing"

	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// margin is by how much a transaction may exceed what it took when its limit
// was written. Two runs differ by less than a hundredth.
const margin = 1.1

// patience is how often a transaction that seems to take more is counted
// again: a machine on which a round takes seconds adds what the program does
// once a second.
const patience = 4

// limits are what transactions took: instructions, and readings of the clock
// as the emulator counts them. Who makes one dearer for a reason raises its
// limit with the reason in the commit; who makes one cheaper lowers it.
var limits = map[string]struct {
	instructions, clock float64
	exchanges           float64 // calls of recv, and of send; 0: as many as the system likes
}{
	"simple":   {9_500, 6.6, 2},
	"extended": {11_050, 6.6, 2},
	"prepared": {11_010, 6.6, 2},
	"pipeline": {53_200, 6.7, 2},
	"batch":    {325_000, 7, 0},
	"block":    {24_360, 19.8, 6},
	"rows":     {42_400, 6.8, 0},
	// A login, a simple query and a goodbye.
	connection: {43_000, 23.5, 0},
}

// TestInstructions keeps the way of a transaction from becoming dearer little
// by little.
func TestInstructions(t *testing.T) {
	postgres.RequireFull(t)
	c, err := startCounter(t.Context())
	if errors.Is(err, errUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	for _, tx := range transactions() {
		limit, ok := limits[tx.Name]
		if !ok {
			t.Errorf("%s has no limit", tx.Name)
			continue
		}
		var least *perTransaction
		clock := math.Inf(1) // the fewest, for what is in the way only adds to them, too
		for range patience {
			again, err := c.least(t.Context(), &tx)
			if err != nil {
				t.Fatal(err)
			}
			if least == nil || again.sum() < least.sum() {
				least = again
			}
			// time.Now reads it twice; the scheduler does not add that much.
			clock = min(clock, again.call(callClockGettime))
			if least.instructions() <= margin*limit.instructions && clock <= limit.clock+1.5 {
				break
			}
		}
		took := least.instructions()
		t.Logf("%s: %.0f instructions, %.2f readings of the clock", tx.Name, took, clock)
		switch {
		case took > margin*limit.instructions:
			t.Errorf("%s takes %.0f instructions, it took %.0f", tx.Name, took, limit.instructions)
			for _, f := range least.top(c.syms, 30) {
				t.Logf("%10.1f  %s", f.instructions, f.name)
			}
		case took < limit.instructions/2:
			t.Errorf("%s: only %.0f instructions were counted", tx.Name, took)
		}
		if clock > limit.clock+1.5 {
			t.Errorf("%s reads the clock %.2f times, it did %.2f times", tx.Name, clock, limit.clock)
		}
		for _, call := range []struct {
			name    string
			numbers []int
		}{{"reads", reading}, {"writes", writing}} {
			if n := least.call(call.numbers...); limit.exchanges > 0 && (n > limit.exchanges+0.5 || n < limit.exchanges-0.1) {
				t.Errorf("%s takes %.2f %s, and %.0f are needed", tx.Name, n, call.name, limit.exchanges)
			}
		}
	}
}

// TestLines: a line counts once, whatever runs in it, and only what runs often.
func TestLines(t *testing.T) {
	c := &counts{runs: map[span]uint64{
		{64, 64}: 10, {70, 4}: 10, // one line
		{190, 4}:  10, // over the edge of two
		{1024, 1}: 9,
	}}
	if got := c.lines(10); got != 3 {
		t.Errorf("%d lines, want 3", got)
	}
	if got := c.since(&counts{runs: map[span]uint64{{64, 64}: 5, {190, 4}: 1}}).lines(6); got != 4 {
		t.Errorf("%d lines since, want 4", got)
	}
}
