package fuzzdiff

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// shrinkPatience guards one attempt of a program that is being made smaller:
// what has not come by then will not.
const shrinkPatience = 3 * time.Second

// shrinker takes out of a failing program what its failure does not need.
type shrinker struct {
	t        *testing.T
	o        *oracle
	size     int
	deadline time.Time
	attempts int
}

// fails runs a program on a pgpoold of its own, a few times if need be, and
// returns how it differs, if it does in the same way.
func (s *shrinker) fails(p *program, kind string, times int) (d difference) {
	want, err := s.o.direct(p, shrinkPatience)
	if err != nil {
		return d // not a program any more
	}
	for range times {
		s.attempts++
		s.t.Run(fmt.Sprintf("attempt/%d", s.attempts), func(t *testing.T) {
			k := newPooler(t, s.o, s.size)
			d = k.differs(p, want, shrinkPatience)
		})
		if d.kind == kind {
			return d
		}
	}
	return difference{}
}

// shrink returns the smallest program that it finds, and how it differs. There
// is no difference if the program does not fail by itself.
func (s *shrinker) shrink(p *program, kind string) (*program, difference) {
	const times = 3
	diff := s.fails(p, kind, times)
	if diff.kind == "" {
		return p, diff
	}
	try := func(q *program) bool {
		if time.Now().After(s.deadline) {
			return false
		}
		d := s.fails(q, kind, times)
		if d.kind != "" {
			p, diff = q, d
		}
		return d.kind != ""
	}
	if p.split > 0 {
		q := *p
		q.split = 0
		try(&q)
	}
	for i := 0; i < len(p.clients) && len(p.clients) > 1; {
		q := *p
		q.clients = append(append([]script(nil), p.clients[:i]...), p.clients[i+1:]...)
		if !try(&q) {
			i++
		}
	}
	for i := range p.clients {
		q := *p
		q.clients = slices.Clone(p.clients)
		if q.clients[i].params = ""; p.clients[i].params != "" {
			try(&q)
		}
	}
	for shrunk := true; shrunk && time.Now().Before(s.deadline); {
		shrunk = false
		for i := range p.clients {
			for n := max(1, len(p.clients[i].lines)/2); n > 0; n /= 2 {
				for at := 0; at+n <= len(p.clients[i].lines); {
					if try(without(p, i, at, n)) {
						shrunk = true
					} else {
						at += n
					}
				}
			}
		}
	}
	return p, diff
}

// without is the program without n lines of a client.
func without(p *program, client, at, n int) *program {
	q := *p
	q.clients = slices.Clone(p.clients)
	lines := p.clients[client].lines
	q.clients[client].lines = append(append([]string(nil), lines[:at]...), lines[at+n:]...)
	return &q
}
