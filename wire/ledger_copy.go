package wire

// What a COPY does to the queue: while the server takes its data it ignores Sync
// and Flush, and where it fails it may have eaten those that are on their way.

// AppendProbe notes a Sync and an empty Query of the caller's, which settle
// whether a batch whose COPY has failed has had its Sync, if that is in doubt.
// Until they are answered nothing else may be sent.
func (l *Ledger) AppendProbe() {
	l.probing, l.asked = true, true
	l.Append(Entry{Msg: MsgSync, Action: Swallow})
	l.Append(Entry{Msg: MsgQuery, Action: Swallow})
}

// Probing reports whether a probe is not answered.
func (l *Ledger) Probing() bool { return l.asked }

// Unclear reports whether Probing, InDoubt or Ambiguous may be true.
func (l *Ledger) Unclear() bool { return l.asked || l.marks > 0 || l.extra > 0 || l.copyIn }

// strike settles a Sync or Flush that a COPY eats.
func (l *Ledger) strike(e Entry) {
	if e.Msg == MsgSync {
		l.struck++
	}
	l.settle(&e, Skipped)
}

// probed follows the answer to a probe. If each Sync was eaten the client's
// batch goes on: what it sends is skipped up to a Sync, here if not by the
// server.
func (l *Ledger) probed() {
	if l.probing {
		l.note(ProbeSkipsOn)
		l.skipping, l.open = true, true
	} else {
		l.note(ProbeRecovers)
	}
	l.probing, l.asked = false, false
}

// beginCopyIn enters COPY IN: PostgreSQL ignores Sync and Flush until the
// client ends the data, so the Syncs already owed in front of the client's
// CopyDone or CopyFail are struck out.
func (l *Ledger) beginCopyIn() {
	l.copyIn, l.copyEnded, l.struck = true, false, 0
	for i := 1; i < l.q.len() && !l.copyEnded; {
		switch l.q.at(i).Msg {
		case CopyMark:
			l.q.remove(i)
			l.marks--
			l.copyEnded = true
		case MsgSync, MsgFlush:
			e := l.q.remove(i)
			l.count(&e, -1)
			l.strike(e)
		default:
			i++
		}
	}
	if l.copyEnded {
		l.note(CopyBeginsEnded)
	} else {
		l.note(CopyBegins)
	}
	if l.struck > 0 {
		l.note(CopyStrikes)
	}
	if l.struck > 0 && l.q.at(0).Msg == MsgExecute && l.ready == 0 {
		l.note(CopyReopensBatch)
		l.open = true // the batch's Sync was one of them
	}
}

func (l *Ledger) endCopy() {
	l.copyIn, l.copyEnded, l.struck = false, false, 0
}

// CopyIn reports whether the server waits for COPY data, and whether an
// Execute (rather than a Query) started the COPY.
func (l *Ledger) CopyIn() (in, extended bool) {
	if !l.copyIn || l.copyEnded {
		return false, false
	}
	return true, l.q.len() > 0 && l.q.at(0).Msg == MsgExecute
}

// Copying reports whether CopyData, CopyDone or CopyFail from the client may
// mean something to the server: a COPY is open, or a command is owed that may
// turn out to be one.
func (l *Ledger) Copying() bool { return l.copyIn || l.copyBoth || l.mayCopy > 0 }

// InDoubt reports whether Syncs stand in front of the end of the data of an
// Execute's COPY that is not settled, and none behind it. If the COPY fails it may
// have eaten them or not, and then a message of the batch is skipped or not. So
// nothing but Sync is to be sent.
func (l *Ledger) InDoubt() bool {
	eaten := l.copyIn && l.copyEnded && l.struck > 0
	if l.marks == 0 && !eaten {
		return false
	}
	marked, synced := false, false
	for i := l.q.len() - 1; i >= 0; i-- {
		switch msg := l.q.at(i).Msg; msg {
		case CopyMark:
			marked = true
		case MsgSync:
			if !marked {
				return false
			}
			synced = true
		case MsgExecute, MsgQuery:
			if i == 0 && eaten {
				marked, synced = true, true
			}
			if marked {
				return synced && msg == MsgExecute
			}
		}
	}
	return false
}

// Ambiguous reports whether the server may still send a ReadyForQuery that
// nobody waits for, because a COPY failed with Syncs inside. The reply to any
// other message settles the question, so a Query may be sent to do that.
func (l *Ledger) Ambiguous() bool { return l.extra > 0 }
