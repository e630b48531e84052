package daemon

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"pgpoold/wire/stream"
)

// gate is a listener that can be held up without being closed: who connects
// meanwhile waits in the socket's queue.
type gate struct {
	net.Listener
	in         net.Listener // the same, as clients are accepted from it
	configured [2]string    // network and address as configured; "" for a socket of systemd's
	admin      bool
	unlink     bool // a Unix socket's file goes with the listener

	mu     sync.Mutex
	held   chan struct{}      // guarded by mu; not nil: closed when it goes on, or is closed
	closed bool               // guarded by mu
	set    func(fd int) error // guarded by mu: what Prepare was told; nil: nothing
	inside int                // guarded by mu: calls of the listener's Accept
	out    *sync.Cond         // signalled when inside becomes 0
}

func newGate(l net.Listener, network, address string, admin bool) *gate {
	_, isUnix := l.(*net.UnixListener)
	g := &gate{Listener: l, in: l, configured: [2]string{network, address}, admin: admin, unlink: isUnix && network != ""}
	if !admin {
		g.in = stream.NewListener(l)
	}
	g.out = sync.NewCond(&g.mu)
	return g
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// Accept waits for the next client, and while the gate is held.
func (g *gate) Accept() (net.Conn, error) {
	for {
		if err := g.enter(); err != nil {
			return nil, err
		}
		c, err := g.in.Accept()
		g.leave()
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			continue // it is held
		}
		return c, err
	}
}

// Prepare is stream.Listener's.
func (g *gate) Prepare(set func(fd int) error) {
	g.mu.Lock()
	g.set = set
	g.mu.Unlock()
	g.prepare(set)
}

func (g *gate) prepare(set func(fd int) error) {
	if l, ok := g.in.(interface{ Prepare(func(int) error) }); ok {
		l.Prepare(set)
	}
}

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.closed && g.held != nil {
		held := g.held
		g.mu.Unlock()
		<-held
		g.mu.Lock()
	}
	if g.closed {
		return net.ErrClosed
	}
	g.inside++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	if g.inside--; g.inside == 0 {
		g.out.Broadcast()
	}
	g.mu.Unlock()
}

// Hold lets nobody in any more once it has returned.
func (g *gate) Hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = make(chan struct{})
		g.deadline(longAgo)
	}
	for g.inside > 0 {
		g.out.Wait() // not for long: the deadline has passed
	}
}

// GoOn undoes Hold, and Close where that was held.
func (g *gate) GoOn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != nil {
		if g.set != nil {
			g.prepare(g.set) // the other process may have set its own
		}
		g.deadline(time.Time{})
		if !g.closed {
			close(g.held)
		}
		g.held, g.closed = nil, false
	}
}

func (g *gate) deadline(t time.Time) {
	if l, ok := g.in.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(t)
	}
}

// Close closes the listener; one that is held stays open, for GoOn, until
// Leave.
func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	if g.held != nil {
		close(g.held)
		return nil
	}
	return g.in.Close()
}

// keepFile says whether a Unix socket's file stays when this process closes
// the listener.
func (g *gate) keepFile(keep bool) {
	if l, ok := g.Listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(g.unlink && !keep)
	}
}

// Leave closes the descriptor and leaves the socket to another process.
func (g *gate) Leave() {
	g.keepFile(true)
	_ = g.in.Close()
}

// withDescriptors lends f the descriptors of gates.
func withDescriptors(gates []*gate, fds []int, f func(fds []int) error) error {
	if len(gates) == 0 {
		return f(fds)
	}
	sc, ok := gates[0].Listener.(syscall.Conn)
	if !ok {
		return errors.New("a listener has no descriptor")
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = withDescriptors(gates[1:], append(fds, int(fd)), f) }); err != nil {
		return err
	}
	return inner
}
