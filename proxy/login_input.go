package proxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"

	"pgpoold/wire"
)

// loginInput reads a client that logs in, as much at once as there is: most
// messages of a login come whole, and then cost one read. What it has read and
// nobody has taken is for who goes on with the client.
type loginInput struct {
	client io.Reader
	ahead  []byte // read and not taken
	buf    [512]byte
}

// Read implements io.Reader.
func (in *loginInput) Read(p []byte) (int, error) {
	if len(in.ahead) == 0 {
		if len(p) >= len(in.buf) {
			return in.client.Read(p)
		}
		n, err := in.client.Read(in.buf[:])
		if n == 0 {
			return 0, err
		}
		in.ahead = in.buf[:n]
	}
	n := copy(p, in.ahead)
	in.ahead = in.ahead[n:]
	return n, nil
}

// take returns the next n bytes. They may lie where what is read later takes their place.
func (in *loginInput) take(n int) ([]byte, error) {
	if n <= len(in.buf) {
		if err := in.first(n); err != nil {
			return nil, err
		}
		b := in.ahead[:n]
		in.ahead = in.ahead[n:]
		return b, nil
	}
	b := make([]byte, n)
	_, err := io.ReadFull(in, b)
	return b, err
}

// first reads until there are n bytes, up to 512, and leaves them to be read.
func (in *loginInput) first(n int) error {
	for len(in.ahead) < n {
		have := copy(in.buf[:], in.ahead)
		k, err := in.client.Read(in.buf[have:])
		in.ahead = in.buf[:have+k]
		if k == 0 && err != nil {
			return err
		}
	}
	return nil
}

// rest is the client with what has been read ahead in front.
func (in *loginInput) rest(nc net.Conn) net.Conn {
	if len(in.ahead) == 0 {
		return nc
	}
	return &prefixed{Conn: nc, first: bytes.Clone(in.ahead)} // the buffer ends with the login
}

// loginIO is a client that proves who it is.
type loginIO login

// Read is the client's.
func (c *loginIO) Read(p []byte) (int, error) { return c.in.Read(p) }

// authSASLFinal is AuthenticationSASLFinal's code.
const authSASLFinal = 12

// Write sends a message of the exchange. The last one of SCRAM's is held back:
// AuthenticationOk and more follow at once, and one write takes them all.
func (c *loginIO) Write(p []byte) (int, error) {
	if len(p) >= 9 && p[0] == wire.MsgAuthentication && binary.BigEndian.Uint32(p[5:]) == authSASLFinal {
		c.final = bytes.Clone(p)
		return len(p), nil
	}
	return c.client.Write(p)
}

// prefixed is a connection of which some bytes have been read already.
type prefixed struct {
	net.Conn
	first []byte
}

// Read gives those bytes first.
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		if p.first = p.first[n:]; len(p.first) == 0 {
			p.first = nil
		}
		return n, nil
	}
	return p.Conn.Read(b)
}
