package daemon

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A relay that runs on more threads than its load needs pays for it: the
// threads wake and look for each other's work, which costs more than the work.
// So as many are used as are busy, GOMAXPROCS at most.

// balanceEvery is how often the load is looked at.
const balanceEvery = 100 * time.Millisecond

// calmFor is how many looks in a row must find one thread too many before it
// goes.
const calmFor = 20

// The shares of the threads' time past which there is one more, and below
// which those that are left must stay before there is one less.
const (
	crowded = 0.75
	roomy   = 0.55
)

// threads decides how many there are. It has no I/O.
type threads struct {
	most, now int
	calm      int // looks in a row that found one too many
}

// next is how many there shall be, when the processor time of used threads
// was used since the last look.
func (t *threads) next(used float64) int {
	switch {
	case used > crowded*float64(t.now) && t.now < t.most:
		// As many as would have been enough, and one at least.
		t.now = min(t.most, max(t.now+1, int(used/crowded)+1))
		t.calm = 0
	case t.now > 1 && used < roomy*float64(t.now-1):
		if t.calm++; t.calm >= calmFor {
			t.now--
			t.calm = 0
		}
	default:
		t.calm = 0
	}
	return t.now
}

// balanceThreads keeps the number of threads at what the load needs until stop
// is called, which joins it. A GOMAXPROCS of the environment is left alone.
func balanceThreads() (stop func()) {
	t := threads{most: runtime.GOMAXPROCS(0), now: 1}
	if _, set := os.LookupEnv("GOMAXPROCS"); set || t.most == 1 {
		return func() {}
	}
	ended, joined := make(chan struct{}), make(chan struct{})
	go t.balance(ended, joined)
	return func() {
		close(ended)
		<-joined
	}
}

// balance is the goroutine of balanceThreads.
func (t *threads) balance(ended <-chan struct{}, joined chan<- struct{}) {
	defer close(joined)
	tick := time.NewTicker(balanceEvery)
	defer tick.Stop()
	runtime.GOMAXPROCS(t.now)
	last, used := time.Now(), processorTime()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		now, sum := time.Now(), processorTime()
		before := t.now
		if n := t.next(float64(sum-used) / float64(now.Sub(last))); n != before {
			runtime.GOMAXPROCS(n)
		}
		last, used = now, sum
	}
}

// processorTime is what the process has used so far.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
