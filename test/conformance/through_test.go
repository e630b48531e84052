package conformance

import (
	"testing"

	"pgpoold/test/wirescript"
)

// TestThrough runs every script through pgpoold: the client must be told
// exactly what PostgreSQL would have told it.
func TestThrough(t *testing.T) {
	o := newOracle(t)
	p := startPooler(t, o.direct.Target.Addr)
	r := o.through(p)
	for _, s := range loadScripts(t, wirescript.OnlyPooler) {
		t.Run(s.Name, func(t *testing.T) {
			if s.Only == wirescript.OnlyPooler {
				res, err := r.Run(t.Context(), s)
				if err != nil {
					t.Errorf("%v\n%s", err, tail(res.Transcript))
				}
			} else {
				o.compare(t, r, s)
			}
			o.settled(t, p)
		})
	}
	o.clean(t, p)
	p.RequireSwitched(t)
}

// TestSplitByClient runs the scripts with a client that sends every byte
// alone, and with every message cut in two at each of its bytes.
func TestSplitByClient(t *testing.T) {
	o := newOracle(t)
	p := startPooler(t, o.direct.Target.Addr)
	const long = 8 << 10 // byte by byte, longer ones take minutes and show nothing new
	for _, s := range loadScripts(t, wirescript.OnlyBoth) {
		if s.Bytes() > long {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			r := o.through(p)
			r.Write = wirescript.ByteByByte
			o.compare(t, r, s)
			for _, at := range sample(s, s.Longest(), 1, 120) {
				r.Write = wirescript.SplitAt(at)
				o.compare(t, r, s)
			}
			o.settled(t, p)
		})
	}
	o.clean(t, p)
}

// TestSplitByServer runs the scripts with a PostgreSQL that sends, and takes,
// every byte alone.
func TestSplitByServer(t *testing.T) {
	o := newOracle(t)
	relay := newRelay(t, o.direct.Target.Addr)
	p := startPooler(t, relay.Addr())
	relay.Split(true)
	const long = 400 // messages, as above
	for _, s := range loadScripts(t, wirescript.OnlyBoth) {
		if len(o.says(t, s)) > long {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			o.compare(t, o.through(p), s)
			o.settled(t, p)
		})
	}
	o.clean(t, p)
}

func newRelay(t *testing.T, upstream string) *wirescript.Relay {
	t.Helper()
	r, err := wirescript.NewRelay("tcp", upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}
