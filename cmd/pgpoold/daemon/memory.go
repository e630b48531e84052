package daemon

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The runtime keeps a tenth of what it once needed for the next time, and gives
// the rest back slowly. When many clients have gone or have become quiet, and
// nothing else is to be done, it is told to give back all.

// returnEvery is how often that is looked at.
const returnEvery = 10 * time.Second

const (
	calmLoad   = 0.03    // of one processor, below which nothing else is to be done
	worthwhile = 1 << 20 // bytes; a collection is not made for less
)

// mayReturn decides whether memory is given back, when the process has used
// that much of a processor and holds so many free bytes, of which kept stayed
// the last time: what the runtime caches for each thread is not given back.
func mayReturn(load float64, free, kept uint64) bool {
	return load < calmLoad && free >= kept+worthwhile
}

// returnMemory gives free memory back to the system while the process is calm,
// until stop is called, which joins it.
func returnMemory() (stop func()) {
	ended, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		t := time.NewTicker(returnEvery)
		defer t.Stop()
		last, used, kept := time.Now(), processorTime(), uint64(0)
		for {
			select {
			case <-ended:
				return
			case <-t.C:
			}
			now, sum := time.Now(), processorTime()
			free := freeMemory()
			kept = min(kept, free) // some of it is in use, or has gone back by itself
			if mayReturn(float64(sum-used)/float64(now.Sub(last)), free, kept) {
				debug.FreeOSMemory()
				kept = freeMemory()
				sum = processorTime() // what that took is no load
			}
			last, used = now, sum
		}
	}()
	return func() {
		close(ended)
		<-joined
	}
}

// freeMemory is how many bytes of the heap are free and not given back.
func freeMemory() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
