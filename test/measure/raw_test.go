//go:build linux

package measure

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// rawClient speaks just enough of the protocol to log in without a password,
// to send what a driver would not send, and to let big messages pass unkept.
type rawClient struct {
	conn *net.TCPConn
	r    *bufio.Reader
}

// rawLogin connects and waits for the first ReadyForQuery.
func rawLogin(addr, database string) (*rawClient, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	c := &rawClient{conn: conn.(*net.TCPConn), r: bufio.NewReaderSize(conn, 512)}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err = conn.Write(startupMessage(database)); err == nil {
		err = c.untilReady(nil)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("login: %w", err)
	}
	return c, conn.SetDeadline(time.Time{})
}

func startupMessage(database string) []byte {
	body := binary.BigEndian.AppendUint32(nil, 3<<16)
	for _, s := range []string{"user", user, "database", database, ""} {
		body = append(append(body, s...), 0)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

// message frames one message.
func message(typ byte, body []byte) []byte {
	m := binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(body)+4))
	return append(m, body...)
}

func queryMessage(sql string) []byte { return message('Q', append([]byte(sql), 0)) }

// query runs a simple query and throws its rows away.
func (c *rawClient) query(sql string) error {
	if _, err := c.conn.Write(queryMessage(sql)); err != nil {
		return err
	}
	return c.untilReady(nil)
}

// untilReady reads up to ReadyForQuery; each message's length is told to seen
// before the message passes. An ErrorResponse is returned as an error.
func (c *rawClient) untilReady(seen func(typ byte, length int)) error {
	var failure error
	for {
		var head [5]byte
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return errors.Join(failure, err)
		}
		length := int(binary.BigEndian.Uint32(head[1:])) - 4
		if length < 0 {
			return fmt.Errorf("message %q of length %d", head[0], length)
		}
		if seen != nil {
			seen(head[0], length)
		}
		if head[0] == 'E' {
			text := make([]byte, length)
			if _, err := io.ReadFull(c.r, text); err != nil {
				return err
			}
			failure = fmt.Errorf("ErrorResponse %q", text)
			continue
		}
		if _, err := io.CopyN(io.Discard, c.r, int64(length)); err != nil {
			return errors.Join(failure, err)
		}
		if head[0] == 'Z' {
			return failure
		}
	}
}
