package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestLoginQueue: who takes too long is told apart from who is in, or is being refused;
// and who comes when all were closed is closed, too.
func TestLoginQueue(t *testing.T) {
	q := &loginQueue{}
	add := func() (*loginSlot, net.Conn) {
		ours, peer := net.Pipe()
		t.Cleanup(func() { _ = ours.Close(); _ = peer.Close() })
		slot, evicted := q.add(ours, 0)
		if evicted {
			t.Fatal("somebody was evicted")
		}
		return slot, ours
	}
	slow, slowConn := add()
	in, inConn := add()
	refused, refusedConn := add()
	if in.done() {
		t.Error("it is too late at once")
	}
	refused.refused()
	time.Sleep(time.Millisecond)
	middle := time.Now()
	young, youngConn := add()
	q.expire(middle)
	fails := func(nc net.Conn) bool { // at once, for the others wait for a day
		_ = nc.SetWriteDeadline(time.Now().Add(24 * time.Hour))
		_, err := nc.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	if !fails(slowConn) {
		t.Error("the slow one goes on")
	}
	_ = slowConn.SetDeadline(time.Time{}) // as for its farewell
	q.expire(middle)
	for name, nc := range map[string]net.Conn{"in": inConn, "refused": refusedConn, "young": youngConn, "slow, once more": slowConn} {
		failed := make(chan bool, 1)
		go func() { failed <- fails(nc) }()
		time.Sleep(5 * time.Millisecond)
		_ = nc.Close()
		if <-failed {
			t.Errorf("%s: it has been ended", name)
		}
	}
	if !slow.done() || refused.done() || young.done() || q.count() != 0 {
		t.Errorf("done is wrong, or %d are left", q.count())
	}
	_, open := add()
	q.closeAll()
	_, late := add()
	for _, nc := range []net.Conn{open, late} {
		if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("it is not closed: %v", err)
		}
	}
}
