package proxy

import "pgpoold/wire"

// PostgreSQL holds replies back until a Sync, a Flush, an error or a notice, or
// until there are 8 KB of them. A client that says goodbye behind a batch without
// its Sync hears what went wrong, and nothing of what went well.

// serverBuffer is what PostgreSQL holds back at most.
const serverBuffer = 8 << 10

// lastWords reports whether the server has not answered all that stands in front
// of the message that ends the connection, and sees to it that it does.
func (f *feeder) lastWords() (wait bool) {
	l := f.l
	copying, _ := l.ledger.CopyIn()
	switch {
	case copying:
		return false
	case l.ledger.Probing():
	case l.ledger.Len() > 0:
		if l.ledger.BatchOpen() || l.ledger.InDoubt() {
			f.flush()
		}
	case l.ledger.Ambiguous() && l.ledger.Skipping():
		f.probe()
	case l.ledger.Ambiguous():
		l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow})
		f.put(func(dst []byte) []byte { return wire.AppendQuery(dst, "") })
		l.unnamedOf = 0
	default:
		return false
	}
	return true
}

// inDoubt reports whether a message has to wait until it is known whether a COPY
// has eaten the Syncs in front of it.
func (f *feeder) inDoubt(typ byte) bool {
	l := f.l
	switch typ {
	case wire.MsgCopyData, wire.MsgCopyDone, wire.MsgCopyFail, wire.MsgSync:
		return l.ledger.Probing()
	}
	switch {
	case l.ledger.Probing():
	case l.ledger.InDoubt():
		f.flush()
	case l.ledger.Ambiguous() && l.ledger.Skipping():
		f.probe()
	default:
		return false
	}
	return true
}

// probe asks whether the server skips what it is sent.
func (f *feeder) probe() {
	f.l.ledger.AppendProbe()
	f.put(func(dst []byte) []byte { return wire.AppendQuery(wire.AppendEmpty(dst, wire.MsgSync), "") })
	f.l.unnamedOf = 0
}

// withhold keeps back what PostgreSQL would not have sent a client that said
// goodbye; out is sure up to there. mu is held.
func (l *link) withhold(out []byte, sure int) []byte {
	if len(l.withheld)+len(out) > serverBuffer {
		sure = len(out)
	}
	if sure == 0 {
		l.withheld = append(l.withheld, out...)
		return nil
	}
	all := append(l.withheld, out[:sure]...)
	l.withheld = append([]byte(nil), out[sure:]...)
	return all
}

// noteSure notes, for a client that said goodbye, whether PostgreSQL would have sent
// it what was gathered up to a message of this type. mu is held.
func (l *link) noteSure(typ byte, asked bool, c *chunk) {
	switch typ {
	case wire.MsgError, wire.MsgNotice, wire.MsgReady, wire.MsgCopyIn:
		asked = true
	}
	if l.sure = asked; asked {
		c.flush()
		c.sure = len(c.out)
	}
}

// noLongerCloses forgets what was withheld. mu is held.
func (l *link) noLongerCloses() { l.closing, l.sure, l.withheld = false, false, nil }
