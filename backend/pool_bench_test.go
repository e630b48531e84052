package backend

import (
	"testing"
	"time"
)

// BenchmarkAcquireRelease is what a transaction asks of its pool.
func BenchmarkAcquireRelease(b *testing.B) {
	const servers = 20
	open := func(b *testing.B) (p *testPool, all []*Server) {
		p = newTestPool(b, newFakePG(b).options(servers))
		for range servers {
			all = append(all, p.get(nil))
		}
		return p, all
	}
	label := new(int)
	now := time.Now()
	turns := func(b *testing.B, p *testPool) {
		s := newSeat(label)
		b.ReportAllocs()
		for b.Loop() {
			srv, err := p.Acquire(&s.Ticket, now)
			if srv == nil || err != nil || p.Release(srv, label, now) != nil {
				b.Fatal(srv, err)
			}
		}
	}

	b.Run("idle", func(b *testing.B) {
		p, all := open(b)
		for _, srv := range all {
			p.give(srv, label)
		}
		turns(b, p)
	})
	// Twenty are idle, one of which has the session's settings: the worst place.
	b.Run("by label", func(b *testing.B) {
		p, all := open(b)
		p.give(all[0], label)
		for _, srv := range all[1:] {
			p.give(srv, nil)
		}
		turns(b, p)
	})
	// The one server goes from each to the next in the queue.
	b.Run("handed over", func(b *testing.B) {
		p, all := open(b)
		seats := [2]*seat{newSeat(nil), newSeat(nil)}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s := seats[i%2]
			if srv, err := p.Acquire(&s.Ticket, now); srv != nil || err != nil {
				b.Fatal(srv, err)
			}
			if p.Release(all[0], nil, now) != &s.Ticket {
				b.Fatal("it is somebody else's turn")
			}
		}
		for _, srv := range all {
			p.give(srv, nil)
		}
	})
}
