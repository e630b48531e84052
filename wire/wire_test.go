package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestHeader(t *testing.T) {
	for _, r := range []struct {
		in   string
		typ  byte
		size int
	}{
		{"S\x00\x00\x00\x04", 'S', 5},
		{"Q\x00\x01\x00\x00", 'Q', 65537},
		{"Q\x3f\xff\xff\xff", 'Q', 1 << 30},
		{"Q\x00\x00\x00\x00", 'Q', 1}, // less than HeaderLen: not legal
		{"Q\xff\xff\xff\xff", 'Q', 0}, // negative
		{"Q\x80\x00\x00\x00", 'Q', -1<<31 + 1},
	} {
		typ, size := Header([]byte(r.in))
		if typ != r.typ || size != r.size {
			t.Errorf("%q: %c, %d", r.in, typ, size)
		}
	}
}

func TestCString(t *testing.T) {
	for _, r := range []struct {
		in, s, rest string
		ok          bool
	}{{"a\x00b", "a", "b", true}, {"\x00", "", "", true}, {"", "", "", false}, {"abc", "", "abc", false}} {
		s, rest, ok := CString([]byte(r.in))
		if string(s) != r.s || string(rest) != r.rest || ok != r.ok {
			t.Errorf("%q: %q, %q, %v", r.in, s, rest, ok)
		}
	}
}

// PostgreSQL tells names apart by their first 63 bytes.
func TestName(t *testing.T) {
	long := strings.Repeat("n", 64)
	if got := Name([]byte(long)); string(got) != long[:63] {
		t.Errorf("%q", got)
	}
	if got := Name([]byte(long[:63])); string(got) != long[:63] {
		t.Errorf("%q", got)
	}
}

func TestFrontendLimit(t *testing.T) {
	for _, typ := range "QFBPd" {
		if FrontendLimit(byte(typ)) != 1<<30-2 {
			t.Errorf("%c is limited to %d", typ, FrontendLimit(byte(typ)))
		}
	}
	for _, typ := range "XCDEHScf" {
		if FrontendLimit(byte(typ)) != 10000 {
			t.Errorf("%c is limited to %d", typ, FrontendLimit(byte(typ)))
		}
	}
	for _, typ := range "RZKp\x00T1" {
		if FrontendLimit(byte(typ)) != 0 {
			t.Errorf("%q is taken for a frontend message", typ)
		}
	}
	for _, r := range []struct {
		header string
		ok     bool
	}{
		{"S\x00\x00\x00\x04", true},
		{"S\x00\x00\x00", false},
		{"S\x00\x00\x00\x03", false},
		{"S\x00\x00\x27\x10", true},
		{"S\x00\x00\x27\x11", false},
		{"Q\x3f\xff\xff\xfe", true},
		{"Q\x3f\xff\xff\xff", false},
		{"Q\xff\xff\xff\xff", false},
		{"Z\x00\x00\x00\x05", false},
		{"", false},
	} {
		if _, _, ok := Frontend([]byte(r.header)); ok != r.ok {
			t.Errorf("%q is taken: %v", r.header, ok)
		}
	}
}

// What is appended has the length that its header says, also behind
// something else.
func TestAppend(t *testing.T) {
	e := &Error{Severity: SeverityError, Code: "26000", Message: "no", Detail: "d", Hint: "h"}
	for _, r := range []struct {
		name string
		got  func([]byte) []byte
		want string
	}{
		{"Sync", func(b []byte) []byte { return AppendEmpty(b, MsgSync) }, "S\x00\x00\x00\x04"},
		{"ReadyForQuery", func(b []byte) []byte { return AppendReady(b, TxOpen) }, "Z\x00\x00\x00\x05T"},
		{"Query", func(b []byte) []byte { return AppendQuery(b, "BEGIN") }, "Q\x00\x00\x00\x0aBEGIN\x00"},
		{"Parse", func(b []byte) []byte { return AppendParse(b, "s", []byte("q\x00\x00\x00")) }, "P\x00\x00\x00\x0as\x00q\x00\x00\x00"},
		{"Close", func(b []byte) []byte { return AppendCloseStatement(b, []byte("s")) }, "C\x00\x00\x00\x07Ss\x00"},
		{"Describe", func(b []byte) []byte { return AppendDescribeStatement(b, "s") }, "D\x00\x00\x00\x07Ss\x00"},
		{"head of Bind", func(b []byte) []byte { return AppendBindHead(b, "p", "s", 6) }, "B\x00\x00\x00\x0ep\x00s\x00"},
		{"ParameterStatus", func(b []byte) []byte { return AppendParameterStatus(b, "n", "v") }, "S\x00\x00\x00\x08n\x00v\x00"},
		{"BackendKeyData", func(b []byte) []byte { return AppendBackendKeyData(b, 7, []byte("key")) }, "K\x00\x00\x00\x0b\x00\x00\x00\x07key"},
		{"NegotiateProtocolVersion", func(b []byte) []byte { return AppendNegotiate(b, Protocol32, []string{"_pq_.x"}) },
			"v\x00\x00\x00\x13\x00\x03\x00\x02\x00\x00\x00\x01_pq_.x\x00"},
		{"CopyFail", func(b []byte) []byte { return AppendCopyFail(b, "no") }, "f\x00\x00\x00\x07no\x00"},
		{"ErrorResponse", e.Append, "E\x00\x00\x00\x24SERROR\x00VERROR\x00C26000\x00Mno\x00Dd\x00Hh\x00\x00"},
		{"NoticeResponse", e.AppendNotice, "N\x00\x00\x00\x24SERROR\x00VERROR\x00C26000\x00Mno\x00Dd\x00Hh\x00\x00"},
		{"CancelRequest", func(b []byte) []byte { return AppendCancel(b, 7, []byte("key4")) }, "\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x07key4"},
		{"SSLRequest", AppendSSLRequest, "\x00\x00\x00\x08\x04\xd2\x16\x2f"},
	} {
		for _, before := range []string{"", "before"} {
			if got := r.got([]byte(before)); string(got) != before+r.want {
				t.Errorf("%s behind %q: %q", r.name, before, got)
			}
		}
	}
}

func TestErrorAppend(t *testing.T) {
	e := &Error{Severity: "ERROR", Code: "0A000", Message: "m", Detail: "d", Hint: "h", Routine: "r"}
	if got := string(e.Append(nil)[HeaderLen:]); got != "SERROR\x00VERROR\x00C0A000\x00Mm\x00Dd\x00Hh\x00Rr\x00\x00" {
		t.Errorf("%q", got)
	}
}

func TestErrorFields(t *testing.T) {
	body := []byte("SFEHLER\x00VERROR\x00C42P05\x00Mgone \"x\"\x00\x00")
	for code, want := range map[byte]string{'S': "FEHLER", 'V': "ERROR", 'C': "42P05", 'M': "gone \"x\"", 'D': ""} {
		if got := ErrorField(body, code); string(got) != want {
			t.Errorf("field %c is %q", code, got)
		}
	}
	for _, cut := range []string{"", "S", "SERROR", "SERROR\x00C"} {
		if got := ErrorField([]byte(cut), 'C'); len(got) > 0 {
			t.Errorf("%q has a code: %q", cut, got)
		}
	}
	edited := AppendErrorWith([]byte("x"), body, func(code byte, value []byte) []byte {
		if code == 'M' {
			return []byte("there")
		}
		return value
	})
	typ, size := Header(edited[1:])
	if typ != MsgError || size != len(edited)-1 {
		t.Fatalf("%q", edited)
	}
	if got := string(edited[1+HeaderLen:]); got != "SFEHLER\x00VERROR\x00C42P05\x00Mthere\x00\x00" {
		t.Errorf("%q", got)
	}
}

func TestEnds(t *testing.T) {
	for _, r := range []struct {
		body string
		want bool
	}{
		{"SERROR\x00VERROR\x00\x00", false}, {"SFATAL\x00VFATAL\x00\x00", true}, {"SPANIK\x00VPANIC\x00\x00", true},
		{"SFATAL\x00C57P01\x00\x00", true}, // before 9.6
		{"SERREUR\x00VERROR\x00MFATAL\x00\x00", false}, {"", false},
	} {
		if got := Ends([]byte(r.body)); got != r.want {
			t.Errorf("%q: %v", r.body, got)
		}
	}
}

func TestParameterStatus(t *testing.T) {
	n, v, ok := ParameterStatus([]byte("TimeZone\x00Asia/Tokyo\x00"))
	if string(n) != "TimeZone" || string(v) != "Asia/Tokyo" || !ok {
		t.Errorf("%q, %q, %v", n, v, ok)
	}
	for _, bad := range []string{"", "TimeZone", "TimeZone\x00", "TimeZone\x00Asia"} {
		if _, _, ok := ParameterStatus([]byte(bad)); ok {
			t.Errorf("%q was taken", bad)
		}
	}
	body := []byte("\x00\x00\x00\x01ch\x00\x00")
	SetPID(body, 4194304)
	if string(body) != "\x00\x40\x00\x00ch\x00\x00" {
		t.Errorf("%q", body)
	}
	SetPID(body[:3], 1) // cut short: nothing to set
}

func startup(code uint32, rest string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, code), rest...)
}

func TestParseStartup(t *testing.T) {
	for _, r := range []struct {
		name string
		in   []byte
		want *Startup
		code string // of the error that the client is told; "-" for an error without a word
	}{
		{"ssl", startup(SSLCode, ""), &Startup{Kind: StartupSSL}, ""},
		{"gss", startup(GSSENCCode, ""), &Startup{Kind: StartupGSSENC}, ""},
		{"cancel", startup(CancelCode, "\x00\x00\x00\x07key4"), &Startup{Kind: StartupCancel, PID: 7, Secret: []byte("key4")}, ""},
		{"cancel with a long key", startup(CancelCode, "\x00\x00\x00\x07"+strings.Repeat("k", 256)),
			&Startup{Kind: StartupCancel, PID: 7, Secret: []byte(strings.Repeat("k", 256))}, ""},
		{"cancel with too long a key", startup(CancelCode, "\x00\x00\x00\x07"+strings.Repeat("k", 257)), nil, "-"},
		{"cancel cut short", startup(CancelCode, "\x00\x00\x00\x07"), nil, "-"},
		{"3.0", startup(Protocol30, "user\x00u\x00database\x00d\x00\x00"),
			&Startup{Version: Protocol30, Parameters: Parameters{{"user", "u"}, {"database", "d"}}}, ""},
		{"3.2 with options", startup(Protocol32, "user\x00u\x00_pq_.x\x001\x00_pq_.y\x00\x00\x00"),
			&Startup{Version: Protocol32, Parameters: Parameters{{"user", "u"}}, Options: []string{"_pq_.x", "_pq_.y"}}, ""},
		{"empty value", startup(Protocol30, "options\x00\x00\x00"), &Startup{Version: Protocol30, Parameters: Parameters{{"options", ""}}}, ""},
		{"nothing", startup(Protocol30, "\x00"), &Startup{Version: Protocol30, Parameters: Parameters{}}, ""},
		{"2.0", startup(2<<16, ""), nil, "0A000"},
		{"4.0", startup(4<<16, ""), nil, "0A000"},
		{"no terminator", startup(Protocol30, "user\x00u\x00"), nil, "08P01"},
		{"value without end", startup(Protocol30, "user\x00u"), nil, "08P01"},
		{"name without value", startup(Protocol30, "user\x00"), nil, "08P01"},
		{"bytes behind the terminator", startup(Protocol30, "\x00x"), nil, "08P01"},
		{"empty", nil, nil, "-"},
	} {
		t.Run(r.name, func(t *testing.T) {
			got, err := ParseStartup(r.in)
			var own *Error
			switch {
			case r.code == "" && err != nil, r.code == "-" && (err == nil || errors.As(err, &own)):
				t.Fatal(err)
			case r.code != "" && r.code != "-" && (!errors.As(err, &own) || own.Code != r.code || own.Severity != SeverityFatal):
				t.Fatal(err)
			case r.code == "" && !reflect.DeepEqual(got, r.want):
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestStartupLength(t *testing.T) {
	for n, ok := range map[uint32]bool{0: false, 4: false, 7: false, 8: true, 10000: true, 10001: false, 1 << 31: false, 0xffffffff: false} {
		var head [4]byte
		binary.BigEndian.PutUint32(head[:], n)
		got, err := StartupLength(head)
		if (err == nil) != ok || ok && got != int(n)-4 {
			t.Errorf("%d: %d, %v", n, got, err)
		}
	}
}

func FuzzStartup(f *testing.F) {
	f.Add(startup(Protocol30, "user\x00u\x00\x00"))
	f.Add(startup(CancelCode, "\x00\x00\x00\x07key4"))
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		s, err := ParseStartup(in)
		if (s == nil) == (err == nil) {
			t.Fatal("neither an answer nor an error")
		}
		if !bytes.Equal(in, before) {
			t.Fatal("the input was changed")
		}
		if err == nil && s.Kind == StartupCancel && len(s.Secret) > MaxCancelKey {
			t.Fatal("the key is too long")
		}
	})
}

func FuzzErrorFields(f *testing.F) {
	f.Add([]byte("SERROR\x00VERROR\x00C26000\x00Mno\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for code := range 256 {
			ErrorField(body, byte(code))
		}
		same := AppendErrorWith(nil, body, func(_ byte, value []byte) []byte { return value })
		if _, size := Header(same); size != len(same) {
			t.Fatalf("%q becomes %q", body, same)
		}
		if Ends(body) != Ends(same[HeaderLen:]) {
			t.Fatal("the copy has another severity")
		}
	})
}
