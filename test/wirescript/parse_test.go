package wirescript

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestFrontendBytes holds what scripts say against pgproto3's reading of it,
// which knows nothing of ours.
func TestFrontendBytes(t *testing.T) {
	for _, c := range []struct {
		text string
		want pgproto3.FrontendMessage
		row  Row
	}{
		{"Query select 1; select 2", &pgproto3.Query{String: "select 1; select 2"}, RowQuery},
		{`Query "select '\xff'"`, &pgproto3.Query{String: "select '\xff'"}, RowQuery},
		{"Query ; ;", &pgproto3.Query{String: "; ;"}, RowEmptyQuery},
		{"Query", &pgproto3.Query{}, RowEmptyQuery},
		{"Parse s1 [23, 25] select $1, $2", &pgproto3.Parse{Name: "s1", Query: "select $1, $2", ParameterOIDs: []uint32{23, 25}}, RowParseNamed},
		{"Parse - select 1", &pgproto3.Parse{Query: "select 1"}, RowParseUnnamed},
		{`Parse "a b" select 1`, &pgproto3.Parse{Name: "a b", Query: "select 1"}, RowParseNamed},
		{"Parse s1", &pgproto3.Parse{Name: "s1"}, RowParseNamed},
		{`Bind p s 7 "a b" NULL x'00ff' fmt=1,0 res=1`, &pgproto3.Bind{
			DestinationPortal: "p", PreparedStatement: "s", ParameterFormatCodes: []int16{1, 0},
			Parameters: [][]byte{[]byte("7"), []byte("a b"), nil, {0, 255}}, ResultFormatCodes: []int16{1},
		}, RowBind},
		{`Bind - - "NULL"`, &pgproto3.Bind{Parameters: [][]byte{[]byte("NULL")}}, RowBind},
		{"Describe S s1", &pgproto3.Describe{ObjectType: 'S', Name: "s1"}, RowDescribeS},
		{"Describe P -", &pgproto3.Describe{ObjectType: 'P'}, RowDescribeP},
		{"Close S s1", &pgproto3.Close{ObjectType: 'S', Name: "s1"}, RowCloseS},
		{"Close P p1", &pgproto3.Close{ObjectType: 'P', Name: "p1"}, RowCloseP},
		{"Execute p1 7", &pgproto3.Execute{Portal: "p1", MaxRows: 7}, RowExecute},
		{"Sync", &pgproto3.Sync{}, RowSync},
		{"Flush", &pgproto3.Flush{}, RowFlush},
		{"Terminate", &pgproto3.Terminate{}, RowTerminate},
		{"FunctionCall 177 x'00000001' NULL fmt=1 res=1", &pgproto3.FunctionCall{
			Function: 177, ArgFormatCodes: []uint16{1}, Arguments: [][]byte{{0, 0, 0, 1}, nil}, ResultFormatCode: 1,
		}, RowFunctionCall},
		{`CopyData "1\t2\n"`, &pgproto3.CopyData{Data: []byte("1\t2\n")}, RowCopyData},
		{"CopyDone", &pgproto3.CopyDone{}, RowCopyDone},
		{`CopyFail "no more"`, &pgproto3.CopyFail{Message: "no more"}, RowCopyFail},
		{`Query ${repeat:ab:3}`, &pgproto3.Query{String: "ababab"}, RowQuery},
	} {
		f, err := parseFrontend(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if f.row != c.row {
			t.Errorf("%s: row %q, want %q", c.text, f.row, c.row)
		}
		want, err := c.want.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.encode(vars{}); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", c.text, got, want)
		}
	}
}

func TestStartupBytes(t *testing.T) {
	f, err := parseFrontend(`Startup options="-c a=b" database=other password=-`)
	if err != nil {
		t.Fatal(err)
	}
	want, err := (&pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "me"}}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := f.encode(vars{user: "me", database: "db"})
	want = append(bytes.TrimSuffix(want[4:], []byte{0}), "database\x00other\x00options\x00-c a=b\x00\x00"...)
	// Ours keeps the script's order behind user and database.
	want = bytes.Replace(want, []byte("database\x00other\x00options\x00-c a=b\x00"), []byte("options\x00-c a=b\x00database\x00other\x00"), 1)
	if !bytes.Equal(got[4:], want) {
		t.Errorf("got %q\nwant %q", got[4:], want)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a> Query select 1":                   "first line must be a comment",
		"# x\na> Quary select 1":              `:2: unknown message "Quary"`,
		"# x\n\na< q":                         ":3: no backend message",
		"# x\na<":                             "nothing to read",
		"# x\na< ...":                         "needs a message behind it",
		"# x\na< D[1":                         "[ without ]",
		"# x\na< D{0}":                        "want {n}",
		"# x\na< ... D*":                      "must come",
		"# x\na> Describe X s1":               "want S or P",
		"# x\na> Bind p":                      "wrong number",
		"# x\na> Bind - - \"open":             "bad quoting",
		"# x\na> Parse s1 [x] select 1":       "invalid syntax",
		"# x\nrepeat 2\na> Sync":              ":2: repeat without end",
		"# x\nrepeat 2\nrepeat 2\nend\nend":   ":3: repeat inside repeat",
		"# x\nonly sometimes":                 "want direct or pooler",
		"# x\ndiffers":                        "needs a reason",
		"# x\ncancel a":                       "no connection",
		"# x\na> Sync\nopen a timezone=UTC":   "open already",
		"# x\nraw a\na> Startup user":         "want name=value",
		"# x\nsleep 5":                        `unknown word "sleep"`,
		"# x\na> Frame toolong":               "one type byte",
		"# x\na> FunctionCall int4pl x'0001'": "invalid syntax",
	} {
		_, err := Parse("case", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want ... %s", text, err, want)
		}
	}
}

func TestRepeat(t *testing.T) {
	s, err := Parse("case", "# x\nrepeat 3\na> Query select ${i}\na< ... Z\nend")
	if err != nil {
		t.Fatal(err)
	}
	var sql []string
	for _, st := range s.steps {
		if st.kind == stepSend {
			sql = append(sql, string(st.msg.encode(vars{})[5:]))
		}
	}
	if got := strings.Join(sql, ","); got != "select 1\x00,select 2\x00,select 3\x00" {
		t.Errorf("got %q", got)
	}
}

// TestPatternFor: what -fill writes must match what it was made from.
func TestPatternFor(t *testing.T) {
	encode := func(m pgproto3.BackendMessage) Message {
		b, err := m.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		return Message{b[0], b[5:]}
	}
	for _, c := range []struct {
		m    Message
		want string
	}{
		{encode(&pgproto3.DataRow{Values: [][]byte{[]byte("1"), nil, []byte("a]b")}}), `D["1|NULL|a]b"]`},
		{encode(&pgproto3.DataRow{}), "D[]"},
		{encode(&pgproto3.DataRow{Values: [][]byte{{0, 1}}}), `D[\x0001]`},
		{encode(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}), "C[INSERT 0 1]"},
		{encode(&pgproto3.ReadyForQuery{TxStatus: 'T'}), "Z[T]"},
		{encode(&pgproto3.ErrorResponse{SeverityUnlocalized: "ERROR", Code: "42P05"}), "E[42P05]"},
		{encode(&pgproto3.ErrorResponse{SeverityUnlocalized: "FATAL", Code: "57P01"}), "E[FATAL 57P01]"},
		{encode(&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}), "S[TimeZone=UTC]"},
		{encode(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a")}, {Name: []byte("b")}}}), "T[a,b]"},
		{encode(&pgproto3.ParseComplete{}), "1"},
		{encode(&pgproto3.PortalSuspended{}), "s"},
		{Message{Type: typeClose}, "close"},
	} {
		got := PatternFor(c.m)
		if got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		p, err := parsePatterns(got)
		if err != nil || len(p) != 1 || !p[0].matches(c.m) {
			t.Errorf("%s does not match what it was made from (%v)", got, err)
		}
	}
}

// TestShortMessages: a peer's truncated message is shown, not crashed on.
func TestShortMessages(t *testing.T) {
	for typ := range messageNames {
		for n := range 12 {
			m := Message{typ, bytes.Repeat([]byte{1}, n)}
			_, _ = m.String(), m.Brief()
			newNormaliser().message(m)
		}
	}
}
