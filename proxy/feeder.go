package proxy

import (
	"bytes"
	"time"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

// feeder feeds a session's input to the server it is attached to: it notes
// the replies that will be owed and builds what is to be written. It lives
// for one turn of advance, under session.in and link.mu.
type feeder struct {
	s *session
	l *link

	from, to int    // run of s.buf that goes out as it came
	out      []byte // what is to be written in front of it
	pooled   *stream.Buffer
	ahead    bool      // statements are brought that no message has named yet
	tells    string    // statements are brought for a Describe that tells these parameters
	now      time.Time // zero: not looked at yet

	// What use found last.
	name     *name           // nil: the unnamed statement, or none
	held     *held           // as name
	alias    string          // what the server calls the unnamed statement; "": the same
	found    sqlscan.Finding // of its text
	does     sqlscan.Finding // as found, with what names in it hide
	control  bool            // it may end a transaction
	text     []byte          // valid if found says that it names statements
	executed sqlscan.Finding // what a text does by EXECUTE
	means    string          // what the session means by it, if it is a RESET
}

// run handles messages until the input ends or something must be awaited.
func (f *feeder) run() progress {
	s, l := f.s, f.l
	if l.asking != nil {
		return mustWait
	}
	l.bringing = false
	if l.awaiting && l.retrying == nil && l.ledger.Len() == 0 {
		l.awaiting = false
	}
	if s.frozenFor != s.settings || len(s.frozen) > 0 || s.frozenUnnamed {
		f.bringFrozen()
	}
	for {
		b := s.input()
		if l.retrying != nil || l.awaiting || l.brought > 0 {
			if f.waits(len(b) > 0) {
				return mustWait
			}
		}
		if len(b) == 0 {
			return needBytes
		}
		if s.pass > 0 {
			f.passing(b)
			continue
		}
		typ, size, ok := wire.Frontend(b)
		if !ok {
			if wire.FrontendLimit(b[0]) == 0 && f.lastWords() {
				return mustWait // the error about it comes behind what is owed
			}
			return s.noHeader(b)
		}
		if typ == wire.MsgTerminate {
			s.terminate = true
			if f.lastWords() {
				l.closing = true
				return mustWait // for the replies to what stands in front of it
			}
			return sessionEnd
		}
		if f.full(typ) || l.ledger.Unclear() && f.inDoubt(typ) || f.unreported(typ) {
			return mustWait
		}
		if s.found == 0 {
			l.foundSent = 0
		}
		if p := f.message(typ, b, size); p != handled {
			return p
		}
		l.foundSent, l.brought = s.found, 0
	}
}

// waits reports whether what was sent must be answered before anything else is, more
// being whether there is something else.
func (f *feeder) waits(more bool) bool {
	l := f.l
	if l.retrying != nil || l.awaiting && l.ledger.Len() > 0 {
		return true
	}
	l.awaiting = false
	return more && l.brought > 0 && f.bringsYet()
}

// full reports whether the session must wait for replies before it sends
// more: the server owes as much as it may, or others wait for the server and
// this would be another transaction.
func (f *feeder) full(typ byte) bool {
	l := f.l
	if copying, _ := l.ledger.CopyIn(); copying {
		return false // the server waits for this client's data, whoever waits for the server
	}
	if l.cancels > 0 && (l.enough || !l.overdueAt.IsZero()) {
		return true // it would hit this one
	}
	if l.ledger.Len() >= maxOwed || int(f.s.unnamed.coming)+f.s.names.coming > maxComing && l.ledger.Len() > 0 {
		if l.ledger.BatchOpen() {
			// PostgreSQL holds replies back until it is told to flush them.
			f.flush()
		}
		return true
	}
	if l.ledger.Owed() == 0 || l.ledger.BatchOpen() {
		return false
	}
	if l.px.upstreamTurn(l) {
		return true
	}
	return !f.s.orderly && f.s.mode != ModeSession && f.s.pin == "" && l.ledger.Status() == wire.TxIdle && l.answered && l.pool.servers.Waiting()
}

// passing moves on through a message that has not come whole.
func (f *feeder) passing(b []byte) {
	s := f.s
	n := min(s.pass, len(b))
	if s.passOn {
		f.keep(n)
	} else {
		f.dropRun()
		s.consume(n)
	}
	s.pass -= n
	if s.pass == 0 {
		f.l.half = false
	}
}

// message handles one message of the client's.
func (f *feeder) message(typ byte, b []byte, size int) progress {
	s, l := f.s, f.l
	if l.ledger.Skipping() && typ != wire.MsgSync {
		if l.failsQuery {
			f.failQuery(size)
		} else {
			f.discard(b, size) // as PostgreSQL does after an error
		}
		return handled
	}
	if copying, _ := l.ledger.CopyIn(); copying && interrupts(typ) {
		l.ledger.Append(wire.Entry{Msg: typ})
		f.stream(b, size)
		return handled
	}
	switch typ {
	case wire.MsgQuery:
		return f.query(b, size)
	case wire.MsgParse:
		return f.parse(b, size)
	case wire.MsgBind:
		return f.bind(b, size)
	case wire.MsgFunctionCall:
		f.beginXact()
		l.ledger.Append(wire.Entry{Msg: typ})
		f.stream(b, size)
		s.batch++
		return handled
	case wire.MsgCopyData:
		f.copyData(b, size)
		return handled
	}
	if len(b) < size {
		return s.more(typ, size)
	}
	switch typ {
	case wire.MsgDescribe:
		return f.describe(b, size)
	case wire.MsgClose:
		return f.close(b, size)
	case wire.MsgExecute:
		return f.execute(b, size)
	case wire.MsgSync:
		l.ledger.Append(wire.Entry{Msg: typ})
		f.keep(size)
		s.batch++
	case wire.MsgFlush:
		if size > wire.HeaderLen { // malformed: PostgreSQL says so
			l.ledger.Append(wire.Entry{Msg: typ})
		}
		f.keep(size)
		l.flushed = l.ledger.Mark()
	case wire.MsgCopyDone, wire.MsgCopyFail:
		if l.ledger.Copying() {
			l.ledger.Append(wire.Entry{Msg: wire.CopyMark})
			f.keep(size)
		} else {
			f.discard(b, size)
		}
	}
	return handled
}

// interrupts reports whether PostgreSQL ends a connection that sends this
// message in the middle of COPY data: then its words are to be about it, and
// nothing is put in front.
func interrupts(typ byte) bool {
	switch typ {
	case wire.MsgCopyData, wire.MsgCopyDone, wire.MsgCopyFail, wire.MsgFlush, wire.MsgSync:
		return false
	}
	return true
}

// copyData passes COPY data on; outside of a COPY PostgreSQL ignores it.
func (f *feeder) copyData(b []byte, size int) {
	if f.l.ledger.Copying() {
		f.stream(b, size)
	} else {
		f.discard(b, size)
	}
}

// beginXact notes the time at which a query, and perhaps a transaction, began.
func (f *feeder) beginXact() {
	st := &f.l.stats
	if !st.queryBegan.IsZero() && !st.xactBegan.IsZero() {
		return
	}
	if f.now.IsZero() {
		f.now = time.Now()
	}
	if st.queryBegan.IsZero() {
		st.queryBegan = f.now
		f.s.asked = f.now.UnixNano()
	}
	if st.xactBegan.IsZero() {
		st.xactBegan = f.now
	}
}

// query passes a Query on. It takes the unnamed statement with it, on the
// server and, once it is executed, for the client.
func (f *feeder) query(b []byte, size int) progress {
	s, l := f.s, f.l
	n := min(len(b), size)
	if n < size && size <= maxWholeText {
		return s.more(wire.MsgQuery, size)
	}
	f.executed = 0
	sql := b[wire.HeaderLen:n]
	if _, rest, ok := wire.CString(sql); n == size && (!ok || len(rest) > 0) {
		// Malformed: PostgreSQL says so, and runs nothing.
		f.beginXact()
		l.ledger.Append(wire.Entry{Msg: wire.MsgQuery})
		f.stream(b, size)
		s.batch++
		return handled
	}
	customs := len(s.customs)
	found := s.scan(sql)
	if n < size {
		found |= sqlscan.Untracked | sqlscan.Resets | sqlscan.Opaque
	}
	e := wire.Entry{Msg: wire.MsgQuery}
	if refused := s.refusal(s.own, sql); refused != nil && n == size {
		f.refuseQuery(size, refused)
		return handled
	}
	if n == size {
		if refused := l.claim(found); refused != nil {
			s.customs = s.customs[:customs] // it names none
			f.refuseQuery(size, refused)
			return handled
		}
	}
	if refused := f.forgetForeign(found); refused != nil && n == size {
		f.refuseQuery(size, refused)
		return handled
	}
	if f.unsettles(found, sql) {
		return mustWait
	}
	skips := found&naming != 0 && l.ledger.MaySkip() // what is brought in front of the text is never skipped
	if found&naming != 0 && n == size {
		p, refused := f.bring(bytes.TrimRight(sql, "\x00"), found, true)
		if p != handled {
			return p
		}
		if refused != nil {
			f.refuseQuery(size, refused)
			return handled
		}
		if fx := f.effects(bytes.TrimRight(sql, "\x00"), found); fx != nil {
			e.Ref = fx
		}
	}
	f.beginXact()
	if s.unnamed.exists() {
		s.unnamed.begin(nil, 0, noSettings, s.batch)
		if fx, ok := e.Ref.(*effects); ok {
			fx.unnamed = true
		} else {
			e.Ref = unnamedChange{}
		}
	}
	l.noteText(sql)
	f.noteForgetting(found)
	f.outdates(found, sql)
	more := l.behindReset(sql, found)
	if more != "" {
		found = meaning(found)
		e.Ref = &returned{unnamed: e.Ref != nil} // such a text names no statements
		l.returns++
	}
	s.found |= found
	made, _ := e.Ref.(*effects)
	if made != nil {
		e.Joined = made.one && l.pool.repl == "" && !skips
	}
	l.ledger.Append(e)
	l.forgetHeld(found | f.executed)
	l.unnamedOf = 0
	if more != "" {
		text := string(bytes.TrimRight(sql, "\x00")) + more
		f.swap(size, func(dst []byte) []byte { return wire.AppendQuery(dst, text) })
	} else {
		f.stream(b, size)
	}
	if e.Joined {
		f.askMade(made, wire.Mute)
		l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Joined: true})
		f.put(func(dst []byte) []byte { return wire.AppendEmpty(dst, wire.MsgSync) })
	}
	s.batch++
	return handled
}

// bind passes a Bind on, with the statement in the server's words.
func (f *feeder) bind(b []byte, size int) progress {
	s, l := f.s, f.l
	n := min(len(b), size)
	text, p := statementName(wire.MsgBind, b[wire.HeaderLen:n], n == size)
	switch p {
	case needBytes:
		return s.more(wire.MsgBind, size)
	case mustWait: // malformed: PostgreSQL says so
		l.ledger.Append(wire.Entry{Msg: wire.MsgBind})
		f.stream(b, size)
		return handled
	}
	f.beginXact()
	before, customs := s.found, len(s.customs)
	server, ref, p := f.use(text)
	if p != handled {
		return p
	}
	if len(text) > 0 { // of unnamed ones PgBouncer does not count either
		l.stats.binds++
	}
	reads := s.found&sqlscan.Params != 0 && s.bindNames(b[wire.HeaderLen:n], n == size)
	if ref == nil {
		if refused := l.claim(f.does | s.found&sqlscan.Opaque); refused != nil {
			// Nothing in front has claimed a place for them.
			s.found &^= sqlscan.Draws | sqlscan.Counts | sqlscan.Customs | sqlscan.Opaque&^before
			s.customs = s.customs[:customs]
			server, ref = noSuchStatement, &replacement{whole: refused}
		}
	}
	portal, _, _ := wire.CString(b[wire.HeaderLen:n])
	e := wire.Entry{Msg: wire.MsgBind}
	if f.means = ""; ref == nil && f.found&sqlscan.Resets != 0 {
		before |= s.found &^ f.does // what else was noted on the way
		if f.means = l.afterReset(s.textOf(text), f.found); f.means != "" {
			s.found = before | meaning(f.does)
		} else {
			s.found = before | f.does&^sqlscan.Resets // which comes with Execute
		}
	}
	if ref == nil && (f.found&(sqlscan.Names|sqlscan.Resets) != 0 || s.portals != nil) {
		if refused := f.bindPortal(portal); refused != nil {
			server, ref = noSuchStatement, &replacement{whole: refused}
		}
	}
	if ref != nil {
		e.Action, e.Ref = wire.Replace, ref
	} else {
		f.binds(portal, text, reads)
		if f.name != nil {
			e.Ref = f.name
		} else if f.alias != "" {
			e.Ref = alias(f.alias)
		}
	}
	l.ledger.Append(e)
	if ref == nil {
		l.forgetHeld(f.does | f.executed)
	}
	if server == string(text) {
		f.stream(b, size)
		return handled
	}
	head := wire.HeaderLen + len(portal) + 1 + len(text) + 1
	f.swap(head, func(dst []byte) []byte { return wire.AppendBindHead(dst, portal, server, size-head) })
	f.stream(s.input(), size-head)
	return handled
}

// close passes a Close on. A named statement stays on the server, for others;
// only the client's name for it goes.
func (f *feeder) close(b []byte, size int) progress {
	s, l := f.s, f.l
	body := b[wire.HeaderLen:size]
	var text, rest []byte
	ok := len(body) >= 2 && body[0] == 'S'
	if ok {
		text, rest, ok = wire.CString(body[1:])
		ok = ok && len(rest) == 0
	}
	switch {
	case !ok: // a portal, or malformed
		if s.portals != nil && len(body) > 1 && body[0] == 'P' {
			portal, _, _ := wire.CString(body[1:])
			s.portals.drop(portal)
		}
		l.ledger.Append(wire.Entry{Msg: wire.MsgClose})
		f.keep(size)
	case len(text) == 0:
		e := wire.Entry{Msg: wire.MsgClose}
		if s.unnamed.exists() {
			s.unnamed.begin(nil, 0, noSettings, s.batch)
			e.Ref = unnamedChange{}
		}
		l.ledger.Append(e)
		l.unnamedOf = 0
		f.keep(size)
	default:
		st, ready := s.names.lookup(wire.Name(text), s.batch)
		if !ready {
			return mustWait
		}
		e := wire.Entry{Msg: wire.MsgClose, Action: wire.MakeUp}
		if st != nil {
			e.Ref = s.names.begin(wire.Name(text), nil, s.batch)
		}
		if l.ledger.CanMakeUpClose() {
			l.ledger.Append(e)
			f.consumeMadeUp(size)
			break
		}
		e.Action = wire.Forward
		l.ledger.Append(e)
		f.swap(size, func(dst []byte) []byte { return wire.AppendCloseStatement(dst, noSuchStatement) })
	}
	return handled
}
