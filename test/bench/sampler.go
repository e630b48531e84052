package main

import (
	"time"

	"pgpoold/test/measure/process"
)

// sample is a proxy's processor time at one moment.
type sample struct {
	at  int64 // microseconds since the epoch
	cpu process.CPU
}

// sampler reads a process's processor time every few milliseconds. Its
// goroutine owns samples and err until stopped is closed.
type sampler struct {
	pid     int
	quit    chan struct{}
	stopped chan struct{}
	samples []sample
	err     error
}

func newSampler(pid int) *sampler {
	return &sampler{pid: pid, quit: make(chan struct{}), stopped: make(chan struct{})}
}

// start begins sampling; with no process there is nothing to sample.
func (s *sampler) start() {
	if s.pid == 0 {
		close(s.stopped)
		return
	}
	go s.run()
}

func (s *sampler) run() {
	defer close(s.stopped)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		cpu, err := process.ReadCPU(s.pid)
		if err != nil {
			s.err = err
			return
		}
		s.samples = append(s.samples, sample{at: time.Now().UnixMicro(), cpu: cpu})
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
	}
}

// stop ends the sampling and returns what was read.
func (s *sampler) stop() ([]sample, error) {
	close(s.quit)
	<-s.stopped
	return s.samples, s.err
}
