package wirescript

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// frontend is one message to be sent. encode gets the target's names, because
// a startup message carries them.
type frontend struct {
	row    Row  // the row of the table of cells; "" for what has none
	typ    byte // 0: no type byte
	empty  bool // a Query without a statement
	raw    bool // answered by a single byte (SSLRequest, GSSENCRequest)
	start  bool // a startup message
	encode func(vars) []byte
}

// vars are the names a target fills in.
type vars struct{ user, database string }

// word is one argument; quoted ones are never keywords.
type word struct {
	text   string
	quoted bool
}

func splitWords(s string) ([]word, error) {
	var out []word
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		switch {
		case s[0] == '"':
			q, err := strconv.QuotedPrefix(s)
			if err != nil {
				return nil, fmt.Errorf("bad quoting: %s", s)
			}
			t, err := strconv.Unquote(q)
			if err != nil {
				return nil, fmt.Errorf("bad quoting: %s", q)
			}
			out = append(out, word{expand(t), true})
			s = s[len(q):]
		case strings.HasPrefix(s, "x'"):
			end := strings.IndexByte(s[2:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("bad hex: %s", s)
			}
			b, err := hex.DecodeString(strings.ReplaceAll(s[2:2+end], " ", ""))
			if err != nil {
				return nil, err
			}
			out = append(out, word{string(b), true})
			s = s[2+end+1:]
		default:
			t, rest, _ := strings.Cut(s, " ")
			if name, quoted, ok := strings.Cut(t, `="`); ok && name != "" {
				q, err := strconv.QuotedPrefix(s[len(name)+1:])
				if err != nil {
					return nil, fmt.Errorf("bad quoting: %s %s", t, quoted)
				}
				v, err := strconv.Unquote(q)
				if err != nil {
					return nil, fmt.Errorf("bad quoting: %s", q)
				}
				out = append(out, word{name + "=" + expand(v), false})
				s = s[len(name)+1+len(q):]
				continue
			}
			out = append(out, word{expand(t), false})
			s = rest
		}
	}
	return out, nil
}

// expand replaces ${repeat:text:count}.
func expand(s string) string {
	for {
		i := strings.Index(s, "${repeat:")
		if i < 0 {
			return s
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return s
		}
		body := s[i+len("${repeat:") : i+end]
		j := strings.LastIndexByte(body, ':')
		if j < 0 {
			return s
		}
		n, err := strconv.Atoi(body[j+1:])
		if err != nil {
			return s
		}
		s = s[:i] + strings.Repeat(body[:j], n) + s[i+end+1:]
	}
}

// name reads "-" as the unnamed statement or portal.
func (w word) name() string {
	if w.text == "-" && !w.quoted {
		return ""
	}
	return w.text
}

func frame(typ byte, body []byte) []byte {
	out := make([]byte, 0, len(body)+5)
	if typ != 0 {
		out = append(out, typ)
	}
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)+4))
	return append(out, body...)
}

func fixed(row Row, typ byte, body []byte) frontend {
	b := frame(typ, body)
	return frontend{row: row, typ: typ, encode: func(vars) []byte { return b }}
}

func cstr(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = append(append(b, p...), 0)
	}
	return b
}

func parseFrontend(text string) (frontend, error) {
	verb, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	switch verb {
	case "Query":
		sql := expand(rest)
		if w, err := splitWords(rest); err == nil && len(w) == 1 && w[0].quoted {
			sql = w[0].text
		}
		f := fixed(RowQuery, 'Q', cstr(sql))
		if strings.Trim(sql, " \t\n;") == "" {
			f.row, f.empty = RowEmptyQuery, true
		}
		return f, nil
	case "Parse":
		return parseParse(rest)
	}
	w, err := splitWords(rest)
	if err != nil {
		return frontend{}, err
	}
	need := func(lo, hi int) error {
		if len(w) < lo || hi >= 0 && len(w) > hi {
			return fmt.Errorf("%s: wrong number of arguments", verb)
		}
		return nil
	}
	switch verb {
	case "Bind":
		if err := need(2, -1); err != nil {
			return frontend{}, err
		}
		vals, err := values(w[2:])
		if err != nil {
			return frontend{}, err
		}
		body := append(cstr(w[0].name(), w[1].name()), vals.encode()...)
		return fixed(RowBind, 'B', append(body, vals.results()...)), nil
	case "FunctionCall":
		if err := need(1, -1); err != nil {
			return frontend{}, err
		}
		oid, err := strconv.ParseUint(w[0].text, 10, 32)
		if err != nil {
			return frontend{}, err
		}
		vals, err := values(w[1:])
		if err != nil {
			return frontend{}, err
		}
		body := binary.BigEndian.AppendUint32(nil, uint32(oid))
		body = append(body, vals.encode()...)
		res := int16(0)
		if len(vals.res) > 0 {
			res = vals.res[0]
		}
		return fixed(RowFunctionCall, 'F', binary.BigEndian.AppendUint16(body, uint16(res))), nil
	case "Describe", "Close":
		if err := need(2, 2); err != nil {
			return frontend{}, err
		}
		rows := map[string]Row{"DescribeS": RowDescribeS, "DescribeP": RowDescribeP, "CloseS": RowCloseS, "CloseP": RowCloseP}
		row, ok := rows[verb+w[0].text]
		if !ok {
			return frontend{}, fmt.Errorf("%s: want S or P", verb)
		}
		return fixed(row, verb[0], append([]byte(w[0].text), cstr(w[1].name())...)), nil
	case "Execute":
		if err := need(1, 2); err != nil {
			return frontend{}, err
		}
		max := 0
		if len(w) == 2 {
			if max, err = strconv.Atoi(w[1].text); err != nil {
				return frontend{}, err
			}
		}
		return fixed(RowExecute, 'E', binary.BigEndian.AppendUint32(cstr(w[0].name()), uint32(max))), nil
	case "Sync":
		return fixed(RowSync, 'S', nil), need(0, 0)
	case "Flush":
		return fixed(RowFlush, 'H', nil), need(0, 0)
	case "Terminate":
		return fixed(RowTerminate, 'X', nil), need(0, 0)
	case "CopyDone":
		return fixed(RowCopyDone, 'c', nil), need(0, 0)
	case "CopyData", "CopyFail":
		if err := need(1, 1); err != nil {
			return frontend{}, err
		}
		if verb == "CopyFail" {
			return fixed(RowCopyFail, 'f', cstr(w[0].text)), nil
		}
		return fixed(RowCopyData, 'd', []byte(w[0].text)), nil
	case "Frame": // any type byte, any body
		if err := need(1, 2); err != nil {
			return frontend{}, err
		}
		if len(w[0].text) != 1 {
			return frontend{}, fmt.Errorf("want one type byte for Frame")
		}
		f := fixed("", w[0].text[0], []byte(append(w, word{})[1].text))
		if !strings.ContainsRune("QPBDECSHFdcfXp", rune(f.typ)) {
			f.row = RowUnknown
		}
		return f, nil
	case "Bytes": // as they are
		if err := need(1, 1); err != nil {
			return frontend{}, err
		}
		b := []byte(w[0].text)
		return frontend{encode: func(vars) []byte { return b }}, nil
	case "SSLRequest", "GSSENCRequest":
		code := uint32(80877103)
		if verb[0] == 'G' {
			code++
		}
		f := fixed("", 0, binary.BigEndian.AppendUint32(nil, code))
		f.raw = true
		return f, nil
	case "Startup":
		params := make([]string, len(w))
		for i := range w {
			params[i] = w[i].text
		}
		return startup(params)
	}
	return frontend{}, fmt.Errorf("unknown message %q", verb)
}

func parseParse(rest string) (frontend, error) {
	name, sql, _ := strings.Cut(rest, " ")
	if q, err := strconv.QuotedPrefix(rest); err == nil {
		name, sql = q, rest[len(q):]
	}
	rest = sql
	w, err := splitWords(name)
	if err != nil || len(w) != 1 {
		return frontend{}, fmt.Errorf("want a name, or - for the unnamed statement, behind Parse")
	}
	rest = strings.TrimSpace(rest)
	var oids []uint64
	if strings.HasPrefix(rest, "[") {
		list, sql, ok := strings.Cut(rest[1:], "]")
		if !ok {
			return frontend{}, fmt.Errorf("[ without ] in Parse")
		}
		for _, t := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
			oid, err := strconv.ParseUint(t, 10, 32)
			if err != nil {
				return frontend{}, err
			}
			oids = append(oids, oid)
		}
		rest = strings.TrimSpace(sql)
	}
	row := RowParseNamed
	if w[0].name() == "" {
		row = RowParseUnnamed
	}
	body := cstr(w[0].name(), expand(rest))
	body = binary.BigEndian.AppendUint16(body, uint16(len(oids)))
	for _, oid := range oids {
		body = binary.BigEndian.AppendUint32(body, uint32(oid))
	}
	return fixed(row, 'P', body), nil
}

// params are the values of Bind and FunctionCall: a NULL, text, "quoted",
// x'hex'; fmt=1,0 gives their formats and res=1 those of the result.
type params struct {
	vals []*string
	fmts []int16
	res  []int16
}

func values(ws []word) (params, error) {
	var p params
	for _, w := range ws {
		list, isFmt := strings.CutPrefix(w.text, "fmt=")
		if !isFmt {
			list = strings.TrimPrefix(w.text, "res=")
		}
		switch {
		case !w.quoted && list != w.text:
			for _, t := range strings.Split(list, ",") {
				n, err := strconv.ParseInt(t, 10, 16)
				if err != nil {
					return p, err
				}
				if isFmt {
					p.fmts = append(p.fmts, int16(n))
				} else {
					p.res = append(p.res, int16(n))
				}
			}
		case !w.quoted && w.text == "NULL":
			p.vals = append(p.vals, nil)
		default:
			v := w.text
			p.vals = append(p.vals, &v)
		}
	}
	return p, nil
}

func int16s(list []int16) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(list)))
	for _, n := range list {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return b
}

func (p params) encode() []byte {
	b := int16s(p.fmts)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.vals)))
	for _, v := range p.vals {
		if v == nil {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(*v)))
		b = append(b, *v...)
	}
	return b
}

func (p params) results() []byte { return int16s(p.res) }
