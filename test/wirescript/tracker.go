package wirescript

import "slices"

// tracker follows one connection from the client's side: what it sent, what
// that is owed, and in which state the session was when each message left.
// It belongs to the runner's goroutine.
type tracker struct {
	status  byte // of the last ReadyForQuery that was read
	queue   []sent
	copying Column // ColCopy or ColCopyExt while a COPY IN is open
	open    bool   // an extended message was sent since the last Sync
	flushed bool   // and a Flush behind it
	failed  bool   // and an ErrorResponse to it was read
	cells   []Cell
	struck  int  // Syncs within the data of a COPY, since its last outcome
	doubt   bool // what is owed is not known: such a COPY may fail, or has failed, and has eaten all of them or some
	left    bool // Terminate was sent
	// leftCopy: Terminate was sent in the middle of COPY data.
	leftCopy bool
}

// sent is a message whose replies have not all been read.
type sent struct {
	typ byte
	row Row
}

// endsBatch says that the message is answered with ReadyForQuery.
func (s sent) endsBatch() bool { return s.typ == 'Q' || s.typ == 'F' || s.typ == 'S' }

// silent messages are never answered.
func (s sent) silent() bool {
	switch s.typ {
	case 'H', 'd', 'c', 'f', 'X':
		return true
	}
	return false
}

func (t *tracker) extended(typ byte) bool {
	switch typ {
	case 'P', 'B', 'D', 'E', 'C', 'H':
		return true
	}
	return false
}

// send is called for each message before it is written.
func (t *tracker) send(f frontend) {
	s := sent{f.typ, f.row}
	t.left = t.left || f.typ == 'X'
	if f.row != "" && t.status != 0 {
		t.cells = append(t.cells, Cell{f.row, t.column()})
	}
	if t.copying != "" {
		switch f.typ {
		case 'X':
			t.leftCopy = true
		case 'c', 'f':
			t.doubt = t.doubt || t.struck > 0 && t.copying == ColCopyExt
			t.copying = ""
		case 'S': // PostgreSQL does not answer it here
			t.struck++
		case 'd', 'H':
		default:
			t.queue = append(t.queue, s)
		}
		return
	}
	if t.extended(f.typ) {
		t.open = true
		t.flushed = t.flushed || f.typ == 'H'
	}
	if t.failed && f.typ != 'S' {
		return // skipped: nothing is owed
	}
	if f.typ == 'S' {
		t.open, t.flushed, t.failed = false, false, false
	}
	if f.typ != 0 {
		t.queue = append(t.queue, s)
	}
}

func (t *tracker) column() Column {
	switch {
	case t.copying != "":
		return t.copying
	case t.failed:
		return ColSkipped
	case slices.ContainsFunc(t.queue, sent.endsBatch):
		return ColPipelined
	case t.open && t.flushed:
		return ColFlushed
	case t.status == 'T':
		return ColInTx
	case t.status == 'E':
		return ColFailed
	}
	return ColIdle
}

// dropSilent takes messages off the head that nobody will answer.
func (t *tracker) dropSilent() {
	for len(t.queue) > 0 && t.queue[0].silent() {
		t.queue = t.queue[1:]
	}
}

// owes reports whether replies are still to come that PostgreSQL sends without
// hearing more from the client: those up to its last Sync, Query, FunctionCall
// or Flush, or up to a COPY that waits for data.
func (t *tracker) owes() bool {
	t.dropSilent()
	if t.copying != "" {
		return false
	}
	answered := false
	for _, s := range t.queue {
		if s.endsBatch() || s.typ == 'H' && answered {
			return true
		}
		answered = answered || !s.silent()
	}
	return false
}

// recv is called for each message that is read.
func (t *tracker) recv(m Message) {
	t.dropSilent()
	var head byte
	if len(t.queue) > 0 {
		head = t.queue[0].typ
	}
	pop := func(types string) {
		for i := range types {
			if head == types[i] {
				t.queue = t.queue[1:]
				return
			}
		}
	}
	switch m.Type {
	case '1':
		pop("P")
	case '2':
		pop("B")
	case '3':
		pop("C")
	case 'T', 'n':
		pop("D")
	case 'C', 's', 'I':
		t.struck = 0
		pop("E")
	case 'G':
		t.copyIn(head)
	case 'E':
		t.failure(head)
	case 'Z':
		if len(m.Body) == 1 {
			t.status = m.Body[0]
		}
		pop("QFS")
	}
}

// copyIn opens the COPY: what is sent of its data already is its own, and Syncs
// and Flushes up to the data's end are never answered.
func (t *tracker) copyIn(head byte) {
	ended := false
	kept := t.queue[:min(1, len(t.queue))]
	for i, s := range t.queue {
		switch {
		case i == 0:
		case ended:
			kept = append(kept, s)
		case s.typ == 'c' || s.typ == 'f':
			ended = true
		case s.typ == 'S':
			t.struck++
		case s.typ == 'H' || s.typ == 'd':
		default:
			kept = append(kept, s)
		}
	}
	t.queue = kept
	switch {
	case ended: // it was sent whole before the reply was read
		t.doubt = t.doubt || t.struck > 0 && head == 'E'
	case head == 'Q':
		t.copying = ColCopy
	default:
		t.copying = ColCopyExt
		t.open, t.flushed = true, false
	}
}

func copyMessage(typ byte) bool { return typ == 'd' || typ == 'c' || typ == 'f' }

// settled forgets what was owed: it has come.
func (t *tracker) settled() {
	t.queue, t.open, t.flushed, t.failed, t.doubt = nil, false, false, false, false
}

// failure strikes the rest of an extended batch.
func (t *tracker) failure(head byte) {
	t.copying = ""
	t.doubt, t.struck = t.doubt || t.struck > 0, 0
	if !t.extended(head) {
		return
	}
	for len(t.queue) > 0 && t.queue[0].typ != 'S' {
		if s := t.queue[0]; s.row != "" && s.typ != head && !copyMessage(s.typ) {
			t.cells = append(t.cells, Cell{s.row, ColSkipped})
		}
		head = 0
		t.queue = t.queue[1:]
	}
	t.failed = len(t.queue) == 0
}
