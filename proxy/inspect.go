package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// inspection asks PostgreSQL what is in force on a server, after a
// transaction whose text may have changed what is not reported. Its answer is
// the truth about rollbacks, savepoints, failed statements and functions,
// which no text tells.
//
// The last ReadyForQuery of the transaction is withheld until the answer has
// come, so that a client never hears of a SET whose outcome is not known.
type inspection struct {
	sql        []byte
	kinds      sqlscan.Finding // of Provable: what is asked for
	names      []string        // custom settings that are asked for
	withheld   bool            // the client waits for its ReadyForQuery
	audited    bool            // nothing has announced that there is anything to be found
	pinned     bool            // the session kept its server before
	waitsSince time.Time       // not zero: it waits for a place under max_pinned
	redefine   bool            // also what names hide is asked for
	applied    bool            // the answer is known; what follows is a replay of ours
	tries      int

	answer
}

// answer is what PostgreSQL says, as it comes in.
type answer struct {
	failed  []byte // body of the error instead
	timeout string // statement_timeout, which the inspection itself sets aside
	pairs   []setting
	custom  []setting
	pins    sqlscan.Finding
	hadTemp bool // there have been temporary objects on the server

	bodies  []sqlscan.Body
	uses    []sqlscan.Use
	version string // of what bodies and uses tell
}

// maxInspections bounds how often an inspection is asked again that was cut short: a
// timeout of the session's may hit before it is set aside.
const maxInspections = 8

// inspectionRef is the Ref of an inspection's Query.
type inspectionRef struct{ *inspection }

// inspecting is the inspection whose answer the server owes next, or nil.
func (l *link) inspecting() *inspection {
	if l.asking == nil && l.state == linkAttached {
		return nil
	}
	if ref, ok := l.ledger.Settle(wire.MsgNotice, 0).Head.Ref.(inspectionRef); ok {
		return ref.inspection
	}
	return nil
}

// column is an expression that gives a text by its bytes in the database's
// encoding, whatever the client's is.
func column(b *strings.Builder, expr string) {
	b.WriteString("pg_catalog.encode(pg_catalog.convert_to(")
	b.WriteString(expr)
	b.WriteString(",pg_catalog.getdatabaseencoding()),'hex')")
}

// inspectionSQL is one Query. Every name in it is qualified, because it runs
// under the session's search_path; it sets the session's timeout aside for
// itself, and what its session could make it wait for.
func inspectionSQL(kinds sqlscan.Finding, names []string) string {
	var b strings.Builder
	b.WriteString("SET TRANSACTION ISOLATION LEVEL READ COMMITTED,NOT DEFERRABLE;" +
		"SELECT 't',pg_catalog.current_setting('statement_timeout'),pg_catalog.set_config('statement_timeout','0',true);" +
		"SELECT 's',")
	column(&b, "name")
	b.WriteByte(',')
	column(&b, "setting")
	b.WriteByte(',')
	column(&b, "reset_val")
	b.WriteString(" FROM pg_catalog.pg_show_all_settings() WHERE source OPERATOR(pg_catalog.=) 'session'" +
		" AND (context OPERATOR(pg_catalog.=) 'user' OR context OPERATOR(pg_catalog.=) 'superuser')")
	one := func(kind, name, expr string) {
		b.WriteString(" UNION ALL SELECT ")
		quoteLiteral(&b, kind)
		b.WriteByte(',')
		var n strings.Builder
		quoteText(&n, name)
		column(&b, n.String())
		b.WriteByte(',')
		column(&b, expr)
		b.WriteString(",NULL")
	}
	one("r", "session_authorization", "SESSION_USER")
	one("r", "role", "pg_catalog.current_setting('role')")
	for _, name := range names {
		var n strings.Builder
		quoteText(&n, name)
		one("c", name, "pg_catalog.current_setting("+n.String()+",true)")
	}
	for _, p := range proofs {
		if kinds&p.kind != 0 {
			b.WriteString(" UNION ALL SELECT 'p','" + p.reason + "',NULL,NULL WHERE EXISTS(" + p.sql + ")")
		}
	}
	if kinds&sqlscan.Temp != 0 {
		b.WriteString(" UNION ALL SELECT 'T',NULL,NULL,NULL WHERE pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid")
	}
	return b.String()
}

// proofs are the queries that find a row exactly if there is state of a kind.
// They run outside of the client's transactions, when what ends with one is gone.
var proofs = [...]struct {
	kind   sqlscan.Finding
	reason string
	sql    string
}{
	{sqlscan.Temp, "temp", "SELECT 1 FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass" +
		" AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"},
	{sqlscan.Locks, "advisory_lock", "SELECT 1 FROM pg_catalog.pg_lock_status() WHERE locktype OPERATOR(pg_catalog.=) 'advisory'" +
		" AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"},
	{sqlscan.Holds, "hold_cursor", "SELECT 1 FROM pg_catalog.pg_cursor() WHERE is_holdable"},
	{sqlscan.Listens, "listen", "SELECT 1 FROM pg_catalog.pg_listening_channels()"},
}

// row takes a row of the answer.
func (a *answer) row(body []byte) {
	var v [4]string
	var null [4]bool
	if len(body) < 2 {
		return
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for i := range min(n, len(v)) {
		if len(body) < 4 {
			return
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		if null[i] = size < 0; null[i] {
			continue
		}
		if size > len(body) {
			return
		}
		v[i], body = string(body[:size]), body[size:]
	}
	switch v[0] {
	case "t":
		a.timeout = v[1]
		return
	case "T":
		a.hadTemp = true
		return
	case "p":
		for _, p := range proofs {
			if p.reason == v[1] {
				a.pins |= p.kind
			}
		}
		return
	}
	for i := 1; i < len(v); i++ {
		text, _ := hex.DecodeString(v[i])
		v[i] = string(text)
	}
	name := strings.ToLower(v[1])
	switch {
	case v[0] == "b":
		a.bodies = append(a.bodies, sqlscan.Body{Name: v[1], Source: []byte(v[2]), Language: v[3]})
	case v[0] == "u":
		a.uses = append(a.uses, sqlscan.Use{Name: v[1], Uses: v[2]})
	case v[0] == "h":
		a.version = v[1]
	case v[0] == "c":
		if !null[2] {
			a.custom = append(a.custom, setting{name, v[2]})
		}
	case name == "statement_timeout":
		// The row tells the inspection's own.
		if milliseconds(a.timeout) != milliseconds(v[3]) {
			a.pairs = append(a.pairs, setting{name, a.timeout})
		}
	case name == "exit_on_error" && v[2] == "off", strings.HasPrefix(name, "transaction_") && name != "transaction_timeout":
	default:
		a.pairs = append(a.pairs, setting{name, v[2]})
	}
}

// milliseconds reads a time as PostgreSQL shows it.
func milliseconds(s string) int64 {
	for _, u := range [...]struct {
		unit string
		ms   int64
	}{{"ms", 1}, {"s", 1000}, {"min", 60_000}, {"h", 3_600_000}, {"d", 86_400_000}, {"", 1}} {
		if n, err := strconv.ParseInt(strings.TrimSuffix(s, u.unit), 10, 64); err == nil {
			return n * u.ms
		}
	}
	return -1
}

// suspicious reports whether PostgreSQL must be asked what the session's last
// transaction has left.
func (s *session) suspicious() bool {
	const mask = sqlscan.Untracked | sqlscan.Resets | sqlscan.Undoes
	return s.found&mask != 0 && s.mustAsk()
}

func (s *session) mustAsk() bool {
	switch {
	case !s.isReadable():
		return false
	case s.lasting() || s.mode == ModeSession: // its state stays where it is, but for what RESET may have taken from its startup parameters
		return s.start != noSettings && s.found&(sqlscan.Untracked|sqlscan.Resets) != 0 && s.found&sqlscan.ResetsAll == 0
	}
	return s.found&(sqlscan.Untracked|sqlscan.Resets) != 0 || s.held != 0
}

// isReadable reports whether what is in force can be asked for.
func (s *session) isReadable() bool {
	return s.carries || s.mode == ModeSession && !s.upstream && s.pool.repl == ""
}

// inspectable reports whether the attached session's state is to be asked for
// and can be: nothing is owed, and no message has been sent in part. mu is
// held.
func (l *link) inspectable() bool {
	return l.asking == nil && l.sess != nil && l.sess.suspicious() && !l.half && l.ledger.Len() == 0 && l.ledger.Status() == wire.TxIdle && !l.ledger.BatchOpen()
}

// inspect asks. withheld tells that the client's ReadyForQuery waits for the
// answer. mu is held.
func (l *link) inspect(withheld bool) {
	s := l.sess
	p := &inspection{withheld: withheld, pinned: s.pin != ""}
	if s.carries {
		p.kinds = (s.found | s.held) & sqlscan.Provable
	}
	p.names = append(p.names, s.customs...)
	p.redefine = s.found&sqlscan.Redefines != 0
	sql := inspectionSQL(p.kinds, p.names)
	if p.redefine {
		sql += ";" + hiddenSQL(l.base)
	}
	p.sql = wire.AppendQuery(nil, sql)
	l.asking = p
	l.stats.inspections++
	l.askAgain()
}

// askAgain sends the inspection's Query. mu is held.
func (l *link) askAgain() {
	p := l.asking
	p.tries++
	p.answer = answer{}
	l.unnamedOf = 0
	l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow, Ref: inspectionRef{p}})
	if err := l.srv.Conn.Write(p.sql, false); err != nil {
		l.srv.Conn.Wake()
	}
}

// inspected follows the end of the inspection's Query, or of the replay behind
// it. mu is held.
func (l *link) inspected(c *chunk) {
	p, s := l.asking, l.sess
	switch {
	case p.failed != nil && p.tries < maxInspections && string(wire.ErrorField(p.failed, 'C')) == "57014":
		l.askAgain()
		return
	case p.failed != nil && p.audited:
		l.concluded(c)
		return
	case p.failed != nil:
		e := *lostState
		e.Detail = string(wire.ErrorField(p.failed, 'M'))
		s.end(&e)
		l.px.opts.Log.Warn("a session's state could not be read", zap.Uint64("session", s.id), zap.Uint64("server", l.srv.ID), zap.String("error", e.Detail))
		l.srv.Close(backend.CloseTainted)
		return
	case !p.applied:
		p.applied = true
		l.learn(p)
		if l.label != s.settings {
			// RESET went to the server's start values, or a setting is not for
			// servers.
			l.unnamedOf = 0
			sql := l.replaySQL(s.settings, true)
			l.ledger.Append(wire.Entry{Msg: wire.MsgQuery, Action: wire.Swallow, Ref: &replayRef{s.settings}})
			if err := l.srv.Conn.Write(wire.AppendQuery(nil, sql), false); err != nil {
				l.srv.Conn.Wake()
			}
			return
		}
	}
	if p.waitsSince.IsZero() && s.pin != "" && !p.pinned && l.pool.overPinned() {
		l.awaitSlot()
		return
	}
	l.concluded(c)
}

// concluded tells the client that its transaction has ended. mu is held.
func (l *link) concluded(c *chunk) {
	p, s := l.asking, l.sess
	l.askNoMore()
	s.settleEnvs(p.tries > 0 && p.failed == nil)
	if p.withheld {
		c.put(func(dst []byte) []byte { return wire.AppendReady(dst, wire.TxIdle) })
	}
}

// lostState ends a session whose state is not known.
var lostState = &wire.Error{Severity: wire.SeverityFatal, Code: "08006", Message: "the state of this session could not be read from the server",
	Hint: "The last transaction has ended as it was told, but what it has SET may not be in force. Connect again."}

// learn makes the answer the server's label and the session's wishes.
func (l *link) learn(p *inspection) {
	s := l.sess
	if p.redefine {
		l.pool.hide(&p.answer)
	}
	var now, want []setting
	if s.found&sqlscan.ResetsAll != 0 {
		s.keepLink(s.startLink)
	}
	for _, v := range p.pairs {
		if ofLink(v.name) {
			s.keepLink(newSettings([]setting{v}))
		}
		base, reported := l.base.get(spelled(l.base, v.name))
		_, atStart := s.start.get(v.name)
		if v.name == "role" && v.value == "none" || reported && v.value == base && !atStart || v.name == "session_authorization" && !reported && v.value == l.pool.key.user {
			continue
		}
		now = append(now, v)
		if !ofLink(v.name) {
			want = append(want, s.asAtStart(v))
		}
	}
	manual := sqlscan.Finding(0)
	for _, v := range p.custom {
		l.create(v.name)
		if _, wished := s.settings.get(v.name); p.audited && v.value == "" && !wished {
			continue // another session's, which cannot be taken away
		}
		if v.name == manualPin && isOn(v.value) {
			manual = sqlscan.Manual
		}
		now = append(now, v)
		if _, atStart := s.start.get(v.name); v.value == "" && atStart && s.found&sqlscan.Resets != 0 {
			continue // it was RESET
		}
		want = append(want, v)
	}
	for _, v := range s.start.list() {
		if !has(want, v.name) {
			want = append(want, v) // RESET returns to it
		}
	}
	// What is at its start value is spelled as the session has spelled it.
	for i, v := range now {
		now[i] = s.asAtStart(v)
	}
	l.label, l.known = newSettings(now), true
	before, held := s.settings, s.held
	s.wishes(newSettings(want))
	if p.audited {
		s.audit(before, held, p)
	}
	if p.hadTemp {
		l.noteTemp()
	}
	s.hold(l, p.pins|manual, p.kinds|sqlscan.Manual)
}

// asAtStart gives a value that is the session's startup parameter in the
// session's spelling, so that sessions with the same parameters are alike.
func (s *session) asAtStart(v setting) setting {
	value, ok := s.start.get(v.name)
	if !ok {
		return v
	}
	if told, ok := s.startTo.get(spelled(s.startTo, v.name)); ok && told == v.value {
		return setting{v.name, value}
	}
	return v
}

// spelled is a setting's name as it is reported.
func spelled(r *reported, name string) string {
	for _, n := range r.names {
		if strings.EqualFold(n, name) {
			return n
		}
	}
	return name
}

func has(pairs []setting, name string) bool {
	for _, p := range pairs {
		if strings.EqualFold(p.name, name) {
			return true
		}
	}
	return false
}
