package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestPlainLengths: what Plain takes are whole messages with legal lengths, and it does
// with them what Settle does one by one.
func TestPlainLengths(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		var l, twin Ledger
		for _, m := range []byte{MsgParse, MsgBind, MsgDescribe, MsgExecute, MsgQuery, MsgExecute, MsgQuery}[r.IntN(4):] {
			l.Append(Entry{Msg: m})
			twin.Append(Entry{Msg: m})
		}
		var b []byte
		for _, typ := range []byte("12nDDDCTDDDC") {
			if r.IntN(8) == 0 {
				continue
			}
			body := make([]byte, r.IntN(4))
			for i := range body {
				body[i] = "DC1\x00\x04"[r.IntN(5)]
			}
			b = append(AppendHeader(b, typ, len(body)), body...)
			if r.IntN(12) == 0 {
				at := len(b) - len(body) - 4
				binary.BigEndian.PutUint32(b[at:], []uint32{0, 1, 2, 3, 4, 5, 1 << 31, 0xffffffff, 0x7fffffff, 0xfffffffe}[r.IntN(10)])
			}
		}
		cut := len(b) - r.IntN(min(len(b), 7)+1)
		whole := b
		b = b[:cut:cut]
		var tags, want []string
		n := l.Plain(b, func(tag []byte) bool { tags = append(tags, string(tag)); return len(tag) > 0 && tag[0] == 'C' })
		pos := 0
		for pos < n {
			if len(b)-pos < HeaderLen {
				t.Fatalf("%q: %d bytes taken", b, n)
			}
			typ, size := Header(b[pos:])
			if size < HeaderLen || size > len(b)-pos {
				t.Fatalf("%q: %d bytes taken, but at %d is no message", b, n, pos)
			}
			if typ == MsgCommandComplete {
				want = append(want, string(b[pos+HeaderLen:pos+size]))
				if size > HeaderLen && b[pos+HeaderLen] == 'C' {
					t.Fatal("it concerns")
				}
			}
			if v := twin.Settle(typ, 0); v.Broken || v.Action != Forward {
				t.Fatal("broken")
			}
			pos += size
		}
		if pos != n {
			t.Fatalf("%q: %d bytes taken, messages end at %d", b, n, pos)
		}
		if !reflect.DeepEqual(&l, &twin) {
			t.Fatalf("%q: %+v, %+v", whole, &l, &twin)
		}
		if len(tags) < len(want) || len(want) > 0 && !reflect.DeepEqual(tags[:len(want)], want) {
			t.Fatalf("tags %q, want %q", tags, want)
		}
		// It stops at nothing that it could take.
		if rest := b[n:]; len(rest) >= HeaderLen {
			if typ, size := Header(rest); size >= HeaderLen && size <= len(rest) {
				e, ok := l.Head()
				if ok && typ != 'C' && (e.Msg == MsgParse && typ == '1' || e.Msg == MsgBind && typ == '2' || e.Msg == MsgExecute && typ == 'D' && (l.last == 0 || l.last == 'D')) {
					t.Fatalf("%q stops at %q", b, rest)
				}
			}
		}
	}
}
