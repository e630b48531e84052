package backend

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// company is several pools with a common cap.
type company struct {
	shares Shares
	pools  []*testPool
}

func newCompany(t *testing.T, n, most int) *company {
	t.Helper()
	c := &company{}
	key := CapKey{"max_host_connections", "host"}
	c.shares.SetCap(key, most)
	t.Cleanup(func() {
		c.shares.Stop()
		if used, _ := c.shares.Used(key); used != 0 {
			t.Errorf("%d places are still taken", used)
		}
	})
	server := newFakePG(t)
	for range n {
		opts := server.options(50)
		opts.Shares, opts.Caps = &c.shares, []CapKey{key}
		c.pools = append(c.pools, newTestPool(t, opts))
	}
	return c
}

// servers is how many there are together, those that come and go included.
func (c *company) servers() (n int) {
	for _, p := range c.pools {
		st := p.State(time.Now(), nil)
		n += st.Idle + st.Active + st.Tested + st.Canceled + st.Leaving + st.Dialling
	}
	return n
}

// TestShareOfACap: with five pools on a cap of ten and a demand of 50:1:1:1:1
// none starves, and a small one waits for less than a transaction takes.
func TestShareOfACap(t *testing.T) {
	const transaction = 100 * time.Millisecond
	c := newCompany(t, 5, 10)
	var stop atomic.Bool
	var mu sync.Mutex
	waits := make([][]time.Duration, len(c.pools))
	var clients sync.WaitGroup
	for i, p := range c.pools {
		demand := 1
		if i == 0 {
			demand = 50
		}
		for range demand {
			clients.Add(1)
			go func() {
				defer clients.Done()
				for !stop.Load() {
					s := newSeat(nil)
					began := time.Now()
					srv, err := p.Acquire(&s.Ticket, time.Now())
					if srv == nil && err == nil {
						select {
						case srv = <-s.granted:
						case err = <-s.refused:
						case <-time.After(patience):
							err = fmt.Errorf("no server in %v", patience)
						}
					}
					if err != nil {
						t.Errorf("pool %d: %v", i, err)
						return
					}
					mu.Lock()
					waits[i] = append(waits[i], time.Since(began))
					mu.Unlock()
					time.Sleep(transaction)
					if next := p.Release(srv, nil, time.Now()); next != nil {
						next.W.Granted(srv)
					}
					time.Sleep(transaction / 10)
				}
			}()
		}
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n := c.servers(); n > 10 {
			t.Errorf("%d servers", n)
			break
		}
		c.shares.Tick()
	}
	stop.Store(true)
	clients.Wait()
	for i, w := range waits {
		slices.Sort(w)
		if len(w) == 0 {
			t.Fatalf("pool %d got no server at all", i)
		}
		median := w[len(w)/2]
		t.Logf("pool %d: %d transactions, median wait %v, longest %v", i, len(w), median, w[len(w)-1])
		if i > 0 && median >= transaction {
			t.Errorf("pool %d waits for %v at the median, a transaction takes %v", i, median, transaction)
		}
	}
	if len(waits[0]) < 70 {
		t.Errorf("the large pool did %d transactions: it had fewer places than were free", len(waits[0]))
	}
}

// TestCapOfOne: two pools that share one place take turns.
func TestCapOfOne(t *testing.T) {
	c := newCompany(t, 2, 1)
	for round := range 4 {
		for i, p := range c.pools {
			srv := p.get(nil)
			if n := c.servers(); n != 1 {
				t.Fatalf("round %d, pool %d: %d servers", round, i, n)
			}
			if next := p.Release(srv, nil, time.Now()); next != nil {
				t.Fatal("somebody else waits")
			}
		}
	}
	// One that is busy without end does not keep the other out.
	srv := c.pools[0].get(nil)
	other, mine := newSeat(nil), newSeat(nil)
	if c.pools[1].ask(other) != nil {
		t.Fatal("a second server")
	}
	if c.pools[0].ask(mine) != nil {
		t.Fatal("a second server")
	}
	hungry := func() bool { c.pools[0].mu.Lock(); defer c.pools[0].mu.Unlock(); return c.pools[0].yields }
	for end := time.Now().Add(patience); !hungry(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the busy pool was not asked to give way")
		}
	}
	if next := c.pools[0].Release(srv, nil, time.Now()); next != nil {
		t.Fatal("the pool that had the server keeps it, though another has waited for longer")
	}
	got, err := other.wait(t)
	if err != nil {
		t.Fatal(err)
	}
	mine.silent(t)
	if next := c.pools[1].Release(got, nil, time.Now()); next != nil {
		t.Fatal("somebody else waits")
	}
	if got, err = mine.wait(t); err != nil {
		t.Fatal(err)
	}
	c.pools[0].Release(got, nil, time.Now())
}

// TestReserve: servers beyond the size come when somebody has waited for
// reserve_pool_timeout, and no sooner.
func TestReserve(t *testing.T) {
	opts := newFakePG(t).options(1)
	opts.ReserveSize, opts.ReserveTimeout = 1, 200*time.Millisecond
	p := newTestPool(t, opts)
	first := p.get(nil)
	second, third := newSeat(nil), newSeat(nil)
	asked := time.Now()
	if p.ask(second) != nil || p.ask(third) != nil {
		t.Fatal("a server beyond the size at once")
	}
	p.Tick(asked)
	second.silent(t)
	p.Tick(asked.Add(250 * time.Millisecond))
	for time.Since(asked) < 200*time.Millisecond {
		time.Sleep(10 * time.Millisecond)
	}
	p.Tick(time.Now())
	got, err := second.wait(t)
	if err != nil {
		t.Fatal(err)
	}
	p.Tick(time.Now().Add(time.Minute))
	third.silent(t)
	if next := p.Release(got, nil, time.Now()); next == nil || next.W != Waiter(third) {
		t.Fatal("the reserve's server goes to nobody")
	}
	p.Release(got, nil, time.Now())
	p.Release(first, nil, time.Now())
}
