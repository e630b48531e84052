package wirescript

import (
	"slices"
	"strings"
	"testing"
)

// TestTracker sends (>) and receives (<) by hand and looks at the cell of the
// last message sent.
func TestTracker(t *testing.T) {
	const (
		idle   = "<Z[I] "
		failed = "<Z[E] "
	)
	for _, c := range []struct {
		name, moves string
		want        Column
	}{
		{"idle", idle + ">Sync", ColIdle},
		{"first in a batch", idle + ">Parse >Bind", ColIdle},
		{"in a transaction", "<Z[T] >Query", ColInTx},
		{"failed", failed + ">Query", ColFailed},
		{"behind a Query", idle + ">Query >Query", ColPipelined},
		{"behind a batch", idle + ">Parse >Sync >Bind", ColPipelined},
		{"the batch was answered", idle + ">Parse >Sync <1 <Z[I] >Bind", ColIdle},
		{"behind a batch half answered", idle + ">Parse >Sync >Parse >Sync <1 <Z[I] >Bind", ColPipelined},
		{"after Flush", idle + ">Parse >Flush <1 >Bind", ColFlushed},
		{"the Flush's batch is over", idle + ">Parse >Flush <1 >Sync <Z[I] >Bind", ColIdle},
		{"COPY of a Query", idle + ">Query <G >CopyData", ColCopy},
		{"COPY of an Execute", idle + ">Parse >Bind >Execute <1 <2 <G >CopyData", ColCopyExt},
		{"COPY with a Sync ahead", idle + ">Parse >Bind >Execute >Sync <1 <2 <G >CopyData", ColCopyExt},
		{"that Sync is never answered", idle + ">Parse >Bind >Execute >Sync <1 <2 <G >CopyData >CopyDone >Sync <C <Z[I] >Query", ColIdle},
		{"nor are Syncs within", idle + ">Query <G >Sync >Sync >CopyDone <C <Z[I] >Query", ColIdle},
		{"sent whole", idle + ">Parse >Bind >Execute >Sync >CopyData >CopyDone >Sync <1 <2 <G <C <Z[I] >Query", ColIdle},
		{"COPY over by CopyDone", idle + ">Query <G >CopyDone <C <Z[I] >CopyData", ColIdle},
		{"COPY over by an error", idle + ">Query <G >CopyData <E <Z[I] >CopyData", ColIdle},
		{"COPY of an Execute over by an error", idle + ">Parse >Bind >Execute <1 <2 <G >CopyFail <E >CopyData", ColSkipped},
		{"after an error", idle + ">Parse >Flush <E >Query", ColSkipped},
		{"the error's Sync", idle + ">Parse >Flush <E >Query >Sync <Z[I] >Query", ColIdle},
		{"an error that skipped a Query sent already", idle + ">Parse >Query >Sync <E <Z[I] >Bind", ColIdle},
		{"an error in a Query skips nothing", idle + ">Query >Sync <E <Z[I] >Bind", ColPipelined},
		{"stray COPY messages owe nothing", idle + ">CopyData >CopyDone >CopyFail >Query <C <Z[I] >Query", ColIdle},
		{"Describe of a statement has two replies", idle + ">Describe >Close >Sync <t <T <3 <Z[I] >Query", ColIdle},
	} {
		last := play(t, &tracker{}, c.moves)
		if last.Col != c.want {
			t.Errorf("%s (%s): %q, want %q", c.name, c.moves, last.Col, c.want)
		}
	}
}

// play sends and receives by hand and returns the cell of the last message sent.
func play(t *testing.T, tr *tracker, moves string) (last Cell) {
	t.Helper()
	for _, m := range strings.Fields(moves) {
		if name, ok := strings.CutPrefix(m, ">"); ok {
			text := map[string]string{"Query": "Query select 1", "Parse": "Parse - select 1", "Bind": "Bind - -", "Execute": "Execute -",
				"Describe": "Describe S -", "Close": "Close S -", "CopyData": `CopyData ""`, "CopyFail": `CopyFail ""`}[name]
			if text == "" {
				text = name
			}
			f, err := parseFrontend(text)
			if err != nil {
				t.Fatal(err)
			}
			tr.send(f)
			last = tr.cells[len(tr.cells)-1]
			continue
		}
		msg := Message{Type: m[1]}
		if msg.Type == 'Z' {
			msg.Body = []byte{m[3]}
		}
		tr.recv(msg)
	}
	return last
}

// TestTrackerOwes: what is still to come without another message.
func TestTrackerOwes(t *testing.T) {
	const idle = "<Z[I] "
	for _, c := range []struct {
		moves string
		want  bool
	}{
		{idle, false},
		{idle + ">Query", true},
		{idle + ">Query <C <Z[I]", false},
		{idle + ">Parse >Bind", false},
		{idle + ">Flush", false},
		{idle + ">Parse >Flush", true},
		{idle + ">Parse >Flush <1", false},
		{idle + ">Parse >Bind >Flush <E", false},
		{idle + ">Parse >Sync <E", true},
		{idle + ">Parse >Sync <E <Z[I]", false},
		{idle + ">Query <G", false},
		{idle + ">Query <G >CopyData >Sync", false},
		{idle + ">Query <G >CopyData >CopyDone", true},
		{idle + ">Query >CopyData >CopyDone <G", true},
		{idle + ">Query >CopyData >CopyDone <G <C <G", false},
		{idle + ">Query >CopyData >CopyDone <G <C <G >CopyDone", true},
		{idle + ">Execute >Sync >CopyData >CopyDone >Sync <G <C", true},
		{idle + ">Execute >Sync >CopyData >CopyDone >Sync <G <C <Z[I]", false},
		{idle + ">CopyData >CopyFail", false},
	} {
		var tr tracker
		play(t, &tr, c.moves)
		if got := tr.owes(); got != c.want {
			t.Errorf("%s: owes is %v", c.moves, got)
		}
	}
}

// TestTrackerSkipped: messages that left before the error was read count as
// skipped once it is.
func TestTrackerSkipped(t *testing.T) {
	var tr tracker
	tr.recv(Message{'Z', []byte("I")})
	for _, text := range []string{"Parse - selekt", "Bind - -", "Query select 1", "Sync"} {
		f, err := parseFrontend(text)
		if err != nil {
			t.Fatal(err)
		}
		tr.send(f)
	}
	tr.recv(Message{Type: 'E'})
	for _, row := range []Row{RowBind, RowQuery} {
		if !slices.Contains(tr.cells, Cell{row, ColSkipped}) {
			t.Errorf("%s is not counted as skipped", row)
		}
	}
	for _, row := range []Row{RowParseUnnamed, RowSync} {
		if slices.Contains(tr.cells, Cell{row, ColSkipped}) {
			t.Errorf("%s is counted as skipped", row)
		}
	}
}
