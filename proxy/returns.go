package proxy

import (
	"bytes"
	"strings"
	"time"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// On a server RESET goes to what that was started with, and a session means its
// own startup parameters. Behind the transaction the inspection sees to that. For
// what comes before its end, where a Query or an Execute is one RESET, or SET TO
// DEFAULT, and nothing else, what the session means is set right behind it: in the
// same Query, or by a portal of pgpoold's own.

// afterReset is a query that gives a session what it means by a text, which
// PostgreSQL reads to its end; "" for nothing. mu is held.
func (l *link) afterReset(sql []byte, found sqlscan.Finding) string {
	query, _ := l.returning(sql, found)
	return query
}

// textOf is the text of a statement that the client names, up to the zero byte at
// its end.
func (s *session) textOf(name []byte) (sql []byte) {
	if len(name) == 0 {
		if v, _ := s.unnamed.current(s.batch); v != nil {
			sql = v.body
		}
	} else if st, _ := s.names.lookup(wire.Name(name), s.batch); st != nil {
		sql = []byte(st.body)
	}
	return sql[:bytes.IndexByte(sql, 0)+1]
}

// behindReset is what to add to a Query. A SET LOCAL TO DEFAULT stays alone where
// PostgreSQL may have to warn that there is no transaction: of several commands in
// one Query it does not. mu is held.
func (l *link) behindReset(sql []byte, found sqlscan.Finding) string {
	query, local := l.returning(sql, found)
	if query == "" || local && (l.ledger.Len() > 0 || l.ledger.BatchOpen() || l.ledger.Status() != wire.TxOpen) {
		return ""
	}
	return "\n;" + query
}

// returns reports whether a RESET is to go to another value than the server's.
func (s *session) returns() bool {
	return s.start != noSettings && !s.upstream && (s.carries || s.mode == ModeSession)
}

func (l *link) returning(sql []byte, found sqlscan.Finding) (query string, local bool) {
	s := l.sess
	if found&sqlscan.Resets == 0 || !s.returns() {
		return "", false
	}
	name, local := returns(sql)
	if name == "" {
		return "", false
	}
	var back []setting
	for _, p := range s.start.list() {
		all := name == "all" && p.name != "role" && p.name != "session_authorization"
		if all || strings.EqualFold(p.name, name) {
			back = append(back, p)
		}
	}
	switch {
	case len(back) == 0:
		return "", local
	case len(back) == 1 && plainly(back[0]):
		return setTo(back[0], local), local
	}
	var b strings.Builder
	for i, p := range back {
		if i == 0 {
			b.WriteString("SELECT ")
		} else {
			b.WriteByte(',')
		}
		b.WriteString("pg_catalog.set_config(")
		quoteText(&b, p.name)
		b.WriteByte(',')
		quoteText(&b, p.value)
		if local {
			b.WriteString(",true)")
		} else {
			b.WriteString(",false)")
		}
	}
	return b.String(), local
}

// plainly reports whether SET with a literal gives a setting just this value. It
// takes no snapshot, behind which SET TRANSACTION comes too late, but would quote
// a list of names as one name.
func plainly(p setting) bool {
	switch name := strings.ToLower(p.name); name {
	case "search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries", "role", "session_authorization":
		return false
	default:
		if strings.Contains(name, ".") { // an extension's may be a list, too
			return false
		}
	}
	for i := range len(p.value) {
		if p.value[i] >= 0x80 {
			return false // quoteText
		}
	}
	return true
}

func setTo(p setting, local bool) string {
	var b strings.Builder
	b.WriteString("SET ")
	if local {
		b.WriteString("LOCAL ")
	}
	quoteIdentifier(&b, strings.ToLower(p.name))
	b.WriteString(" TO ")
	quoteLiteral(&b, p.value)
	return b.String()
}

// meaning are the findings about a text that what the session means is set
// behind: it is no RESET to the server's value any more.
func meaning(found sqlscan.Finding) sqlscan.Finding {
	return found&^sqlscan.Resets | sqlscan.Untracked | sqlscan.Sets
}

// returns reads a text that is one command which gives a setting, or all, its
// start value again, plainly written; name is "" for any other.
func returns(sql []byte) (name string, local bool) {
	const longest = 200
	text, rest, ok := wire.CString(sql)
	if !ok || len(rest) > 0 || len(text) > longest || bytes.ContainsAny(text, "'$") || bytes.Contains(text, []byte("--")) || bytes.Contains(text, []byte("/*")) {
		return "", false
	}
	plain := strings.ToLower(strings.TrimRight(string(text), "; \t\r\n\f"))
	if strings.Contains(plain, ";") {
		return "", false
	}
	words := strings.Fields(strings.ReplaceAll(plain, "=", " = "))
	if len(words) < 2 {
		return "", false
	}
	verb, words := words[0], words[1:]
	if verb == "set" && (words[0] == "local" || words[0] == "session") {
		local = words[0] == "local"
		words = words[1:]
	}
	zone := len(words) > 1 && words[0] == "time" && words[1] == "zone"
	switch {
	case verb == "reset" && zone && len(words) == 2, verb == "set" && zone && len(words) == 3 && (words[2] == "default" || words[2] == "local"):
		return "timezone", local
	case verb == "reset" && len(words) == 1, verb == "set" && len(words) == 3 && (words[1] == "to" || words[1] == "=") && words[2] == "default":
		return unquoted(words[0]), local
	}
	return "", false
}

// unquoted is a setting's name without quotes; it is compared without case.
func unquoted(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		if n := len(part); n > 2 && part[0] == '"' && part[n-1] == '"' {
			parts[i] = part[1 : n-1]
		}
	}
	name = strings.Join(parts, ".")
	if strings.Contains(name, `"`) {
		return ""
	}
	return name
}

// returned is the Ref of a Query or an Execute that what the session means is
// set behind.
type returned struct {
	said    bool // of a Query: its own command's tag has come, and the rest answers what was added
	unnamed bool // as unnamedChange
}

// hushed reports whether a message of the server's answers what was added to a
// client's Query. mu is held.
func (l *link) hushed(typ byte) bool {
	r, ok := l.ledger.Settle(wire.MsgNotice, 0).Head.Ref.(*returned)
	if !ok {
		return false
	}
	ours := r.said
	switch typ {
	case wire.MsgCommandComplete:
		r.said = true
	case wire.MsgRowDescription, wire.MsgDataRow:
	default:
		return false
	}
	return ours
}

// putReturn runs a query behind the Execute of a RESET, in the same batch.
func (f *feeder) putReturn(query string) {
	f.carry(query, func(byte) wire.Entry { return wire.Entry{Action: wire.Swallow} })
}

// endsDiscard is the Ref of a Sync of ours behind a DISCARD ALL in an open batch.
type endsDiscard struct{}

// returnsWithin reports whether a message in an open batch waits for what a DISCARD
// ALL in front of it has reset. That ends its transaction by itself: a Sync of ours
// ends nothing more, and behind it what the session means is set, as at the end of
// the batch.
func (f *feeder) returnsWithin() (waits bool) {
	l := f.l
	switch e, _ := l.ledger.Head(); {
	case e.Ref == endsDiscard{}:
		return true
	case f.s.found&sqlscan.ResetsAll == 0 || !l.ledger.BatchOpen() || l.ledger.Skipping():
		return false
	case l.ledger.Len() > 0:
		f.flush()
		return true
	case !l.discarded:
		return false
	}
	l.discarded, l.untold = false, true
	l.ledger.Append(wire.Entry{Msg: wire.MsgSync, Action: wire.Swallow, Ref: endsDiscard{}})
	f.put(func(dst []byte) []byte { return wire.AppendEmpty(dst, wire.MsgSync) })
	f.s.batch++
	return true
}

// discardEnded follows the end of that Sync: it is as at the end of a transaction of
// the client's, who is told nothing. mu is held.
func (l *link) discardEnded(status byte, now time.Time) {
	if l.readyForQuery(status, now) && l.asking != nil {
		l.asking.withheld = false
	}
}
