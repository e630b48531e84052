package proxy

import (
	"bytes"
	"time"

	"pgpoold/wire"
)

// youngQuery is how long a query may have run to be taken for one that met a
// server in the moment of its shutdown. Who ends a server whose query runs
// for longer means the query.
const youngQuery = time.Second

// repeatable reports whether what was sent to a server that has been shut
// down without answering anything can be sent to another one: it is one
// batch that has just begun, and each of its statements is of a kind that
// leaves nothing behind when its transaction does not commit. Had it
// committed, the server would have said so first. mu is held.
func (s *session) repeatable(l *link) bool {
	began := l.stats.queryBegan
	if s.again >= maxAgain || s.sentN <= 0 || began.IsZero() || time.Since(began) > youngQuery {
		return false
	}
	for b := s.sent[:s.sentN]; len(b) > 0; {
		if len(b) < wire.HeaderLen {
			return false
		}
		typ, size := wire.Header(b)
		if size < wire.HeaderLen || size > len(b) {
			return false
		}
		if !s.repeatableMessage(typ, b[wire.HeaderLen:size]) {
			return false
		}
		b = b[size:]
	}
	return true
}

func (s *session) repeatableMessage(typ byte, body []byte) bool {
	switch typ {
	case wire.MsgQuery:
		sql, _, _ := wire.CString(body)
		return repeatableText(sql)
	case wire.MsgParse:
		_, rest, _ := wire.CString(body)
		sql, _, _ := wire.CString(rest)
		return repeatableText(sql)
	case wire.MsgBind:
		text, p := statementName(typ, body, true)
		if p != handled {
			return false
		}
		if len(text) == 0 {
			v, _ := s.unnamed.current(s.batch)
			return v == nil || repeatableBody(v.body)
		}
		e := s.names.get(wire.Name(text))
		return e == nil || e.cur == nil || repeatableBody([]byte(e.cur.body))
	case wire.MsgDescribe, wire.MsgExecute, wire.MsgSync, wire.MsgClose, wire.MsgFlush:
		return true
	}
	return false
}

// repeatableBody is repeatableText for the body of a Parse.
func repeatableBody(body []byte) bool {
	sql, _, _ := wire.CString(body)
	return len(body) == 0 || repeatableText(sql)
}

// firstWord is the word that a text begins with, in lower case, if it is one
// that anybody here asks for; else "". It takes no memory: every text is asked.
func firstWord(sql []byte) string {
	sql = trimStart(sql)
	var low [16]byte
	n := 0
	for n < len(sql) && n < len(low) && sql[n]|0x20 >= 'a' && sql[n]|0x20 <= 'z' {
		low[n] = sql[n] | 0x20
		n++
	}
	if n == len("select") && string(low[:n]) == "select" {
		return "select" // most are
	}
	for _, word := range [...]string{"begin", "insert", "update", "delete", "with", "start", "merge", "values", "table", "show", "prepare", "deallocate", "discard", "reset", "unlisten", "close", "set"} {
		if string(low[:n]) == word {
			return word
		}
	}
	return ""
}

// trimStart takes away what may stand in front of a statement.
func trimStart(sql []byte) []byte {
	for i, c := range sql {
		if c != ' ' && c != ';' && c != '\n' && c != '\t' && c != '\r' {
			return sql[i:]
		}
	}
	return nil
}

// repeatableText reports whether a text is one statement of a kind that can
// be undone as a whole. CALL, DO and COMMIT can not, nor can what refuses to
// run in a transaction, such as VACUUM. What PREPARE has made ends with the server,
// and PREPARE TRANSACTION does nothing where no transaction is open.
func repeatableText(sql []byte) bool {
	sql = bytes.Trim(sql, " \t\r\n;")
	if bytes.IndexByte(sql, ';') >= 0 {
		return false
	}
	switch firstWord(sql) {
	case "begin", "start", "select", "insert", "update", "delete", "merge", "with", "values", "table", "show", "prepare":
		return true
	}
	return len(sql) == 0
}
