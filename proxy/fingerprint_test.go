package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFingerprintsAreBounded(t *testing.T) {
	var f fingerprints
	f.count("search", []byte("select kept"), time.Hour, 1)
	for i := range 5 * maxPrints {
		f.count(fmt.Sprint("db", i%3), []byte(fmt.Sprint("select ", i)), time.Millisecond, sampleEvery)
	}
	px := &Server{}
	px.prints.m, px.prints.n = f.m, f.n
	all := px.Fingerprints()
	if len(all) > maxPrints {
		t.Errorf("%d are kept", len(all))
	}
	if all[0].Text != "select kept" || all[0].Calls != 1 || all[0].Longest != time.Hour {
		t.Errorf("the first is %+v", all[0])
	}
}

func TestFingerprintsHideWhatCallersPutIn(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"select 'secret', 42\x00\x00\x01", "select ?"},
		{"select '\xff" + strings.Repeat("x", 5000), "select ?"},
		{"select \xff", "select ?"},
		{"select " + strings.Repeat("abcdefghi,", 200), "select " + strings.Repeat("abcdefghi,", 200)[:maxPrintText-7] + "..."},
	} {
		if got := string(appendPrint(nil, []byte(tt.in), true)); got != tt.want {
			t.Errorf("%.40q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

// What is counted already costs no memory, neither by its text nor by its
// statement.
func TestCountingAllocatesNothing(t *testing.T) {
	var f fingerprints
	var text, out []byte
	sql := []byte("select a from t where b = 'secret' and c in (1, 2, 3)\x00")
	st := &statement{body: "select a from t where b = $1\x00"}
	n := testing.AllocsPerRun(100, func() {
		text = append(text[:0], sql...)
		out = appendPrint(out[:0], text, true)
		f.count("search", out, time.Millisecond, 1)
		f.counted("search", st.fingerprint(true), time.Millisecond, 1)
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNoteQuery(b *testing.B) {
	px := &Server{}
	l := &link{px: px, pool: &pool{key: poolKey{database: "search"}}}
	s := &session{told: &reported{standard: true}}
	sql := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 123456;\x00")
	b.ReportAllocs()
	for b.Loop() {
		l.noteText(sql)
		l.noteQueryEnd(s, 50*time.Microsecond)
	}
}
