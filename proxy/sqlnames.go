package proxy

import (
	"bytes"
	"unicode/utf8"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// PostgreSQL has one namespace for prepared statements, whether PREPARE or
// Parse made them. A session's names are carried; before a text that names
// statements by PREPARE, EXECUTE or DEALLOCATE the server is made to hold under
// those names what the session has under them, and nothing else. What the text
// does to the names is learned from its command tags.

// effects are what a Query or Execute will do to names, in the order of its
// command tags, as the ledger's Ref.
type effects struct {
	changes []*change // not settled yet
	unnamed bool      // it also ends the unnamed statement
	one     bool      // the text is one PREPARE and nothing else
	asked   bool      // the shape of what that makes is asked for behind it
}

// next takes the first change that is of the kind, PREPARE or DEALLOCATE.
func (e *effects) next(prepare bool) *change {
	if e == nil || len(e.changes) == 0 || (e.changes[0].st != nil) != prepare {
		return nil
	}
	c := e.changes[0]
	e.changes = e.changes[1:]
	return c
}

// carrier names the statement and the portal by which a PREPARE of ours goes
// into a client's batch, and a name that is taken. It may have been left behind
// by a batch that failed, so it is closed before it is used.
const carrier = serverNamePrefix + "carrier"

// emptyBody is the body of a Parse without a command: it never fails.
var emptyBody = []byte{0, 0, 0}

// closeCarrier makes sure that the server does not hold the carrier.
func (f *feeder) closeCarrier() {
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgClose, Action: wire.Swallow})
	f.put(func(dst []byte) []byte { return wire.AppendCloseStatement(dst, carrier) })
}

// carry runs a text by the carrier, within the batch. entry tells what becomes of
// the reply to each of its messages.
func (f *feeder) carry(sql string, entry func(msg byte) wire.Entry) {
	f.closeCarrier()
	for _, msg := range []byte{wire.MsgParse, wire.MsgBind, wire.MsgExecute, wire.MsgClose, wire.MsgClose} {
		e := entry(msg)
		e.Msg = msg
		f.l.ledger.Append(e)
	}
	f.put(func(dst []byte) []byte { return appendCarried(dst, sql) })
}

// appendCarried appends the five messages that run a text by the carrier.
func appendCarried(dst []byte, sql string) []byte {
	dst = wire.AppendParse(dst, carrier, append([]byte(sql), 0, 0, 0))
	dst = wire.AppendExecute(wire.AppendBind(dst, carrier, carrier), carrier)
	return wire.AppendCloseStatement(wire.AppendClosePortal(dst, carrier), carrier)
}

// errReserved refuses SQL that names a statement like one that stands for none.
var errReserved = &wire.Error{Severity: wire.SeverityError, Code: "42939",
	Message: "prepared statement names " + noSuchStatement + " and " + carrier + " are reserved"}

func reserved(name string) bool { return name == noSuchStatement || name == carrier }

// bring makes the server hold what a text names, in front of it. alone says
// that the text is a Query: what goes in front of it then is a batch of its own.
// It returns mustWait while an earlier batch may change one of the names, or while
// the server is asked for the shape of what an EXECUTE will give, and an error if
// the text cannot be run as it is meant.
func (f *feeder) bring(sql []byte, found sqlscan.Finding, alone bool) (progress, *wire.Error) {
	s, l := f.s, f.l
	if found&naming == 0 || s.upstream || found&naming == sqlscan.Runs && s.names.len() == 0 && l.shelf.owned == 0 {
		return handled, nil
	}
	var cmds []sqlscan.Command
	readable := true
	if found&(sqlscan.Names|sqlscan.Lists) != 0 {
		cmds, readable = sqlscan.Commands(sql, s.told.standard)
	}
	said := len(cmds)
	if found&sqlscan.Runs != 0 {
		cmds = f.appendRun(cmds, sql)
	}
	if !readable {
		// What it names is not known: then nothing of another session's may stand
		// there, and the session keeps the server.
		s.found |= sqlscan.Untracked | sqlscan.Opaque
		found |= sqlscan.Lists
	}
	if f.settling(sql) {
		return mustWait, nil
	}
	if f.forgetting() || !s.names.ready(cmds, s.batch) || found&sqlscan.Lists != 0 && !s.names.allReady(s.batch) {
		return mustWait, nil
	}
	if failed, p := f.inFailed(); failed || p != handled {
		return p, nil // PostgreSQL refuses the text
	}
	if alone && l.ledger.MaySkip() && !l.ledger.BatchOpen() {
		return mustWait, nil // until it can be in front of the text as a batch of its own
	}
	for _, c := range cmds {
		if st, _ := s.names.lookup(nameOf(c), s.batch); st != nil && f.settling([]byte(st.body)) || f.untold(s.names.get(nameOf(c))) {
			return mustWait, nil
		}
		for _, h := range l.shelf.named(string(nameOf(c))) {
			if f.thawing(h) {
				return mustWait, nil
			}
		}
	}
	b := bringer{f: f, alone: alone && !l.ledger.MaySkip()}
	from := l.ledger.Mark()
	at, p := f.place()
	b.at = at
	for _, c := range cmds {
		if st, _ := s.names.lookup(nameOf(c), s.batch); p != handled && st != nil && f.frozen(st) && !b.holds(string(nameOf(c)), st) {
			return p, nil
		}
	}
	var refused *wire.Error
	for _, c := range cmds {
		if c.Kind != sqlscan.Execute {
			continue
		}
		if st, _ := s.names.lookup(nameOf(c), s.batch); st != nil { // it does what its text does
			if refused = l.claim(st.found); refused != nil {
				return handled, refused
			}
			s.found |= st.found &^ naming
			f.outdates(st.found, []byte(st.body))
			if s.notes(st.found) {
				s.does(st.found, []byte(st.body))
			}
			f.noteForgetting(st.found)
			f.executed |= st.found
			found |= st.found & sqlscan.Lists
		}
	}
	if found&sqlscan.Lists != 0 {
		if !s.names.allReady(s.batch) {
			return mustWait, nil
		}
		for e := range s.names.all() {
			if e.cur == nil {
				continue
			}
			if f.settling([]byte(e.cur.body)) {
				return mustWait, nil
			}
			if s.settleEnv(e.cur); p != handled && f.frozen(e.cur) {
				return p, nil
			}
		}
		refused = b.all()
	}
	seen := map[string]bool{}
	for i, c := range cmds {
		text := string(nameOf(c))
		if c.Kind == sqlscan.DeallocateAll || seen[text] {
			continue // it is what the text itself has made of it
		}
		seen[text] = true
		if b.alone && l.hasFailed(text, s.batch) {
			// Its error comes in the place of the one that follows from it.
			for _, h := range l.shelf.named(text) {
				f.closeOnce(h)
			}
			continue
		}
		st, _ := s.names.lookup([]byte(text), s.batch)
		if reserved(text) && c.Kind == sqlscan.Prepare {
			refused = errReserved
			continue
		}
		if st != nil && c.Kind != sqlscan.Execute && !b.holds(text, st) {
			// The name counts, and not what stands behind it, which may be
			// broken.
			own := l.px.statements.internOwn(emptyBody, s.settings.parsing(), 0, text, false)
			if e := b.name(text, own); e != nil {
				refused = e
			}
			l.px.statements.drop(own)
		} else if e := b.name(text, st); e != nil && i < said {
			refused = e // what it only may run is not there then
		}
		if c.Kind == sqlscan.Prepare && st == nil && refused == nil {
			refused = f.overLimit(c.To - c.From)
		}
	}
	if b.alone && refused == nil {
		p := b.shapes(cmds)
		l.bringing = p == mustWait
		return p, nil
	}
	if !alone || b.alone {
		return handled, refused
	}
	if b.sent { // if it fails PostgreSQL skips the Query
		if l.brought == 0 {
			l.brought = from
		}
		f.flush()
		return mustWait, nil
	}
	if refused != nil {
		return handled, refused
	}
	if p = b.shapes(cmds); p == mustWait {
		f.flush()
		if l.brought == 0 {
			l.brought = from
		}
	}
	return p, nil
}

// bringsYet reports whether a Query waits for what was brought in front of it in an
// open batch. If that fails PostgreSQL would skip the Query, up to a Sync.
func (f *feeder) bringsYet() bool {
	copying, _ := f.l.ledger.CopyIn() // its data may come behind the Query
	return f.l.ledger.Len() > 0 && !copying
}

// failQuery ends the batch in the place of a Query, where what was brought in front of
// that has failed: the client was told the error.
func (f *feeder) failQuery(size int) {
	s, l := f.s, f.l
	l.failsQuery = false
	e := wire.Entry{Msg: wire.MsgSync}
	if s.unnamed.exists() {
		s.unnamed.begin(nil, 0, noSettings, s.batch)
		e.Ref = unnamedChange{}
	}
	l.unnamedOf = 0
	l.ledger.Append(e)
	f.swap(size, func(dst []byte) []byte { return wire.AppendEmpty(dst, wire.MsgSync) })
	s.batch++
}

// appendRun adds the names that a text may run which calls what runs texts: what
// SQL has prepared, whatever else stands in the text, and those of others that
// the server holds, which are not to be found there.
func (f *feeder) appendRun(cmds []sqlscan.Command, sql []byte) []sqlscan.Command {
	n := &f.s.names
	add := func(text string) { cmds = append(cmds, sqlscan.Command{Kind: sqlscan.Execute, Name: text}) }
	for e := range n.all() {
		text := e.text
		if e.cur != nil && e.cur.own || sqlscan.HasWord(sql, text) {
			add(text)
		}
	}
	if f.l.shelf.owned > 0 {
		for st := range f.l.shelf.m {
			if st.own && n.get([]byte(st.name)) == nil {
				add(st.name)
			}
		}
	}
	return cmds
}

// ready reports whether no earlier batch may change what commands name.
func (n *names) ready(cmds []sqlscan.Command, batch uint64) bool {
	for _, c := range cmds {
		if _, ready := n.lookup(nameOf(c), batch); !ready {
			return false
		}
	}
	return true
}

// allReady is ready for every name.
func (n *names) allReady(batch uint64) bool {
	for e := range n.all() {
		if e.pending() && e.last.batch != batch {
			return false
		}
	}
	return true
}

// nameOf is a command's name as PostgreSQL cuts it: between characters, where
// Parse cuts between bytes.
func nameOf(c sqlscan.Command) []byte {
	name := wire.Name([]byte(c.Name))
	if len(name) < len(c.Name) && !utf8.RuneStart(c.Name[len(name)]) && utf8.ValidString(c.Name) {
		for !utf8.RuneStart(name[len(name)-1]) {
			name = name[:len(name)-1]
		}
		name = name[:len(name)-1]
	}
	return name
}

// commands are those of a text; one whose names cannot be read keeps its
// session where it is.
func (f *feeder) commands(sql []byte) []sqlscan.Command {
	cmds, ok := sqlscan.Commands(sql, f.s.told.standard)
	if !ok {
		f.s.found |= sqlscan.Untracked | sqlscan.Opaque
	}
	return cmds
}

// effects notes what a text that is being executed does to names.
func (f *feeder) effects(sql []byte, found sqlscan.Finding) *effects {
	s, l := f.s, f.l
	if found&sqlscan.Names == 0 || s.upstream {
		return nil
	}
	var e effects
	forgotten := false
	for i, c := range f.commands(sql) {
		name := nameOf(c)
		st, _ := s.names.lookup(name, s.batch)
		if en := s.names.get(name); forgotten && (en == nil || !en.pending()) {
			st = nil
		}
		switch {
		case c.Kind == sqlscan.DeallocateAll:
			forgotten, s.forgets = true, true
		case c.Kind == sqlscan.Prepare && st == nil:
			text, unsettled := sql[c.From:c.To], false
			if hasLiteral(text) && (found&changing != 0 || s.found&sqlscan.Literals != 0 || s.found&changing != 0 && s.changedIn == uint32(s.batch)) {
				s.keepsServer() // under which settings it is parsed is not known
				unsettled, s.unsettled = true, true
			}
			if i == 0 && len(bytes.TrimLeft(sql[c.To:], "; \t\r\n\f\v")) == 0 && len(bytes.TrimSpace(sql[:c.From])) == 0 {
				text = sql // as pg_prepared_statements shows it
				e.one = true
			}
			own := l.px.statements.internOwn(text, s.settings.parsing(), s.scan(text)&^sqlscan.Names, string(name), true)
			own.unsettled = unsettled
			h := l.shelf.get(own, &l.px.statements)
			h.sent(s.batch, l.pool.epoch.Load(), l.stats.assignments)
			ch := s.names.begin(name, own, s.batch)
			ch.held = h
			e.changes = append(e.changes, ch)
		case c.Kind == sqlscan.Deallocate && st != nil:
			e.changes = append(e.changes, s.names.begin(name, nil, s.batch))
		}
	}
	if len(e.changes) == 0 {
		return nil
	}
	return &e
}

// prepared follows a tag PREPARE, deallocated a tag DEALLOCATE, of what the
// client has sent. mu is held.
func (l *link) prepared(ref any) (known bool) {
	e, _ := ref.(*effects)
	c := e.next(true)
	if c == nil {
		return false
	}
	l.changed(c, true)
	if l.sess != nil && !e.asked && l.pool.repl == "" { // a walsender is asked nothing
		l.shapeless = append(l.shapeless, c.name)
	}
	return true
}

func (l *link) deallocated(ref any) (known bool) {
	e, _ := ref.(*effects)
	c := e.next(false)
	if c == nil {
		return false
	}
	for _, h := range l.shelf.named(c.name.text) {
		h.sure, h.doubted = false, false
		l.tidy(h)
	}
	l.changed(c, true)
	return true
}

// execute passes an Execute on.
func (f *feeder) execute(b []byte, size int) progress {
	s, l := f.s, f.l
	e := wire.Entry{Msg: wire.MsgExecute}
	if len(l.unrun) > 0 || l.xactUnrun {
		portal, _, _ := wire.CString(b[wire.HeaderLen:size])
		f.runs(portal)
	}
	var means string
	if s.portals != nil {
		portal, _, _ := wire.CString(b[wire.HeaderLen:size])
		switch t, ok := s.portals.texts[string(wire.Name(portal))]; {
		case !ok:
		case t.means != "": // it names no statements
			means, e.Ref = t.means, &returned{}
		case t.found&sqlscan.Names == 0:
			s.found |= t.found & sqlscan.Resets
		default:
			s.found |= t.found & sqlscan.Resets
			if f.forgetting() {
				return mustWait
			}
			cmds := f.commands(t.sql)
			if !s.names.ready(cmds, s.batch) {
				return mustWait
			}
			b := bringer{f: f}
			for _, c := range cmds {
				switch same, p := b.executes(c); {
				case p != handled:
					return p
				case !same:
					f.refuse(size, errPlanChanged)
					return handled
				}
			}
			if fx := f.effects(t.sql, t.found); fx != nil {
				e.Ref = fx
				l.ledger.Append(e)
				f.keep(size)
				if fx.one {
					f.askMade(fx, wire.Swallow)
				}
				return handled
			}
		}
	}
	l.ledger.Append(e)
	f.keep(size)
	if means != "" {
		f.putReturn(means)
	}
	return handled
}

// deallocateDetached answers a Query that only deallocates one name, or all:
// no server needs to hear of it. It returns false for any other text.
func (s *session) deallocateDetached(sql []byte) bool {
	if len(sql) > 1<<10 || s.upstream {
		return false
	}
	sql, rest, whole := wire.CString(sql)
	if !whole || len(rest) > 0 {
		return false // malformed: PostgreSQL says so
	}
	cmd, ok := sqlscan.Deallocates(sql)
	if !ok || s.told.opaque {
		return false
	}
	all, name := cmd.Kind == sqlscan.DeallocateAll, nameOf(cmd)
	st, _ := s.names.lookup(name, s.batch)
	if s.unnamed.exists() {
		s.unnamed.begin(nil, 0, noSettings, s.batch)
		s.unnamed.settle(true)
	}
	s.batch++
	tag := "DEALLOCATE"
	if all {
		tag = "DEALLOCATE ALL"
		for _, st := range s.names.clear() {
			s.px.statements.drop(st)
		}
	} else if st == nil {
		s.reply = wire.AppendReady(unknownStatement(cmd.Name).Append(s.reply), wire.TxIdle)
		return true
	} else if old := s.names.settle(s.names.begin(name, nil, s.batch), true); old != nil {
		s.px.statements.drop(old)
	}
	s.reply = wire.AppendReady(wire.AppendCommandComplete(s.reply, tag), wire.TxIdle)
	return true
}
