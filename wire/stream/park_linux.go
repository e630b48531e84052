package stream

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Parker watches the sockets of parked connections. One goroutine waits for
// all of them; it is started by NewParker and ended, and joined, by Close.
//
// A socket is in the set while it is parked, and reports only once
// (EPOLLONESHOT). An event may be old: about a connection that runs again, or
// whose descriptor is another one's by now. Then that one is started for nothing
// and parks again.
type Parker struct {
	set, wake int // epoll, eventfd
	joined    chan struct{}

	mu     sync.Mutex
	parked map[int32]*Conn // guarded by mu, by descriptor
	closed bool            // guarded by mu
}

// NewParker starts one.
func NewParker() (*Parker, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		_ = unix.Close(set)
		return nil, err
	}
	p := &Parker{set: set, wake: wake, joined: make(chan struct{}), parked: map[int32]*Conn{}}
	go p.run()
	return p, nil
}

// run is the parker's goroutine.
func (p *Parker) run() {
	defer close(p.joined)
	events := make([]unix.EpollEvent, 256)
	ready := make([]*Conn, 0, len(events))
	for {
		n, err := unix.EpollWait(p.set, events, -1)
		if err != nil && err != unix.EINTR {
			n = 0
		}
		ready = ready[:0]
		p.mu.Lock()
		closed := p.closed
		for i := range max(n, 0) {
			if c := p.parked[events[i].Fd]; c != nil {
				ready = append(ready, c)
			}
		}
		p.mu.Unlock()
		for i, c := range ready {
			c.unpark()
			ready[i] = nil
		}
		if closed {
			return
		}
	}
}

// watch has c started when its peer sends something or closes. mu is held.
func (p *Parker) watch(c *Conn, fd int) error {
	if p.closed {
		return unix.EBADF
	}
	e := &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(fd)}
	err := unix.EpollCtl(p.set, unix.EPOLL_CTL_ADD, fd, e)
	if err == nil {
		p.parked[int32(fd)] = c
	}
	return err
}

// forget is for a connection that is started. mu is held.
func (p *Parker) forget(c *Conn) {
	delete(p.parked, c.fd)
	_ = unix.EpollCtl(p.set, unix.EPOLL_CTL_DEL, int(c.fd), nil)
}

// Parked is how many connections are parked.
func (p *Parker) Parked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.parked)
}

// Close ends the goroutine. Connections that are parked stay so until they are
// woken; no more are parked.
func (p *Parker) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.mu.Unlock()
	_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-p.joined
	_ = unix.Close(p.set)
	_ = unix.Close(p.wake)
}
