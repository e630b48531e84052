package proxy

import (
	"testing"
	"time"

	"pgpoold/backend"
)

// TestQuiet: when a client is quiet, looked at once a second and, in a crowd, at
// each tick.
func TestQuiet(t *testing.T) {
	const tick, second = 1, ticksPerSecond
	type look struct {
		after    uint32 // ticks since the last
		received uint64
		crowded  bool
		want     bool
	}
	tests := []struct {
		name  string
		looks []look
	}{
		{"new", []look{{tick, 0, false, false}, {second, 0, false, true}}},
		{"asks each second", []look{{second, 10, false, false}, {second, 20, false, false}, {second, 30, false, false}}},
		{"a second's quiet", []look{{second, 10, false, false}, {tick, 10, false, false}, {second - tick, 10, false, true}}},
		{"in a crowd", []look{{tick, 10, true, false}, {tick, 10, true, true}}},
		{"a crowd comes", []look{{second, 10, false, false}, {tick, 10, true, true}}},
		{"comes back soon", []look{{tick, 10, true, false}, {tick, 10, true, true}, {soon - 1, 20, true, false},
			{tick, 20, true, false}, {second - 2*tick, 20, true, false}, {tick, 20, true, true}}},
		{"and again", []look{{tick, 10, true, false}, {tick, 10, true, true}, {soon - 1, 20, true, false},
			{second, 20, true, true}, {soon - 1, 30, true, false}, {tick, 30, true, false}}},
		{"then late", []look{{tick, 10, true, false}, {tick, 10, true, true}, {soon - 1, 20, true, false},
			{second, 20, true, true}, {soon, 30, true, false}, {tick, 30, true, true}}},
		{"asked in vain", []look{{tick, 10, true, false}, {tick, 10, true, true}, {tick, 10, true, true}}},
		{"a stream past 4 GiB", []look{{second, 1<<32 - 5, false, false}, {second, 1<<32 + 10, false, false}, {second, 1<<32 + 10, false, true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q quiet
			now := uint32(0)
			for i, l := range tt.looks {
				now += l.after
				got := q.look(l.received, now, l.crowded)
				if got != l.want {
					t.Fatalf("look %d: %v, want %v: %+v", i, got, l.want, q)
				}
				if got {
					q.parked = now
				}
			}
		})
	}
}

// TestQuietIdle: a client is idle from when the clock first sees nothing under way, under
// a limit, and not from when it asked.
func TestQuietIdle(t *testing.T) {
	const limit = 3 * time.Second
	type look struct {
		received uint64
		working  bool
		limit    time.Duration
		want     bool
	}
	tests := []struct {
		name  string
		looks []look // one a second
	}{
		{"idle", []look{{10, false, limit, false}, {10, false, limit, false}, {10, false, limit, false}, {10, false, limit, true}}},
		{"asks", []look{{10, false, limit, false}, {10, false, limit, false}, {10, false, limit, false}, {20, false, limit, false},
			{20, false, limit, false}, {20, false, limit, false}, {20, false, limit, true}}},
		{"works for long", []look{{10, true, limit, false}, {10, true, limit, false}, {10, true, limit, false}, {10, true, limit, false},
			{10, false, limit, false}, {10, false, limit, false}, {10, false, limit, false}, {10, false, limit, true}}},
		{"no limit", []look{{10, false, 0, false}, {10, false, 0, false}, {10, false, 0, false}, {10, false, 0, false}, {10, false, 0, false}}},
		{"the limit comes late", []look{{10, true, 0, false}, {10, true, 0, false}, {10, true, 0, false}, {10, true, 0, false},
			{10, false, limit, false}, {10, false, limit, false}, {10, false, limit, false}, {10, false, limit, true}}},
		{"and goes, and comes", []look{{10, false, limit, false}, {10, false, limit, false}, {10, false, 0, false}, {10, false, 0, false},
			{10, false, limit, false}, {10, false, limit, false}, {10, false, limit, false}, {10, false, limit, true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q quiet
			for i, l := range tt.looks {
				tick := uint32(i+1) * ticksPerSecond
				q.look(l.received, tick-1, false) // the look in between is no end of work
				if got := q.idle(l.received, tick, l.working, l.limit); got != l.want {
					t.Fatalf("look %d: %v, want %v: %+v", i, got, l.want, q)
				}
			}
		})
	}
}

// TestQuietTicket: who waits for a server keeps its place.
func TestQuietTicket(t *testing.T) {
	ticket := &backend.Ticket{}
	s := &session{waiting: true, ticket: ticket}
	if s.Quiet() || s.ticket != ticket {
		t.Error("one that waits is parked, and has lost its place")
	}
}

// TestClockList: a session is on the clock's list once while it may be awake, and not
// any more when it has ended.
func TestClockList(t *testing.T) {
	var c clock
	a, b, late := &session{}, &session{}, &session{}
	c.woke(a)
	c.woke(b)
	c.woke(a)
	c.ended(b) // sooner than a tick
	c.gather()
	c.woke(a) // it was parked, and is started again
	c.woke(late)
	c.gather()
	if len(c.awake) != 2 || c.awake[0] != a || c.awake[1] != late {
		t.Fatalf("%d are on the list, want the two that live", len(c.awake))
	}
	if len(c.woken) != 0 {
		t.Error("those that have woken are kept")
	}
	c.ended(a)
	c.gather()
	if len(c.awake) != 1 || c.awake[0] != late || c.awake[:2][1] != nil {
		t.Errorf("one that has ended is kept: %v", c.awake[:2])
	}
}
