// Package upgrade is how two processes of pgpoold talk while one takes over
// from the other: messages over a pair of Unix sockets, some with descriptors.
//
// Files, in reading order: messages.go (what is said), channel.go (how).
package upgrade

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A message is a header and a body. The header is the same in all versions of
// the protocol: the body's length, the kind, the number of descriptors that
// come with it, and two bytes of nothing.
const headerLen = 8

// maxBody bounds a message: a session has at most one large message in it.
const maxBody = 64 << 20

// maxFiles bounds the descriptors of one message, below the system's limit.
const maxFiles = 128

// writePatience is how long the other process may take to read a message.
const writePatience = 10 * time.Second

// maxSpare is the largest buffer that is kept for the next message.
const maxSpare = 1 << 20

// Channel is one end. Any goroutine may Send; one may Receive. The bodies of
// one direction are one gob stream, which describes each type once: so no
// message may be lost, and one that cannot be sent ends the channel.
type Channel struct {
	conn *net.UnixConn

	wmu    sync.Mutex
	out    bytes.Buffer // guarded by wmu
	enc    *gob.Encoder // guarded by wmu: into out
	broken error        // guarded by wmu

	// Owned by the one who receives.
	in  bytes.Buffer
	dec *gob.Decoder // from in
}

// Pair makes both ends: one of this process's, one to be passed to a child.
func Pair() (*Channel, *os.File, error) {
	fds, err := socketpair()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	own, theirs := os.NewFile(uintptr(fds[0]), "upgrade"), os.NewFile(uintptr(fds[1]), "upgrade")
	c, err := Open(own)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return c, theirs, nil
}

// Open makes an end of a descriptor, which it closes.
func Open(f *os.File) (*Channel, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("descriptor %d is no Unix socket", f.Fd())
	}
	c := &Channel{conn: u}
	c.enc, c.dec = gob.NewEncoder(&c.out), gob.NewDecoder(&c.in)
	return c, nil
}

// Close ends the talk; a Receive that waits returns.
func (c *Channel) Close() { _ = c.conn.Close() }

// Send says something, with descriptors, which stay the caller's. An error is
// permanent.
func (c *Channel) Send(kind Kind, body any, fds ...int) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	if c.broken = c.send(kind, body, fds); c.broken != nil {
		_ = c.conn.CloseWrite() // the other hears of it; what it has said is still to be read
	}
	return c.broken
}

func (c *Channel) send(kind Kind, body any, fds []int) error {
	c.out.Reset()
	if c.out.Cap() > maxSpare {
		c.out = bytes.Buffer{}
	}
	c.out.Write(make([]byte, headerLen))
	if body != nil {
		if err := c.enc.Encode(body); err != nil {
			return err
		}
	}
	msg := c.out.Bytes()
	if len(msg)-headerLen > maxBody || len(fds) > maxFiles {
		return fmt.Errorf("a message of %d bytes and %d descriptors is too large", len(msg), len(fds))
	}
	binary.BigEndian.PutUint32(msg, uint32(len(msg)-headerLen))
	msg[4], msg[5] = byte(kind), byte(len(fds))
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(writePatience))
	n, _, err := c.conn.WriteMsgUnix(msg[:headerLen], oob, nil)
	if err == nil && n < headerLen {
		err = io.ErrShortWrite
	}
	if err == nil {
		_, err = c.conn.Write(msg[headerLen:])
	}
	return err
}

// Message is what was received. Its files are the receiver's to close.
type Message struct {
	Kind  Kind
	ch    *Channel
	Files []*os.File
}

// Decode reads the body. It is called once for each message that has one,
// before the next is received.
func (m *Message) Decode(into any) error {
	if err := m.ch.dec.Decode(into); err != nil {
		return fmt.Errorf("a message of kind %d cannot be read: %w", m.Kind, err)
	}
	return nil
}

// CloseFiles closes what nobody has taken out of Files.
func (m *Message) CloseFiles() {
	for _, f := range m.Files {
		_ = f.Close()
	}
	m.Files = nil
}

// Receive waits for the next message. io.EOF says that the other process has
// ended, or has closed its end.
func (c *Channel) Receive() (*Message, error) {
	var head [headerLen]byte
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	m := &Message{ch: c}
	if c.in.Len() > 0 {
		return nil, errors.New("a message was not read")
	}
	for have := 0; have < headerLen; {
		n, oobn, flags, _, err := c.conn.ReadMsgUnix(head[have:], oob)
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err == nil && oobn > 0 {
			err = m.take(oob[:oobn])
		}
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = errors.New("descriptors were lost: the limit on open files is reached")
		}
		if err != nil {
			m.CloseFiles()
			return nil, err
		}
		have += n
	}
	size := binary.BigEndian.Uint32(head[:])
	m.Kind = Kind(head[4])
	if size > maxBody || int(head[5]) != len(m.Files) {
		m.CloseFiles()
		return nil, fmt.Errorf("a message of %d bytes with %d descriptors, of which %d came", size, head[5], len(m.Files))
	}
	if c.in.Cap() > maxSpare {
		c.in = bytes.Buffer{}
	}
	if _, err := io.CopyN(&c.in, c.conn, int64(size)); err != nil {
		m.CloseFiles()
		return nil, err
	}
	return m, nil
}

// take makes files of the descriptors in control messages.
func (m *Message) take(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return err
		}
		for _, fd := range fds {
			m.Files = append(m.Files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return nil
}

// socketpair is unix.Socketpair with both ends closed on exec.
func socketpair() ([2]int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fds, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}
