package wire

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// choices are a fuzzer's bytes, used up one by one; zeros follow.
type choices []byte

func (c *choices) next(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

// program is what a client sends. It may pipeline as it likes, but ends the data
// of each COPY that it begins before it sends anything else.
func (c *choices) program() []message {
	var all []message
	send := func(typ byte, do ...effect) { all = append(all, message{typ: typ, do: do}) }
	copyData := func(extended bool) {
		synced := false
		for range c.next(4) {
			switch c.next(4) {
			case 0:
				send(MsgSync)
				synced = true
			case 1:
				send(MsgFlush)
			default:
				send(MsgCopyData)
			}
		}
		if c.next(4) == 0 {
			send(MsgCopyFail)
		} else {
			send(MsgCopyDone)
		}
		if extended && synced && c.next(4) > 0 {
			send(MsgSync) // as libpq does
		}
	}
	isCopy := func(e effect) bool { return e == copyIn || e == copyBad || e == copyDie }
	commands := []effect{rows, modify, fail, failRows, begin_, commit, rollback, copyIn, copyBad, copyDie, copyOut}
	for range 1 + c.next(8) {
		switch c.next(8) {
		case 0, 1:
			var do []effect
			for range 1 + c.next(3) {
				do = append(do, commands[c.next(len(commands))])
			}
			if c.next(8) == 0 {
				do = []effect{empty}
			}
			send(MsgQuery, do...)
			for _, e := range do {
				if isCopy(e) {
					copyData(false)
				}
			}
		case 2, 3, 4, 5:
			e := append(commands, empty, suspend)[c.next(len(commands)+2)]
			early := modify // what Parse, Bind and Describe have to fear of it
			if e == rollback || e == commit {
				early = e
			}
			stage := c.next(8)
			if stage == 0 {
				send(MsgParse, fail)
			} else if e == empty {
				send(MsgParse, empty)
			} else {
				send(MsgParse, early)
			}
			if c.next(4) == 0 {
				send(MsgFlush)
			}
			if stage == 1 {
				send(MsgBind, fail)
			} else {
				send(MsgBind, early)
			}
			if c.next(2) == 0 {
				if e == rows || e == failRows || e == suspend {
					send(MsgDescribe, rows)
				} else {
					send(MsgDescribe, noData)
				}
			}
			send(MsgExecute, e)
			if isCopy(e) {
				copyData(true)
			}
			if c.next(4) > 0 {
				send(MsgSync)
			}
		case 6:
			send(MsgFunctionCall, [...]effect{rows, fail}[c.next(2)])
		default:
			switch c.next(7) {
			case 0:
				send(MsgFlush)
			case 1:
				send(MsgCopyData)
			case 2:
				send(MsgCopyDone)
			case 3:
				send(MsgClose)
			case 4:
				all = append(all, message{typ: MsgFlush, bad: true})
			default:
				send(MsgSync)
			}
		}
	}
	if c.next(2) == 0 {
		send(MsgSync)
	}
	return all
}

func (r reply) String() string {
	if r.typ == MsgReady {
		return "Z" + string(r.status)
	}
	return string(r.typ)
}

func (m message) String() string {
	text := string(m.typ)
	for _, e := range m.do {
		text += string(e)
	}
	if m.bad {
		text += "!"
	}
	return text
}

// direct is what a client sees without a pooler.
func direct(t *testing.T, program []message) (seen []reply, idle bool) {
	s := newSimulator()
	for _, m := range program {
		out, fatal := s.receive(m)
		if fatal {
			t.Fatalf("%v: not well-behaved at %v", program, m)
		}
		seen = append(seen, out...)
	}
	return seen, s.idle()
}

// pooled plays the same through a ledger, in an order of events that the
// choices decide, with Parses of the pooler's own and made-up replies.
type pooled struct {
	t      *testing.T
	c      *choices
	ledger Ledger
	server *simulator
	sent   []message
	coming []reply
	seen   []reply
	log    []string
}

func (p *pooled) note(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

func (p *pooled) failf(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(p.log, " "))
}

func (p *pooled) append(e Entry) {
	p.note("+%c%s", e.Msg, [...]string{"", "~", "!", "="}[e.Action])
	p.ledger.Append(e)
}

// client is one message of the client's, as the proxy treats it.
func (p *pooled) client(m message) {
	if p.ledger.Releasable() && p.c.next(4) == 0 {
		p.append(Entry{Msg: MsgQuery, Action: Swallow}) // a replay
		p.sent = append(p.sent, message{typ: MsgQuery, do: []effect{modify, rows}})
	}
	if m.typ != MsgCopyData && m.typ != MsgCopyDone && m.typ != MsgCopyFail && m.typ != MsgSync {
		p.await(p.ledger.InDoubt)
		if p.ledger.Ambiguous() && p.ledger.Skipping() {
			p.note("probe")
			p.ledger.AppendProbe()
			p.sent = append(p.sent, message{typ: MsgSync}, message{typ: MsgQuery, do: []effect{empty}})
			p.await(p.ledger.Probing)
		}
	}
	if p.ledger.Skipping() && m.typ != MsgSync {
		return
	}
	switch m.typ {
	case MsgCopyData:
		if !p.ledger.Copying() {
			return
		}
	case MsgCopyDone, MsgCopyFail:
		if !p.ledger.Copying() {
			return
		}
		p.append(Entry{Msg: CopyMark})
	case MsgFlush:
		if m.bad {
			p.append(Entry{Msg: MsgFlush})
		}
	case MsgParse:
		if m.effect() != fail && p.ledger.CanMakeUp() && p.c.next(2) == 0 {
			p.append(Entry{Msg: MsgParse, Action: MakeUp})
			p.emit()
			return
		}
		p.append(Entry{Msg: MsgParse})
	case MsgClose:
		if p.ledger.CanMakeUpClose() {
			p.append(Entry{Msg: MsgClose, Action: MakeUp})
			p.emit()
			return
		}
		p.append(Entry{Msg: MsgClose})
	case MsgBind:
		if p.c.next(3) == 0 {
			p.append(Entry{Msg: MsgParse, Action: Swallow})
			injected := message{typ: MsgParse, do: m.do}
			if m.effect() == fail {
				injected.do = []effect{modify}
			}
			p.sent = append(p.sent, injected)
		}
		p.append(Entry{Msg: MsgBind})
	default:
		p.append(Entry{Msg: m.typ})
	}
	p.sent = append(p.sent, m)
	p.emit()
}

// await lets the server work while something is to be waited for.
func (p *pooled) await(pending func() bool) {
	for pending() {
		if !p.settle() && !p.work() {
			p.failf("it waits for ever")
		}
	}
}

func (p *pooled) emit() {
	for {
		e, ok := p.ledger.Emit()
		if !ok {
			break
		}
		typ := byte(MsgParseComplete)
		if e.Msg == MsgClose {
			typ = MsgCloseComplete
		}
		p.seen = append(p.seen, reply{typ: typ})
		p.note("(%c)", typ)
	}
	checkCounts(p.t, &p.ledger)
	if !p.ledger.Releasable() {
		return
	}
	if !p.server.idle() || len(p.coming) > 0 {
		p.failf("releasable, but the server is busy: %+v, coming %v", p.server, p.coming)
	}
	for _, m := range p.sent {
		if m.typ != MsgCopyData && m.typ != MsgCopyDone && m.typ != MsgCopyFail && m.typ != MsgFlush {
			p.failf("releasable, but %v is on its way", m)
		}
	}
}

// work lets the server read one message.
func (p *pooled) work() bool {
	if len(p.sent) == 0 {
		return false
	}
	out, fatal := p.server.receive(p.sent[0])
	if fatal {
		p.failf("the server ends at %v", p.sent[0])
	}
	p.sent = p.sent[1:]
	p.coming = append(p.coming, out...)
	return true
}

// settle takes one reply of the server's.
func (p *pooled) settle() bool {
	if len(p.coming) == 0 {
		return false
	}
	var run []byte
	for _, r := range p.coming[:1+p.c.next(len(p.coming))] {
		run = append(run, r.typ)
	}
	if n := plainly(&p.ledger, run); n > 0 {
		p.note("-%v", p.coming[:n])
		p.seen = append(p.seen, p.coming[:n]...)
		p.coming = p.coming[n:]
	} else {
		r := p.coming[0]
		p.coming = p.coming[1:]
		p.note("-%v", r)
		v := p.ledger.Settle(r.typ, r.status)
		if v.Broken {
			p.failf("broken")
		}
		if v.Action == Forward {
			p.seen = append(p.seen, r)
		}
	}
	p.emit()
	l := &p.ledger
	if l.Ambiguous() && l.Len() == 0 && l.Status() == TxIdle && !l.BatchOpen() {
		p.append(Entry{Msg: MsgQuery, Action: Swallow})
		p.sent = append(p.sent, message{typ: MsgQuery, do: []effect{empty}})
	}
	return true
}

func (p *pooled) run(program []message, idle bool) {
	for _, m := range program {
		for step := p.c.next(6); step > 0; step-- {
			if p.c.next(2) == 0 || !p.settle() {
				p.work()
			}
		}
		p.client(m)
	}
	for p.settle() || p.work() {
	}
	// Whose Parse and Close were all made up has a batch open all the same.
	if free := p.ledger.Releasable(); free != (idle && p.server.idle()) && !p.ledger.Ambiguous() {
		p.failf("at the end releasable is %v, but the client is idle: %v, the server: %v", free, idle, p.server.idle())
	}
}

// playBoth compares what the client sees.
func playBoth(t *testing.T, data []byte) {
	c := choices(data)
	program := c.program()
	want, idle := direct(t, program)
	p := &pooled{t: t, c: &c, server: newSimulator()}
	p.run(program, idle)
	if fmt.Sprint(p.seen) != fmt.Sprint(want) {
		p.failf("%v\nthe client sees %v\nbut directly    %v", program, p.seen, want)
	}
}

// FuzzLedger plays clients against a model of PostgreSQL.
func FuzzLedger(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 64 {
		data := make([]byte, 16+r.IntN(100))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(playBoth)
}

// TestLedgerModel does so for a fixed number of clients.
func TestLedgerModel(t *testing.T) { playMany(t, rand.NewPCG(3, 4), 5000, playBoth) }

// playMany plays so many random programs, up to the first that fails.
func playMany(t *testing.T, source rand.Source, n int, play func(t *testing.T, data []byte)) {
	r := rand.New(source)
	for range n {
		data := make([]byte, r.IntN(200))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		play(t, data)
		if t.Failed() {
			return
		}
	}
}

// plainly tells how many replies of these types are taken for plain.
func plainly(l *Ledger, types []byte) (n int) {
	var b []byte
	for _, typ := range types {
		b = append(AppendHeader(b, typ, 2), "I\x00"...)
	}
	return l.Plain(b, func([]byte) bool { return false }) / (HeaderLen + 2)
}

// answers are what servers may say, and fitting what may answer a message.
const answers = "123CDEGHIKNRSTVWZcdnstA"

var fitting = map[byte]string{
	MsgParse: "1E", MsgBind: "2E", MsgClose: "3E", MsgDescribe: "tTnE", MsgExecute: "DDCCsIGHdcWE", MsgQuery: "TDDCCIGHdcWEZZ", MsgFunctionCall: "VEZ", MsgSync: "ZE",
}

// answer is what a server says next: what fits, mostly.
func (c *choices) answer(l *Ledger) byte {
	head, _ := l.Head()
	if fits := fitting[head.Msg]; fits != "" && c.next(8) > 0 {
		return fits[c.next(len(fits))]
	}
	return answers[c.next(len(answers))]
}

// hostile feeds a ledger what no client and no server would send, and a twin of it,
// which asks for Plain first.
func hostile(t *testing.T, data []byte) {
	messages := []byte{MsgParse, MsgBind, MsgDescribe, MsgExecute, MsgClose, MsgSync, MsgQuery, MsgFunctionCall, MsgFlush, CopyMark}
	var l, twin Ledger
	for c := choices(data); len(c) > 0; {
		if c.next(2) == 0 {
			e := Entry{Msg: messages[c.next(len(messages))], Action: Action(c.next(16)), Ref: l.Len()}
			if e.Action > Replace {
				e.Action = Forward
			}
			if e.Msg == CopyMark || c.next(2) == 0 {
				e.Ref = nil
			}
			l.Append(e)
			twin.Append(e)
			continue
		}
		run := make([]byte, 1+c.next(4))
		ask := l // what its head is while they come is guessed
		for i := range run {
			run[i] = c.answer(&ask)
			if len(run) > 1 && ask.q.len() > 1 {
				ask.q.pass(1)
			}
		}
		n := plainly(&twin, run)
		for _, typ := range run[:n] {
			told := typ == MsgParseComplete || typ == MsgBindComplete // the caller looks at what is settled
			if v := l.Settle(typ, 0); v.Broken || v.Action != Forward || v.Head.Ref != nil && !told || typ == MsgReady {
				t.Fatalf("%c is taken for plain in %q, but it is %+v", typ, run, v)
			}
		}
		if n == 0 {
			asked := l.Len() > 0 || l.Ambiguous()
			status := "ITE"[c.next(3)]
			v := l.Settle(run[0], status)
			twin.Settle(run[0], status)
			if v.Broken {
				return
			}
			if !asked && !strings.ContainsRune("NSA", rune(run[0])) {
				t.Fatalf("%c was accepted, but nothing was asked", run[0])
			}
		}
		if !reflect.DeepEqual(&l, &twin) {
			t.Fatalf("after %d of %q Plain leaves %+v, Settle %+v", n, run, &twin, &l)
		}
		if c.next(8) > 0 {
			for {
				_, ok := l.Emit()
				twin.Emit()
				if !ok {
					break
				}
			}
			l.Settled()
			twin.Settled()
		}
		checkCounts(t, &l)
		if l.Releasable() && (l.Len() > 0 || l.Owed() > 0 || l.BatchOpen() || l.Skipping() || l.Copying()) {
			t.Fatal("releasable, but not idle")
		}
	}
	n := l.Len()
	l.Abandon()
	if l.Len() != 0 || l.Owed() != 0 || n < 0 {
		t.Fatal("an abandoned ledger owes replies")
	}
}

func FuzzLedgerHostile(f *testing.F) {
	f.Add([]byte("+Q-G+c-E-Z-Z"))
	f.Add([]byte("+P+B+E+S-1-2-G+c-E-Z"))
	f.Add([]byte("0z000020101A001")) // a Parse with a Ref is told of
	f.Fuzz(hostile)
}

// TestLedgerHostile does so for a fixed number of them.
func TestLedgerHostile(t *testing.T) { playMany(t, rand.NewPCG(5, 6), 20000, hostile) }
