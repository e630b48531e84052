package wirescript

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// maxMessage bounds what a broken peer can make the runner allocate.
const maxMessage = 1 << 30

// conn is one connection of a script. A goroutine of its own (readLoop) reads
// ahead without bound, so that a script may write as much as it likes before
// it reads; everything else belongs to the runner's goroutine.
type conn struct {
	name  string
	net   net.Conn
	out   []byte // queued, not yet written
	ends  []int  // where each queued message ends in out
	track tracker
	key   []byte // BackendKeyData
	done  chan struct{}

	mu    sync.Mutex // guards what follows
	raw   int        // single-byte answers still to come
	in    []Message
	ended bool // the connection ended: no message follows
	read  bool // and the script was told
	wake  chan struct{}
}

func newConn(name string, c net.Conn) *conn {
	sc := &conn{name: name, net: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go sc.readLoop()
	return sc
}

// close ends the connection and waits for readLoop.
func (c *conn) close() {
	c.net.Close()
	<-c.done
}

func (c *conn) readLoop() {
	defer close(c.done)
	for {
		m, err := c.readMessage()
		c.mu.Lock()
		if err != nil {
			c.ended = true
		} else {
			c.in = append(c.in, m)
		}
		c.mu.Unlock()
		select {
		case c.wake <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (c *conn) readMessage() (Message, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.net, head[:1]); err != nil {
		return Message{}, err
	}
	c.mu.Lock()
	single := c.raw > 0
	if single {
		c.raw--
	}
	c.mu.Unlock()
	if single && head[0] != 'E' {
		return Message{typeByte, []byte{head[0]}}, nil
	}
	if _, err := io.ReadFull(c.net, head[1:]); err != nil {
		return Message{}, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > maxMessage {
		return Message{}, fmt.Errorf("message %q has length %d", head[0], n)
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(c.net, body); err != nil {
		return Message{}, err
	}
	return Message{head[0], body}, nil
}

// next is the next message, or typeClose when there is none any more.
func (c *conn) next(ctx context.Context) (Message, error) {
	for {
		c.mu.Lock()
		if len(c.in) > 0 {
			m := c.in[0]
			c.in = c.in[1:]
			c.mu.Unlock()
			return m, nil
		}
		ended := c.ended
		c.read = c.read || ended
		c.mu.Unlock()
		if ended {
			return Message{Type: typeClose}, nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return Message{}, context.Cause(ctx)
		}
	}
}

// over says that the connection ended and the script has not read that yet.
func (c *conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended && !c.read
}

// expectByte is called before an SSLRequest is written.
func (c *conn) expectByte() {
	c.mu.Lock()
	c.raw++
	c.mu.Unlock()
}

// queue adds a message to what the next write carries.
func (c *conn) queue(b []byte) {
	c.out = append(c.out, b...)
	c.ends = append(c.ends, len(c.out))
}
