package wirescript

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
)

// Direction of a message that a Relay passes on.
type Direction uint8

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// Directions are both.
func Directions() []Direction { return []Direction{ToServer, ToClient} }

func (d Direction) String() string { return [...]string{"to server", "to client"}[d] }

// RelayFault happens once after it was armed, at the nth message (from 0) that
// passes in its direction, logins not counted.
type RelayFault struct {
	Direction Direction
	Message   int
	Part      float64 // how much of the message still passes
	Action    Action
}

// Relay stands between a pooler and PostgreSQL (or between a client and
// either), understands the framing, and misbehaves as told. Close ends
// everything it started.
type Relay struct {
	upstreamNetwork, upstream string
	ln                        net.Listener
	wg                        sync.WaitGroup // acceptLoop and two pumps per connection

	mu     sync.Mutex         // guards what follows
	links  map[*link]struct{} // without those that a fault is ending
	gone   map[int]bool       // the relay's ports, on the server's side, of connections that have ended
	fault  *RelayFault
	passed [2]int // messages since the fault was armed
	fired  chan struct{}
	resume chan struct{} // closed to end a stall
	split  bool
	edit   func(Direction, []byte) [][]byte
	closed bool
}

// link is one relayed connection.
type link struct {
	client, server net.Conn
	login          bool // until the first ReadyForQuery; under Relay.mu
	ended          int  // how many of its pumps have; under Relay.mu
}

// NewRelay listens on a free port of 127.0.0.1 in front of the upstream.
func NewRelay(network, upstream string) (*Relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{upstreamNetwork: network, upstream: upstream, ln: ln, links: map[*link]struct{}{}, gone: map[int]bool{}}
	r.wg.Add(1)
	go r.acceptLoop()
	return r, nil
}

// Addr is where the relay listens.
func (r *Relay) Addr() string { return r.ln.Addr().String() }

// Close ends the relay and waits for its goroutines.
func (r *Relay) Close() {
	r.Disarm()
	r.mu.Lock()
	r.closed = true
	for l := range r.links {
		l.client.Close()
		l.server.Close()
	}
	r.mu.Unlock()
	r.ln.Close()
	r.wg.Wait()
}

// Ports are the clients' ports of the connections that are relayed now.
func (r *Relay) Ports() map[int]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ports := map[int]bool{}
	for l := range r.links {
		ports[l.client.RemoteAddr().(*net.TCPAddr).Port] = true
	}
	return ports
}

// Gone are the ports at which the server had the connections that have ended. It may
// not have noticed yet, and still work on what it was sent.
func (r *Relay) Gone() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.gone))
}

// Forget takes ports out of those that Gone lists.
func (r *Relay) Forget(ports []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, port := range ports {
		delete(r.gone, port)
	}
}

// leaves notes that a connection ends. mu is held.
func (r *Relay) leaves(l *link) {
	delete(r.links, l)
	if addr, ok := l.server.LocalAddr().(*net.TCPAddr); ok {
		r.gone[addr.Port] = true
	}
}

// Split makes the relay write every byte alone, in both directions.
func (r *Relay) Split(on bool) {
	r.mu.Lock()
	r.split = on
	r.mu.Unlock()
}

// Edit lets f replace each message after the login by any number of others;
// nil passes them on as they are.
func (r *Relay) Edit(f func(d Direction, msg []byte) [][]byte) {
	r.mu.Lock()
	r.edit = f
	r.mu.Unlock()
}

// Arm sets the fault; the channel is closed when it happens.
func (r *Relay) Arm(f RelayFault) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.passed = &f, [2]int{}
	r.fired, r.resume = make(chan struct{}), make(chan struct{})
	return r.fired
}

// Disarm takes the fault back, and lets a stalled connection go on.
func (r *Relay) Disarm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = nil
	if r.resume != nil {
		close(r.resume)
		r.resume = nil
	}
}

func (r *Relay) acceptLoop() {
	defer r.wg.Done()
	for {
		client, err := r.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(r.upstreamNetwork, r.upstream)
		if err != nil {
			client.Close()
			continue
		}
		l := &link{client: client, server: server, login: true}
		r.mu.Lock()
		if r.closed {
			client.Close()
			server.Close()
		}
		r.links[l] = struct{}{}
		if addr, ok := server.LocalAddr().(*net.TCPAddr); ok {
			delete(r.gone, addr.Port)
		}
		r.wg.Add(2)
		r.mu.Unlock()
		go r.pump(l, ToServer)
		go r.pump(l, ToClient)
	}
}

// pump passes messages on until either side ends, then ends both.
func (r *Relay) pump(l *link, d Direction) {
	defer r.wg.Done()
	src, dst := l.client, l.server
	if d == ToClient {
		src, dst = dst, src
	}
	first := d == ToServer
	for {
		msg, err := readFrame(src, first)
		if err != nil {
			break
		}
		first = false
		if err := r.pass(l, d, dst, msg); err != nil {
			break
		}
	}
	// What was written before the end must arrive: half-close, and let the
	// other direction end by itself.
	if t, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.ended++; l.ended == 2 {
		r.leaves(l)
		l.client.Close()
		l.server.Close()
	}
}

var errFault = errors.New("the armed fault")

func (r *Relay) pass(l *link, d Direction, dst net.Conn, msg []byte) error {
	r.mu.Lock()
	split, edit, f := r.split, r.edit, r.fault
	login := l.login
	if d == ToClient && login && msg[0] == 'Z' {
		l.login = false
	}
	var fired, resume chan struct{}
	if !login && f != nil && f.Direction == d {
		if r.passed[d] == f.Message {
			fired, resume = r.fired, r.resume
			if f.Action != ActStall {
				r.fault = nil
				r.leaves(l) // Ports does not list it from here on
			}
		}
		r.passed[d]++
	}
	r.mu.Unlock()
	if fired != nil {
		at := int(float64(len(msg)) * f.Part)
		if err := write(dst, msg[:at], split); err != nil {
			return err
		}
		close(fired)
		switch f.Action {
		case ActStall:
			<-resume
			msg = msg[at:]
		case ActReset:
			reset(l.client)
			reset(l.server)
			return errFault
		default:
			l.client.Close()
			l.server.Close()
			return errFault
		}
	}
	if edit != nil && !login {
		for _, m := range edit(d, msg) {
			if err := write(dst, m, split); err != nil {
				return err
			}
		}
		return nil
	}
	return write(dst, msg, split)
}

func write(c net.Conn, b []byte, split bool) error {
	if len(b) == 0 {
		return nil
	}
	// Large values byte by byte would take minutes and prove nothing new.
	const most = 4096
	for split && len(b) > 0 && len(b) <= most {
		if _, err := c.Write(b[:1]); err != nil {
			return err
		}
		b = b[1:]
		pause()
	}
	if len(b) == 0 {
		return nil
	}
	_, err := c.Write(b)
	return err
}

// readFrame reads one message; the first of a client has no type byte.
func readFrame(c net.Conn, startup bool) ([]byte, error) {
	n := 5
	if startup {
		n = 4
	}
	head := make([]byte, n, 512)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(head[n-4:])) - 4
	if size < 0 || size > maxMessage {
		return nil, errors.New("bad length")
	}
	msg := append(head, make([]byte, size)...)
	_, err := io.ReadFull(c, msg[n:])
	return msg, err
}
