package sqlscan

import (
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"select 1", "select ?"},
		{"SELECT  *\n FROM t WHERE a = 'x''y' AND b=$1;", "SELECT * FROM t WHERE a = ? AND b=$1"},
		{"select 1, 2,3", "select ?"},
		{"select a from t where b in (1, 'two', 3.5e-7, 0x1f)", "select a from t where b in (?)"},
		{"insert into t values (1, 'a'), (2, 'b')", "insert into t values (?), (?)"},
		{"select E'it\\'s secret', b'01', U&'\\0041', n'x'", "select ?"},
		{"select $$secret$$, $a$ se$$cret $a$, $1", "select ?, $1"},
		{"select 1 -- trace 5f3\n+ 2 /* a /* b */ c */", "select ? + ?"},
		{`select "Odd ""name" from t1`, `select "Odd ""name" from t1`},
		{"select 'never closed", "select ?"},
		{"select $tag$never closed", "select ?"},
		{"select a1, t2.b3, -5", "select a1, t2.b3, -?"},
		{"create role x password 'pw'", "create role x password ?"},
		{"", ""},
		{" ; ", ""},
	} {
		if got := string(Normalize(nil, []byte(tt.in), true, 1000)); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
	if got := string(Normalize(nil, []byte(`select 'a\'b', secret`), false, 1000)); got != "select ?, secret" {
		t.Errorf("with backslashes: %q", got)
	}
	long := "select '" + strings.Repeat("s3cret", 100) + "'"
	for most := range len(long) {
		if got := string(Normalize(nil, []byte(long), true, most)); strings.Contains(got, "s3c") {
			t.Fatalf("cut at %d: %q", most, got)
		}
	}
}

// FuzzNormalize looks for a text whose normal form has a quoted string, or
// that changes when it is normalized again.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"select 'a'", "e'\\'", "$a$b$a$", `"x`, "1.e+5", "u&'", "--", "/*/**/"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, sql []byte, standard bool) {
		once := Normalize(nil, sql, standard, 1<<16)
		inName := false
		for _, c := range once {
			switch {
			case c == '"':
				inName = !inName
			case c == '\'' && !inName:
				t.Fatalf("%q: %q has a quote", sql, once)
			}
		}
	})
}
