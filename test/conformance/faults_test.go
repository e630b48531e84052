package conformance

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgpoold/test/wirescript"
)

// TestClientFaults cuts, resets and stalls each script's client at each of
// its messages, in the middle of the message and behind it. Until then it must
// have heard what PostgreSQL says; afterwards nothing of it may be left, and a
// client that works beside it must not notice.
func TestClientFaults(t *testing.T) {
	o := newOracle(t)
	p := startPooler(t, o.direct.Target.Addr)
	clientFaults(t, o, p)
}

func clientFaults(t *testing.T, o *oracle, p pooler) {
	for _, s := range loadScripts(t, wirescript.OnlyBoth) {
		t.Run(s.Name, func(t *testing.T) {
			want := o.says(t, s)
			by := startBystander(t, o.direct.Target, p.Addr())
			for _, at := range sample(s, s.Messages()+1, 2, 48) {
				for _, action := range wirescript.Actions() {
					for _, part := range []float64{0.5, 1} {
						fault := wirescript.ClientFault{Message: at, Part: part, Action: action}
						clientFault(t, o, p, s, fault, want)
					}
				}
			}
			by.stop(t)
			o.clean(t, p)
		})
	}
}

func clientFault(t *testing.T, o *oracle, p pooler, s *wirescript.Script, f wirescript.ClientFault, want []wirescript.Entry) {
	t.Helper()
	r := o.through(p)
	f.During = func() { o.clean(t, p) }
	r.Fault = &f
	res, err := r.Run(t.Context(), s)
	if res.Cut {
		want = want[:min(len(want), len(res.Transcript))]
	}
	if d := wirescript.Diff(want, res.Transcript); d != "" || err != nil {
		t.Errorf("client: %s at message %d (%.1f of it): %v\n%s", f.Action, f.Message, f.Part, err, d)
	}
	o.settled(t, p)
}

// TestServerFaults cuts, resets and stalls the connection between pgpoold and
// PostgreSQL at each message that passes there. A client is then told so by an
// error, or hears exactly what PostgreSQL would have said: never anything
// else. A stall that ends must not have changed anything.
func TestServerFaults(t *testing.T) {
	o := newOracle(t)
	relay := newRelay(t, o.direct.Target.Addr)
	p := startPooler(t, relay.Addr())
	serverFaults(t, o, p, relay)
}

func serverFaults(t *testing.T, o *oracle, p pooler, relay *wirescript.Relay) {
	for _, s := range loadScripts(t, wirescript.OnlyBoth) {
		t.Run(s.Name, func(t *testing.T) {
			want := o.says(t, s)
			n := [2]int{s.Messages() + 4, len(want)} // about as many pass, ours not counted
			for _, d := range wirescript.Directions() {
				for _, at := range sample(s, n[d], 1, 48) {
					for _, action := range wirescript.Actions() {
						fault := wirescript.RelayFault{Direction: d, Message: at, Part: float64(at%3) / 2, Action: action}
						serverFault(t, o, p, relay, s, fault, want)
					}
				}
			}
			o.clean(t, p)
		})
	}
}

func serverFault(t *testing.T, o *oracle, p pooler, relay *wirescript.Relay, s *wirescript.Script, f wirescript.RelayFault, want []wirescript.Entry) {
	t.Helper()
	r := o.through(p)
	fired := relay.Arm(f)
	type outcome struct {
		res wirescript.Result
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		res, err := r.Run(t.Context(), s)
		done <- outcome{res, err}
	}()
	var out outcome
	happened := false
	select {
	case <-fired:
		happened = true
		if f.Action == wirescript.ActStall {
			o.clean(t, p)
			relay.Disarm()
		}
		out = <-done
	case out = <-done:
		select {
		case <-fired:
			happened = true
		default:
		}
	}
	relay.Disarm()
	what := fmt.Sprintf("%s %s at message %d (%.1f of it)", f.Action, f.Direction, f.Message, f.Part)
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
	o.settled(t, p)
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
