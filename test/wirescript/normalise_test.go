package wirescript

import "testing"

func errorMessage(fields ...string) Message {
	var b []byte
	for _, f := range fields {
		b = append(b, cstr(f)...)
	}
	return Message{'E', append(b, 0)}
}

// TestSame: what a comparison sees, and what it does not.
func TestSame(t *testing.T) {
	full := errorMessage("SERROR", "VERROR", "C42601", "Mtext", "P8", "Fa.c", "L1", "Rf")
	for _, c := range []struct {
		name      string
		want, got Message
		same      bool
	}{
		{"equal", full, full, true},
		{"raised by the pooler", full, errorMessage("SERROR", "VERROR", "C42601", "Mtext", "P8"), true},
		{"only the line is missing", full, errorMessage("SERROR", "VERROR", "C42601", "Mtext", "P8", "Fa.c", "Rf"), false},
		{"another place in the source", full, errorMessage("SERROR", "VERROR", "C42601", "Mtext", "P8", "Fa.c", "L2", "Rf"), false},
		{"another text", full, errorMessage("SERROR", "VERROR", "C42601", "Mother", "P8"), false},
		{"the position is missing", full, errorMessage("SERROR", "VERROR", "C42601", "Mtext"), false},
		{"a field more", full, errorMessage("SERROR", "VERROR", "C42601", "Mtext", "P8", "Dmore"), false},
		{"PostgreSQL without a place, the pooler with", errorMessage("VERROR", "C42601"), errorMessage("VERROR", "C42601", "Fa.c", "L1", "Rf"), false},
		{"25P02 from another message", errorMessage("C25P02", "Fa.c", "L1", "Rf"), errorMessage("C25P02", "Fa.c", "L2", "Rg"), true},
		{"a notice is no error", full, Message{'N', full.Body}, false},
		{"rows", Message{'D', []byte{0, 0}}, Message{'D', []byte{0, 1, 255, 255, 255, 255}}, false},
	} {
		if got := same(c.want, c.got); got != c.same {
			t.Errorf("%s: %v, want %v", c.name, got, c.same)
		}
	}
}

func TestDivergence(t *testing.T) {
	z := func(conn, status string) Entry { return Entry{Conn: conn, Msg: Message{'Z', []byte(status)}} }
	a := []Entry{z("a", "I"), z("b", "T")}
	for _, c := range []struct {
		name string
		got  []Entry
		want int
	}{
		{"equal", []Entry{z("a", "I"), z("b", "T")}, -1},
		{"another status", []Entry{z("a", "I"), z("b", "E")}, 1},
		{"another connection", []Entry{z("b", "I"), z("b", "T")}, 0},
		{"missing", a[:1], 1},
		{"one more", append(a[:2:2], z("a", "I")), 2},
	} {
		if got := Divergence(a, c.got); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		if d := Diff(a, c.got); (d == "") != (c.want < 0) {
			t.Errorf("%s: Diff %q", c.name, d)
		}
	}
}
