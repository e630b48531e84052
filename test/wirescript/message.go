package wirescript

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Message is one thing the other side said. Type is PostgreSQL's type byte;
// typeByte and typeClose stand for what has none.
type Message struct {
	Type byte
	Body []byte
}

const (
	typeByte  byte = 'b' // the single byte that answers SSLRequest; in Body
	typeClose byte = 'x' // the connection ended
)

// names of backend messages, for people.
var messageNames = map[byte]string{
	'R': "Authentication", 'S': "ParameterStatus", 'K': "BackendKeyData", 'Z': "ReadyForQuery",
	'T': "RowDescription", 't': "ParameterDescription", 'n': "NoData", 'D': "DataRow", 'C': "CommandComplete",
	'I': "EmptyQueryResponse", 's': "PortalSuspended", '1': "ParseComplete", '2': "BindComplete", '3': "CloseComplete",
	'E': "ErrorResponse", 'N': "NoticeResponse", 'G': "CopyInResponse", 'H': "CopyOutResponse", 'W': "CopyBothResponse",
	'd': "CopyData", 'c': "CopyDone", 'V': "FunctionCallResponse", 'A': "NotificationResponse",
	'v': "NegotiateProtocolVersion", typeByte: "byte", typeClose: "close",
}

// body reads a message's fields; a body that is too short makes bad true
// instead of a panic, so that a broken peer is shown, not crashed on.
type body struct {
	b   []byte
	bad bool
}

func (r *body) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, max(0, min(n, 8)))
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *body) i8() int   { return int(r.take(1)[0]) }
func (r *body) i16() int  { return int(int16(binary.BigEndian.Uint16(r.take(2)))) }
func (r *body) i32() int  { return int(int32(binary.BigEndian.Uint32(r.take(4)))) }
func (r *body) oid() uint { return uint(binary.BigEndian.Uint32(r.take(4))) }

func (r *body) str() string {
	for i, c := range r.b {
		if c == 0 {
			return string(r.take(i + 1)[:i])
		}
	}
	r.bad = true
	return ""
}

// field is one entry of an ErrorResponse or NoticeResponse.
type field struct {
	code byte
	text string
}

func (m Message) fields() []field {
	var out []field
	for r := (body{b: m.Body}); !r.bad && len(r.b) > 0 && r.b[0] != 0; {
		code := byte(r.i8())
		out = append(out, field{code, r.str()})
	}
	return out
}

func (m Message) field(code byte) string {
	for _, f := range m.fields() {
		if f.code == code {
			return f.text
		}
	}
	return ""
}

// IsClose says that this stands for the end of the connection.
func (m Message) IsClose() bool { return m.Type == typeClose }

// SQLState is the code of an ErrorResponse or NoticeResponse, else "".
func (m Message) SQLState() string {
	if m.Type != 'E' && m.Type != 'N' {
		return ""
	}
	return m.field('C')
}

// column is one column of a RowDescription.
type column struct {
	name          string
	table, typ    uint
	att, len, mod int
	format        int
}

func (m Message) columns() []column {
	r := body{b: m.Body}
	var out []column
	for n := r.i16(); n > 0 && !r.bad; n-- {
		out = append(out, column{name: r.str(), table: r.oid(), att: r.i16(), typ: r.oid(), len: r.i16(), mod: r.i32(), format: r.i16()})
	}
	return out
}

// values of a DataRow, rendered.
func (m Message) row() []string {
	r := body{b: m.Body}
	var out []string
	for n := r.i16(); n > 0 && !r.bad; n-- {
		if l := r.i32(); l < 0 {
			out = append(out, "NULL")
		} else {
			out = append(out, show(r.take(l)))
		}
	}
	return out
}

// show renders bytes: as they are where they are printable, else in hex; long
// ones by length and hash, so that transcripts stay small and comparable.
func show(b []byte) string {
	if len(b) > 256 {
		sum := sha256.Sum256(b)
		return fmt.Sprintf("<%d bytes %s>", len(b), hex.EncodeToString(sum[:8]))
	}
	if !utf8.Valid(b) {
		return `\x` + hex.EncodeToString(b)
	}
	for _, c := range string(b) {
		if !unicode.IsPrint(c) && c != '\n' && c != '\t' {
			return `\x` + hex.EncodeToString(b)
		}
	}
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(string(b))
}

// Brief is the short form that scripts are matched against in brackets.
func (m Message) Brief() string {
	r := body{b: m.Body}
	switch m.Type {
	case 'Z', typeByte:
		return string(m.Body)
	case 'C':
		return r.str()
	case 'D':
		return strings.Join(m.row(), "|")
	case 'E', 'N':
		if sev := m.field('V'); sev == "FATAL" || sev == "PANIC" {
			return sev + " " + m.field('C')
		}
		return m.field('C')
	case 'S':
		name := r.str()
		return name + "=" + r.str()
	case 'T':
		var names []string
		for _, c := range m.columns() {
			names = append(names, c.name)
		}
		return strings.Join(names, ",")
	case 't':
		var oids []string
		for n := r.i16(); n > 0 && !r.bad; n-- {
			oids = append(oids, strconv.Itoa(int(r.oid())))
		}
		return strings.Join(oids, ",")
	case 'd':
		return show(m.Body)
	case 'V':
		if l := r.i32(); l >= 0 {
			return show(r.take(l))
		}
		return "NULL"
	case 'G', 'H', 'W':
		s := strconv.Itoa(r.i8()) + ":"
		for n := r.i16(); n > 0 && !r.bad; n-- {
			s += strconv.Itoa(r.i16())
		}
		return s
	case 'A':
		r.i32()
		channel := r.str()
		return channel + "," + r.str()
	case 'R':
		return strconv.Itoa(r.i32())
	case 'v':
		s := strconv.Itoa(r.i32())
		for n := r.i32(); n > 0 && !r.bad; n-- {
			s += " " + r.str()
		}
		return s
	}
	return ""
}

// String is the whole message, as it stands in a transcript. Object
// identifiers and keys are normalised by the Normaliser before.
func (m Message) String() string {
	switch m.Type {
	case typeClose:
		return "close"
	case 'E', 'N':
		var s strings.Builder
		s.WriteByte(m.Type)
		for _, f := range m.fields() {
			fmt.Fprintf(&s, " %c=%q", f.code, f.text)
		}
		return s.String()
	case 'T':
		var s strings.Builder
		s.WriteByte('T')
		for _, c := range m.columns() {
			fmt.Fprintf(&s, " %s(table %d.%d type %d len %d mod %d fmt %d)", c.name, c.table, c.att, c.typ, c.len, c.mod, c.format)
		}
		return s.String()
	case 'K':
		return "K " + hex.EncodeToString(m.Body)
	case 'A':
		r := body{b: m.Body}
		return fmt.Sprintf("A pid %d %s", r.i32(), m.Brief())
	case 'R', 'S', 'Z', 't', 'D', 'C', 'G', 'H', 'W', 'd', 'V', 'v', typeByte:
		return string(m.Type) + " " + m.Brief()
	}
	if len(m.Body) > 0 {
		return string(m.Type) + " " + show(m.Body)
	}
	return string(m.Type)
}
