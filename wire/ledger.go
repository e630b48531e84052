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
	// Mute drops the reply to a message of pgpoold's own, also an error: what
	// stands behind it, in a batch of its own, fails for the same reason.
	Mute
)

func (a Action) String() string {
	return [...]string{"forward", "swallow", "make up", "replace", "mute"}[a]
}

// CopyMark stands in the ledger where the client has ended its COPY data
// (CopyDone or CopyFail). It owes nothing, but Syncs in front of it are eaten
// by a COPY and Syncs behind it are not.
const CopyMark = 'c'

// ours reports whether it stands with a message that the client did not send.
func (a Action) ours() bool { return a == Swallow || a == Mute }

// Entry is one message whose reply is owed.
type Entry struct {
	Msg    byte // frontend message type, or CopyMark
	Action Action
	// Joined says that the ReadyForQuery of this Query is not told: that of the Sync
	// that pgpoold has sent behind it stands for it. Only that one counts as owed.
	// The Sync has the mark too: it ends nothing of the client's.
	Joined bool
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
	Trace *Trace // counts what happens; nil: nobody does

	q        ring
	status   byte // of the last ReadyForQuery; 0 stands for idle
	open     bool // a message of the extended protocol was sent since the last Sync
	skipping bool // the batch failed and its Sync has not been sent
	inError  bool // the head, a Query, FunctionCall or Sync, has failed; its ReadyForQuery is owed
	last     byte // type of the last reply to the head; 0: it has had none

	copyIn    bool // CopyInResponse was seen
	copyEnded bool // and the client has ended the data
	copyBoth  bool
	struck    int // Syncs that this COPY has eaten
	// extra is how many ReadyForQuery may come that no entry stands for: a
	// COPY failed, and how many of its Syncs it had eaten by then is not known.
	extra int
	// probing says that AppendProbe has asked, and nothing has told yet that a
	// Sync was not eaten.
	probing bool
	asked   bool // and the answer has not come

	unanswered bool // see Unanswered

	ready   int // entries that ReadyForQuery settles, but for joined ones: Query, FunctionCall, Sync
	own     int // Query and Sync among them that the client did not send
	mayCopy int // entries that may turn out to be a COPY: Query, Execute
	marks   int // entries that are CopyMark
	settled []Settled
}

// Append notes a message that the server will answer. It tells whether the
// server will look at it at all: after an error it skips everything up to
// Sync. CopyData and Flush owe nothing and are not noted, but for a Flush that
// PostgreSQL will find malformed.
func (l *Ledger) Append(e Entry) (looked bool) {
	if l.skipping || l.copyIn || e.Msg == CopyMark {
		if owes, looked := l.appendRarely(&e); !owes {
			return looked
		}
	}
	switch e.Msg {
	case MsgSync, MsgQuery, MsgFunctionCall:
		l.note(AppendEndsBatch)
		l.open = false
	default:
		l.note(AppendOpensBatch)
		l.open = true
	}
	l.q.push(e)
	l.count(&e, 1)
	return true
}

// appendRarely is Append for what may owe nothing.
func (l *Ledger) appendRarely(e *Entry) (owes, looked bool) {
	if l.skipping {
		if e.Msg != MsgSync {
			l.note(AppendSkipped)
			l.settle(e, Skipped)
			return false, false
		}
		l.note(AppendSyncRecovers)
		l.skipping = false
	}
	switch e.Msg {
	case CopyMark:
		switch {
		case l.copyIn && !l.copyEnded:
			l.note(AppendMarkEndsCopy)
			l.copyEnded = true
		case l.mayCopy > 0:
			l.note(AppendMarkWaits)
			l.q.push(*e) // for a COPY that has not begun, perhaps the second of one Query
			l.marks++
		default:
			l.note(AppendMarkStray)
		}
		return false, true
	case MsgSync, MsgFlush:
		if l.copyIn && !l.copyEnded {
			l.note(AppendStruck)
			l.strike(*e)
			return false, false
		}
	}
	return true, true
}

// count keeps the counters of what is in the queue.
func (l *Ledger) count(e *Entry, by int) {
	switch e.Msg {
	case MsgParse, MsgBind, MsgDescribe, MsgClose:
		return
	}
	if e.Action.ours() && (e.Msg == MsgQuery || e.Msg == MsgSync) {
		l.own += by
	}
	switch e.Msg {
	case MsgQuery:
		if !e.Joined {
			l.ready += by
		}
		l.mayCopy += by
	case MsgFunctionCall, MsgSync:
		l.ready += by
	case MsgExecute:
		l.mayCopy += by
	}
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

// Ours reports whether the message answers one that the client did not send,
// and is not for the client.
func (v *Verdict) Ours() bool { return v.Action.ours() }

// Settle notes a message that the server sent. status is ReadyForQuery's
// transaction status, else ignored. NoticeResponse, NotificationResponse and
// ParameterStatus settle nothing; for them Settle tells only whose turn it is.
func (l *Ledger) Settle(typ, status byte) Verdict {
	if typ == MsgNotice || typ == MsgNotification || typ == MsgParameterStatus {
		l.note(SettleNothing)
		v := l.verdict()
		if v.Action == Replace || v.Action == MakeUp {
			v.Action = Forward
		}
		return v
	}
	v := l.verdict()
	if v.Action == MakeUp {
		v.Broken = true // its turn has come, and no server answers it
		return v
	}
	if typ == MsgError {
		l.failed(&v)
		return v
	}
	if typ == MsgReady {
		return l.readyForQuery(v, status)
	}
	var ok, done bool
	if v.Known && !l.inError {
		ok, done = step(v.Head.Msg, l.last, typ)
	}
	if !ok {
		v.Broken = true
		return v
	}
	if l.extra > 0 {
		l.note(SettleClears)
		l.extra = 0 // they would have come in front of this
	}
	switch typ {
	case MsgCopyIn:
		l.beginCopyIn()
	case MsgCopyBoth:
		l.copyBoth = true
	case MsgCommandComplete:
		if l.copyIn {
			l.note(CopyEnds)
		}
		l.endCopy()
	}
	if v.Action == Replace {
		// The message was meant to fail. It did not, so its reply is the truth.
		l.note(SettleReplaced)
		v.Action = Forward
	}
	l.took(typ, done)
	return v
}

// took notes a reply of the head's, and settles that if it is the final one.
func (l *Ledger) took(typ byte, done bool) {
	l.last = typ
	if done {
		l.note(SettleLast)
		l.pop(Done)
	} else if typ != MsgDataRow {
		l.note(SettleMore)
	}
}

// pop settles the head. Marks that come to the head then are dropped: no COPY
// came to meet them.
func (l *Ledger) pop(o Outcome) {
	e := l.q.at(0)
	l.count(e, -1)
	l.settle(e, o)
	l.q.drop()
	l.last, l.inError = 0, false
	if l.marks > 0 {
		l.dropMarks()
	}
}

func (l *Ledger) dropMarks() {
	for l.marks > 0 && l.q.len() > 0 && l.q.at(0).Msg == CopyMark {
		l.note(MarkDropped)
		l.q.drop()
		l.marks--
	}
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
	switch v.Action {
	case Swallow:
		l.note(ErrorOfOurs)
		v.Action = Forward
	case Replace:
		l.note(ErrorReplaced)
	}
	if !v.Known {
		v.Broken = true
		return
	}
	if v.Head.Msg != MsgSync {
		l.extra = 0 // as in Settle
	}
	if l.copyIn && l.struck > 0 {
		l.note(ErrorLeavesSyncs)
		l.extra += l.struck
	}
	l.endCopy()
	switch v.Head.Msg {
	case MsgQuery, MsgFunctionCall, MsgSync:
		l.note(ErrorAwaitsReady)
		l.inError = true
		return
	}
	ours := v.Head.Action.ours()
	l.pop(Failed)
	for l.q.len() > 0 {
		e := l.q.at(0)
		if e.Msg == MsgSync {
			l.note(ErrorSkipsToSync)
			return
		}
		if ours && !e.Action.ours() {
			l.unanswered = l.unanswered || e.Msg == MsgQuery && !e.Joined
			ours = false // the error is of this message
		}
		l.pop(Skipped)
	}
	l.note(ErrorSkipsOn)
	l.skipping = true
	l.open = true
}

func (l *Ledger) readyForQuery(v Verdict, status byte) Verdict {
	switch {
	case v.Known && l.ends(v.Head.Msg):
		outcome := Done
		if l.inError {
			outcome = Failed
			l.note(ReadyFailed)
		} else {
			l.note(ReadyDone)
		}
		l.pop(outcome)
		l.endCopy()
		l.copyBoth = false
		if l.asked && l.q.len() == 0 {
			l.probed()
		}
		if v.Action == Replace {
			v.Action = Forward
		}
		if v.Head.Joined && v.Head.Msg == MsgQuery {
			v.Action = Swallow
		}
	case l.extra > 0 && l.last == 0:
		// The answer to a Sync that the failed COPY had not eaten after all.
		l.extra--
		l.probing = false
		l.note(ReadyExtra)
		if l.skipping {
			l.note(ReadyExtraRecovers)
			l.skipping, l.open = false, false
		}
		v = Verdict{Action: Forward}
	default:
		v.Broken = true
		return v
	}
	l.status = status
	return v
}

// ends tells whether ReadyForQuery may answer the head, given what came
// before.
func (l *Ledger) ends(msg byte) bool {
	switch msg {
	case MsgSync:
		return true
	case MsgQuery:
		return l.inError || l.last == MsgCommandComplete || l.last == MsgEmptyQuery
	case MsgFunctionCall:
		return l.inError || l.last == MsgFunctionResult
	}
	return false
}

func (l *Ledger) settle(e *Entry, o Outcome) {
	if e.Ref != nil {
		l.settled = append(l.settled, Settled{*e, o})
	}
}

// Settled returns the entries with a Ref that were settled since the last
// call, in order. The slice is valid until the next Append or Settle.
func (l *Ledger) Settled() []Settled {
	s := l.settled
	if l.settled = s[:0]; cap(s) > ringKeep {
		l.settled = nil
	}
	return s
}

// HasSettled reports whether Settled has any to return.
func (l *Ledger) HasSettled() bool { return len(l.settled) > 0 }

// MakesUp reports whether Emit has an entry to pop.
func (l *Ledger) MakesUp() bool { return l.q.len() > 0 && l.q.at(0).Action == MakeUp }

// Describing is the Ref of the head, if that is a Describe.
func (l *Ledger) Describing() any {
	if l.q.len() == 0 {
		return nil
	}
	if e := l.q.at(0); e.Msg == MsgDescribe {
		return e.Ref
	}
	return nil
}

// Emit pops the entry at the head if its reply is made up; the caller sends
// it to the client now.
func (l *Ledger) Emit() (Entry, bool) {
	if !l.MakesUp() {
		return Entry{}, false
	}
	e := *l.q.at(0)
	l.note(MadeUp)
	l.pop(Done)
	return e, true
}

// Abandon empties the ledger of a server that is lost; every entry is Skipped.
func (l *Ledger) Abandon() {
	if l.q.len() > 0 {
		l.note(Abandoned)
	}
	for l.q.len() > 0 {
		l.settle(l.q.at(0), Skipped)
		l.q.drop()
	}
	l.ready, l.own, l.mayCopy, l.marks = 0, 0, 0, 0
	l.probing, l.asked = false, false
}

// Unanswered reports, once, that the server has skipped a Query because a message of
// pgpoold's own in front of it, in an open batch, has failed. The client hears the
// error, and nobody tells it the end of its Query.
func (l *Ledger) Unanswered() bool {
	unanswered := l.unanswered
	l.unanswered = false
	return unanswered
}
