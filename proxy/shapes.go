package proxy

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"
	"unique"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// shape is what PostgreSQL compares of a statement's result when its plan is
// made anew (RevalidateCachedQuery): names and types of the columns. The zero
// value stands for a result that is not known. The types of the parameters go along, to
// be told, and are not compared: they cannot change.
//
// A client counts on the description of a statement for as long as it has the
// statement: it asks no more, and may read rows in binary. On a direct connection
// PostgreSQL refuses with "cached plan must not change result type" once the
// description is no longer true. A server that parses the statement for the first
// time knows no older description, so here it is compared with the one that was
// true at the client's Parse.
type shape struct{ h unique.Handle[shapeText] }

// shapeText is what stands behind a shape.
type shapeText struct {
	rows   string
	params string // a ParameterDescription's body; "": it is not known
}

func newShape(rows, params string) shape { return shape{unique.Make(shapeText{rows, params})} }

// with is the shape with what is told of the parameters.
func (s shape) with(params string) shape { return newShape(s.h.Value().rows, params) }

// params is a ParameterDescription's body, or "".
func (s shape) params() string {
	if s == (shape{}) {
		return ""
	}
	return s.h.Value().params
}

// noRows reports whether it is known that there are none.
func (s shape) noRows() bool { return s != (shape{}) && s.h.Value().rows == "" }

// like reports whether rows of the one can be read as those of the other.
func (s shape) like(other shape) bool {
	return s == other || s != (shape{}) && other != (shape{}) && s.h.Value().rows == other.h.Value().rows
}

// plain reports whether the columns' names are the same bytes in every encoding.
func (s shape) plain() bool {
	rows := s.h.Value().rows
	for rest := rows[min(1, len(rows)):]; rest != ""; {
		name, types, _ := strings.Cut(rest, "\x00")
		if strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
			return false
		}
		rest = types[4+4:]
	}
	return true
}

// lostShape is that of a statement whose table had changed before anybody has
// asked: no other is like it.
var lostShape = newShape("\x02", "")

// shapeOf reads RowDescription or NoData; ok is false if it is neither, or cannot
// be read.
func shapeOf(typ byte, body []byte) (s shape, ok bool) {
	if typ == wire.MsgNoData {
		return newShape("", ""), true
	}
	if typ != wire.MsgRowDescription || len(body) < 2 {
		return shape{}, false // of the parameters, for one: an error may stand behind it
	}
	var b []byte
	rest := body[2:]
	for range binary.BigEndian.Uint16(body) {
		const (
			typeAt = 4 + 2 // behind the table and the column's number in it
			modAt  = typeAt + 4 + 2
			size   = modAt + 4 + 2
		)
		end := bytes.IndexByte(rest, 0)
		if end < 0 || len(rest) < end+1+size {
			return shape{}, false
		}
		b = append(b, rest[:end+1]...)
		rest = rest[end+1:]
		b = append(b, rest[typeAt:typeAt+4]...)
		b = append(b, rest[modAt:modAt+4]...)
		rest = rest[size:]
	}
	return newShape("\x01"+string(b), ""), true
}

// described is the Ref of a Describe of a statement, the client's own or one
// of ours. What it tells holds for the server's copy and, behind the client's
// own Parse or Describe, for the client's name.
type described struct {
	held  *held  // nil: the unnamed statement
	name  *name  // may be nil
	gen   uint64 // of the unnamed statement
	alias alias  // that it has on the server; "": none
	ours  bool
	wait  bool // the session's next message waits for the answer

	batch uint64 // that it belongs to, if it was sent as one of its own
}

// describes returns the Ref if the reply that is owed next answers a Describe
// whose outcome is remembered.
func (l *link) describes() *described {
	d, _ := l.ledger.Describing().(*described)
	return d
}

// toldShape notes what a Describe was answered. mu is held.
func (l *link) toldShape(d *described, typ byte, body []byte) {
	if typ == wire.MsgParamDescription {
		l.paramTypes = string(body)
		return
	}
	s, ok := shapeOf(typ, body)
	if !ok {
		return
	}
	s = s.with(l.paramTypes)
	if d.held != nil {
		d.held.shape = s
		if d.name != nil {
			d.name.shape, d.name.untried = s, false
		}
		return
	}
	if d.ours {
		l.unnamedShape = s
	} else if l.sess != nil {
		l.sess.unnamed.describe(d.gen, s)
	}
}

// asked follows the end of a Describe of ours.
func (l *link) asked(d *described) {
	if d.wait {
		l.asks--
		l.late = true
	}
	if !d.ours {
		return
	}
	if d.name != nil {
		d.name.asks--
	}
	if d.held != nil {
		d.held.asking = false
	} else {
		l.unnamedAsked = false
	}
}

// sameShape makes sure that rows of a statement come in the shape that the
// client was told. It returns mustWait while the server is being asked, and
// same false if the shape is another one now.
func (f *feeder) sameShape(e *name, st *statement) (same bool, p progress) {
	l := f.l
	want, types := e.shape, l.types(e)
	if !e.adopt && (want == (shape{}) || st.utility) || e.pending() {
		return true, handled
	}
	switch failed, p := f.inFailed(); {
	case p != handled:
		return false, p
	case failed:
		return true, handled
	}
	if e.adopt && f.lacks(st) {
		e.adopt = false
		f.ensure(st, "")
		e.asks++
		f.ask(st.name, &described{held: l.shelf.m[st], name: e, ours: true})
		return true, handled
	}
	if want == (shape{}) || st.utility {
		return true, handled
	}
	if f.otherBytes(st, want) {
		return true, handled
	}
	h := l.shelf.m[st]
	switch {
	case h == nil || f.lacks(st):
		f.ensure(st, types)
		f.askShape(l.shelf.m[st])
		return false, mustWait
	case h.asking:
		return false, mustWait
	case h.shape.like(want) && (h.fits(types) || f.frozen(st)):
		return true, handled
	case h.shape == (shape{}):
		f.askShape(h)
		return false, mustWait
	case !h.fits(types) && !f.frozen(st): // its parameters are those of another client's
	case l.untried(e) && h.epoch == l.pool.epoch.Load():
		// The client's Parse met a copy that was older than the tables are: the
		// server's is what it would have been told.
		e.shape = h.shape
		return true, handled
	case h.anew.like(want) && h.epoch == l.pool.epoch.Load(), f.frozen(st):
		return false, handled
	}
	// The server's plan is older or newer than what the client was told.
	f.closeHeld(h)
	f.ensure(st, types)
	h.anew = want
	f.askShape(h)
	return false, mustWait
}

// untold reports whether the shape of what a name stands for is still to come,
// from an earlier batch.
func (f *feeder) untold(e *name) bool {
	return e != nil && e.asks > 0 && e.shape == (shape{}) && !e.pending() && f.l.ledger.Owed() > f.l.ledger.OwnQueries()
}

// inFailed reports whether the client's transaction has failed, so that PostgreSQL
// refuses what is sent. It returns mustWait if it had, and what is under way may
// have ended it. A portal in the same batch that ends it cannot be waited for: what
// stands behind it is treated as if it had been executed.
func (f *feeder) inFailed() (failed bool, p progress) {
	switch l := f.l; {
	case l.ledger.Status() != wire.TxFailed || l.xactEnds:
		return false, handled
	case l.ledger.Owed() > l.ledger.OwnQueries():
		return false, mustWait
	}
	return true, handled
}

// otherBytes reports whether names of a statement's columns come in other bytes than
// when it was parsed.
func (f *feeder) otherBytes(st *statement, want shape) bool {
	now := f.s.settings.parsing()
	return st.env != now && encoding(st.env) != encoding(now) && !want.plain()
}

func encoding(s settings) string {
	v, _ := s.get("client_encoding")
	return v
}

// isUtility reports whether a Parse's body is a statement whose result is no
// plan's, but that of what it names at the moment: PostgreSQL lets it change.
func isUtility(body []byte) bool {
	text, _, _ := wire.CString(body)
	switch sqlscan.Verb(text) {
	case "execute", "fetch", "call":
		return true
	}
	return false
}

// endsXact reports whether a Parse's body is a command that may end a transaction, or
// go back in it.
func endsXact(body []byte) bool {
	text, _, _ := wire.CString(body)
	return sqlscan.EndsTransaction(text)
}

// untried reports whether what the server holds may be older than the client's
// Parse of a name: it was made up, and has not been tried since. A change of
// tables that was seen since then came behind the Parse.
func (l *link) untried(e *name) bool { return e.untried && e.ddl == uint32(l.pool.ddl.Load()) }

// askShape asks the server for the shape of what it holds. The answer comes
// at once, in the client's batch.
func (f *feeder) askShape(h *held) {
	h.asking = true
	f.askNow(h.st.name, &described{held: h, ours: true})
}

// ask sends a Describe of ours.
func (f *feeder) ask(name string, d *described) {
	f.l.ledger.Append(wire.Entry{Msg: wire.MsgDescribe, Action: wire.Swallow, Ref: d})
	f.put(func(dst []byte) []byte { return wire.AppendDescribeStatement(dst, name) })
}

// askNow is ask for an answer that is waited for.
func (f *feeder) askNow(name string, d *described) {
	d.wait = true
	f.l.asks++
	f.ask(name, d)
	f.flush()
}

// errPlanChanged is PostgreSQL's own, in plancache.c. pgjdbc and postgres.js
// prepare anew when they see its routine.
var errPlanChanged = &wire.Error{
	Severity: wire.SeverityError, Code: "0A000", Message: "cached plan must not change result type", Routine: "RevalidateCachedQuery",
}
