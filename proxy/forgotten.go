package proxy

import (
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// A function, or a DO, can deallocate what a server holds, and no command's tag
// tells. Where its text shows that, nothing that the server holds is believed
// from then on until it was sent again.

// forgetHeld follows a text that was sent. mu is held.
func (l *link) forgetHeld(found sqlscan.Finding) {
	if found&sqlscan.Forgets == 0 {
		return
	}
	l.forgetsAt = l.ledger.Mark()
	l.forgetNow()
}

// forgetLater follows a ReadyForQuery: a portal has run since its Bind, and what is
// deferred may run at the end of the transaction. mu is held.
func (l *link) forgetLater(status byte) {
	if l.forgetsAt == 0 {
		return
	}
	l.forgetNow()
	if status == wire.TxIdle && l.ledger.Place() >= l.forgetsAt {
		l.forgetsAt = 0
	}
}

func (l *link) forgetNow() {
	for _, h := range l.shelf.m {
		h.doubt()
		if h.pending > 0 {
			h.batch, h.void = noBatch, h.pending
		}
	}
}
