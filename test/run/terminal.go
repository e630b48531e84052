package main

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminalLook is how often the terminal is looked at.
const terminalLook = 500 * time.Millisecond

// watchTerminal is the goroutine that sends SIGHUP to signals once the
// terminal of the standard streams has closed, and ends with stop or at once
// where there is none. The kernel's own SIGHUP goes to the terminal's leading
// process, which is often make, and make waits for us.
func watchTerminal(signals chan<- os.Signal, stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	fd := -1
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if n := int(f.Fd()); term.IsTerminal(n) {
			fd = n
			break
		}
	}
	if fd < 0 {
		return
	}
	tick := time.NewTicker(terminalLook)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if hungUp(fd) {
			select {
			case signals <- syscall.SIGHUP:
			case <-stop:
			}
			return
		}
	}
}

// hungUp tells whether the other end of a terminal has gone.
func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}} // a hang-up is reported unasked
	n, err := unix.Poll(fds, 0)
	if errors.Is(err, unix.EINTR) {
		return false
	}
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
