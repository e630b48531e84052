package proxy

import (
	"context"
	"testing"
)

// TestCancelAtTheDoor: a client knows its key a moment before its session has a
// stream. A cancel that comes by then waits, and ends.
func TestCancelAtTheDoor(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	px := &Server{ctx: ctx}
	s := &session{px: px}
	px.keys.assign(s, 4)
	done := make(chan struct{})
	go func() {
		defer close(done)
		px.cancelRequest(s.pid, []byte(s.secret))
	}()
	stop()
	<-done
	if n := px.counts.cancelRequests.Load(); n != 1 {
		t.Errorf("%d cancel requests counted", n)
	}
}
