package stream

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what would otherwise hang; no test depends on its length.
const patience = 30 * time.Second

// kinds are the connections that there are.
var kinds = []struct {
	name    string
	network string
	tls     bool
}{{"tcp", "tcp", false}, {"unix", "unix", false}, {"tcp+tls", "tcp", true}, {"unix+tls", "unix", true}}

func eachKind(t *testing.T, f func(t *testing.T, network string, over bool)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { f(t, k.network, k.tls) })
	}
}

func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "stream") // short enough for a socket's name
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		addr = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// rawPair makes two ends of a connection: ours, not yet pumped, and the peer's.
func rawPair(t testing.TB, network string) (ours *Socket, peer net.Conn) {
	t.Helper()
	l := listen(t, network)
	peer, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in := NewListener(l)
	t.Cleanup(func() { in.Close() })
	nc, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours, err = NewSocket(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return ours, peer
}

var serverTLS = sync.OnceValues(func() (*tls.Config, error) {
	pem, err := postgres.NewTLS("localhost", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(pem.Cert, pem.Key)
	return &tls.Config{Certificates: []tls.Certificate{pair}}, err
})

// pair makes a Conn and its peer, both logged in as far as TLS goes.
func pair(t testing.TB, network string, over bool) (*Conn, net.Conn) {
	t.Helper()
	sock, peer := rawPair(t, network)
	var layer *tls.Conn
	if over {
		cfg, err := serverTLS()
		if err != nil {
			t.Fatal(err)
		}
		layer = tls.Server(sock, cfg)
		client := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
		done := make(chan error, 1)
		go func() { done <- client.Handshake() }()
		if err := layer.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		peer = client
	}
	c, err := New(sock, layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c, peer
}

// pumped runs a Conn's pump.
type pumped struct {
	*Conn
	t      testing.TB
	data   func(p []byte) bool // called by the pump with what came; nil: keep it
	woken  func() bool
	linger time.Duration
	done   chan struct{}
	ending atomic.Bool // the test is over

	mu      sync.Mutex
	got     bytes.Buffer  // guarded by mu
	changed chan struct{} // guarded by mu: closed when got grows
	readErr error         // of TryRead, once done is closed
	err     error         // of Pump, once done is closed
}

func pump(t testing.TB, c *Conn, set func(p *pumped)) *pumped {
	p := &pumped{Conn: c, t: t, done: make(chan struct{}), changed: make(chan struct{})}
	if set != nil {
		set(p)
	}
	go p.run()
	t.Cleanup(func() {
		p.ending.Store(true)
		p.Interrupt()
		p.join()
	})
	return p
}

func (p *pumped) run() {
	defer close(p.done)
	p.err = p.Pump(p.ready, func() bool {
		if p.woken != nil && !p.ending.Load() {
			return p.woken()
		}
		return false
	})
	p.Close(p.linger)
}

func (p *pumped) ready() bool {
	buf := GetBuffer()
	defer PutBuffer(buf)
	for {
		n, drained, err := p.TryRead(buf[:])
		if n > 0 {
			if p.data != nil {
				if !p.data(buf[:n]) {
					return false
				}
			} else {
				p.keep(buf[:n])
			}
		}
		switch {
		case err == ErrWouldBlock:
			return true
		case err != nil:
			p.readErr = err
			return false
		case drained:
			return true
		}
	}
}

func (p *pumped) keep(b []byte) {
	p.mu.Lock()
	p.got.Write(b)
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
}

// await returns when n bytes have come.
func (p *pumped) await(n int) []byte {
	p.t.Helper()
	late := time.After(patience)
	for {
		p.mu.Lock()
		got, changed := bytes.Clone(p.got.Bytes()), p.changed
		p.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-changed:
		case <-p.done:
			p.t.Fatalf("the pump ended after %d of %d bytes: %v, %v", len(got), n, p.readErr, p.err)
		case <-late:
			p.t.Fatalf("%d of %d bytes have come", len(got), n)
		}
	}
}

func (p *pumped) join() {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("the pump does not end")
	}
}

// within fails the test if f does not return.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
}

// pattern is n bytes that show where they were.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func readAll(t testing.TB, from io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if m, err := io.ReadFull(from, b); err != nil {
		t.Fatalf("%d of %d bytes: %v", m, n, err)
	}
	return b
}
