package wirescript

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// Entry is one recorded message, normalised.
type Entry struct {
	Conn string
	Line int // of the script
	Msg  Message
}

func (e Entry) String() string { return e.Conn + "< " + e.Msg.String() }

// Result is what one run recorded.
type Result struct {
	Transcript []Entry
	Cells      []Cell
	Sent       int  // frontend messages written, logins included
	Cut        bool // the client fault happened: the run ended there, on purpose
}

// MismatchError says that what came is not what the script asserts.
type MismatchError struct {
	Script string
	Line   int
	Conn   string
	Want   string
	Got    Message
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s.wire:%d: %s: want %s, got %s", e.Script, e.Line, e.Conn, e.Want, e.Got)
}

// ErrHang is the cause of a run's end when the script's deadline passed.
var ErrHang = errors.New("nothing came before the deadline")

// SetupConn runs SQL for a script beside its own connections: setup, cleanup
// and await. It always talks to PostgreSQL itself.
type SetupConn interface {
	Exec(ctx context.Context, sql string) error
	// True runs a query of one boolean.
	True(ctx context.Context, sql string) (bool, error)
}

// Runner runs scripts against one target. It may run several at once.
type Runner struct {
	Target Target
	Setup  SetupConn
	// Timeout guards one script against hanging; 0 is 30 seconds.
	Timeout time.Duration
	// Write replaces the plain write of queued messages, for splitting them;
	// ends says where each message in b ends.
	Write func(c net.Conn, b []byte, ends []int) error
	// Fault happens once per run, if set.
	Fault *ClientFault
}

// run is one execution of one script, on one goroutine.
type run struct {
	*Runner
	script *Script
	conns  map[string]*conn
	order  []*conn
	norm   *normaliser
	res    Result
	marks  int
}

// errCut unwinds a run whose client fault ended it.
var errCut = errors.New("cut")

// Run executes the script. The result is valid, as far as it came, also with
// an error: a *MismatchError, ErrHang, or one of the network's.
func (r *Runner) Run(ctx context.Context, s *Script) (Result, error) {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s on %s: %w", s.Name, r.Target.Name, ErrHang))
	defer cancel()
	x := &run{Runner: r, script: s, conns: map[string]*conn{}, norm: newNormaliser()}
	for _, sql := range append(append([]string{}, s.Cleanup...), s.Setup...) {
		if err := r.Setup.Exec(ctx, sql); err != nil {
			return x.res, fmt.Errorf("%s: setup %s: %w", s.Name, sql, err)
		}
	}
	err := x.steps(ctx)
	for _, c := range x.order {
		c.close()
		x.res.Cells = append(x.res.Cells, c.track.cells...)
	}
	if errors.Is(err, errCut) {
		x.res.Cut, err = true, nil
	}
	for _, sql := range s.Cleanup {
		if e := r.Setup.Exec(ctx, sql); e != nil && err == nil {
			err = fmt.Errorf("%s: cleanup %s: %w", s.Name, sql, e)
		}
	}
	return x.res, err
}

func (x *run) steps(ctx context.Context) error {
	for _, st := range x.script.steps {
		if err := x.step(ctx, st); err != nil {
			return x.at(st, err)
		}
	}
	return x.goodbye(ctx)
}

// at adds the line to errors that do not say it.
func (x *run) at(st step, err error) error {
	var mm *MismatchError
	if errors.Is(err, errCut) || errors.As(err, &mm) {
		return err
	}
	return fmt.Errorf("%s.wire:%d: %w", x.script.Name, st.line, err)
}

func (x *run) step(ctx context.Context, st step) error {
	c := x.conns[st.conn]
	switch st.kind {
	case stepOpen, stepRaw:
		c, err := x.dial(ctx, st.conn)
		if err != nil || st.kind == stepRaw {
			return err
		}
		f, err := startup(st.params)
		if err != nil {
			return err
		}
		if err := x.queue(c, f); err != nil {
			return err
		}
		if len(st.params) > 0 {
			return nil // the script reads the login itself
		}
		return x.read(ctx, step{line: st.line}, c, []pattern{{typ: 'Z', text: "I", exact: true, skip: true, count: 1}})
	case stepSend:
		return x.queue(c, st.msg)
	case stepPush:
		return x.push()
	case stepRead:
		return x.read(ctx, st, c, st.want)
	case stepSettle:
		return x.settle(ctx, st, c)
	case stepAwait:
		return x.await(ctx, st.sql)
	case stepCancel:
		return x.cancel(ctx, c)
	}
	return nil
}

func (x *run) dial(ctx context.Context, name string) (*conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, x.Target.Network, x.Target.Addr)
	if err != nil {
		return nil, err
	}
	c := newConn(name, nc)
	x.conns[name] = c
	x.order = append(x.order, c)
	return c, nil
}

func (x *run) queue(c *conn, f frontend) error {
	if f.raw {
		c.expectByte()
	}
	c.track.send(f)
	c.queue(f.encode(vars{x.Target.User, x.Target.Database}))
	return nil
}

// push writes what every connection has queued.
func (x *run) push() error {
	for _, c := range x.order {
		if len(c.out) == 0 {
			continue
		}
		b, ends := c.out, c.ends
		c.out, c.ends = nil, nil
		if err := x.write(c, b, ends); err != nil {
			return err
		}
	}
	return nil
}

// write sends the messages in b, up to the fault if that is among them. An
// error of the network is not an error of the script: what the other side had
// to say before it closed is still to be read.
func (x *run) write(c *conn, b []byte, ends []int) error {
	first := x.res.Sent
	x.res.Sent += len(ends)
	f := x.Fault
	if f == nil || f.Message < first || f.Message >= x.res.Sent {
		_ = x.plain(c, b, ends)
		return nil
	}
	start, stop := 0, ends[f.Message-first]
	if f.Message > first {
		start = ends[f.Message-first-1]
	}
	at := start + int(float64(stop-start)*f.Part)
	_ = x.plain(c, b[:at], []int{at})
	if f.happen(c.net) {
		return errCut
	}
	_ = x.plain(c, b[at:], []int{len(b) - at})
	return nil
}

func (x *run) plain(c *conn, b []byte, ends []int) error {
	if len(b) == 0 {
		return nil
	}
	if x.Write != nil {
		return x.Write(c.net, b, ends)
	}
	_, err := c.net.Write(b)
	return err
}

// read pushes, then reads what the patterns want from c and records it.
func (x *run) read(ctx context.Context, st step, c *conn, want []pattern) error {
	if err := x.push(); err != nil {
		return err
	}
	var held *Message // read, and not yet matched
	next := func() (Message, error) {
		if held != nil {
			m := *held
			held = nil
			return m, nil
		}
		return x.next(ctx, st, c)
	}
	for _, p := range want {
		for left := p.count; left > 0; {
			m, err := next()
			if err != nil {
				return err
			}
			switch {
			case p.matches(m):
				if !p.many {
					left--
				}
			case p.many:
				held, left = &m, 0
			case p.skip && m.Type != typeClose:
			default:
				return &MismatchError{x.script.Name, st.line, c.name, p.String(), m}
			}
		}
	}
	if held != nil {
		return &MismatchError{x.script.Name, st.line, c.name, "nothing more", *held}
	}
	return nil
}

// settle pushes, then reads and records what c is owed, whatever it is.
func (x *run) settle(ctx context.Context, st step, c *conn) error {
	if err := x.push(); err != nil || x.closed(c) {
		return err
	}
	for c.track.owes() && !c.track.doubt {
		if m, err := x.next(ctx, st, c); err != nil || m.Type == typeClose {
			return err
		}
	}
	if c.track.doubt && c.track.copying == "" {
		return x.mark(ctx, st, c)
	}
	return nil
}

// mark sends what fails in its own way, and reads up to the answer.
func (x *run) mark(ctx context.Context, st step, c *conn) error {
	x.marks++
	text := fmt.Sprintf("settled_%d", x.marks)
	for _, m := range [...]frontend{
		{typ: 'S', encode: func(vars) []byte { return frame('S', nil) }},
		{typ: 'Q', encode: func(vars) []byte { return frame('Q', append([]byte(text), 0)) }},
	} {
		if err := x.queue(c, m); err != nil {
			return err
		}
	}
	if err := x.push(); err != nil {
		return err
	}
	for seen := false; ; {
		m, err := x.next(ctx, st, c)
		if err != nil || m.Type == typeClose {
			return err
		}
		seen = seen || m.Type == 'E' && bytes.Contains(m.Body, []byte(text))
		if seen && m.Type == 'Z' {
			c.track.settled()
			return nil
		}
	}
}

// next reads and records one message of c.
func (x *run) next(ctx context.Context, st step, c *conn) (Message, error) {
	m, err := c.next(ctx)
	for err == nil && x.norm.dropped(&c.track, m) {
		m, err = c.next(ctx)
	}
	if err != nil {
		return m, err
	}
	login := c.track.status == 0
	c.track.recv(m)
	if m.Type == 'K' {
		c.key = m.Body
	}
	x.res.Transcript = append(x.res.Transcript, Entry{c.name, st.line, x.norm.message(m)})
	if login && m.Type == 'Z' {
		from := len(x.res.Transcript) - 1
		for from > 0 && x.res.Transcript[from-1].Conn == c.name && x.res.Transcript[from-1].Msg.Type != typeByte {
			from--
		}
		sortLogin(x.res.Transcript, from)
	}
	return m, nil
}

// await polls until the condition holds, or cannot any more because a
// connection has ended.
func (x *run) await(ctx context.Context, sql string) error {
	if err := x.push(); err != nil {
		return err
	}
	for {
		ok, err := x.Setup.True(ctx, sql)
		if err != nil {
			return fmt.Errorf("await: %w", err)
		}
		if ok {
			return nil
		}
		for _, c := range x.order {
			if c.over() {
				return fmt.Errorf("await %s: connection %s ended", sql, c.name)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w", sql, context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// cancel sends a CancelRequest with c's key over a connection of its own and
// waits until that is closed.
func (x *run) cancel(ctx context.Context, c *conn) error {
	if err := x.push(); err != nil {
		return err
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, x.Target.Network, x.Target.Addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	deadline, _ := ctx.Deadline()
	if err := nc.SetDeadline(deadline); err != nil {
		return err
	}
	body := binary.BigEndian.AppendUint32(nil, 80877102)
	if _, err := nc.Write(frame(0, append(body, c.key...))); err != nil {
		return err
	}
	var b [1]byte
	if n, err := nc.Read(b[:]); n != 0 {
		return fmt.Errorf("a CancelRequest was answered (%v)", err)
	}
	return nil
}

// goodbye ends every connection that is still there as a client would, and
// records what came that the script did not read.
func (x *run) goodbye(ctx context.Context) error {
	if err := x.push(); err != nil {
		return err
	}
	for _, c := range x.order {
		if c.track.status == 0 {
			continue // never logged in: there is nobody to say goodbye to
		}
		if n := len(x.res.Transcript); n > 0 && x.closed(c) {
			continue
		}
		f := frontend{typ: 'X', encode: func(vars) []byte { return frame('X', nil) }}
		if err := x.queue(c, f); err != nil {
			return err
		}
		if err := x.push(); err != nil {
			return err
		}
		for {
			m, err := x.next(ctx, step{}, c)
			if err != nil {
				return err
			}
			if m.Type == typeClose {
				break
			}
		}
	}
	return nil
}

// closed says that the script has read the connection's end.
func (x *run) closed(c *conn) bool {
	for _, e := range x.res.Transcript {
		if e.Conn == c.name && e.Msg.Type == typeClose {
			return true
		}
	}
	return false
}
