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
		load       float64
		free, kept uint64
		want       bool
	}{
		{0, 0, 0, false}, {0, 64 << 20, 0, true}, {0.5, 64 << 20, 0, false},
		{0.02, worthwhile, 0, true}, {0.02, worthwhile - 1, 0, false},
		{0, 8 << 20, 8 << 20, false}, {0, 8<<20 + worthwhile, 8 << 20, true}, {0, 0, 8 << 20, false},
	} {
		if got := mayReturn(test.load, test.free, test.kept); got != test.want {
			t.Errorf("%v of a processor and %d bytes free, %d kept: %v", test.load, test.free, test.kept, got)
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // or it is given back at once
	big := make([][]byte, 256)
	for i := range big {
		big[i] = make([]byte, 1<<20)
		clear(big[i])
	}
	runtime.KeepAlive(big)
	big = nil
	runtime.GC()
	free := freeMemory()
	if free < worthwhile {
		t.Fatalf("%d bytes are free of 256 MiB that nobody holds", free)
	}
	debug.FreeOSMemory()
	// Up to half a MiB for each P stays in its page cache.
	if got := freeMemory(); got > free/2 {
		t.Errorf("%d of %d bytes are still free", got, free)
	}
}
