package proxy

import (
	"bytes"

	"pgpoold/backend"
	"pgpoold/wire"
)

// serverError settles an ErrorResponse and puts it in the client's words.
func (l *link) serverError(body []byte, c *chunk) (keep bool) {
	// A notice settles nothing: this asks whose turn it is.
	_, replayed := l.ledger.Settle(wire.MsgNotice, 0).Head.Ref.(*replayRef)
	if ends := wire.Ends(body); ends || replayed {
		// A replay that fails ends the connection. If PostgreSQL does not, what
		// stands behind it may run under other settings: then that is the end
		// of the session, too.
		l.fatal, l.replayed = bytes.Clone(body), replayed && (ends || l.awaiting)
		l.srv.SetClosing(backend.CloseServerError)
		return false
	}
	if p := l.inspecting(); p != nil {
		p.failed = bytes.Clone(body)
		l.ledger.Settle(wire.MsgError, 0)
		if l.sess == nil {
			l.failed = p.failed
		}
		return false
	}
	if l.unwarranted(body) && l.retry(body) {
		l.params = l.params[:0]
		return false
	}
	l.putParams(c)
	inFront := l.brought > 0 && l.ledger.Place() >= l.brought
	v := l.ledger.Settle(wire.MsgError, 0)
	l.failsQuery = l.failsQuery || inFront && v.Head.Action == wire.Swallow
	if l.ledger.Unanswered() && l.sess != nil {
		l.sess.end(errUnanswered)
	}
	l.settledTo(c)
	s := l.sess
	if s != nil && l.cancelled(v.Head, body) {
		s.dropCancel()
	}
	if v.Action == wire.Mute && !(describesMade(v.Head) && l.ledger.Status() == wire.TxOpen) {
		l.mute(v.Head, body)
		return false
	}
	l.answered = true
	if s == nil {
		l.failed = bytes.Clone(body)
		return false
	}
	if s.blind {
		s.keepsServer() // what was set in front of the Parse is not at the end of the batch
	}
	if m := l.cause(body, v.Head.Msg); m != nil {
		c.put(func(dst []byte) []byte { return s.appendTranslated(dst, m.body, nil) })
		return false
	}
	if params := toldInFront(v.Head, body); params != "" {
		c.put(params.append)
	}
	l.countError(body)
	if e := l.overdueError(body); e != nil {
		c.put(e.Append)
		return false
	}
	if bytes.Equal(wire.ErrorField(body, 'C'), []byte("0A000")) {
		l.pool.epoch.Add(1) // perhaps a plan whose tables have changed
	}
	if v.Action == wire.Replace || bytes.Contains(body, []byte(serverNamePrefix)) {
		ref := clientsWords(v.Head.Ref)
		if ref != nil && ref.whole != nil && l.ledger.Status() == wire.TxFailed {
			// What was sent in front of it has failed: PostgreSQL, which has the
			// statement, would look at it no further.
			ref = &replacement{whole: errTxFailed}
		}
		c.put(func(dst []byte) []byte { return s.appendTranslated(dst, body, ref) })
		return false
	}
	return true
}

// errUnanswered ends a session whose Query nobody would answer. That what is sent in
// front of a Query fails behind its back is not to happen: a session that hears of it
// is better off than one that waits.
var errUnanswered = fatal("08006", "the query was not run, because what it needs could not be sent in front of it")

// errTxFailed is PostgreSQL's own, for whatever is sent in a failed transaction.
var errTxFailed = &wire.Error{
	Severity: wire.SeverityError, Code: "25P02", Message: "current transaction is aborted, commands ignored until end of transaction block",
}

// muted is an error to what was sent in front of the client's.
type muted struct {
	name  string // on the server, that it is about
	batch uint64 // of the session's, that it was sent for
	body  []byte
	ahead bool // nothing that has failed waited for it
}

// mute keeps an error to something of ours. mu is held.
func (l *link) mute(e wire.Entry, body []byte) {
	m := muted{body: bytes.Clone(body)}
	switch ref := e.Ref.(type) {
	case *heldChange:
		m.name, m.batch, m.ahead = ref.held.st.name, ref.held.batch, ref.ahead
		if ref.sets && l.sess != nil {
			l.sess.giveUp(ref.held.st)
		}
	case *described:
		if !ref.wait && ref.name != nil && string(wire.ErrorField(body, 'C')) == errPlanChanged.Code {
			ref.name.shape = lostShape.with(l.paramTypes)
		}
		if !ref.wait || l.hasFailed(ref.held.st.name, ref.batch) {
			return // the shape stays unknown
		}
		m.name, m.batch = ref.held.st.name, ref.batch
	}
	l.muted = append(l.muted, m)
}

// cause is the muted error that an error to a message of the client's follows
// from: why the name does not exist there, or why the transaction has failed.
func (l *link) cause(body []byte, msg byte) *muted {
	if len(l.muted) == 0 {
		return nil
	}
	switch string(wire.ErrorField(body, 'C')) {
	case "26000":
		for i := len(l.muted) - 1; i >= 0; i-- {
			if bytes.Contains(wire.ErrorField(body, 'M'), []byte(`"`+l.muted[i].name+`"`)) {
				return &l.muted[i]
			}
		}
	case "25P02":
		for i := range l.muted {
			if msg == wire.MsgQuery && !l.muted[i].ahead {
				return &l.muted[i]
			}
		}
	}
	return nil
}

// hasFailed reports whether a name was brought for the session's batch, and that
// has failed.
func (l *link) hasFailed(name string, batch uint64) bool {
	for _, m := range l.muted {
		if m.name == name && m.batch == batch {
			return true
		}
	}
	return false
}

// clientsWords says in whose words an error about a message goes on: where the
// client named a statement, that is its name, though the session may know the
// same statement by others.
func clientsWords(ref any) *replacement {
	switch ref := ref.(type) {
	case *replacement:
		return ref
	case *name:
		return &replacement{client: ref.text}
	case alias:
		return &replacement{server: string(ref)}
	case *described:
		if ref.name != nil {
			return &replacement{client: ref.name.text}
		}
		if ref.alias != "" {
			return &replacement{server: string(ref.alias)}
		}
	}
	return nil
}

// replacement is the Ref of a message that was sent to make PostgreSQL raise
// an error: what the error is to say.
type replacement struct {
	client string      // the name the client used
	server string      // and the server's, where the session knows no such name
	whole  *wire.Error // the whole error, unless PostgreSQL's own has its place
	params string      // a ParameterDescription that is told in front of it, as by a Describe
}

// appendTranslated appends an ErrorResponse in which our names of statements
// are the client's again.
func (s *session) appendTranslated(dst, body []byte, ref *replacement) []byte {
	if ref != nil && ref.whole != nil && bytes.Equal(wire.ErrorField(body, 'C'), []byte("26000")) {
		return ref.whole.Append(toldParams(ref.params).append(dst))
	}
	return wire.AppendErrorWith(dst, body, func(code byte, value []byte) []byte {
		switch code {
		case 'M', 'D', 'H', 'W':
			return s.translate(value, ref)
		case 'F', 'L', 'R':
			if ref != nil && ref.client == "" && ref.server == "" {
				return nil // another place in PostgreSQL's source says this
			}
		}
		return value
	})
}

func (s *session) translate(text []byte, ref *replacement) []byte {
	if ref != nil && ref.client == "" {
		for _, server := range []string{noSuchStatement, ref.server} {
			text = bytes.ReplaceAll(text, []byte(`prepared statement "`+server+`" does not exist`), []byte("unnamed prepared statement does not exist"))
		}
	}
	for from := 0; ; {
		i := bytes.Index(text[from:], []byte(`"`+serverNamePrefix))
		if i < 0 {
			return text
		}
		i += from + 1
		end := bytes.IndexByte(text[i:], '"')
		if end < 0 {
			return text
		}
		server := string(text[i : i+end])
		client, ok := s.names.byServerName(server)
		switch {
		case ref != nil && (ok || reserved(server) || server == ref.server):
			client, ok = ref.client, true
		case ref == nil && s.names.get([]byte(server)) != nil:
			ok = false // SQL means the client's own name, which only looks like one of ours
		}
		if !ok {
			from = i
			continue
		}
		text = append(append(append([]byte(nil), text[:i]...), client...), text[i+end:]...)
		from = i + len(client)
	}
}
