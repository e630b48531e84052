package conformance

import (
	"bytes"
	"slices"
	"testing"

	"pgpoold/test/postgres"
	"pgpoold/test/wirescript"
)

// TestComparisonNotices stands a liar between the script and PostgreSQL: each
// of its lies must be found. Without any, nothing may be.
func TestComparisonNotices(t *testing.T) {
	target := targetOf(postgres.ForTest(t))
	relay, err := wirescript.NewRelay("tcp", target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	direct := wirescript.Runner{Target: target, Setup: newSetup(t, target)}
	lied := direct
	lied.Target.Name, lied.Target.Addr = "the liar", relay.Addr()

	scripts := loadScripts(t, wirescript.OnlyDirect)
	i := slices.IndexFunc(scripts, func(s *wirescript.Script) bool { return s.Name == "prepared/bad-parameters" })
	s := scripts[i]
	want, err := direct.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	// to makes an edit of the first message of a type on its way to the client.
	to := func(typ byte, f func(msg []byte) [][]byte) func(wirescript.Direction, []byte) [][]byte {
		done := false
		return func(d wirescript.Direction, msg []byte) [][]byte {
			if done || d != wirescript.ToClient || msg[0] != typ {
				return [][]byte{msg}
			}
			done = true
			return f(msg)
		}
	}
	replace := func(from, with string) func([]byte) [][]byte {
		return func(msg []byte) [][]byte { return [][]byte{bytes.Replace(msg, []byte(from), []byte(with), 1)} }
	}
	for _, lie := range []struct {
		name string
		edit func(wirescript.Direction, []byte) [][]byte
	}{
		{"a status", to('Z', replace("I", "T"))},
		{"a row's value", to('D', replace("2020-01-01", "2020-01-02"))},
		{"an error's text", to('E', replace("supplies", "supplied"))},
		{"an error's line", to('E', replace("exec_bind_message", "exec_bind_massage"))},
		{"a message twice", to('2', func(m []byte) [][]byte { return [][]byte{m, m} })},
		{"a type's name for a parameter", to('t', func(m []byte) [][]byte { m[len(m)-1]++; return [][]byte{m} })},
		{"a ReadyForQuery behind the last", func(d wirescript.Direction, m []byte) [][]byte {
			if d == wirescript.ToServer && m[0] == 'X' {
				return [][]byte{frameSync, m}
			}
			return [][]byte{m}
		}},
		{"a notice in between", to('C', func(m []byte) [][]byte { return [][]byte{frameNotice, m} })},
	} {
		relay.Edit(lie.edit)
		got, err := lied.Run(t.Context(), s)
		if d := wirescript.Diff(want.Transcript, got.Transcript); d == "" {
			t.Errorf("%s: not noticed (%v)", lie.name, err)
		}
	}
	relay.Edit(nil)
	compare(t, &lied, s, want.Transcript, "without a lie")
	relay.Split(true)
	lied.Write = wirescript.ByteByByte
	compare(t, &lied, s, want.Transcript, "byte by byte without a lie")
}

var (
	frameSync   = []byte{'S', 0, 0, 0, 4}
	frameNotice = []byte("N\x00\x00\x00\x0cC00000\x00\x00")
)

// TestRelayFaults: what the relay is told to do happens to the connection that
// it is told of, and to no other.
func TestRelayFaults(t *testing.T) {
	target := targetOf(postgres.ForTest(t))
	relay, err := wirescript.NewRelay("tcp", target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	r := wirescript.Runner{Target: target, Setup: newSetup(t, target)}
	s, err := wirescript.Parse("case", "# Two queries.\na> Query select 1\na< T D[1] C Z[I]\na> Query select 2\na< T D[2] C Z[I]")
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	r.Target.Addr = relay.Addr()
	for _, action := range []wirescript.Action{wirescript.ActClose, wirescript.ActReset} {
		for at := range 8 {
			fired := relay.Arm(wirescript.RelayFault{Direction: wirescript.ToClient, Message: at, Action: action})
			got, err := r.Run(t.Context(), s)
			select {
			case <-fired:
			default:
				t.Fatalf("%s at message %d did not happen", action, at)
			}
			last := len(got.Transcript) - 1
			if err == nil || !got.Transcript[last].Msg.IsClose() || wirescript.Diff(want.Transcript[:last], got.Transcript[:last]) != "" {
				t.Errorf("%s at message %d: %v\n%s", action, at, err, tail(got.Transcript))
			}
		}
	}
	fired := relay.Arm(wirescript.RelayFault{Direction: wirescript.ToServer, Message: 1, Part: 0.5, Action: wirescript.ActStall})
	done := make(chan error, 1)
	var got wirescript.Result
	go func() {
		var err error
		got, err = r.Run(t.Context(), s)
		done <- err
	}()
	<-fired
	select {
	case <-done:
		t.Error("the stalled script came to its end")
	default:
	}
	relay.Disarm()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if d := wirescript.Diff(want.Transcript, got.Transcript); d != "" {
		t.Errorf("after the stall:\n%s", d)
	}
}
