package wire

// simulator answers as PostgreSQL's main loop does: SocketBackend, PostgresMain
// and CopyGetData in postgres.c and copyfromparse.c. It knows nothing of the
// ledger. What a message makes PostgreSQL do stands in the message.
type simulator struct {
	status   byte // as in ReadyForQuery
	skip     bool // ignore_till_sync
	extended bool // doing_extended_query_message
	batch    bool // a message of the extended protocol since the last Sync
	implicit bool // an implicit transaction is open

	copying bool // inside CopyGetData
	byQuery bool
	copyBad bool     // the data will be found bad at the first CopyData
	rest    []effect // of the Query, behind the COPY
}

// effect is what one command does.
type effect byte

const (
	rows     effect = 'r' // a result
	modify   effect = 'm' // a command without a result
	fail     effect = 'f' // an error
	failRows effect = 'F' // an error behind a row
	empty    effect = 'e' // nothing to do
	begin_   effect = 'b'
	commit   effect = 'c'
	rollback effect = 'k'
	copyIn   effect = 'i'
	copyBad  effect = 'I' // COPY IN with data that is bad
	copyDie  effect = 'D' // COPY IN that fails before it reads any data
	copyOut  effect = 'o'
	suspend  effect = 's' // Execute stops at its row limit
	noData   effect = 'n' // Describe finds no result
)

// message is one frontend message and what it does.
type message struct {
	typ byte
	do  []effect // Query: of each command; else one or none
	bad bool     // malformed
}

func (m message) effect() effect {
	if len(m.do) == 0 {
		return rows
	}
	return m.do[0]
}

func newSimulator() *simulator { return &simulator{status: TxIdle} }

// reply is one backend message.
type reply struct{ typ, status byte }

func replies(types string) []reply {
	var all []reply
	for i := range len(types) {
		all = append(all, reply{typ: types[i]})
	}
	return all
}

// idle tells that the server could be anybody's: it is not in a transaction,
// a batch or a COPY.
func (s *simulator) idle() bool {
	return s.status == TxIdle && !s.batch && !s.skip && !s.copying
}

// ready is ReadyForQuery, at the end of a command that is not of the extended
// protocol, or of Sync.
func (s *simulator) ready() []reply {
	s.batch, s.implicit = false, false
	return []reply{{MsgReady, s.status}}
}

// error_ is what sigsetjmp in PostgresMain does.
func (s *simulator) error_() []reply {
	s.copying, s.rest, s.implicit = false, nil, false
	if s.status == TxOpen {
		s.status = TxFailed
	}
	if s.extended {
		s.skip = true
		return replies("E")
	}
	return append(replies("E"), s.ready()...)
}

// receive is one message read from the client; fatal tells that PostgreSQL
// ends the connection.
func (s *simulator) receive(m message) (out []reply, fatal bool) {
	if s.copying {
		return s.copyMessage(m)
	}
	switch m.typ {
	case MsgQuery, MsgFunctionCall:
		s.extended = false
	case MsgSync:
		s.extended, s.skip = false, false
	case MsgCopyData, MsgCopyDone, MsgCopyFail:
		s.extended = false
	default:
		s.extended = true
	}
	if s.skip {
		return nil, false
	}
	if Extended(m.typ) && m.typ != MsgFlush {
		s.batch = true
	}
	switch m.typ {
	case MsgCopyData, MsgCopyDone, MsgCopyFail:
		return nil, false
	case MsgFlush:
		if m.bad {
			s.batch = true
			return s.error_(), false
		}
		return nil, false
	case MsgSync:
		return s.ready(), false
	case MsgQuery:
		return s.commands(m.do), false
	case MsgFunctionCall:
		if s.status == TxFailed || m.effect() == fail {
			return s.error_(), false
		}
		return append(replies("V"), s.ready()...), false
	case MsgClose:
		return replies("3"), false
	case MsgExecute:
		return s.execute(m.effect()), false
	}
	// In a failed transaction only its end is planned; an empty text is parsed.
	allowed := m.effect() == rollback || m.effect() == commit || m.effect() == empty && m.typ == MsgParse || m.effect() == noData
	if m.effect() == fail || s.status == TxFailed && !allowed {
		return s.error_(), false
	}
	s.implicit = true
	switch {
	case m.typ == MsgParse:
		return replies("1"), false
	case m.typ == MsgBind:
		return replies("2"), false
	case m.effect() == suspend: // Describe of a statement
		return replies("tT"), false
	case m.effect() == noData:
		return replies("n"), false
	default:
		return replies("T"), false
	}
}

// commands is exec_simple_query.
func (s *simulator) commands(do []effect) (out []reply) {
	for i, e := range do {
		if s.status == TxFailed && e != rollback && e != commit && e != empty {
			return append(out, s.error_()...)
		}
		switch e {
		case rows:
			out = append(out, replies("TDC")...)
		case modify:
			out = append(out, replies("C")...)
		case copyOut:
			out = append(out, replies("HdcC")...)
		case fail:
			return append(out, s.error_()...)
		case failRows:
			return append(append(out, replies("TD")...), s.error_()...)
		case begin_:
			s.status = TxOpen
			out = append(out, replies("C")...)
		case commit, rollback:
			s.status = TxIdle
			out = append(out, replies("C")...)
		case copyIn, copyBad, copyDie:
			out = append(out, replies("G")...)
			if e == copyDie {
				return append(out, s.error_()...)
			}
			s.copying, s.byQuery, s.copyBad, s.rest = true, true, e == copyBad, do[i+1:]
			return out
		case empty:
			if len(do) == 1 {
				out = append(out, replies("I")...)
			}
		}
	}
	return append(out, s.ready()...)
}

// execute is exec_execute_message.
func (s *simulator) execute(e effect) []reply {
	if s.status == TxFailed && e != rollback && e != commit && e != empty {
		return s.error_()
	}
	s.implicit = true
	switch e {
	case fail:
		return s.error_()
	case failRows:
		return append(replies("D"), s.error_()...)
	case empty:
		return replies("I")
	case modify:
		return replies("C")
	case begin_:
		s.status = TxOpen
		return replies("C")
	case commit, rollback:
		s.status = TxIdle
		return replies("C")
	case copyOut:
		return replies("HdcC")
	case suspend:
		return replies("Ds")
	case copyDie:
		return append(replies("G"), s.error_()...)
	case copyIn, copyBad:
		s.copying, s.byQuery, s.copyBad, s.rest = true, false, e == copyBad, nil
		return replies("G")
	}
	return replies("DC")
}

// copyMessage is CopyGetData.
func (s *simulator) copyMessage(m message) (out []reply, fatal bool) {
	switch m.typ {
	case MsgCopyData:
		if s.copyBad {
			return s.error_(), false
		}
		return nil, false
	case MsgFlush, MsgSync:
		return nil, false
	case MsgCopyFail:
		return s.error_(), false
	case MsgCopyDone:
		s.copying = false
		rest := s.rest
		s.rest = nil
		if !s.byQuery {
			return replies("C"), false
		}
		return append(replies("C"), s.commands(rest)...), false
	}
	return append(s.error_(), reply{typ: MsgError}), true
}
