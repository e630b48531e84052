package backend

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

// Which idle server a session gets.
func TestChoice(t *testing.T) {
	type released struct{ server, label int }
	for _, r := range []struct {
		name       string
		roundRobin bool
		released   []released
		ask, want  int
	}{
		{"the last one in", false, []released{{0, 0}, {1, 0}, {2, 0}}, 0, 2},
		{"round robin: the first one in", true, []released{{1, 0}, {0, 0}, {2, 0}}, 0, 1},
		{"the one with the label", false, []released{{0, 7}, {1, 0}, {2, 0}}, 7, 0},
		{"the last one with the label", false, []released{{0, 7}, {1, 7}, {2, 0}}, 7, 1},
		{"none has the label", false, []released{{0, 1}, {1, 2}, {2, 3}}, 7, 2},
	} {
		t.Run(r.name, func(t *testing.T) {
			opts := newFakePG(t).options(3)
			opts.RoundRobin = r.roundRobin
			p := newTestPool(t, opts)
			servers := []*Server{p.get(0), p.get(0), p.get(0)}
			for _, x := range r.released {
				p.give(servers[x.server], x.label)
			}
			if got := p.ask(newSeat(r.ask)); got != servers[r.want] {
				t.Errorf("not server %d", r.want)
			}
		})
	}
}

// Sessions wait in order; a freed server goes to the first of them directly.
func TestQueue(t *testing.T) {
	p := newTestPool(t, newFakePG(t).options(1))
	srv := p.get(nil)
	seats := []*seat{newSeat(nil), newSeat(nil), newSeat(nil)}
	for _, s := range seats {
		if p.ask(s) != nil {
			t.Fatal("there are two servers")
		}
	}
	if !p.Leave(&seats[1].Ticket) || p.Leave(&seats[1].Ticket) {
		t.Error("Leave is wrong")
	}
	for _, i := range []int{0, 2} {
		ticket := p.Release(srv, nil, time.Now())
		if ticket != &seats[i].Ticket {
			t.Fatalf("it is not seat %d's turn", i)
		}
		if p.Leave(ticket) {
			t.Error("who has a server has left the queue")
		}
	}
	if p.Release(srv, nil, time.Now()) != nil {
		t.Error("nobody waits")
	}
	if st := p.State(time.Now(), nil); st.Idle != 1 || st.Waiting != 0 || st.Granted != 3 {
		t.Errorf("%+v", st)
	}
	seats[1].silent(t)
}

// Who comes while others wait does not overtake them.
func TestNoOvertaking(t *testing.T) {
	p := newTestPool(t, newFakePG(t).options(1))
	srv := p.get(nil)
	first := newSeat(nil)
	p.ask(first)
	p.SetPicker(func([]*Server, *Server) int { return -1 }) // the server stays idle, though first waits
	p.give(srv, nil)
	p.SetPicker(nil)
	second := newSeat(nil)
	if p.ask(second) != nil {
		t.Error("the second was served before the first")
	}
}

// D2: a waiter gets whichever comes first, a release or a dial.
func TestReleaseBeforeDial(t *testing.T) {
	f := newFakePG(t)
	f.gate = make(chan struct{}, 10)
	f.gate <- struct{}{}
	p := newTestPool(t, f.options(2))
	t.Cleanup(func() { close(f.gate) })
	srv := p.get(nil)
	waiter := newSeat(nil)
	p.ask(waiter)
	p.until("a second attempt", func(st State) bool { return st.Dialling == 1 })
	p.give(srv, nil)
	if got, err := waiter.wait(t); got != srv || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	f.gate <- struct{}{}
	p.until("an idle server", func(st State) bool { return st.Idle == 1 && st.Active == 1 })
}

func TestDialBeforeRelease(t *testing.T) {
	p := newTestPool(t, newFakePG(t).options(2))
	srv := p.get(nil)
	if got := p.get(nil); got == srv {
		t.Error("one server for two")
	}
}

// Every seat hears exactly once, unless it leaves; no server has two users.
func TestChurn(t *testing.T) {
	opts := newFakePG(t).options(4)
	p := newTestPool(t, opts)
	var users [64]atomic.Int32
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range 200 {
				s := newSeat(r.IntN(3))
				srv, err := p.Acquire(&s.Ticket, time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				if srv == nil {
					if r.IntN(3) == 0 && p.Leave(&s.Ticket) {
						s.silent(t)
						continue
					}
					select {
					case srv = <-s.granted:
					case err := <-s.refused:
						t.Error(err)
						return
					case <-time.After(patience):
						t.Error("a seat was forgotten")
						return
					}
				}
				if n := users[srv.ID%64].Add(1); n != 1 {
					t.Errorf("%d users of one server", n)
				}
				if r.IntN(10) == 0 {
					p.Tick(time.Now())
				}
				users[srv.ID%64].Add(-1)
				if r.IntN(20) == 0 {
					p.Discard(srv, CloseTainted)
				} else {
					p.give(srv, r.IntN(3))
				}
				if err := p.Check(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	p.until("rest", func(st State) bool { return st.Active == 0 && st.Dialling == 0 && st.Leaving == 0 && st.Waiting == 0 })
}

// The limit holds as PostgreSQL counts it.
func TestSizeAsPostgreSQLCounts(t *testing.T) {
	c := postgres.ForTest(t)
	if err := c.Exec(t.Context(), "postgres", "DROP ROLE IF EXISTS counted; CREATE ROLE counted LOGIN CONNECTION LIMIT 5"); err != nil {
		t.Fatal(err)
	}
	opts := onCluster(c, "counted", 5)
	opts.LoginRetry = 10 * time.Millisecond
	p := newTestPool(t, opts)
	var all sync.WaitGroup
	for w := range 20 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 2))
			for range 15 {
				s := newSeat(nil)
				srv, err := p.Acquire(&s.Ticket, time.Now())
				if err == nil && srv == nil {
					select {
					case srv = <-s.granted:
					case err = <-s.refused:
					case <-time.After(patience):
						err = errors.New("a seat was forgotten")
					}
				}
				if err != nil {
					t.Errorf("%v", err) // 53300: there was one too many
					return
				}
				if r.IntN(3) == 0 {
					p.Discard(srv, CloseTainted)
				} else {
					p.give(srv, nil)
				}
			}
		})
	}
	all.Wait()
	if n := p.fails.Load(); n > 0 {
		t.Errorf("%d of %d attempts failed", n, p.dials.Load())
	}
}

func TestWaitTimeout(t *testing.T) {
	opts := newFakePG(t).options(1)
	opts.QueryWaitTimeout = time.Minute
	p := newTestPool(t, opts)
	srv := p.get(nil)
	early, late := newSeat(nil), newSeat(nil)
	p.ask(early)
	p.ask(late)
	p.mu.Lock()
	late.Since = late.Since.Add(10 * time.Second)
	at := early.Since.Add(time.Minute)
	p.mu.Unlock()
	p.Tick(at.Add(-1))
	early.silent(t)
	p.Tick(at)
	if _, err := early.wait(t); !errors.Is(err, ErrWaitTimeout) {
		t.Errorf("%v", err)
	}
	late.silent(t)
	p.give(srv, nil)
	if got, _ := late.wait(t); got != srv {
		t.Error("the other does not get the server")
	}
	if p.Leave(&early.Ticket) {
		t.Error("who was refused is still in the queue")
	}
}

func TestMinSize(t *testing.T) {
	opts := newFakePG(t).options(5)
	opts.MinSize = 3
	p := newTestPool(t, opts)
	full := func(st State) bool { return st.Idle == 3 && st.Dialling == 0 }
	p.Tick(time.Now())
	p.until("the minimum", full)
	p.Discard(p.get(nil), CloseTainted)
	p.until("the minimum again", full)
	if n := p.dials.Load(); n != 4 {
		t.Errorf("%d attempts", n)
	}
}

func TestIdleTimeout(t *testing.T) {
	opts := newFakePG(t).options(5)
	opts.MinSize, opts.IdleTimeout = 2, time.Minute
	p := newTestPool(t, opts)
	var servers []*Server
	for range 4 {
		servers = append(servers, p.get(nil))
	}
	for _, s := range servers {
		p.give(s, nil)
	}
	p.Tick(time.Now().Add(30 * time.Second))
	if st := p.State(time.Now(), nil); st.Idle != 4 {
		t.Errorf("closed too early: %+v", st)
	}
	p.Tick(time.Now().Add(2 * time.Minute))
	p.until("the minimum", func(st State) bool { return st.Idle == 2 && st.Leaving == 0 })
	for i, s := range servers {
		want := CloseReason("")
		if i < 2 {
			want = CloseIdle // the oldest first
		}
		if s.Closing() != want {
			t.Errorf("server %d: %q", i, s.Closing())
		}
	}
}

func TestLifetime(t *testing.T) {
	opts := newFakePG(t).options(5)
	opts.Lifetime = time.Hour
	p := newTestPool(t, opts)
	idle, used := p.get(nil), p.get(nil)
	for _, s := range []*Server{idle, used} {
		if life := s.expires.Sub(s.Born); life > time.Hour || life < 57*time.Minute {
			t.Errorf("lives for %v", life)
		}
		p.mu.Lock()
		s.expires = s.Born
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.offerLocked(idle, time.Now())
	p.mu.Unlock()
	p.Tick(time.Now())
	waiter := newSeat(nil)
	if p.ask(waiter) != nil {
		t.Error("an old server was given away")
	}
	if p.Release(used, nil, time.Now()) != nil {
		t.Error("an old server was passed on")
	}
	if idle.Closing() != CloseLifetime || used.Closing() != CloseLifetime {
		t.Errorf("%q, %q", idle.Closing(), used.Closing())
	}
	if srv, err := waiter.wait(t); err != nil || srv == idle || srv == used {
		t.Errorf("%v, %v", srv, err)
	}
}

// An idle server past server_check_delay is checked, and nothing is dialled
// as long as it may answer.
func TestCheck(t *testing.T) {
	f := newFakePG(t)
	opts := f.options(5)
	opts.CheckDelay = time.Nanosecond
	p := newTestPool(t, opts)
	srv := p.get(nil)
	p.give(srv, nil)
	if got := p.get(nil); got != srv {
		t.Error("another server")
	}
	if n := srv.Handler.(*link).checks.Load(); n != 1 {
		t.Errorf("%d checks", n)
	}
	if n := f.attempts.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A server that is fresh is preferred to one with the label that is not.
func TestCheckPrefersFresh(t *testing.T) {
	opts := newFakePG(t).options(2)
	opts.CheckDelay = time.Hour
	p := newTestPool(t, opts)
	stale, fresh := p.get(nil), p.get(nil)
	p.give(stale, 7)
	p.give(fresh, 0)
	p.mu.Lock()
	stale.idleSince = stale.idleSince.Add(-2 * time.Hour)
	p.mu.Unlock()
	if got := p.ask(newSeat(7)); got != fresh {
		t.Error("the stale server was taken, or nothing")
	}
}

// A path that swallows packets costs one check, not an answer.
func TestCheckUnanswered(t *testing.T) {
	f := newFakePG(t)
	opts := f.options(1)
	opts.CheckDelay = time.Nanosecond
	p := newTestPool(t, opts)
	srv := p.get(nil)
	p.give(srv, nil)
	f.mute.Store(true)
	waiter := newSeat(nil)
	if p.ask(waiter) != nil {
		t.Fatal("an unchecked server was given away")
	}
	p.Tick(time.Now())
	waiter.silent(t)
	p.Tick(time.Now().Add(checkTimeout + time.Second))
	got, err := waiter.wait(t)
	if err != nil || got == srv {
		t.Errorf("%v, %v", got, err)
	}
	if srv.Closing() != CloseIO {
		t.Errorf("closed for %q", srv.Closing())
	}
}

// A server that dies while it is idle is not given away.
func TestIdleServerDies(t *testing.T) {
	c := postgres.ForTest(t)
	p := newTestPool(t, onCluster(c, postgres.Superuser, 2))
	srv := p.get(nil)
	p.give(srv, nil)
	if err := c.Exec(t.Context(), "postgres", "SELECT pg_terminate_backend("+strconv.Itoa(int(srv.PID))+")"); err != nil {
		t.Fatal(err)
	}
	p.until("its end", func(st State) bool {
		p.Tick(time.Now()) // the end may hide
		return st.Idle == 0 && st.Leaving == 0
	})
	if got := p.get(nil); got == srv {
		t.Error("a dead server was given away")
	}
}

func TestCloseJoinsAll(t *testing.T) {
	f := newFakePG(t)
	f.gate = make(chan struct{}, 2)
	f.gate <- struct{}{}
	f.gate <- struct{}{}
	p := newTestPool(t, f.options(3))
	t.Cleanup(func() { close(f.gate) })
	used, idle := p.get(nil), p.get(nil)
	p.give(idle, nil)
	p.get(nil) // idle is used again
	waiter := newSeat(nil)
	p.ask(waiter)
	p.until("a dial that hangs", func(st State) bool { return st.Dialling == 1 })
	p.Close(errStopped)
	if _, err := waiter.wait(t); err != errStopped {
		t.Errorf("the waiter hears %v", err)
	}
	if srv, err := p.Acquire(&newSeat(nil).Ticket, time.Now()); srv != nil || err != errStopped {
		t.Errorf("a closed pool gives %v, %v", srv, err)
	}
	if p.Release(used, nil, time.Now()) != nil || used.Closing() != CloseDrain {
		t.Error("a server that comes back late is kept")
	}
	// The rest is what every test pool's end checks: Kill, Wait, no goroutine.
}

// D9: nothing storms a server that refuses.
func TestRefusedConnection(t *testing.T) {
	f := newFakePG(t)
	addr := f.l.Addr()
	f.l.Close()
	p := newTestPool(t, onAddr(addr, 10))
	var seats []*seat
	for range 10 {
		s := newSeat(nil)
		if srv, err := p.Acquire(&s.Ticket, time.Now()); err == nil && srv == nil {
			seats = append(seats, s)
		}
	}
	for _, s := range seats {
		_, err := s.wait(t)
		var dial *DialError
		if !errors.As(err, &dial) || dial.Final || dial.Addr != addr.String() {
			t.Errorf("%v", err)
		}
	}
	p.until("one report", func(State) bool { return p.dials.Load() == 1 })
	if srv, err := p.Acquire(&newSeat(nil).Ticket, time.Now()); srv != nil || err == nil {
		t.Error("who comes during the pause is not refused at once")
	}
}

// A login that PostgreSQL refuses is tried once, whoever waits.
func TestRefusedLogin(t *testing.T) {
	for code, final := range map[string]bool{"28P01": true, "28000": true, "3D000": true, "53300": true, "57P03": false} {
		t.Run(code, func(t *testing.T) {
			f := newFakePG(t)
			f.refuse.Store(&code)
			p := newTestPool(t, f.options(10))
			var seats []*seat
			for range 10 {
				s := newSeat(nil)
				if srv, err := p.Acquire(&s.Ticket, time.Now()); srv == nil && err == nil {
					seats = append(seats, s)
				}
			}
			for _, s := range seats {
				_, err := s.wait(t)
				var dial *DialError
				var pg *pgconn.PgError
				if !errors.As(err, &dial) || dial.Final != final || !errors.As(err, &pg) || pg.Code != code {
					t.Errorf("%v", err)
				}
			}
			for range 20 {
				p.Tick(time.Now())
				if srv, err := p.Acquire(&newSeat(nil).Ticket, time.Now()); srv != nil || err == nil && final {
					t.Fatal("not refused at once")
				}
				if final && f.attempts.Load() != 1 {
					t.Fatalf("%d attempts", f.attempts.Load())
				}
			}
			if ok, err := p.Ready(); ok || err == nil {
				t.Error("ready")
			}
			// The pause over, and the cause gone.
			f.refuse.Store(nil)
			p.mu.Lock()
			p.retry.until = time.Now()
			p.mu.Unlock()
			p.get(nil)
			if ok, err := p.Ready(); !ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
		})
	}
}

// As long as nobody knows whether the server lets us in, one attempt is made;
// then many.
func TestRamp(t *testing.T) {
	f := newFakePG(t)
	f.gate = make(chan struct{}, 100)
	p := newTestPool(t, f.options(30))
	t.Cleanup(func() { close(f.gate) })
	seats := make([]*seat, 20)
	for i := range seats {
		seats[i] = newSeat(nil)
		p.ask(seats[i])
		if st := p.State(time.Now(), nil); st.Dialling != 1 {
			t.Fatalf("%d attempts at once", st.Dialling)
		}
	}
	if st := p.State(time.Now().Add(-time.Minute), nil); st.MaxWait != 0 {
		t.Errorf("seen from before it came a waiter has waited %v", st.MaxWait)
	}
	f.gate <- struct{}{}
	if _, err := seats[0].wait(t); err != nil {
		t.Fatal(err)
	}
	if st := p.State(time.Now(), nil); st.Dialling != maxParallelDials {
		t.Errorf("%d attempts at once", st.Dialling)
	}
	for range seats {
		f.gate <- struct{}{}
	}
	for _, s := range seats[1:] {
		if _, err := s.wait(t); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.attempts.Load(); n != 20 {
		t.Errorf("%d connections for 20", n)
	}
}

func TestBackoff(t *testing.T) {
	now := time.Now()
	var b backoff
	last := time.Duration(0)
	for i := range 100 {
		b.fail(now, 15*time.Second, false)
		pause := b.until.Sub(now)
		if pause <= 0 || pause > 15*time.Second || i < 6 && pause < last || i > 20 && pause < 11*time.Second {
			t.Errorf("failure %d pauses %v after %v", i, pause, last)
		}
		last = pause
	}
	b = backoff{}
	if b.fail(now, 15*time.Second, true); b.until.Sub(now) < 11*time.Second {
		t.Errorf("a refused login pauses %v", b.until.Sub(now))
	}
	if b.fail(now, 0, false); b.until.Before(now) {
		t.Error("no pause at all")
	}
}

// TestInterruptedLogin: an administrator who ends a connection that is
// logging in does not refuse who waits for it; one who ends all of them does.
func TestInterruptedLogin(t *testing.T) {
	f := newFakePG(t)
	f.gate = make(chan struct{})
	code := "57P01"
	f.refuse.Store(&code)
	opts := f.options(1)
	opts.LoginRetry = time.Nanosecond // nobody is waited for longer
	p := newTestPool(t, opts)
	s := newSeat(nil)
	if _, err := p.Acquire(&s.Ticket, time.Now()); err != nil {
		t.Fatal(err)
	}
	for range maxInterrupted {
		f.gate <- struct{}{}
	}
	for end := time.Now().Add(patience); f.attempts.Load() <= maxInterrupted; {
		if time.Now().After(end) {
			t.Fatalf("%d attempts", f.attempts.Load())
		}
		time.Sleep(time.Millisecond)
	}
	s.silent(t)
	f.refuse.Store(nil)
	f.gate <- struct{}{}
	srv, err := s.wait(t)
	if err != nil {
		t.Fatal(err)
	}
	f.refuse.Store(&code)
	next := newSeat(nil)
	if _, err := p.Acquire(&next.Ticket, time.Now()); err != nil {
		t.Fatal(err)
	}
	p.Discard(srv, CloseKill)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		select {
		case f.gate <- struct{}{}: // another that is ended
		case <-next.refused:
			return
		case <-next.granted:
			t.Fatal("a server came")
		case now := <-tick.C:
			if now.After(end) {
				t.Fatal("it is not refused")
			}
			p.Tick(now)
		}
	}
}

// Who asks for a server without a mark gets one, if need be in the place of
// one that has it; others go on using those.
func TestWithout(t *testing.T) {
	f := newFakePG(t)
	p := newTestPool(t, f.options(2))
	a, b := p.get(0), p.get(0)
	p.Mark(a, UsedTemp)
	p.give(a, 0)
	p.give(b, 0)
	picky := func() *seat {
		s := newSeat(0)
		s.Without = UsedTemp
		return s
	}
	for range 2 {
		if got := p.ask(picky()); got != b {
			t.Fatal("it is not the server without the mark")
		}
		if got := p.ask(newSeat(0)); got != a {
			t.Fatal("another has not got the one with the mark")
		}
		p.give(a, 0)
		p.give(b, 0)
	}
	p.Mark(b, UsedTemp)
	// Both are idle, and neither will do.
	first := picky()
	if p.ask(first) != nil {
		t.Fatal("a server that will not do was granted")
	}
	if got := p.ask(newSeat(0)); got == nil {
		t.Error("another waits beside an idle server")
	} else {
		defer p.give(got, 0)
	}
	c, err := first.wait(t)
	if err != nil || c == a || c == b {
		t.Fatalf("%v, %v", c, err)
	}
	p.Mark(c, UsedTemp|UsedBefore)
	// Both are in use, and the next that becomes free makes room.
	second, third := picky(), newSeat(0)
	if p.ask(second) != nil || p.ask(third) != nil {
		t.Fatal("there are three servers")
	}
	p.give(c, 0)
	d, err := second.wait(t)
	if err != nil || d == c {
		t.Fatalf("%v, %v", d, err)
	}
	third.silent(t)
	p.give(d, 0)
	if got, err := third.wait(t); got != d || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	p.give(d, 0)
}

// Spare takes nothing that somebody may need just now: no server that has only
// come to rest, none where somebody waits or that is paused, none that is stale.
func TestSpare(t *testing.T) {
	opts := newFakePG(t).options(3)
	opts.CheckDelay = time.Hour
	p := newTestPool(t, opts)
	first, last, stale := p.get(nil), p.get(nil), p.get(nil)
	for _, s := range []*Server{first, last, stale} {
		p.give(s, nil)
	}
	if p.Spare() != nil {
		t.Error("a server has been taken that has only come to rest")
	}
	p.mu.Lock()
	first.idleSince = first.idleSince.Add(-3 * spareAfter)
	last.idleSince = last.idleSince.Add(-2 * spareAfter)
	stale.idleSince = stale.idleSince.Add(-2 * time.Hour)
	p.mu.Unlock()
	if got := p.Spare(); got != last {
		t.Error("not the last one that is at rest")
	}
	if got := p.Spare(); got != first {
		t.Error("not the other one")
	}
	if p.Spare() != nil {
		t.Error("a stale server was taken")
	}
	if st := p.State(time.Now(), nil); st.Idle != 1 || st.Active != 2 {
		t.Errorf("%+v", st)
	}
}
