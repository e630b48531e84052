package wire

// Action says what becomes of a reply that a server owes.
type Action uint8

// The actions.
const (
	// Forward passes the reply to the client.
	Forward Action = iota
	// Swallow drops the reply to a message of pgpoold's own, if it is a
	// success. An error is the client's.
	Swallow
	// MakeUp stands for a reply that no server sends: pgpoold emits it when
	// its turn comes.
	MakeUp
	// Replace passes an error on in other words. The message was sent so that
	// PostgreSQL raises it.
	Replace
)

func (a Action) String() string {
	return [...]string{"forward", "swallow", "make up", "replace"}[a]
}

// CopyMark stands in the ledger where the client has ended its COPY data
// (CopyDone or CopyFail). It owes nothing, but Syncs in front of it are eaten
// by a COPY and Syncs behind it are not.
const CopyMark = 'c'

// Entry is one message whose reply is owed.
type Entry struct {
	Msg    byte // frontend message type, or CopyMark
	Action Action
	Ref    any // the caller's, told back when the entry is settled; may be nil
}

// Outcome says how an entry was settled.
type Outcome uint8

// The outcomes.
const (
	Done    Outcome = iota // the server did what the message asks
	Failed                 // the server answered with an error
	Skipped                // the server did not look at the message: an error in front of it, or the end of the connection
)

// Settled is one entry that left the ledger.
type Settled struct {
	Entry   Entry
	Outcome Outcome
}

// Ledger is the queue of replies that one server still owes. It is a pure
// state machine: Append before the message's bytes are written, Settle for
// each message that the server sends, and after both Emit until it has no
// more. The zero value is the ledger of a server that is ready for a query.
//
// It is not safe for concurrent use; the server's lock guards it.
type Ledger struct {
	q        ring
	status   byte // of the last ReadyForQuery; 0 stands for idle
	open     bool // a message of the extended protocol was sent since the last Sync
	skipping bool // the batch failed and its Sync has not been sent
	inError  bool // the head, a Query, FunctionCall or Sync, has failed; its ReadyForQuery is owed
	replied  bool // the head has had a reply

	copyIn    bool // CopyInResponse was seen
	copyEnded bool // and the client has ended the data
	copyBoth  bool
	struck    int  // Syncs that this COPY has eaten
	ambiguous bool // a COPY failed: whether it had eaten its Syncs is not known

	ready   int // entries that ReadyForQuery settles: Query, FunctionCall, Sync
	settled []Settled
}

// Append notes a message that the server will answer. It tells whether the
// server will look at it at all: after an error it skips everything up to
// Sync. CopyData and Flush owe nothing; Flush is noted with SawFlush.
func (l *Ledger) Append(e Entry) (looked bool) {
	if l.skipping {
		if e.Msg != MsgSync {
			l.settle(e, Skipped)
			return false
		}
		l.skipping = false
	}
	switch e.Msg {
	case CopyMark:
		switch {
		case l.copyIn && !l.copyEnded:
			l.copyEnded = true
		case !l.copyIn && l.mayCopy():
			l.q.push(e)
		}
		return true
	case MsgSync:
		if l.copyIn && !l.copyEnded {
			l.struck++
			l.settle(e, Skipped)
			return false
		}
		l.open = false
		l.ready++
	case MsgQuery, MsgFunctionCall:
		l.open = false
		l.ready++
	default:
		l.open = true
	}
	l.q.push(e)
	return true
}

// SawFlush notes that a Flush was sent: until Sync the server is in the
// middle of a batch.
func (l *Ledger) SawFlush() {
	if !(l.copyIn && !l.copyEnded) {
		l.open = true
	}
}

// mayCopy reports whether an entry is owed that may turn out to be a COPY.
func (l *Ledger) mayCopy() bool {
	for i := range l.q.len() {
		switch l.q.at(i).Msg {
		case MsgQuery, MsgExecute:
			return true
		}
	}
	return false
}

// Verdict is what to do with a message that the server sent.
type Verdict struct {
	Action Action // Forward, Swallow or Replace
	// Head is the entry that the message answers; valid if Known.
	Head  Entry
	Known bool
	// Broken tells that the message answers nothing that was asked: the
	// connection is out of step and cannot be used any further.
	Broken bool
}

// Settle notes a message that the server sent. status is ReadyForQuery's
// transaction status, else ignored. NoticeResponse, NotificationResponse and
// ParameterStatus settle nothing; for them Settle tells only whose turn it is.
func (l *Ledger) Settle(typ, status byte) Verdict {
	if typ == MsgNotice || typ == MsgNotification || typ == MsgParameterStatus {
		v := l.verdict()
		if v.Action == Replace {
			v.Action = Forward
		}
		return v
	}
	v := l.verdict()
	if typ == MsgError {
		l.failed(&v)
		return v
	}
	if typ == MsgReady {
		return l.readyForQuery(v, status)
	}
	if !v.Known {
		v.Broken = true
		return v
	}
	ok, done := step(v.Head.Msg, typ)
	if !ok {
		v.Broken = true
		return v
	}
	switch typ {
	case MsgCopyIn:
		l.beginCopyIn()
	case MsgCopyBoth:
		l.copyBoth = true
	case MsgCommandComplete:
		l.endCopy()
	}
	if v.Action == Replace {
		// The message was meant to fail. It did not, so its reply is the truth.
		v.Action = Forward
	}
	l.replied = true
	if done {
		l.pop(Done)
	}
	return v
}

// pop settles the head. Marks that come to the head then are dropped: no COPY
// came to meet them.
func (l *Ledger) pop(o Outcome) {
	e := l.q.pop()
	switch e.Msg {
	case MsgQuery, MsgFunctionCall, MsgSync:
		l.ready--
	}
	l.settle(e, o)
	l.replied, l.inError = false, false
	for l.q.len() > 0 && l.q.at(0).Msg == CopyMark {
		l.q.pop()
	}
}

// step tells whether a reply of type typ may answer a message, and whether it
// is the last one.
func step(msg, typ byte) (ok, done bool) {
	switch msg {
	case MsgParse:
		return typ == MsgParseComplete, true
	case MsgBind:
		return typ == MsgBindComplete, true
	case MsgClose:
		return typ == MsgCloseComplete, true
	case MsgDescribe:
		switch typ {
		case MsgParamDescription:
			return true, false
		case MsgRowDescription, MsgNoData:
			return true, true
		}
	case MsgExecute:
		switch typ {
		case MsgDataRow, MsgCopyIn, MsgCopyOut, MsgCopyBoth, MsgCopyData, MsgCopyDone:
			return true, false
		case MsgCommandComplete, MsgEmptyQuery, MsgPortalSuspended:
			return true, true
		}
	case MsgQuery:
		switch typ {
		case MsgDataRow, MsgRowDescription, MsgCommandComplete, MsgEmptyQuery,
			MsgCopyIn, MsgCopyOut, MsgCopyBoth, MsgCopyData, MsgCopyDone:
			return true, false
		}
	case MsgFunctionCall:
		return typ == MsgFunctionResult, false
	}
	return false, false
}

// verdict is the head's action, for a reply that is a success.
func (l *Ledger) verdict() Verdict {
	if l.q.len() == 0 {
		return Verdict{Action: Forward}
	}
	e := l.q.at(0)
	return Verdict{Action: e.Action, Head: *e, Known: true}
}

func (l *Ledger) failed(v *Verdict) {
	if v.Action == Swallow {
		v.Action = Forward
	}
	if l.copyIn && l.struck > 0 {
		l.ambiguous = true
	}
	l.endCopy()
	if !v.Known {
		return // nothing is owed: the server speaks for itself, and usually ends
	}
	switch v.Head.Msg {
	case MsgQuery, MsgFunctionCall, MsgSync:
		l.inError = true
		return
	}
	l.pop(Failed)
	for l.q.len() > 0 {
		if l.q.at(0).Msg == MsgSync {
			return
		}
		l.pop(Skipped)
	}
	l.skipping = true
	l.open = true
}

func (l *Ledger) readyForQuery(v Verdict, status byte) Verdict {
	switch {
	case !v.Known && l.ambiguous,
		v.Known && l.ambiguous && v.Head.Msg == MsgQuery && !l.replied && !l.inError:
		// The answer to a Sync that the failed COPY had not eaten after all; a
		// Query's own ReadyForQuery never comes first.
		v.Action = Forward
		l.status = status
		return v
	case v.Known && (v.Head.Msg == MsgQuery || v.Head.Msg == MsgFunctionCall || v.Head.Msg == MsgSync):
		if v.Head.Msg == MsgQuery {
			l.ambiguous = false
		}
		if l.inError {
			l.pop(Failed)
		} else {
			l.pop(Done)
		}
	default:
		v.Broken = true
		return v
	}
	l.status = status
	l.endCopy()
	l.copyBoth = false
	if v.Action == Replace {
		v.Action = Forward
	}
	return v
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
			l.copyEnded = true
		case MsgSync:
			e := l.q.remove(i)
			l.ready--
			l.struck++
			l.settle(e, Skipped)
		default:
			i++
		}
	}
	if l.struck > 0 && l.q.at(0).Msg == MsgExecute && l.ready == 0 {
		l.open = true // the batch's Sync was one of them
	}
}

func (l *Ledger) endCopy() {
	l.copyIn, l.copyEnded, l.struck = false, false, 0
}

func (l *Ledger) settle(e Entry, o Outcome) {
	if e.Ref != nil {
		l.settled = append(l.settled, Settled{e, o})
	}
}

// Settled returns the entries with a Ref that were settled since the last
// call, in order. The slice is valid until the next Append or Settle.
func (l *Ledger) Settled() []Settled {
	s := l.settled
	l.settled = l.settled[:0]
	return s
}

// Emit pops the entry at the head if its reply is made up; the caller sends
// it to the client now.
func (l *Ledger) Emit() (Entry, bool) {
	if l.q.len() == 0 || l.q.at(0).Action != MakeUp {
		return Entry{}, false
	}
	e := *l.q.at(0)
	l.pop(Done)
	return e, true
}

// Abandon empties the ledger of a server that is lost; every entry is Skipped.
func (l *Ledger) Abandon() {
	for l.q.len() > 0 {
		l.settle(l.q.pop(), Skipped)
	}
	l.ready = 0
}

// Len is the number of replies owed.
func (l *Ledger) Len() int { return l.q.len() }

// Owed is the number of ReadyForQuery messages owed.
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

// Skipping reports whether the server skips what it is sent until Sync.
func (l *Ledger) Skipping() bool { return l.skipping }

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
func (l *Ledger) Copying() bool { return l.copyIn || l.copyBoth || l.mayCopy() }

// CanMakeUp reports whether a reply to Parse may be made up now: the server's
// state is known, and is one in which PostgreSQL would parse.
func (l *Ledger) CanMakeUp() bool {
	return l.ready == 0 && !l.skipping && l.Status() != TxFailed
}

// HeadOurs reports whether the reply that is owed next answers a message of
// pgpoold's own.
func (l *Ledger) HeadOurs() bool {
	v := l.verdict()
	return v.Known && v.Action == Swallow
}

// Ambiguous reports whether the server may still send a ReadyForQuery that
// nobody waits for, because a COPY failed with Syncs inside. A Query settles
// the question.
func (l *Ledger) Ambiguous() bool { return l.ambiguous }

// Releasable is the ledger's part of "this server may go back to the pool
// now": nothing is owed, no transaction is open, no batch is unfinished.
func (l *Ledger) Releasable() bool {
	return l.q.len() == 0 && l.Status() == TxIdle && !l.open && !l.copyIn && !l.copyBoth && !l.ambiguous
}
