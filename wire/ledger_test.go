package wire

import (
	"fmt"
	"strings"
	"testing"
)

// play runs steps on a ledger and writes down what follows from each.
//
//	+P       append a message to be forwarded; +P~ swallowed, +P! made up,
//	         +P= replaced; +c is CopyMark
//	-1       the server's reply; -ZI, -ZT, -ZE with its status
//	abandon  the server is lost
//	probe    a Sync and a Query that settle whether the server skips
//
// What follows: 1 went to the client, ~1 was swallowed, =E goes in other
// words, (P) was made up in its turn, !1 is out of step; P:done, P:failed and
// P:skipped were settled; unseen: the server will not look at the message.
func play(l *Ledger, steps string) string {
	var seen []string
	say := func(format string, args ...any) { seen = append(seen, fmt.Sprintf(format, args...)) }
	for _, step := range strings.Fields(steps) {
		switch {
		case step == "abandon":
			l.Abandon()
		case step == "probe":
			l.AppendProbe()
		case step[0] == '+':
			e := Entry{Msg: step[1], Ref: step[1:2]}
			switch step[2:] {
			case "~":
				e.Action = Swallow
			case "!":
				e.Action = MakeUp
			case "=":
				e.Action = Replace
			case "&":
				e.Joined = true
			}
			if e.Msg == CopyMark {
				e.Ref = nil
			}
			if !l.Append(e) {
				say("unseen")
			}
		default:
			typ, status := step[1], byte(0)
			if typ == MsgReady {
				status = step[2]
			}
			v := l.Settle(typ, status)
			switch {
			case v.Broken:
				say("!%s", step[1:])
			case v.Action == Swallow:
				say("~%s", step[1:])
			case v.Action == Replace:
				say("=%s", step[1:])
			default:
				say("%s", step[1:])
			}
		}
		for {
			e, ok := l.Emit()
			if !ok {
				break
			}
			say("(%c)", e.Msg)
		}
		for _, s := range l.Settled() {
			say("%s:%s", s.Entry.Ref, [...]string{"done", "failed", "skipped"}[s.Outcome])
		}
	}
	return strings.Join(seen, " ")
}

// outcomes leaves what was settled out.
func outcomes(seen string) (visible string) {
	var kept []string
	for _, word := range strings.Fields(seen) {
		if len(word) < 2 || word[1] != ':' {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}

// what the ledger says of itself at the end of a row.
const (
	free      = "free" // Releasable
	held      = "held"
	open      = "open"      // held, by an unfinished batch
	skipping  = "skipping"  // open, and the server skips up to Sync
	ambiguous = "ambiguous" // held: a ReadyForQuery may be on its way
	copying   = "copying"   // held: the server waits for COPY data
)

func ending(l *Ledger) string {
	in, _ := l.CopyIn()
	switch {
	case l.Releasable():
		return free
	case in:
		return copying
	case l.Ambiguous():
		return ambiguous
	case l.Skipping():
		return skipping
	case l.BatchOpen():
		return open
	}
	return held
}

type ledgerRow struct {
	name  string
	steps string
	want  string
	end   string
}

func testRows(t *testing.T, rows []ledgerRow) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var l Ledger
			got := play(&l, r.steps)
			if !strings.Contains(r.want, ":") {
				got = outcomes(got)
			}
			if got != r.want {
				t.Errorf("%s\n got %s\nwant %s", r.steps, got, r.want)
			}
			if end := ending(&l); end != r.end {
				t.Errorf("%s\nends %s, want %s", r.steps, end, r.end)
			}
			if l.Releasable() && l.Len() > 0 {
				t.Error("releasable, and owes replies")
			}
			checkCounts(t, &l)
		})
	}
}

// checkCounts recounts what the ledger counts as it goes.
func checkCounts(t *testing.T, l *Ledger) {
	t.Helper()
	var n Ledger
	own := 0
	for i := range l.q.len() {
		n.count(l.q.at(i), 1)
		if e := l.q.at(i); e.Action.ours() && (e.Msg == MsgQuery || e.Msg == MsgSync) {
			own++
		}
		if l.q.at(i).Msg == CopyMark {
			n.marks++
		}
	}
	if own != l.OwnQueries() {
		t.Fatalf("%d ReadyForQuery of pgpoold's own, counted %d", own, l.OwnQueries())
	}
	if n.ready != l.ready || n.mayCopy != l.mayCopy || n.marks != l.marks {
		t.Fatalf("%d ReadyForQuery, %d possible COPYs and %d marks, counted %d, %d and %d", n.ready, n.mayCopy, n.marks, l.ready, l.mayCopy, l.marks)
	}
	if l.q.len() > 0 && l.q.at(0).Msg == CopyMark {
		t.Fatal("a mark is at the head")
	}
}

func TestLedgerSimple(t *testing.T) {
	testRows(t, []ledgerRow{
		{"select", "+Q -T -D -D -C -ZI", "T D D C ZI Q:done", free},
		{"empty", "+Q -I -ZI", "I ZI Q:done", free},
		{"several commands", "+Q -C -T -D -C -C -ZI", "C T D C C ZI", free},
		{"error", "+Q -E -ZI", "E ZI Q:failed", free},
		{"error in the middle of rows", "+Q -T -D -E -ZI", "T D E ZI Q:failed", free},
		{"begin", "+Q -C -ZT", "C ZT", held},
		{"failed transaction", "+Q -C -ZT +Q -E -ZE", "C ZT E ZE", held},
		{"transaction", "+Q -C -ZT +Q -E -ZE +Q -C -ZI", "C ZT E ZE C ZI", free},
		{"commit that fails", "+Q -C -ZT +Q -E -ZI", "C ZT E ZI", free},
		{"pipelined", "+Q +Q -C -ZI -T -C -ZI", "C ZI T C ZI", free},
		{"pipelined, one to come", "+Q +Q -C -ZI", "C ZI", held},
		{"copy out", "+Q -H -d -d -c -C -ZI", "H d d c C ZI", free},
		{"notices settle nothing", "+Q -N -S -A -C -N -ZI -S", "N S A C N ZI S", free},
		{"function call", "+F -V -ZI", "V ZI F:done", free},
		{"function call that fails", "+F -E -ZE", "E ZE F:failed", held},
		{"sync alone", "+S -ZI", "ZI S:done", free},
		{"commit at sync fails", "+P +S -1 -E -ZI", "1 P:done E ZI S:failed", free},
		{"walsender", "+Q -W -d +c -d -c -C -ZI", "W d d c C ZI", free},
		{"walsender at the end of a timeline", "+Q -W -d +c -c -T -D -C -C -ZI", "W d c T D C C ZI", free},
		{"walsender that shuts down", "+Q -W -d -C -ZI", "W d C ZI", free},
		{"joined", "+Q& +D~ +S -C -ZT -t -n -ZT", "C ~ZT ~t ~n ZT", held},
		{"joined, and failed", "+Q& +D~ +S -E -ZI -E -ZI", "E ~ZI E ZI", free},
		{"joined, half answered", "+Q& +D~ +S -C -ZI", "C ~ZI", held},
		{"abandoned", "+P +B~ +E +S abandon", "P:skipped B:skipped E:skipped S:skipped", free},
	})
}

func TestLedgerExtended(t *testing.T) {
	testRows(t, []ledgerRow{
		{"whole batch", "+P +B +D +E +S -1 -2 -T -D -C -ZI", "1 P:done 2 B:done T D:done D C E:done ZI S:done", free},
		{"describe of a statement", "+P +D +S -1 -t -n -ZI", "1 t n ZI", free},
		{"close", "+C +S -3 -ZI", "3 ZI", free},
		{"suspended portal", "+B +E +E +S -2 -D -s -D -D -C -ZI", "2 D s D D C ZI", free},
		{"empty query", "+P +B +E +S -1 -2 -I -ZI", "1 2 I ZI", free},
		{"copy out", "+E +S -H -d -c -C -ZI", "H d c C ZI", free},
		{"pipeline of batches", "+P +S +B +E +S -1 -ZI -2 -C -ZI", "1 ZI 2 C ZI", free},
		{"query behind an open batch ends it", "+P +B +E +Q -1 -2 -C -T -C -ZI", "1 2 C T C ZI", free},
		{"replaced success is the truth", "+P= +S -1 -ZI", "1 ZI", free},
		{"replaced error", "+B= +S -E -ZI", "=E B:failed ZI S:done", free},
	})
}

// B2: all answered is not enough, as long as the batch is open.
func TestLedgerOpenBatch(t *testing.T) {
	testRows(t, []ledgerRow{
		{"prepare of asyncpg, before its sync", "+P +D -1 -t -T", "1 t T", open},
		{"prepare of asyncpg", "+P +D -1 -t -T +B +E +S -2 -D -C -ZI", "1 t T 2 D C ZI", free},
		{"row limit and Flush", "+P +B +E -1 -2 -D -D -s", "1 2 D D s", open},
		{"made up and Flush", "+P!", "(P) P:done", open},
		{"sync of the batch is owed", "+P +S -1", "1", held},
		{"a Query ended it", "+P -1 +Q -C -ZI", "1 C ZI", free},
	})
}

// B5: an error settles what belongs to its batch, sent or not.
func TestLedgerErrors(t *testing.T) {
	testRows(t, []ledgerRow{
		{"first of a batch", "+P +B +E +S -E -ZI", "E P:failed B:skipped E:skipped ZI S:done", free},
		{"middle of a batch", "+P +B +E +S -1 -E -ZI", "1 P:done E B:failed E:skipped ZI S:done", free},
		{"execute", "+P +B +E +S -1 -2 -D -E -ZI", "1 2 D E ZI", free},
		{"before its sync", "+P +B -E", "E P:failed B:skipped", skipping},
		{"sent later, settled at once", "+P -E +B +E +Q +F +C! +S -ZI", "E P:failed unseen B:skipped unseen E:skipped unseen Q:skipped unseen F:skipped unseen C:skipped ZI S:done", free},
		{"the next batch runs", "+P +S +B +E +S -E -ZI -2 -C -ZI", "E ZI 2 C ZI", free},
		{"a Query in the failed batch is skipped", "+P +B +Q +S -1 -E -ZI", "1 P:done E B:failed Q:skipped ZI S:done", free},
		{"made up behind the failure is not sent", "+B +P! +S -E -ZI", "E B:failed P:skipped ZI S:done", free},
		{"in a transaction", "+Q -C -ZT +P +S -E -ZE", "C ZT E ZE", held},
		{"malformed Flush", "+Q +H +S -C -ZI -E -ZI", "C ZI E ZI", free},
		{"malformed Flush, no sync yet", "+H -E", "E H:failed", skipping},
	})
}

// D7: what a client left is ended by Query ROLLBACK and Sync in one write,
// whether its batch has failed or not.
func TestLedgerRollback(t *testing.T) {
	testRows(t, []ledgerRow{
		{"the batch runs", "+P +B +E +Q~ +S~ -1 -2 -C -C -ZI -ZI", "1 2 C ~C ~ZI ~ZI", free},
		{"the batch fails", "+P +B +E +Q~ +S~ -1 -E -ZI", "1 E ~ZI", free},
		{"the batch has failed", "+P -E +Q~ +S~ -ZI", "E unseen ~ZI", free},
		{"in a transaction that has failed", "+Q -E -ZE +Q~ -C -ZI", "E ZE ~C ~ZI", free},
		{"copy", "+E -G +c +Q~ +S~ -E -ZI", "G E ~ZI", free},
	})
}

// D3: swallow drops success only.
func TestLedgerInjected(t *testing.T) {
	testRows(t, []ledgerRow{
		{"parse in front of bind", "+P~ +B +E +S -1 -2 -C -ZI", "~1 2 C ZI", free},
		{"close and parse", "+C~ +P~ +B +S -3 -1 -2 -ZI", "~3 ~1 2 ZI", free},
		{"parse fails: the error is the client's", "+P~ +B +E +S -E -ZI", "E P:failed B:skipped E:skipped ZI S:done", free},
		{"replay in front of a query", "+Q~ +Q -C -C -ZI -T -D -C -ZI", "~C ~C ~ZI T D C ZI", free},
		{"replay with rows and a notice", "+Q~ -T -N -D -C -ZI", "~T ~N ~D ~C ~ZI", free},
		{"eviction between batches", "+C~ +P +S -3 -1 -ZI", "~3 1 ZI", free},
	})
}

// B3: a made-up reply is sent in its turn, by whoever finds it at the head.
func TestLedgerMadeUp(t *testing.T) {
	testRows(t, []ledgerRow{
		{"on an empty ledger", "+P! +B +E +S -2 -C -ZI", "(P) P:done 2 B:done C E:done ZI S:done", free},
		{"behind what is owed", "+B +P! +C! +E +S -2 -C -ZI", "2 (P) (C) C ZI", free},
		{"behind a query", "+Q +C! +S -C -ZI -ZI", "C ZI (C) ZI", free},
		{"rows first", "+E +C! +S -D -D -C -ZI", "D D C (C) ZI", free},
		{"behind a failed query", "+Q +C! +S -E -ZI -ZI", "E ZI (C) ZI", free},
	})
}

// B1: COPY IN eats the Syncs in front of the end of its data.
func TestLedgerCopyIn(t *testing.T) {
	testRows(t, []ledgerRow{
		{"by query", "+Q -G +c -C -ZI", "G C ZI", free},
		{"by query, all sent ahead", "+Q +c -G -C -ZI", "G C ZI", free},
		{"by query, data open", "+Q -G", "G", copying},
		{"by query, client fails it", "+Q -G +c -E -ZI", "G E ZI", free},
		{"by query, with a Sync inside", "+Q +S +c -G -C -ZI", "G S:skipped C ZI Q:done", free},
		{"by query, a Sync behind the end", "+Q +c +S -G -C -ZI -ZI", "G C ZI ZI", free},
		{"two in one query", "+Q -G +c -C -G +c -C -ZI", "G C G C ZI", free},
		{"two in one query, all sent ahead", "+Q +c +c +S -G -C -G -C -ZI -ZI", "G C G C ZI ZI", free},
		{"two in one query, the second's data sent while the first ends", "+Q -G +c +c +S -C -G -C -ZI -ZI", "G C G C ZI ZI", free},
		{"two in one query, a Sync in the second", "+Q -G +c +S +c +S -C -G -C -ZI -ZI", "G C G S:skipped C ZI Q:done ZI S:done", free},
		{"one in one query, but the client ended two", "+Q -G +c +c +S -C -ZI -ZI", "G C ZI ZI", free},
		{"by execute, as libpq does", "+P +B +D +E +S -1 -2 -n -G +c +S -C -ZI", "1 2 n G C ZI", free},
		{"by execute, all sent ahead", "+P +B +E +S +c +S -1 -2 -G -C -ZI", "1 P:done 2 B:done G S:skipped C E:done ZI S:done", free},
		{"by execute, several Syncs inside", "+E +S +S +c +S -G -C -ZI", "G S:skipped S:skipped C E:done ZI S:done", free},
		{"by execute, no Sync behind the end yet", "+E +S -G +c -C", "G C", open},
		{"by execute, Sync while it runs", "+E -G +S +S +c +S -C -ZI", "G unseen S:skipped unseen S:skipped C E:done ZI S:done", free},
		{"by execute, and more behind it", "+E +S +c +S +P +S -G -C -ZI -1 -ZI", "G C ZI 1 ZI", free},
		{"that was none", "+Q +c +S -C -ZI -ZI", "C ZI ZI", free},
		{"that failed before it began", "+P +B +E +S +c +S -1 -E -ZI -ZI", "1 E ZI ZI", free},
		{"stray end behind another command", "+Q +c +Q -C -ZI -G +S +c -C -ZI", "C ZI G unseen C ZI", free},
		{"malformed Flush inside", "+E +H -G +H +c +S -C -ZI", "G H:skipped unseen H:skipped C E:done ZI S:done", free},
	})
}

// B1: whether a COPY that failed had eaten its Syncs shows in what comes.
func TestLedgerCopyFails(t *testing.T) {
	testRows(t, []ledgerRow{
		{"nothing inside", "+E -G -E +c +S -ZI", "G E unseen ZI", free},
		{"nothing inside, sent before it failed", "+E -G +c +S -E -ZI", "G E ZI", free},
		{"the Sync was eaten", "+E +S +c +S -G -E -ZI", "G E ZI", ambiguous},
		{"the Sync was eaten, a Query shows it", "+E +S +c +S -G -E -ZI +Q~ -I -ZI", "G E ZI ~I ~ZI", free},
		{"the Sync was not eaten", "+E +S +c +S -G -E -ZI -ZI", "G E ZI ZI", free},
		{"not eaten, and a Query in front of it", "+E +S +c +S -G -E -ZI +Q~ -ZI -I -ZI", "G E ZI ZI ~I ~ZI", free},
		{"not eaten, and a batch behind it", "+E +S +c +S +P +S -G -E -ZI -ZI -1 -ZI", "G E ZI ZI 1 ZI", free},
		{"eaten, and a batch behind it", "+E +S +c +S +P +S -G -E -ZI -1 -ZI", "G E ZI 1 ZI", free},
		{"eaten, and a batch that fails", "+E +S +c +S +P +S -G -E -ZI -E -ZI", "G E ZI E ZI", free},
		{"not eaten, and the client waits for it", "+E +S -G -E", "G E", ambiguous},
		{"not eaten: the server no longer skips", "+E +S -G -E -ZI +Q -C -ZI", "G E ZI C ZI", free},
		{"two Syncs, one eaten", "+E +S +S +c +S -G -E -ZI -ZI", "G E ZI ZI", ambiguous},
		{"two Syncs, one eaten, a Query shows it", "+E +S +S +c +S -G -E -ZI -ZI +Q~ -I -ZI", "G E ZI ZI ~I ~ZI", free},
		{"not eaten, as a probe shows", "+E +S +c -G -E probe -ZI -ZI -I -ZI", "G E ~ZI ZI ~I ~ZI", free},
		{"one of two not eaten, as a probe shows", "+E +S +S +c -G -E probe -ZI -ZI -I -ZI +P +S -1 -ZI", "G E ~ZI ZI ~I ~ZI 1 ZI", free},
		{"eaten, as a probe shows", "+E +S +c -G -E probe -ZI -I -ZI +P", "G E ~ZI ~I ~ZI unseen", skipping},
		{"eaten, as a probe shows, and a Sync", "+E +S +c -G -E probe -ZI -I -ZI +S -ZI", "G E ~ZI ~I ~ZI ZI", free},
		{"a probe of a server that is lost", "+E +S +c -G -E probe abandon", "G E", ambiguous},
		{"by query, the Sync was not eaten", "+Q +S +c -G -E -ZI -ZI", "G E ZI ZI", free},
		{"by query, eaten", "+Q +S +c -G -E -ZI", "G E ZI", ambiguous},
		{"by query, in a transaction", "+Q -C -ZT +Q +S +c -G -E -ZE +Q -C -ZI", "C ZT G E ZE C ZI", free},
		{"nothing is left after as many as were struck", "+E +S +c +S -G -E -ZI -ZI -ZI", "G E ZI ZI !ZI", free},
		{"after success none is left", "+E +S +c +S -G -C -ZI -ZI", "G C ZI !ZI", free},
	})
}

// What stands behind the end of a COPY's data waits where that may be skipped or
// not.
func TestLedgerInDoubt(t *testing.T) {
	for steps, want := range map[string]bool{
		"+E +S +c":             true,
		"+E +S +S +c":          true,
		"+E +S +c +S":          false,
		"+E +c":                false,
		"+E +S +E +c":          false,
		"+Q +S +c":             false,
		"+E +S -G":             false,
		"+E +S -G +c":          true,
		"+E -G +S +c":          true,
		"+E -G +S +c +S":       false,
		"+E +S -G +c -C":       false,
		"+E +S -G +c -E":       false,
		"+E +S +c +P +S +E":    false,
		"+Q -G +S +c":          false,
		"+E +S +c -D -C -ZI":   false,
		"+E +S -D -C -ZI +c":   false,
		"+E +S +c +S -G -E":    false,
		"+P +B +E +S +c -1 -2": true,
	} {
		var l Ledger
		play(&l, steps)
		if got := l.InDoubt(); got != want {
			t.Errorf("%s: %v", steps, got)
		}
	}
}

// B6: a reply to Parse may be made up only where PostgreSQL would parse.
func TestLedgerCanMakeUp(t *testing.T) {
	for _, r := range []struct {
		name, steps string
		want        bool
	}{
		{"fresh", "", true},
		{"idle", "+Q -C -ZI", true},
		{"in a transaction", "+Q -C -ZT", true},
		{"failed transaction", "+Q -E -ZE", false},
		{"earlier batch unsettled", "+P +S", false},
		{"earlier query unsettled", "+Q -T", false},
		{"earlier batch settled", "+P +S -1 -ZI", true},
		{"same batch", "+P +B", true},
		{"batch that failed", "+P -E", false},
		{"in COPY", "+E +S -G", false},
		{"replication", "+Q -W", false},
		{"a ReadyForQuery may come", "+E +S +c +S -G -E -ZI", false},
	} {
		t.Run(r.name, func(t *testing.T) {
			var l Ledger
			play(&l, r.steps)
			if got := l.CanMakeUp(); got != r.want {
				t.Errorf("CanMakeUp after %q is %v", r.steps, got)
			}
		})
	}
}

// Replies that PostgreSQL cannot send are found out.
func TestLedgerBroken(t *testing.T) {
	for _, r := range []struct{ name, steps string }{
		{"nothing was asked: row", "-D"},
		{"nothing was asked: complete", "-C"},
		{"nothing was asked: ready", "-ZI"},
		{"nothing was asked: error", "-E"},
		{"ready twice", "+Q -C -ZI -ZI"},
		{"ready without a reply", "+Q -ZI"},
		{"ready in the middle of rows", "+Q -T -D -ZI"},
		{"ready in the middle of a batch", "+P +S -ZI"},
		{"rows that nothing announced", "+Q -D"},
		{"rows announced twice", "+Q -T -T"},
		{"rows behind their end", "+Q -T -C -D"},
		{"rows behind an error", "+Q -E -D"},
		{"complete behind empty", "+Q -I -C"},
		{"wrong complete", "+P -2"},
		{"bind before parse", "+P +B -2"},
		{"description of an Execute", "+E -T"},
		{"suspended query", "+Q -T -D -s"},
		{"parameters twice", "+D -t -t"},
		{"parse complete for a Sync", "+S -1"},
		{"function result twice", "+F -V -V"},
		{"function without a result", "+F -ZI"},
		{"copy data from nowhere", "+Q -d"},
		{"copy data into COPY IN", "+Q -G -d"},
		{"copy in the middle of rows", "+Q -T -G"},
		{"answer to what no server was asked", "+B +C! +S -2 -3"},
		{"unknown type", "+Q -x"},
		{"success of a malformed Flush", "+H -1"},
	} {
		t.Run(r.name, func(t *testing.T) {
			var l Ledger
			words := strings.Fields(outcomes(play(&l, r.steps)))
			for i, word := range words {
				if broken := word[0] == '!'; broken != (i == len(words)-1) {
					t.Fatalf("%s: %v", r.steps, words)
				}
			}
		})
	}
}

func TestLedgerCopyStartedBy(t *testing.T) {
	for _, r := range []struct {
		steps        string
		in, extended bool
	}{{"+Q", false, false}, {"+Q -G", true, false}, {"+E +S -G", true, true}, {"+E -G +c", false, false}, {"+E -G -E", false, false}} {
		var l Ledger
		play(&l, r.steps)
		if in, extended := l.CopyIn(); in != r.in || extended != r.extended {
			t.Errorf("after %q CopyIn is %v, %v", r.steps, in, extended)
		}
	}
}

// Copying decides whether stray COPY messages are passed on.
func TestLedgerCopying(t *testing.T) {
	for _, r := range []struct {
		steps string
		want  bool
	}{
		{"", false}, {"+P +B", false}, {"+Q", true}, {"+P +B +E", true}, {"+Q -C -ZI", false}, {"+Q -W", true},
		{"+Q -G", true}, {"+E -G -E", false}, {"+E +S -G -E -ZI", false},
	} {
		var l Ledger
		play(&l, r.steps)
		if got := l.Copying(); got != r.want {
			t.Errorf("after %q Copying is %v", r.steps, got)
		}
	}
}

// A joined Query and its Sync owe the client one ReadyForQuery, whichever of them
// has been answered.
func TestLedgerOwed(t *testing.T) {
	for _, r := range []struct {
		steps     string
		owed, own int
	}{
		{"", 0, 0},
		{"+Q", 1, 0},
		{"+Q~ +Q +F +P +S", 4, 1},
		{"+Q& +D~ +S", 1, 0},
		{"+Q& +D~ +S -C", 1, 0},
		{"+Q& +D~ +S -C -ZI", 1, 0},
		{"+Q& +D~ +S -C -ZI -n -ZI", 0, 0},
		{"+Q~ +Q& +D~ +S +Q", 3, 1},
		{"+Q& +D~ +S +Q& +D~ +S -E -ZI -E -ZI", 1, 0},
	} {
		var l Ledger
		play(&l, r.steps)
		if owed, own := l.Owed(), l.OwnQueries(); owed != r.owed || own != r.own {
			t.Errorf("after %q %d are owed, %d to pgpoold's own", r.steps, owed, own)
		}
		checkCounts(t, &l)
	}
}

func TestLedgerMaySkip(t *testing.T) {
	for _, r := range []struct {
		steps string
		want  bool
	}{
		{"", false},
		{"+Q", false},
		{"+P", true},
		{"+P -1", true},
		{"+P +S", false},
		{"+P +Q", true},
		{"+P +Q -1", false},
		{"+P +F +Q", true},
		{"+P -E", true},
		{"+P -E +S", false},
		{"+P +S +Q -E", false},
	} {
		var l Ledger
		play(&l, r.steps)
		if got := l.MaySkip(); got != r.want {
			t.Errorf("after %q MaySkip is %v", r.steps, got)
		}
	}
}

// The steady path takes no memory: one Query, and one bound statement.
func TestLedgerAllocations(t *testing.T) {
	var l Ledger
	settle := func(replies string, status byte) {
		for i := range len(replies) {
			if v := l.Settle(replies[i], status); v.Broken {
				t.Fatalf("%c is out of step", replies[i])
			}
			l.Emit()
			l.Settled()
		}
	}
	ref := new(int)
	turn := func() {
		l.Append(Entry{Msg: MsgQuery})
		settle("TDCZ", TxIdle)
		l.Append(Entry{Msg: MsgBind, Ref: ref})
		l.Append(Entry{Msg: MsgExecute})
		l.Append(Entry{Msg: MsgSync})
		settle("2DCZ", TxIdle)
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations per transaction", n)
	}
}

// A burst does not make an idle server dear.
func TestRingShrinks(t *testing.T) {
	var r ring
	for i := range 1000 {
		r.push(Entry{Msg: MsgParse, Ref: i})
	}
	if e := r.remove(500); e.Ref != 500 {
		t.Fatalf("removed %v", e.Ref)
	}
	for i := range 1000 {
		if i == 500 {
			continue
		}
		if e := r.pop(); e.Ref != i {
			t.Fatalf("entry %d is %v", i, e.Ref)
		}
	}
	if cap(r.buf) > ringKeep {
		t.Errorf("an empty ring keeps room for %d", cap(r.buf))
	}
	for i := range 3 * ringKeep { // around the end of the array
		r.push(Entry{Ref: i})
		if e := r.pop(); e.Ref != i {
			t.Fatalf("entry %d is %v", i, e.Ref)
		}
	}
}

// TestLedgerRunsNothing: what stands behind a joined Query is nobody's, but a Sync of
// the client's commits what is in front of it.
func TestLedgerRunsNothing(t *testing.T) {
	var l Ledger
	l.Append(Entry{Msg: MsgQuery, Joined: true})
	l.Append(Entry{Msg: MsgDescribe, Action: Mute})
	l.Append(Entry{Msg: MsgSync, Joined: true})
	if l.RunsNothing() {
		t.Error("the Query is the client's")
	}
	for _, r := range []struct{ typ, status byte }{{MsgCommandComplete, 0}, {MsgReady, TxIdle}} {
		if v := l.Settle(r.typ, r.status); v.Broken {
			t.Fatalf("%c is broken", r.typ)
		}
	}
	if !l.RunsNothing() {
		t.Error("the Query has ended, and what is left is the client's")
	}
	if l.OnlyOurs() {
		t.Error("the client is owed no ReadyForQuery")
	}
	if v := l.Settle(MsgNoData, 0); v.Broken {
		t.Fatal("NoData is broken")
	}
	if v := l.Settle(MsgReady, TxIdle); v.Broken || v.Action != Forward {
		t.Errorf("the ReadyForQuery that stands for both is %+v", v)
	}
	l.Append(Entry{Msg: MsgDescribe, Action: Mute})
	l.Append(Entry{Msg: MsgSync})
	if l.RunsNothing() {
		t.Error("the client's Sync commits")
	}
}

// A reply shows that no ReadyForQuery is left behind of Syncs that a COPY may have
// eaten: Plain leaves it to Settle.
func TestPlainBehindCopyInDoubt(t *testing.T) {
	var l Ledger
	l.Append(Entry{Msg: MsgExecute})
	l.Append(Entry{Msg: MsgSync})
	l.Settle(MsgCopyIn, 0)
	l.Settle(MsgError, 0)
	l.Append(Entry{Msg: MsgSync})
	l.Append(Entry{Msg: MsgParse})
	l.Settle(MsgReady, TxIdle)
	if !l.Ambiguous() {
		t.Fatal("nothing is in doubt")
	}
	if plainly(&l, []byte{MsgParseComplete}) > 0 {
		t.Fatal("taken for plain")
	}
	if l.Settle(MsgParseComplete, 0); l.Ambiguous() {
		t.Fatal("in doubt still")
	}
}

// A Query behind a message of pgpoold's own that fails is skipped; one behind a
// client's message, for which that was sent, would be skipped by PostgreSQL itself.
func TestUnanswered(t *testing.T) {
	ours, query := Entry{Msg: MsgParse, Action: Swallow}, Entry{Msg: MsgQuery}
	for _, r := range []struct {
		name string
		sent []Entry
		want bool
	}{
		{"ours, Query", []Entry{ours, {Msg: MsgClose, Action: Swallow}, query}, true},
		{"ours, Query, Sync", []Entry{ours, query, {Msg: MsgSync}}, true},
		{"ours, Sync, Query", []Entry{ours, {Msg: MsgSync, Action: Mute}, query}, false},
		{"ours, Bind, Query", []Entry{ours, {Msg: MsgBind}, query}, false},
		{"Bind, ours, Query", []Entry{{Msg: MsgBind}, ours, query}, false},
		{"ours, Query with a Sync that stands for it", []Entry{ours, {Msg: MsgQuery, Joined: true}, {Msg: MsgSync, Joined: true}}, false},
	} {
		var l Ledger
		for _, e := range r.sent {
			l.Append(e)
		}
		if l.Settle(MsgError, 0); l.Unanswered() != r.want || l.Unanswered() {
			t.Errorf("%s: it is wanted to be %v, once", r.name, r.want)
		}
	}
}
