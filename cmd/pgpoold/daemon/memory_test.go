package daemon

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestReturnMemory: free memory is seen, worth a collection only when calm, and
// gone when it has been given back.
func TestReturnMemory(t *testing.T) {
	for _, test := range []struct {
		load float64
		free uint64
		want bool
	}{{0, 0, false}, {0, 64 << 20, true}, {0.02, worthwhile, true}, {0.02, worthwhile - 1, false}, {0.5, 64 << 20, false}} {
		if got := mayReturn(test.load, test.free); got != test.want {
			t.Errorf("%v of a processor and %d bytes free: %v", test.load, test.free, got)
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // or it is given back at once
	big := make([][]byte, 64)
	for i := range big {
		big[i] = make([]byte, 1<<20)
		clear(big[i])
	}
	runtime.KeepAlive(big)
	big = nil
	runtime.GC()
	if got := freeMemory(); got < worthwhile {
		t.Fatalf("%d bytes are free of 64 MiB that nobody holds", got)
	}
	debug.FreeOSMemory()
	if got := freeMemory(); got >= worthwhile {
		t.Errorf("%d bytes are still free", got)
	}
}
