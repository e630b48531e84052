package proxy

import (
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

// keep passes the next n bytes of the input on as they are.
func (f *feeder) keep(n int) {
	s := f.s
	if s.big != nil {
		f.dropRun()
		s.keepSent(f.l, s.big[:n])
		f.grow()
		f.out = append(f.out, s.big[:n]...)
		s.consume(n)
		return
	}
	if f.to != s.pos || f.to == f.from {
		f.dropRun()
		f.from = s.pos
	}
	f.to = s.pos + n
	s.pos += n
}

// dropRun moves the run into out, so that something else can follow it.
func (f *feeder) dropRun() {
	if f.to > f.from {
		run := f.s.buf[f.from:f.to]
		f.s.keepSent(f.l, run)
		f.grow()
		f.out = append(f.out, run...)
	}
	f.from, f.to = 0, 0
}

func (f *feeder) grow() {
	if f.out == nil {
		f.pooled = stream.GetBuffer()
		f.out = f.pooled[:0]
	}
}

// put adds bytes of ours.
func (f *feeder) put(add func(dst []byte) []byte) {
	f.dropRun()
	f.grow()
	f.out = add(f.out)
}

// flush has the server send the replies that it holds back.
func (f *feeder) flush() {
	f.put(func(dst []byte) []byte { return wire.AppendEmpty(dst, wire.MsgFlush) })
}

// swap passes a message on in other words; its n bytes of input are used up.
func (f *feeder) swap(n int, add func(dst []byte) []byte) {
	f.usedUp(n)
	f.put(add)
	f.s.consume(n)
}

// send writes what was gathered. It does not wait: what the socket does not
// take is queued, and the client's pump then waits for it.
func (f *feeder) send() {
	l := f.l
	s := f.s
	var err error
	l.wrote = l.wrote || len(l.prefix) > 0 || f.out != nil || f.to > f.from
	if len(l.prefix) > 0 {
		f.dropRun()
		f.grow()
		f.out = append(l.prefix, f.out...)
		l.prefix = nil
	}
	if f.out == nil {
		if f.to > f.from {
			s.keepSent(l, s.buf[f.from:f.to])
			err = l.srv.Conn.Write(s.buf[f.from:f.to], false)
		}
	} else {
		f.dropRun()
		err = l.srv.Conn.Write(f.out, false)
		stream.PutBuffer(f.pooled)
	}
	if s.buf != nil && s.pos == s.n {
		s.pos, s.n = 0, 0
	}
	if err != nil {
		// The pump reads on to the server's last words and its end.
		l.srv.Conn.Wake()
	}
	if s.cancel != nil {
		l.sendHeldCancel()
	}
	said := len(s.reply)
	for l.left == 0 { // not in the middle of a message of the server's
		e, ok := l.ledger.Emit()
		if !ok {
			break
		}
		l.madeUp++
		s.reply = appendMadeUp(s.reply, e)
	}
	if l.settled() && l.settledIn() {
		l.tellNow()
	}
	if l.closing {
		s.reply = append(s.reply[:said], l.withhold(s.reply[said:], 0)...)
	}
	if len(s.reply) > 0 {
		// Under mu, so that no reply of the server's comes in between.
		if err := s.conn.Write(s.reply, false); err != nil {
			s.writeFailed(err)
		}
		s.reply = s.reply[:0]
	}
}

// stream passes a message on, however much of it has come.
func (f *feeder) stream(b []byte, size int) {
	n := min(len(b), size)
	f.keep(n)
	if n < size {
		f.s.pass, f.s.passOn = size-n, true
		f.l.half = true
	}
}

// discard drops a message.
func (f *feeder) discard(b []byte, size int) {
	f.dropRun()
	f.s.drop(b, size)
}

// consumeMadeUp uses up a message that no server sees.
func (f *feeder) consumeMadeUp(size int) {
	f.usedUp(size)
	f.s.consume(size)
}

// usedUp keeps a copy of the next n bytes of input, which do not go out as they
// came.
func (f *feeder) usedUp(n int) {
	f.dropRun()
	f.s.keepSent(f.l, f.s.input()[:n])
}

// keepSent keeps a copy of input that has been handled, as long as the server has
// answered nothing: should it turn out to have ended before it read that, it is sent
// to another.
func (s *session) keepSent(l *link, b []byte) {
	l.stats.received += uint64(len(b))
	if l.answered || s.sentN < 0 {
		return
	}
	if s.sent == nil {
		if s.sentN != 0 || len(b) > stream.BufferSize {
			s.sentN = -1
			return
		}
		s.sent = stream.GetBuffer()
	}
	if int(s.sentN)+len(b) > len(s.sent) {
		stream.PutBuffer(s.sent)
		s.sent, s.sentN = nil, -1
		return
	}
	s.sentN += int32(copy(s.sent[s.sentN:], b))
}
