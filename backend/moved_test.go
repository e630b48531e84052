package backend

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
)

// TestFollowNames: when a name leads elsewhere, servers at the old address are
// replaced when they are next free, those in use included; a lookup that fails
// changes nothing.
func TestFollowNames(t *testing.T) {
	f := newFakePG(t)
	opts := f.options(3)
	opts.Hosts[0].Host = "db.test"
	var leads atomic.Pointer[string]
	lead := func(to string) { leads.Store(&to) }
	lead("127.0.0.1")
	opts.Lookup = func(_ context.Context, host string) ([]net.IPAddr, error) {
		to := *leads.Load()
		if host != "db.test" || to == "" {
			return nil, errors.New("no such host")
		}
		return []net.IPAddr{{IP: net.ParseIP(to)}}, nil
	}
	p := newTestPool(t, opts)
	busy, idle := p.get(nil), p.get(nil)
	p.give(idle, nil)
	p.FollowNames(context.Background())
	lead("")
	p.FollowNames(context.Background())
	if n := p.Marked(); n != 0 {
		t.Fatalf("%d servers are to end, though nothing has moved", n)
	}
	lead("127.0.0.2")
	p.FollowNames(context.Background())
	p.until("the idle server ends", func(st State) bool { return st.Idle == 0 && st.Leaving == 0 && st.Active == 1 })
	if busy.Closing() != "" {
		t.Error("the server in use was ended")
	}
	lead("127.0.0.1") // where the test's server is
	p.give(busy, nil)
	p.until("the server that was in use ends", func(st State) bool { return st.Active == 0 && st.Idle == 0 && st.Leaving == 0 })
	if s := p.get(nil); s == busy || s == idle {
		t.Error("an old server is used again")
	} else {
		p.give(s, nil)
	}
}
