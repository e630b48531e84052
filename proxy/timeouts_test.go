package proxy

import (
	"testing"
	"time"

	"pgpoold/wire"
)

// TestOverduePause: a query is not cancelled again until PostgreSQL has had time to act on
// the signal, which it has at the end of the cancel: another one could hit what stands behind.
func TestOverduePause(t *testing.T) {
	l := &link{} // without a proxy: nothing can be sent
	l.ledger.Append(wire.Entry{Msg: wire.MsgQuery})
	l.overdueAt = time.Now().Add(-10 * cancelPause) // the cancel was under way for so long
	l.overdueCancelled()
	l.overdue(time.Now(), time.Second)
	if l.overdueAt.IsZero() {
		t.Error("the cancel is forgotten, though the query goes on")
	}
	l.ledger.Abandon()
	l.overdueCancelled()
	if !l.overdueAt.IsZero() {
		t.Error("a cancel that can hit nothing any more is remembered")
	}
}
