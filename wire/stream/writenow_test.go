package stream

import (
	"errors"
	"os"
	"testing"
	"time"
)

// TestWriteNow: what the buffers on the way take is written, and no more is waited for; a
// deadline that has passed, and a connection that has ended, are errors.
func TestWriteNow(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			ours, peer := rawPair(t, network)
			all := pattern(64 << 20)
			n := 0
			var err error
			within(t, "WriteNow", func() {
				for k := -1; k != 0 && err == nil; n += k {
					k, err = ours.WriteNow(all[n:])
				}
			})
			if n == 0 || n == len(all) || err != nil {
				t.Fatalf("%d bytes of %d were taken, %v", n, len(all), err)
			}
			if got := readAll(t, peer, n); string(got) != string(all[:n]) {
				t.Error("others have arrived")
			}
			if k, err := ours.WriteNow(all[n : n+1]); k != 1 || err != nil {
				t.Errorf("%d bytes, %v, when there is room again", k, err)
			}
			_ = ours.SetWriteDeadline(time.Now().Add(-time.Second))
			if _, err := ours.WriteNow(all); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v after the deadline", err)
			}
			_ = ours.SetWriteDeadline(time.Time{})
			_ = peer.Close()
			within(t, "the peer's end", func() {
				for err == nil {
					time.Sleep(time.Millisecond)
					_, err = ours.WriteNow(all)
				}
			})
			_ = ours.Close()
			if _, err := ours.WriteNow(all); err == nil {
				t.Error("it is closed, and takes something")
			}
		})
	}
}
