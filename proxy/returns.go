package proxy

import (
	"bytes"
	"strings"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// On a server RESET goes to what that was started with, and a session means its
// own startup parameters. Behind the transaction the inspection sees to that. In
// the middle of one, where a Query is one RESET, or SET TO DEFAULT, and nothing
// else, what the session means is set behind it, in the same Query.

// afterReset is what to add to a text, "" for nothing. mu is held.
func (l *link) afterReset(sql []byte, found sqlscan.Finding) string {
	s := l.sess
	if found&sqlscan.Resets == 0 || s.start == noSettings || s.upstream || !s.carries && s.mode != ModeSession {
		return ""
	}
	if l.ledger.Len() > 0 || l.ledger.BatchOpen() || l.ledger.Status() != wire.TxOpen {
		return ""
	}
	name, local := returns(sql)
	if name == "" {
		return ""
	}
	var b strings.Builder
	for _, p := range s.start.list() {
		all := name == "all" && p.name != "role" && p.name != "session_authorization"
		if !all && !strings.EqualFold(p.name, name) {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\n;SELECT ")
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
	return b.String()
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

// hush says how much of the reply to such a Query has come.
type hush uint8

const (
	noHush  hush = iota
	ofReset      // its own command's tag is to come
	ofOurs       // what comes is the reply to what was added
)

// hushed reports whether a message of the server's answers what was added to the
// client's Query. mu is held.
func (l *link) hushed(typ byte) bool {
	ours := l.hush == ofOurs
	switch typ {
	case wire.MsgCommandComplete:
		l.hush = ofOurs
	case wire.MsgReady:
		l.hush = noHush
		return false
	case wire.MsgRowDescription, wire.MsgDataRow:
	default:
		return false
	}
	return ours
}
