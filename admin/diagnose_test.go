package admin

import (
	"testing"
	"time"

	"pgpoold/proxy"
)

// busyPool is a pool of size servers, each with a client of application api.
func busyPool(size int, each func(i int, c *proxy.ClientSnapshot, s *proxy.ServerSnapshot)) *proxy.Snapshot {
	snap := &proxy.Snapshot{Pools: []proxy.PoolSnapshot{{Database: "search", User: "app", Size: size, SvActive: size, ClActive: size, Ready: true}}}
	for i := range size {
		id := uint64(i + 1)
		c := proxy.ClientSnapshot{ID: id, User: "app", Database: "search", State: "active", ServerID: id, ApplicationName: "api"}
		s := proxy.ServerSnapshot{ID: id, User: "app", Database: "search", State: "active", ClientID: id, Query: 10 * time.Millisecond}
		if each != nil {
			each(i, &c, &s)
		}
		snap.Clients, snap.Servers = append(snap.Clients, c), append(snap.Servers, s)
	}
	return snap
}

func TestTheCauseInWords(t *testing.T) {
	wait := func(s *proxy.Snapshot, n int, longest time.Duration) *proxy.Snapshot {
		s.Pools[0].ClWaiting, s.Pools[0].MaxWait = n, longest
		return s
	}
	idle := func(n int) func(int, *proxy.ClientSnapshot, *proxy.ServerSnapshot) {
		return func(i int, _ *proxy.ClientSnapshot, s *proxy.ServerSnapshot) {
			if i < n {
				s.Query, s.InTransaction = 0, 6*time.Second
			}
		}
	}
	paused := busyPool(0, nil)
	paused.Pools[0].Paused = true
	down := busyPool(0, nil)
	down.Pools[0].LastError, down.Pools[0].Ready = "cannot connect to server db:5432: connection refused", false
	half := busyPool(2, nil)
	half.Pools[0].Size, half.Pools[0].LastError = 20, "too many clients"
	for _, tt := range []struct {
		name, level, want string
		snap              *proxy.Snapshot
	}{
		{"nothing", levelOK, "Nobody waits: 1 client, 1 server connection.", busyPool(1, nil)},
		{"idle in transaction", levelBad, "search/app: 12 waiting, longest 3.2 s: all 20 servers busy, 8 of them idle in transaction for over 5 s, application api.",
			wait(busyPool(20, idle(8)), 12, 3200*time.Millisecond)},
		{"idle, nobody waits", levelWarn, "search/app: 8 of 20 servers idle in transaction for over 5 s, application api.", busyPool(20, idle(8))},
		{"too small", levelBad, "search/app: 5 waiting, longest 2 s: all 4 servers busy with queries: the pool is too small for this load (size 4).",
			wait(busyPool(4, nil), 5, 2*time.Second)},
		{"a moment", levelOK, "search/app: 5 waiting, longest 4 ms: all 4 servers busy with queries.", wait(busyPool(4, nil), 5, 4*time.Millisecond)},
		{"pinned", levelWarn, "search/app: 3 waiting, longest 500 ms: both servers busy, 2 pinned (listen, temp), mostly application api.",
			wait(busyPool(2, func(i int, c *proxy.ClientSnapshot, _ *proxy.ServerSnapshot) {
				c.Pin = []string{"listen", "temp"}[i]
				if i == 1 {
					c.ApplicationName = "web"
				}
			}), 3, 500*time.Millisecond)},
		{"one server", levelBad, "search/app: 1 waiting, longest 1 min: the only server is busy, idle in transaction for over 5 s, application api.",
			wait(busyPool(1, idle(1)), 1, time.Minute)},
		{"paused", levelWarn, "search/app: 2 waiting, longest 2 s: paused. RESUME lets clients go on.", wait(paused, 2, 2*time.Second)},
		{"down", levelBad, "search/app: PostgreSQL cannot be reached: cannot connect to server db:5432: connection refused.", down},
		{"no more connections", levelBad, "search/app: 4 waiting, longest 9 s: only 2 of 20 servers could be connected: too many clients.", wait(half, 4, 9*time.Second)},
	} {
		got := diagnose(tt.snap, nil, true, "")[0]
		if got.Text != tt.want || got.Level != tt.level {
			t.Errorf("%s:\n got %s %q\nwant %s %q", tt.name, got.Level, got.Text, tt.level, tt.want)
		}
	}
	slow := diagnose(wait(busyPool(2, nil), 1, 4*time.Second), map[uint64]time.Duration{2: 3 * time.Second}, true, "")[0].Text
	if want := "search/app: 1 waiting, longest 4 s: both servers busy, 1 held by clients that do not read their results, application api."; slow != want {
		t.Errorf("slow readers: %q", slow)
	}
	if got := diagnose(&proxy.Snapshot{}, nil, false, "search: not connected yet")[0]; got.Level != levelBad || got.Text != "not ready: search: not connected yet." {
		t.Errorf("not ready: %+v", got)
	}
}

func TestSlowReadersAreSeenAfterAWhile(t *testing.T) {
	w := newWatch(nil)
	start := time.Now()
	at := func(sec float64, unread bool) int {
		return len(w.slowReaders(start.Add(time.Duration(sec*float64(time.Second))), []proxy.ClientSnapshot{{ID: 1, Unread: unread}, {ID: 2}}))
	}
	for _, tt := range []struct {
		sec    float64
		unread bool
		want   int
	}{{0, true, 0}, {1, true, 0}, {2.5, true, 1}, {3, false, 0}, {3.5, true, 0}, {5, true, 0}, {6, true, 1}, {60, true, 0}} {
		if got := at(tt.sec, tt.unread); got != tt.want {
			t.Errorf("after %v s: %d", tt.sec, got)
		}
	}
}
