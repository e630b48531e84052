package wire

import "encoding/binary"

// Plain settles the messages at the start of b, as Settle does, for as long as there
// is nothing to be said about them but that they go to the client: most are so. It
// returns how many bytes they are. What they have settled is in Settled. It ends in
// front of any other message, of one whose turn is not before that of a made-up reply,
// of the end of a command whose tag concerns the caller, and of what has not come whole.
func (l *Ledger) Plain(b []byte, concerns func(tag []byte) bool) (n int) {
	if l.inError || l.extra > 0 || l.marks > 0 {
		return 0
	}
	rest, last, done := b, l.last, 0
loop:
	for done < l.q.len() {
		e := l.q.at(done)
		if len(rest) < HeaderLen || e.Action != Forward {
			break
		}
		typ, size := Header(rest)
		if size < HeaderLen || size > len(rest) {
			break
		}
		switch uint(e.Msg)<<8 | uint(typ) {
		case MsgParse<<8 | MsgParseComplete, MsgBind<<8 | MsgBindComplete:
			if e.Ref != nil {
				l.told(e)
			}
			last = 0
			done++
		case MsgDescribe<<8 | MsgRowDescription, MsgDescribe<<8 | MsgNoData:
			if e.Ref != nil {
				break loop
			}
			last = 0
			done++
		case MsgQuery<<8 | MsgRowDescription:
			if e.Ref != nil || last != 0 && last != MsgCommandComplete {
				break loop
			}
			last = typ
			l.note(SettleMore)
		case MsgExecute<<8 | MsgDataRow, MsgQuery<<8 | MsgDataRow:
			first := byte(0)
			if e.Msg == MsgQuery {
				first = MsgRowDescription
			}
			if e.Ref != nil || last != first && last != MsgDataRow {
				break loop
			}
			last = typ
			size += more(typ, rest[size:])
		case MsgExecute<<8 | MsgCopyData, MsgQuery<<8 | MsgCopyData:
			if e.Ref != nil || !copyStep(last, typ) {
				break loop
			}
			last = typ
			l.note(SettleMore)
		case MsgExecute<<8 | MsgCommandComplete:
			if e.Ref != nil || l.copyIn || l.copyBoth || concerns(rest[HeaderLen:size]) {
				break loop
			}
			l.mayCopy--
			last = 0
			done++
		case MsgQuery<<8 | MsgCommandComplete:
			if e.Ref != nil || l.copyIn || l.copyBoth || last == MsgEmptyQuery || concerns(rest[HeaderLen:size]) {
				break loop
			}
			last = typ
			l.note(SettleMore)
		default:
			break loop
		}
		rest = rest[size:]
	}
	if l.Trace != nil {
		for range done {
			l.note(SettleLast)
		}
	}
	l.last = last
	l.q.pass(done)
	return len(b) - len(rest)
}

// told settles an entry that has a Ref.
//
//go:noinline
func (l *Ledger) told(e *Entry) {
	l.settle(e, Done)
	e.Ref = nil
}

// more is how many bytes at the start of b are messages of one type that have come
// whole.
func more(typ byte, b []byte) (n int) {
	for n+HeaderLen <= len(b) && b[n] == typ {
		end := n + 1 + int(binary.BigEndian.Uint32(b[n+1:n+HeaderLen]))
		if end < n+HeaderLen || end > len(b) {
			break
		}
		n = end
	}
	return n
}
