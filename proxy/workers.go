package proxy

import (
	"net"
	"slices"
	"sync"
)

// workers are the goroutines that log clients in and run their sessions. A goroutine's
// stack begins small and is copied each time it grows, which was a third of all
// instructions that a connection took. So one that has nothing left to do waits for
// the next.
//
// A worker ends when as many wait as may, by tidy, or by close, which joins them all.
type workers struct {
	run func(job) // immutable: does one
	all sync.WaitGroup

	mu     sync.Mutex
	idle   []chan job // guarded by mu; who waited last goes first, for its stack is warm
	least  int        // guarded by mu: so many have waited all the time since tidy
	closed bool       // guarded by mu
}

// maxIdleWorkers is how many wait at most.
const maxIdleWorkers = 64

// job is a client that has connected, or a session that is to run; the zero job
// ends a worker.
type job struct {
	nc   net.Conn // nil: s
	slot *loginSlot
	s    *session
}

// do has a goroutine do j. It does not wait, and anybody may call it until close.
func (w *workers) do(j job) {
	w.mu.Lock()
	if n := len(w.idle) - 1; n >= 0 {
		next := w.idle[n]
		w.idle = w.idle[:n]
		w.least = min(w.least, n)
		w.mu.Unlock()
		next <- j
		return
	}
	w.mu.Unlock()
	w.all.Add(1)
	go w.work(j)
}

// work is a worker.
func (w *workers) work(j job) {
	defer w.all.Done()
	var next chan job // made when there is something to wait for
	for j.nc != nil || j.s != nil {
		w.run(j)
		j = job{} // nothing is kept of it
		if next == nil {
			next = make(chan job, 1)
		}
		if w.rest(next) {
			j = <-next
		}
	}
}

// rest has a worker wait for what comes by next. It is false if there are enough.
func (w *workers) rest(next chan job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) == maxIdleWorkers {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

// tidy ends those that nobody has needed since it was called last.
func (w *workers) tidy() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(w.least)
	w.least = len(w.idle)
}

// end ends n of those who wait, the coldest first. mu is held.
func (w *workers) end(n int) {
	for _, next := range w.idle[:n] {
		next <- job{}
	}
	w.idle = slices.Delete(w.idle, 0, n)
}

// close ends all workers and waits until they have ended. No session runs any more.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	w.end(len(w.idle))
	w.least = 0
	w.mu.Unlock()
	w.all.Wait()
}
