package proxy

import (
	"bytes"

	"pgpoold/wire"
)

// describe passes a Describe on, with the statement in the server's words.
func (f *feeder) describe(b []byte, size int) progress {
	l := f.l
	text, p := statementName(wire.MsgDescribe, b[wire.HeaderLen:size], true)
	if p == mustWait { // a portal, or malformed
		l.ledger.Append(wire.Entry{Msg: wire.MsgDescribe})
		f.keep(size)
		return handled
	}
	f.beginXact()
	if params, known := f.describesNothing(text); known {
		l.ledger.Append(wire.Entry{Msg: wire.MsgDescribe, Action: wire.MakeUp, Ref: toldParams(params)})
		f.consumeMadeUp(size)
		return handled
	}
	told := f.s.shapeOf(text).params()
	f.tells = told
	server, ref, p := f.use(text)
	f.tells = ""
	if p != handled {
		return p
	}
	e := wire.Entry{Msg: wire.MsgDescribe}
	switch {
	case ref != nil:
		if ref.whole == errPlanChanged {
			ref.params = told
		}
		e.Action, e.Ref = wire.Replace, ref
	case f.name != nil:
		e.Ref = &described{held: f.held, name: f.name}
	case len(text) == 0 && f.held == nil:
		e.Ref = &described{gen: l.unnamedGen, alias: alias(f.alias)}
	}
	l.ledger.Append(e)
	if server == string(text) {
		f.keep(size)
		return handled
	}
	f.swap(size, func(dst []byte) []byte { return wire.AppendDescribeStatement(dst, server) })
	return handled
}

// toldParams is the Ref of a Describe that is answered by what is known: a
// ParameterDescription's body, and no columns.
type toldParams string

// append appends the ParameterDescription, if there is one.
func (p toldParams) append(dst []byte) []byte {
	if p == "" {
		return dst
	}
	return append(wire.AppendHeader(dst, wire.MsgParamDescription, len(p)), p...)
}

// describesNothing reports whether a Describe is of a statement that gives no rows
// and that the server lacks. PostgreSQL describes such a one without a look at its
// tables, also in a failed transaction; brought, it would be parsed. params are its
// parameters.
func (f *feeder) describesNothing(text []byte) (params string, known bool) {
	s, l := f.s, f.l
	if len(text) == 0 || s.upstream || s.forgets || !l.ledger.CanMakeUpClose() {
		return "", false
	}
	e := s.names.get(wire.Name(text))
	if e == nil || e.pending() || e.cur == nil || !f.lacks(e.cur) || !e.shape.noRows() {
		return "", false
	}
	params = e.shape.params()
	return params, params != ""
}

// shapeOf is the shape that a name's statement had when it was parsed.
func (s *session) shapeOf(text []byte) (sh shape) {
	if len(text) == 0 {
		if v, _ := s.unnamed.current(s.batch); v != nil {
			sh = v.shape
		}
	} else if e := s.names.get(wire.Name(text)); e != nil {
		sh = e.shape
	}
	return sh
}

// toldInFront is the ParameterDescription that a Describe tells in front of an error
// about tables that have changed, if that has met what was brought for it.
func toldInFront(e wire.Entry, body []byte) (params toldParams) {
	switch ref := e.Ref.(type) {
	case *heldChange:
		params = toldParams(ref.tells)
	case unnamedInjected:
		params = toldParams(ref.tells)
	}
	if params == "" || bytes.Equal(wire.ErrorField(body, 'C'), []byte(errTxFailed.Code)) {
		return ""
	}
	return params
}
