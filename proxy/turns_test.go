package proxy

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"pgpoold/backend"
	"pgpoold/test/canned"
)

// granted is who waits for a server.
type granted func(*backend.Server)

func (g granted) Granted(s *backend.Server) { g(s) }
func (g granted) Refused(error)             { g(nil) }

// TestGrantsComeLast: who waits for a server gets one that is given back after
// what else there is to do has been done.
func TestGrantsComeLast(t *testing.T) {
	px, client := between(t)
	if err := client.Run(&canned.Transactions()[0]); err != nil {
		t.Fatal(err)
	}
	servers := px.poolsOf("db")[0].servers
	var srv *backend.Server
	for srv == nil { // the reply comes before the server is given back
		t := &backend.Ticket{Label: noSettings}
		if srv, _ = servers.Acquire(t, time.Now()); srv == nil {
			servers.Leave(t)
			runtime.Gosched()
		}
	}
	l := srv.Handler.(*link)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const tries = 40
	last := 0
	for range tries {
		var done atomic.Bool
		other := make(chan struct{})
		go func() {
			done.Store(true)
			close(other)
		}()
		late := false
		tk := &backend.Ticket{Label: noSettings, W: granted(func(s *backend.Server) { srv, late = s, done.Load() })}
		if s, err := servers.Acquire(tk, time.Now()); s != nil || err != nil {
			t.Fatalf("there is another server: %v, %v", s, err)
		}
		l.giveBackLast(time.Now())
		if srv != l.srv {
			t.Fatal("the waiting one did not get the server")
		}
		if late {
			last++
		}
		<-other
	}
	if last < tries/2 { // now and then the scheduler prefers who has yielded
		t.Errorf("it came last in %d of %d tries", last, tries)
	}
	l.giveBack()
}
