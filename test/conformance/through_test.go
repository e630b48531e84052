package conformance

import (
	"errors"
	"fmt"
	"testing"

	"pgpoold/test/postgres"
	"pgpoold/test/wirescript"
)

// TestThrough runs every script through pgpoold: the client must be told
// exactly what PostgreSQL would have told it.
func TestThrough(t *testing.T) {
	throughAll(t, newStack(t, postgres.ForTest(t)))
}

// TestThroughAudited is TestThrough where PostgreSQL is asked after every
// transaction what it has left: nothing that its texts did not announce.
func TestThroughAudited(t *testing.T) {
	postgres.RequireFull(t)
	throughAll(t, newStackAudited(t, postgres.ForTest(t), true))
}

func throughAll(t *testing.T, k *stack) {
	r := k.through()
	for _, s := range loadScripts(t, wirescript.OnlyPooler) {
		t.Run(s.Name, func(t *testing.T) {
			through(t, k, r, s)
			k.settled(t, "the script")
		})
	}
	k.clean(t, "at the end")
	k.pooler.RequireSwitched(t)
}

func through(t *testing.T, k *stack, r *wirescript.Runner, s *wirescript.Script) {
	if s.Only == wirescript.OnlyPooler {
		if res, err := r.Run(t.Context(), s); err != nil {
			t.Errorf("%v\n%s", err, tail(res.Transcript))
		}
		return
	}
	want, err := k.direct.Run(t.Context(), s)
	if err != nil {
		t.Fatalf("direct: %v", err)
	}
	if s.Differs == "" {
		compare(t, r, s, want.Transcript, "PostgreSQL (-) and pgpoold (+)")
		return
	}
	got, err := r.Run(t.Context(), s)
	if errors.Is(err, wirescript.ErrHang) {
		t.Error(err)
	}
	// Where every transaction is audited other servers are free than else, and a
	// script may meet the one on which it does not differ.
	if wirescript.Diff(want.Transcript, got.Transcript) == "" && !k.audits {
		t.Errorf("it does not differ any more: take the line away that says so (%s)", s.Differs)
	}
}

// TestSplitByClient runs the scripts with a client that sends every byte
// alone, and with every message cut in two at each of its bytes.
func TestSplitByClient(t *testing.T) {
	const long = 8 << 10 // byte by byte, longer ones take minutes and show nothing new
	eachScript(t, func(t *testing.T, k *stack, s *wirescript.Script) {
		if s.Bytes() > long {
			return
		}
		want, ok := k.undisturbed(t, s)
		if !ok {
			return
		}
		r := k.through()
		r.Write = wirescript.ByteByByte
		compare(t, r, s, want, "byte by byte")
		most := 8
		if all() {
			most = 1 << 10
		}
		for _, at := range sample(s, s.Longest(), 1, most) {
			r.Write = wirescript.SplitAt(at)
			compare(t, r, s, want, fmt.Sprintf("split behind byte %d", at))
		}
		k.settled(t, "the script")
	})
}

// TestSplitByServer runs the scripts with a PostgreSQL that sends, and takes,
// every byte alone.
func TestSplitByServer(t *testing.T) {
	const long = 400 // messages, as above
	eachScript(t, func(t *testing.T, k *stack, s *wirescript.Script) {
		want, ok := k.undisturbed(t, s)
		if !ok || len(want) > long {
			return
		}
		k.relay.Split(true)
		defer k.relay.Split(false)
		compare(t, k.through(), s, want, "byte by byte from the server")
		k.settled(t, "the script")
	})
}
