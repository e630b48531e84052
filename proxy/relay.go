package proxy

import (
	"bytes"
	"errors"
	"io"
	"time"

	"pgpoold/backend"
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

// maxWhole is the largest message of a server's that is looked at whole; only
// types that pgpoold must read are.
const maxWhole = 16 << 20

// errOutOfStep ends a server that answered what was not asked.
var errOutOfStep = errors.New("the server's reply does not fit what was asked")

// Readable implements backend.Handler: it settles what the server sent and
// passes it on.
func (l *link) Readable() bool {
	buf := stream.GetBuffer()
	defer stream.PutBuffer(buf)
	for {
		n, drained, err := l.srv.Conn.TryRead(buf[:])
		if n > 0 && !l.feed(buf[:n]) {
			return false
		}
		if err == stream.ErrWouldBlock {
			return true
		}
		if err != nil {
			l.readErr = err
			return false
		}
		if drained {
			return true
		}
	}
}

// feed handles bytes in order; what is incomplete is carried over.
func (l *link) feed(b []byte) bool {
	if len(l.carry) > 0 {
		l.carry = append(l.carry, b...)
		b = l.carry
	}
	rest, ok := l.settle(b)
	if len(rest) == 0 {
		if cap(l.carry) > maxSpare {
			l.carry = nil
		}
		l.carry = l.carry[:0]
	} else {
		l.carry = append(l.carry[:0], rest...)
	}
	return ok
}

// needsWhole lists the messages that pgpoold reads; all others stream. mu is
// held.
func (l *link) needsWhole(typ byte) bool {
	switch typ {
	case wire.MsgError, wire.MsgParameterStatus, wire.MsgReady, wire.MsgCommandComplete, wire.MsgNotification:
		return true
	case wire.MsgParamDescription, wire.MsgRowDescription, wire.MsgNoData:
		return l.describes() != nil
	}
	return false
}

// putParams lets a ParameterDescription go that was kept back.
func (l *link) putParams(c *chunk) {
	if len(l.params) == 0 {
		return
	}
	l.answered = true
	if l.sess != nil {
		c.put(func(dst []byte) []byte { return append(dst, l.params...) })
	}
	l.params = nil
}

// settle walks over the messages in b, sends the client its part and, at the
// end of a transaction, gives the server back. It returns what is incomplete.
func (l *link) settle(b []byte) (rest []byte, ok bool) {
	l.mu.Lock()
	c := chunk{in: b}
	pos := 0
	for pos < len(b) {
		if pos = l.plain(&c, pos); pos == len(b) {
			break
		}
		if l.left > 0 {
			n := min(l.left, len(b)-pos)
			if l.keep {
				c.keep(pos, pos+n)
			}
			l.left -= n
			pos += n
			if l.sure {
				c.flush()
				c.sure = len(c.out)
			}
			if l.left == 0 {
				l.emit(&c) // not in the middle of a message
			}
			continue
		}
		if len(b)-pos < wire.HeaderLen {
			break
		}
		typ, size := wire.Header(b[pos:])
		whole := l.needsWhole(typ)
		if size < wire.HeaderLen || whole && size > maxWhole {
			return nil, l.outOfStep()
		}
		n := min(size, len(b)-pos)
		if n < size && (whole || typ == wire.MsgDataRow && l.inspecting() != nil) {
			if size > maxWhole {
				return nil, l.outOfStep()
			}
			break
		}
		asked := l.closing && l.ledger.Before(l.flushed)
		keep, fits := l.message(typ, b[pos+wire.HeaderLen:pos+n], &c)
		if !fits {
			return nil, l.outOfStep()
		}
		if l.keep = keep && l.sess != nil; l.keep {
			c.keep(pos, pos+n)
		}
		if l.closing {
			l.noteSure(typ, asked, &c)
		}
		pos += n
		l.left = size - n
		if l.fatal != nil {
			pos = len(b)
			break
		}
		if l.left == 0 {
			l.emit(&c)
		}
	}
	out := c.bytes()
	if l.closing {
		out = l.withhold(out, c.sure)
	}
	l.deliver(out)
	return b[pos:], l.fatal == nil
}

// plain passes messages on for as long as there is nothing else to be done about
// them, and returns where another begins, or one that has not come whole.
func (l *link) plain(c *chunk, pos int) int {
	if l.left > 0 || l.returns > 0 || l.closing || l.sess == nil {
		return pos
	}
	for {
		n := l.ledger.Plain(c.in[pos:], concerns)
		if n == 0 {
			return pos
		}
		l.answered = true
		c.keep(pos, pos+n)
		pos += n
		if l.ledger.HasSettled() {
			l.settledTo(c)
		}
		if !l.ledger.MakesUp() {
			return pos
		}
		l.emit(c)
	}
}

// outOfStep ends a connection whose ledger and server disagree. It is called
// with mu held and drops it.
func (l *link) outOfStep() bool {
	l.readErr = errOutOfStep
	l.mu.Unlock()
	l.srv.SetClosing(backend.CloseProtocol)
	return false
}

// deliver sends the client its bytes and does what their end brings. It is
// called with mu held and drops it.
func (l *link) deliver(out []byte) {
	s := l.sess
	if s == nil {
		l.unattended()
		return
	}
	l.noteSent(len(out))
	if l.retrying != nil && l.ledger.Releasable() {
		if len(out) > 0 {
			_ = s.conn.Write(out, false)
		}
		l.mu.Unlock()
		s.runAgain(l)
		return
	}
	l.sendHeldCancel()
	owes := l.ledger.Len() > 0
	release := l.free()
	if !release && owes {
		// The reply goes on, so nobody else writes to this client: the server
		// waits with it, as PostgreSQL itself would.
		wake := s.blocked.Load()
		l.mu.Unlock()
		if len(out) > 0 {
			if err := s.conn.Write(out, true); err != nil {
				s.writeFailed(err)
			}
		}
		if wake {
			s.conn.Wake()
		}
		return
	}
	var err error
	if len(out) > 0 {
		err = s.conn.Write(out, false)
	}
	wake := s.blocked.Load()
	if release {
		l.detach()
	} else if l.ledger.Len() == 0 && l.ledger.Status() == wire.TxIdle && !l.ledger.BatchOpen() && !l.half {
		switch {
		case l.ledger.Ambiguous():
			l.probe()
		case !l.known && s.start != noSettings && (s.pin != "" || s.mode == ModeSession):
			l.returnToStart()
		}
	}
	queued := !release && s.conn.Queued()
	ended := l.stats.lately
	l.mu.Unlock()
	if err != nil {
		s.writeFailed(err)
	}
	if release && l.fatal == nil {
		l.giveBackLast(ended)
	}
	if wake {
		s.conn.Wake()
	}
	if queued {
		_ = s.conn.Flushed()
	}
}

// returnToStart follows a RESET of a session that keeps its server: there it
// went to the server's start values, and the session's own are meant. What the
// session has set and pgpoold does not know of stays.
func (l *link) returnToStart() {
	if l.pool.opts.UpstreamPooler {
		return
	}
	to := l.sess.settings
	l.unnamedOf = 0
	l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow, Ref: &replayRef{to}})
	_ = l.srv.Conn.Write(wire.AppendQuery(nil, replay(noSettings, to, false, true)), false)
}

// probe settles whether a failed COPY has left a ReadyForQuery behind.
func (l *link) probe() {
	l.unnamedOf = 0
	l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow})
	_ = l.srv.Conn.Write(wire.AppendQuery(nil, ""), false)
}

// unattended continues what pgpoold itself does with the server. It is called
// with mu held and drops it.
func (l *link) unattended() {
	switch l.state {
	case linkOrphan:
		l.recover()
		return
	case linkOurs:
		if l.then != nil && l.ledger.Releasable() && l.cancels == 0 {
			then, failed := l.then, l.failed
			l.then, l.failed = nil, nil
			l.mu.Unlock()
			then(l, failed)
			return
		}
	}
	l.mu.Unlock()
}

// emit puts the made-up replies whose turn has come.
func (l *link) emit(c *chunk) {
	for l.ledger.MakesUp() {
		e, ok := l.ledger.Emit()
		if !ok {
			break
		}
		l.madeUp++
		if l.sess != nil {
			c.put(func(dst []byte) []byte { return appendMadeUp(dst, e) })
		}
	}
	l.settled()
}

// appendMadeUp appends the reply that stands for a message's success.
func appendMadeUp(dst []byte, e wire.Entry) []byte {
	switch e.Msg {
	case wire.MsgParse:
		return wire.AppendEmpty(dst, wire.MsgParseComplete)
	case wire.MsgDescribe:
		params, _ := e.Ref.(toldParams)
		return wire.AppendEmpty(params.append(dst), wire.MsgNoData)
	default:
		return wire.AppendEmpty(dst, wire.MsgCloseComplete)
	}
}

// message settles one message of the server's. body may be cut short for
// types that are not read whole. keep says whether it goes to the client
// unchanged; fits is false if nothing like it is owed.
func (l *link) message(typ byte, body []byte, c *chunk) (keep, fits bool) {
	if l.returns > 0 && l.hushed(typ) {
		return false, !l.ledger.Settle(typ, 0).Broken
	}
	switch typ {
	case wire.MsgParameterStatus:
		l.parameterStatus(body, c)
		return false, true
	case wire.MsgNotification:
		if l.sess != nil && wire.PID(body) == l.srv.PID {
			wire.SetPID(body, l.sess.pid) // the client's own, by the PID that it knows
		}
		return true, true
	case wire.MsgNotice:
		return l.ledger.Settle(typ, 0).Action == wire.Forward, true
	case wire.MsgError:
		return l.serverError(body, c), true
	case wire.MsgReady:
		if len(body) != 1 {
			return false, false
		}
		v := l.ledger.Settle(typ, body[0])
		if !l.untold || v.Action == wire.Forward {
			if len(l.reports) > 0 && l.sess != nil {
				c.put(func(dst []byte) []byte { return append(dst, l.reports...) })
			}
			l.reports = nil
		}
		if l.retrying != nil {
			l.settledTo(c)
			return false, !v.Broken
		}
		l.answered = l.answered || !v.Ours()
		l.discarded = false
		l.settledTo(c)
		if l.untold && v.Action == wire.Forward && l.sess != nil {
			l.tellBehind(c)
		}
		switch {
		case !v.Known || v.Broken || l.sess == nil:
		case v.Action == wire.Forward:
			if withhold := l.readyForQuery(body[0], c.time()); withhold {
				return false, true
			}
		case l.asking != nil && l.ledger.Len() == 0:
			l.inspected(c)
		case v.Head.Ref == withheldReady{}:
			c.put(func(dst []byte) []byte { return wire.AppendReady(dst, wire.TxIdle) })
		case v.Head.Ref == endsDiscard{}:
			l.discardEnded(body[0], c.time())
		}
		return v.Action == wire.Forward, !v.Broken
	case wire.MsgCommandComplete:
		v := l.ledger.Settle(typ, 0)
		if v.Action == wire.Forward {
			l.tag(bytes.TrimRight(body, "\x00"), v.Head.Ref)
		}
		l.answered = l.answered || !v.Ours()
		l.settledTo(c)
		return v.Action == wire.Forward, !v.Broken
	case wire.MsgDataRow:
		if p := l.inspecting(); p != nil {
			p.row(body)
		}
		v := l.ledger.Settle(typ, 0)
		l.answered = l.answered || !v.Ours()
		return v.Action == wire.Forward, !v.Broken
	default:
		if d := l.describes(); d != nil {
			if typ == wire.MsgParamDescription && d.name != nil && l.untried(d.name) {
				// If an error comes behind it, the batch may be run again.
				l.paramTypes = string(body)
				l.params = append(wire.AppendHeader(l.params[:0], typ, len(body)), body...)
				return false, !l.ledger.Settle(typ, 0).Broken
			}
			l.putParams(c)
			l.toldShape(d, typ, body)
		}
		v := l.ledger.Settle(typ, 0)
		l.answered = l.answered || !v.Ours()
		l.settledTo(c)
		return v.Action == wire.Forward, !v.Broken
	}
}

// readyForQuery notes the end of a query, and of a transaction if status says
// so. It reports whether the client must not hear of it yet.
func (l *link) readyForQuery(status byte, now time.Time) (withhold bool) {
	s := l.sess
	s.batchEnded()
	l.muted, l.late = nil, false
	if !l.overdueAt.IsZero() && l.cancels == 0 {
		l.overdueAt = time.Time{}
	}
	l.stats.lately = now
	l.stats.queries++
	if !l.stats.queryBegan.IsZero() {
		l.noteQueryEnd(s, now.Sub(l.stats.queryBegan))
		l.stats.queryBegan = time.Time{}
		if l.ledger.Len() > 0 {
			l.stats.queryBegan = now
		}
	}
	l.forgetLater(status)
	if status == wire.TxOpen {
		l.xactGoesOn()
	}
	if status != wire.TxIdle {
		if s.mode == ModeStatement && status == wire.TxOpen {
			s.end(errStatementMode)
		}
		return false
	}
	l.stats.xacts++
	l.xactEnded()
	l.tellWatch(s)
	if !l.stats.xactBegan.IsZero() {
		l.noteXactEnd(now.Sub(l.stats.xactBegan))
		l.stats.xactBegan = time.Time{}
		if l.ledger.Len() > 0 {
			l.stats.xactBegan = now
		}
	}
	return s.transactionEnded(l) || l.withholdForShapes()
}

// Closed implements backend.Handler.
func (l *link) Closed(err error) {
	if err == nil {
		err = l.readErr
	}
	if err == io.EOF {
		err = nil
	}
	l.mu.Lock()
	l.dead = true
	s := l.sess
	l.mu.Unlock()
	if s != nil {
		s.serverLost(l, err)
	}
	l.mu.Lock()
	l.ledger.Abandon()
	l.settled()
	l.shelf.clear(&l.px.statements)
	then, failed := l.then, l.fatal
	l.then = nil
	stats := l.stats
	l.mu.Unlock()
	if failed == nil {
		failed = lostError.Append(nil)[wire.HeaderLen:]
	}
	if then != nil {
		then(l, failed)
	}
	l.pool.retire(l, &stats)
}
