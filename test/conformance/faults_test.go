package conformance

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgpoold/test/wirescript"
)

// TestClientFaults cuts, resets and stalls each script's client at each of
// its messages, in the middle of the message and behind it. Until then it must
// have heard what PostgreSQL says; afterwards nothing of it may be left, and a
// client that works beside it must not notice.
func TestClientFaults(t *testing.T) {
	eachScript(t, func(t *testing.T, k *stack, s *wirescript.Script) {
		want, ok := k.undisturbed(t, s)
		if !ok {
			return
		}
		by := startBystander(t, k)
		for _, p := range places(s, s.Messages()+1, 2) {
			if p.action == wirescript.ActStall && strings.Contains(s.Name, "listen") {
				continue // when a notification comes is PostgreSQL's to choose
			}
			k.clientFault(t, s, want, wirescript.ClientFault{Message: p.message, Part: p.part, Action: p.action})
		}
		by.stop(t)
		k.clean(t, "at the end")
	})
}

func (k *stack) clientFault(t *testing.T, s *wirescript.Script, want []wirescript.Entry, f wirescript.ClientFault) {
	t.Helper()
	r := k.through()
	what := fmt.Sprintf("client: %s at message %d (%.1f of it)", f.Action, f.Message, f.Part)
	f.During = func() { k.clean(t, "during "+what) }
	r.Fault = &f
	res, err := r.Run(t.Context(), s)
	if res.Cut {
		want = want[:min(len(want), len(res.Transcript))]
	}
	if d := wirescript.Diff(want, res.Transcript); d != "" || err != nil {
		t.Errorf("%s: %v\n%s", what, err, d)
	}
	k.settled(t, what)
	k.changed(t)
}

// TestServerFaults cuts, resets and stalls the connection between pgpoold and
// PostgreSQL at each message that passes there. A client is then told so by an
// error, or hears exactly what PostgreSQL would have said: never anything
// else. A stall that ends must not have changed anything.
func TestServerFaults(t *testing.T) {
	eachScript(t, func(t *testing.T, k *stack, s *wirescript.Script) {
		want, ok := k.undisturbed(t, s)
		if !ok {
			return
		}
		messages := [2]int{s.Messages() + 4, len(want)} // about as many pass, ours not counted
		for _, d := range wirescript.Directions() {
			for _, p := range places(s, messages[d], 1) {
				if p.action == wirescript.ActStall && p.part == 1 {
					// Behind a whole message the server may be idle, and the next
					// client that gets it waits too: that proves nothing.
					p.part = 0.5
				}
				k.serverFault(t, s, want, wirescript.RelayFault{Direction: d, Message: p.message, Part: p.part, Action: p.action})
			}
		}
		k.clean(t, "at the end")
	})
}

func (k *stack) serverFault(t *testing.T, s *wirescript.Script, want []wirescript.Entry, f wirescript.RelayFault) {
	t.Helper()
	r := k.through()
	what := fmt.Sprintf("%s %s at message %d (%.1f of it)", f.Action, f.Direction, f.Message, f.Part)
	fired := k.relay.Arm(f)
	type outcome struct {
		res wirescript.Result
		err error
	}
	done, ended := make(chan outcome, 1), make(chan struct{})
	go func() {
		res, err := r.Run(t.Context(), s)
		done <- outcome{res, err}
		close(ended)
	}()
	var out outcome
	happened := false
	select {
	case <-fired:
		happened = true
		if f.Action == wirescript.ActStall {
			late := time.AfterFunc(3*time.Second, func() {
				select {
				case <-ended: // what is stalled is owed no reply, such as data of a COPY that has failed: its server is idle
					k.relay.Disarm()
				default:
				}
			})
			k.clean(t, "during "+what)
			late.Stop()
			k.relay.Disarm()
		}
		out = <-done
	case out = <-done:
		select {
		case <-fired:
			happened = true
		default:
		}
	}
	k.relay.Disarm()
	switch {
	case errors.Is(out.err, wirescript.ErrHang):
		t.Errorf("%s: %v\n%s", what, out.err, tail(out.res.Transcript))
	case !happened || f.Action == wirescript.ActStall:
		if d := wirescript.Diff(want, out.res.Transcript); d != "" || out.err != nil {
			t.Errorf("%s: %v\n%s", what, out.err, d)
		}
	default:
		if why := honest(want, out.res.Transcript); why != "" {
			t.Errorf("%s: %s\n%s", what, why, wirescript.Diff(want, out.res.Transcript))
		}
	}
	k.sleepers = happened && f.Action != wirescript.ActStall
	k.settled(t, what)
	k.sleepers = false
	k.changed(t)
}

// honest says what is wrong with a transcript that a lost server cut short:
// up to its first difference it must be PostgreSQL's, and there an error of
// the classes for lost connections, or the end.
func honest(want, got []wirescript.Entry) string {
	i := wirescript.Divergence(want, got)
	if i < 0 || i == len(got) {
		return ""
	}
	m := got[i].Msg
	if m.IsClose() {
		return ""
	}
	if code := m.SQLState(); m.Type == 'E' && (strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57")) {
		return ""
	}
	return "the client was told something else instead of the loss of its server"
}
