package wire

import (
	"bytes"
	"testing"
)

// BenchmarkFrames walks over the messages of what one read brings.
func BenchmarkFrames(b *testing.B) {
	row := append(AppendHeader(nil, MsgDataRow, 100), make([]byte, 100)...)
	chunk := bytes.Repeat(row, 16<<10/len(row))
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		for rest := chunk; len(rest) >= HeaderLen; {
			typ, size := Header(rest)
			if typ == MsgDataRow {
				rows++
			}
			rest = rest[size:]
		}
	}
	if rows == 0 {
		b.Error("no rows")
	}
}

// BenchmarkLedger is what the ledger does for a transaction: what is sent,
// what is answered to it, and what is made up.
func BenchmarkLedger(b *testing.B) {
	type exchange struct {
		name    string
		sent    []Entry
		replies string
		madeUp  int
	}
	run := func(e []Entry) []Entry {
		return append(e, Entry{Msg: MsgBind}, Entry{Msg: MsgExecute}, Entry{Msg: MsgSync})
	}
	var pipeline []Entry
	for range 10 {
		pipeline = run(pipeline)
	}
	for _, x := range []exchange{
		{"simple", []Entry{{Msg: MsgQuery}}, "TDCZ", 0},
		{"prepared", run(nil), "2DCZ", 0},
		{"brought along", run([]Entry{{Msg: MsgParse, Action: Swallow}}), "12DCZ", 0},
		{"made up", run([]Entry{{Msg: MsgParse, Action: MakeUp}}), "2DCZ", 1},
		{"pipeline of ten", pipeline, string(bytes.Repeat([]byte("2DCZ"), 10)), 0},
		{"1000 rows", []Entry{{Msg: MsgQuery}}, "T" + string(bytes.Repeat([]byte("D"), 1000)) + "CZ", 0},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			var l Ledger
			for b.Loop() {
				for _, e := range x.sent {
					l.Append(e)
				}
				made := 0
				for _, more := l.Emit(); more; _, more = l.Emit() {
					made++
				}
				for i := range len(x.replies) {
					if l.Settle(x.replies[i], TxIdle).Broken {
						b.Fatalf("%c is out of step", x.replies[i])
					}
				}
				l.Settled()
				if made != x.madeUp || !l.Releasable() {
					b.Fatal("the ledger is not as it was")
				}
			}
		})
	}
}
