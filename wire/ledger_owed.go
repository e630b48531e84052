package wire

// What may be asked of a Ledger without changing it: what is owed, and what may be
// sent behind it.

// Len is the number of replies owed.
func (l *Ledger) Len() int { return l.q.len() }

// Owed is the number of ReadyForQuery messages owed, one for a joined Query and
// its Sync.
func (l *Ledger) Owed() int { return l.ready }

// Status is the transaction status that the last ReadyForQuery told.
func (l *Ledger) Status() byte {
	if l.status == 0 {
		return TxIdle
	}
	return l.status
}

// BatchOpen reports whether a message of the extended protocol was sent since
// the last Sync.
func (l *Ledger) BatchOpen() bool { return l.open }

// MaySkip reports whether the server may skip what it is sent now, up to Sync: it
// does already, or a message of the extended protocol is owed that no Sync
// follows, if perhaps a Query.
func (l *Ledger) MaySkip() bool {
	for i := l.q.len() - 1; i >= 0; i-- {
		switch l.q.at(i).Msg {
		case MsgSync:
			return false
		case MsgQuery, MsgFunctionCall, CopyMark:
		default:
			return true
		}
	}
	return l.open
}

// Skipping reports whether the server skips what it is sent until Sync.
func (l *Ledger) Skipping() bool { return l.skipping }

// CanMakeUp reports whether a reply to Parse may be made up now: the server's
// state is known, and is one in which PostgreSQL would parse.
func (l *Ledger) CanMakeUp() bool {
	return l.ready == 0 && l.extra == 0 && !l.skipping && !l.copyIn && !l.copyBoth && l.Status() != TxFailed
}

// CanMakeUpClose reports whether a reply to Close may be made up now, in any
// state of the transaction. It may not where a COPY IN could leave a
// ReadyForQuery behind that belongs in front of it.
func (l *Ledger) CanMakeUpClose() bool { return l.extra == 0 && l.marks == 0 && !l.copyIn }

// OwnQueries is the number of ReadyForQuery owed to messages of pgpoold's own.
func (l *Ledger) OwnQueries() int { return l.own }

// OnlyOurs reports whether no reply is owed to a message of the client's.
func (l *Ledger) OnlyOurs() bool {
	for i := range l.q.len() {
		if !l.q.at(i).Action.ours() {
			return false
		}
	}
	return true
}

// RunsNothing reports whether nothing of the client's is to be run or committed any
// more, though it may be told the end of what was.
func (l *Ledger) RunsNothing() bool {
	for i := range l.q.len() {
		if e := l.q.at(i); !e.Action.ours() && !(e.Msg == MsgSync && e.Joined) {
			return false
		}
	}
	return true
}

// OwnQuery reports whether a Query of pgpoold's own, a replay or a probe, is
// what the server works on. A cancel must not hit it. Parse and Close of ours
// belong to the client's batch, and what hits them is the client's.
func (l *Ledger) OwnQuery() bool {
	v := l.verdict()
	return v.Known && (v.Action == Swallow && v.Head.Msg == MsgQuery || v.Action == Mute)
}

// Head is the entry whose reply is owed next; ok is false if none is.
func (l *Ledger) Head() (e Entry, ok bool) {
	v := l.verdict()
	return v.Head, v.Known
}

// Place tells the entry whose reply is owed next from all others.
func (l *Ledger) Place() uint64 { return l.q.popped }

// Mark is the place behind all that is in the ledger; Before reports whether the
// reply that is owed next is to something in front of a place.
func (l *Ledger) Mark() uint64             { return l.q.popped + uint64(l.q.len()) }
func (l *Ledger) Before(place uint64) bool { return l.q.len() > 0 && l.q.popped < place }

// Releasable is the ledger's part of "this server may go back to the pool
// now": nothing is owed, no transaction is open, no batch is unfinished.
func (l *Ledger) Releasable() bool {
	return l.q.len() == 0 && l.Status() == TxIdle && !l.open && !l.copyIn && !l.copyBoth && l.extra == 0
}
