package proxy

import (
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// parse passes a Parse on, or makes up its reply where the server holds the
// statement already.
func (f *feeder) parse(b []byte, size int) progress {
	s, l := f.s, f.l
	if len(b) < size {
		if size > maxWholeText {
			return f.hugeParse(b, size)
		}
		return s.more(wire.MsgParse, size)
	}
	text, body, ok := wire.CString(b[wire.HeaderLen:size])
	var sql []byte
	if ok {
		sql, _, ok = wire.CString(body)
	}
	if !ok { // malformed: PostgreSQL says so
		l.ledger.Append(wire.Entry{Msg: wire.MsgParse})
		f.keep(size)
		return handled
	}
	var says said
	var found sqlscan.Finding
	if len(text) == 0 {
		says = s.unnamed.said(body, s.told.standard)
		found = s.scanned(sql, says.own)
	} else {
		found = s.scan(sql)
	}
	if p, refused := f.bring(sql, found, false); p != handled {
		return p
	} else if refused != nil {
		f.refuse(size, refused)
		return handled
	}
	if f.settling(body) {
		return mustWait
	}
	unsettled := s.found&changing != 0 && hasLiteral(body)
	if unsettled {
		s.unsettled = true // the settings are known when the transaction ends
		s.parsesBehind()
	}
	f.beginXact()
	if e := f.forgetForeign(found); e != nil {
		f.refuse(size, e)
		return handled
	}
	if e := s.refusal(s.own, sql); e != nil {
		f.refuse(size, e)
		return handled
	}
	if len(text) == 0 {
		l.setUnnamed(s.unnamed.begin(body, found, s.settings.parsing(), s.batch))
		v, _ := s.unnamed.current(s.batch)
		v.says, v.unsettled, v.blind = says, unsettled, unsettled && s.blind
		l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Ref: unnamedChange{}})
		f.keep(size)
		return handled
	}
	if unsettled {
		found |= sqlscan.Moment // nobody else is to have it
	}
	l.stats.clientParses++ // of unnamed ones PgBouncer counts none
	full := text
	text = wire.Name(text)
	if f.forgetting() {
		return mustWait
	}
	cur, ready := s.names.lookup(text, s.batch)
	if !ready {
		return mustWait
	}
	if cur == nil {
		if e := f.overLimit(len(body)); e != nil {
			f.refuse(size, e)
			return handled
		}
	}
	if s.upstream {
		f.parseUnnamed(text, body, size, cur, found)
		return handled
	}
	if cur != nil {
		// PostgreSQL is to say that the name is taken, or first what else is
		// wrong with the text. It is a name that is taken for certain: what is
		// believed of another could be wrong, and the text would get that name.
		f.closeCarrier()
		l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Action: wire.Swallow})
		l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Action: wire.Replace, Ref: &replacement{client: string(full)}})
		f.swap(size, func(dst []byte) []byte {
			return wire.AppendParse(wire.AppendParse(dst, carrier, emptyBody), carrier, body)
		})
		return handled
	}
	st := l.px.statements.intern(body, s.settings.parsing(), found)
	if unsettled {
		st.unsettled, st.blind = true, s.blind // and nobody else has it
	}
	epoch := l.pool.epoch.Load()
	known := l.shelf.m[st] != nil
	h := l.shelf.get(st, &l.px.statements)
	c := s.names.begin(text, st, s.batch)
	if l.has(h) && h.epoch == epoch && h.shape != (shape{}) && h.types == "" && l.ledger.CanMakeUp() {
		l.stats.hits++
		c.madeUp, c.shape, c.ddl = true, h.shape, l.pool.ddl.Load()
		l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Action: wire.MakeUp, Ref: c})
		f.consumeMadeUp(size)
		return handled
	}
	f.evict(h)
	if known {
		f.closeHeld(h)
	}
	f.vacate(h)
	l.stats.misses++
	c.held = h
	h.sent(s.batch, epoch, l.stats.assignments)
	l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Ref: c})
	f.swap(size, func(dst []byte) []byte { return wire.AppendParse(dst, st.name, body) })
	c.name.asks++
	f.ask(st.name, &described{held: h, name: c.name, ours: true})
	if unsettled && (s.found|s.held)&sqlscan.Opaque != 0 {
		// It is never known under which settings, so SQL that names it has to find it
		// as it is parsed here.
		b := bringer{f: f}
		_ = b.name(string(text), st)
	}
	return handled
}

// noteForgetting notes that a text that is being run may forget the session's
// names, if it is DISCARD. effects does so for DEALLOCATE ALL.
func (f *feeder) noteForgetting(found sqlscan.Finding) {
	if found&sqlscan.ResetsAll != 0 {
		f.s.forgets = true
	}
}

// forgetting reports whether something that is not answered may make the
// session forget its names: what uses one waits for it.
func (f *feeder) forgetting() bool {
	s, l := f.s, f.l
	if !s.forgets {
		return false
	}
	if l.ledger.Owed() > l.ledger.OwnQueries() { // a replay of ours is nothing to wait for
		return true
	}
	if !l.ledger.BatchOpen() {
		s.forgets = false
		return false
	}
	if l.ledger.Len() == 0 {
		return false
	}
	f.flush()
	return true
}

// changing are the findings about a text that may change settings.
const changing = sqlscan.Changes | sqlscan.Sets | sqlscan.Resets

// settling reports whether a text, which has literals, must wait because what
// was sent in this transaction may have changed the settings that they are read
// under, and is not answered.
func (f *feeder) settling(body []byte) bool {
	return f.s.found&changing != 0 && hasLiteral(body) && !f.s.upstream && f.underWay()
}

// underWay reports whether something of the client's is not answered. In an open
// batch the server is told to.
func (f *feeder) underWay() bool {
	l := f.l
	if l.ledger.Owed() > l.ledger.OwnQueries() {
		return true
	}
	if !l.ledger.BatchOpen() || l.ledger.Len() == 0 {
		return false
	}
	f.flush()
	return true
}

// refuse answers a message of size bytes with an error of ours. PostgreSQL is
// made to raise one in its place, so that its transaction fails too.
func (f *feeder) refuse(size int, e *wire.Error) {
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgDescribe, Action: wire.Replace, Ref: &replacement{whole: e}})
	f.swap(size, func(dst []byte) []byte { return wire.AppendDescribeStatement(dst, noSuchStatement) })
}

// refuseQuery is refuse for a Query.
func (f *feeder) refuseQuery(size int, e *wire.Error) {
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Replace, Ref: &replacement{whole: e}})
	f.l.unnamedOf = 0
	f.swap(size, func(dst []byte) []byte { return wire.AppendQuery(dst, "EXECUTE "+noSuchStatement) })
	f.s.batch++
}

// hugeParse passes an unnamed Parse on whose text is too large to be kept for
// another server: the session stays with this one.
func (f *feeder) hugeParse(b []byte, size int) progress {
	s, l := f.s, f.l
	if len(b) == wire.HeaderLen {
		return needBytes // whether it has a name
	}
	if b[wire.HeaderLen] != 0 {
		s.ending.CompareAndSwap(nil, fatal("54000", "the text of a named prepared statement is larger than %d bytes", maxWholeText))
		return sessionEnd
	}
	s.found |= sqlscan.Untracked | sqlscan.Resets | sqlscan.Opaque
	l.setUnnamed(s.unnamed.begin([]byte{}, 0, s.settings.parsing(), s.batch))
	l.ledger.Append(wire.Entry{Msg: wire.MsgParse, Ref: unnamedChange{}})
	f.stream(b, size)
	return handled
}

// use makes sure that the server holds the statement that the client calls
// text, and returns its name there. With a replacement the name is one that
// does not exist.
func (f *feeder) use(text []byte) (server string, ref *replacement, p progress) {
	s, l := f.s, f.l
	if len(text) == 0 {
		v, ready := s.unnamed.current(s.batch)
		switch {
		case !ready:
			return "", nil, mustWait
		case v == nil || v.body == nil:
			return noSuchStatement, &replacement{}, handled
		}
		return f.useUnnamed(v)
	}
	st, ready := s.names.lookup(wire.Name(text), s.batch)
	if !ready || f.forgetting() {
		return "", nil, mustWait
	}
	if st == nil {
		return noSuchStatement, &replacement{client: string(text)}, handled
	}
	if (st.own || !f.under(st)) && f.settling([]byte(st.body)) {
		return "", nil, mustWait
	}
	f.does = st.found | s.hiddenIn(st)
	if f.unsettles(f.does, []byte(st.body)) {
		return "", nil, mustWait
	}
	f.outdates(f.does, []byte(st.body))
	if s.found |= f.does; s.notes(f.does) {
		s.does(f.does, []byte(st.body))
	}
	l.noteStatement(st)
	f.noteForgetting(st.found)
	f.name, f.held, f.alias, f.found, f.control, f.executed = nil, nil, "", st.found, st.control, 0
	if st.found&naming != 0 {
		if refused, p := f.using([]byte(st.body)); refused != nil || p != handled {
			return noSuchStatement, refused, p
		}
		if st.found&sqlscan.Lists != 0 && !st.own && !s.upstream {
			// It sees itself, under the name that the client has given it.
			if own := string(wire.Name(text)); len(l.shelf.named(own)) > 0 {
				return own, nil, handled
			}
		}
	}
	if s.upstream {
		// No statement outlives its batch there, so each batch brings its own.
		if gen := st.id | namedGen; !l.holdsUnnamed(gen) {
			f.inject([]byte(st.body), gen, "")
		}
		return "", nil, handled
	}
	if st.own {
		if f.thawing(l.shelf.m[st]) || f.untold(s.names.get(wire.Name(text))) {
			return "", nil, mustWait
		}
		if f.frozen(st) && f.lacks(st) {
			if _, p := f.place(); p != handled {
				return "", nil, p
			}
		}
		if e := f.bringOwn(wire.Name(text), st); e != nil {
			return noSuchStatement, &replacement{client: string(text), whole: e}, handled
		}
		b := bringer{f: f}
		switch same, p := b.sameShape(st.name, st); {
		case p != handled:
			return "", nil, p
		case !same:
			return noSuchStatement, &replacement{client: string(text), whole: errPlanChanged}, handled
		}
		f.held = l.shelf.m[st]
		return st.name, nil, handled
	}
	s.settleEnv(st)
	e := s.names.get(wire.Name(text))
	types := l.types(e)
	if st.unsettled && f.lacks(st) {
		b := bringer{f: f}
		switch own := string(wire.Name(text)); {
		case b.holds(own, st):
			return own, nil, handled
		case st.outdated && (f.underWay() || l.ledger.Len() > 0):
			return "", nil, mustWait
		case st.outdated && b.held(own, st):
			return own, nil, handled
		case st.outdated:
			return noSuchStatement, &replacement{client: string(text), whole: errOtherSettings}, handled
		}
		f.ensure(st, types)
		return st.name, nil, handled
	}
	if !st.unsettled && f.frozen(st) && (!f.under(st) || l.shelf.m[st].differs(types)) {
		if f.thawing(l.shelf.m[st]) {
			return "", nil, mustWait
		}
		at, p := f.place()
		switch {
		case f.atBegin():
			f.ensureUnder(st, types)
		case !f.lacks(st) && (s.pin != "" || p == handled && at != inBlock):
		case p != handled:
			return "", nil, p
		case at != nowhere:
			f.ensureAt(st, at, types)
		default:
			b := bringer{f: f}
			if own := string(wire.Name(text)); b.holds(own, st) { // SQL has named it, or a list
				return own, nil, handled
			}
			return noSuchStatement, &replacement{client: string(text), whole: errOtherSettings}, handled
		}
	}
	f.name = e
	if f.untold(e) {
		return "", nil, mustWait
	}
	same, p := f.sameShape(e, st)
	if p != handled {
		return "", nil, p
	}
	if !same {
		return noSuchStatement, &replacement{client: string(text), whole: errPlanChanged}, handled
	}
	f.ensure(st, types)
	f.held = l.shelf.m[st]
	if st.env != s.settings.parsing() && f.frozen(st) { // not before: now it is what the client's Parse has made
		f.held.elsewhere, f.held.attach = true, l.stats.assignments
	}
	return st.name, nil, handled
}

// naming are the findings about a text that names prepared statements.
const naming = sqlscan.Names | sqlscan.Lists | sqlscan.Runs

// using notes the text that is being used, and brings what it names.
func (f *feeder) using(body []byte) (refused *replacement, p progress) {
	f.text, _, _ = wire.CString(body)
	p, e := f.bring(f.text, f.found, false)
	if e != nil {
		return &replacement{whole: e}, p
	}
	return nil, p
}

// lacks reports whether a statement would have to be sent to the server.
func (f *feeder) lacks(st *statement) bool {
	h := f.l.shelf.m[st]
	return h == nil || !(f.l.has(h) || h.pending > 0 && h.batch == f.s.batch)
}

// atBegin reports whether nothing of the session's has been sent since it was
// attached.
func (f *feeder) atBegin() bool {
	return f.s.batch == f.l.firstBatch && !f.l.ledger.BatchOpen() && f.l.ledger.Status() == wire.TxIdle
}

// ensure sends a statement to a server that may lack it, in front of what
// needs it, with these types of its parameters. Until a ParseComplete was seen every
// batch brings its own.
func (f *feeder) ensure(st *statement, types string) {
	s, l := f.s, f.l
	known := l.shelf.m[st] != nil
	h := l.shelf.get(st, &l.px.statements)
	f.evict(h)
	if (l.has(h) || h.pending > 0 && h.batch == s.batch) && h.fits(types) {
		l.stats.hits++
		return
	}
	l.stats.misses++
	if known {
		f.closeHeld(h)
	}
	f.vacate(h)
	f.parseHeld(h, wire.Swallow, types)
}

// vacate closes what clients have given a name of ours.
func (f *feeder) vacate(h *held) {
	if f.l.shelf.imitating == 0 {
		return
	}
	for _, other := range f.l.shelf.named(h.st.name) {
		if other != h {
			f.closeOnce(other)
		}
	}
}

// noBatch is a batch that there never is.
const noBatch = ^uint64(0)

// closeHeld closes a statement on the server, unseen by the client.
func (f *feeder) closeHeld(h *held) {
	h.pending++
	h.batch, h.closing = noBatch, f.s.batch // what was sent of it before is void
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgClose, Action: wire.Swallow, Ref: &heldChange{held: h, close: true}})
	f.put(func(dst []byte) []byte { return wire.AppendCloseStatement(dst, h.st.name) })
}
