package canned

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"pgpoold/wire"
)

// patience guards against hanging.
const patience = 5 * time.Minute

// Client is one that sends constants and counts what it is owed.
type Client struct {
	nc net.Conn
	in []byte
}

// Dial logs a client in, as Login does, and prepares what Known names.
func Dial(addr, user, database string) (*Client, error) {
	c, err := Login(addr, user, database)
	if err != nil {
		return nil, err
	}
	if err := c.Exchange(wire.AppendEmpty(wire.AppendParse(nil, Known, []byte(statement)), wire.MsgSync), 1); err != nil {
		c.nc.Close()
		return nil, err
	}
	return c, nil
}

// Login logs a client in that is asked for no password.
func Login(addr, user, database string) (*Client, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &Client{nc: nc, in: make([]byte, 64<<10)}
	_ = nc.SetDeadline(time.Now().Add(patience))
	startup := fmt.Appendf(nil, "\x00\x00\x00\x00\x00\x03\x00\x00user\x00%s\x00database\x00%s\x00application_name\x00bench\x00\x00", user, database)
	binary.BigEndian.PutUint32(startup, uint32(len(startup)))
	if err := c.Exchange(startup, 1); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// Leave says goodbye and waits until the other side has closed the connection.
func (c *Client) Leave() error {
	defer c.nc.Close()
	if _, err := c.nc.Write(wire.AppendEmpty(nil, wire.MsgTerminate)); err != nil {
		return err
	}
	if n, err := c.nc.Read(c.in); err != io.EOF {
		return fmt.Errorf("%d bytes and %w in place of the end", n, err)
	}
	return nil
}

// Close closes its connection.
func (c *Client) Close() error { return c.nc.Close() }

// Exchange sends b and reads until that many ReadyForQuery have come. It takes
// no memory. An ErrorResponse is an error.
func (c *Client) Exchange(b []byte, ready int) error {
	if _, err := c.nc.Write(b); err != nil {
		return err
	}
	for n, pos := 0, 0; ready > 0; {
		if n == len(c.in) {
			if pos == 0 {
				return fmt.Errorf("a message of more than %d bytes", n)
			}
			n, pos = copy(c.in, c.in[pos:n]), 0
		}
		m, err := c.nc.Read(c.in[n:])
		if err != nil {
			return err
		}
		n += m
		for n-pos >= wire.HeaderLen {
			typ, size := wire.Header(c.in[pos:n])
			if n-pos < size {
				break
			}
			if typ == wire.MsgError {
				return fmt.Errorf("%q", c.in[pos:pos+size])
			}
			if pos += size; typ == wire.MsgReady {
				ready--
			}
		}
	}
	return nil
}

// Known is the name of a statement that Dial has prepared.
const Known = "known"

// statement is the body of its Parse.
const statement = "select $1\x00\x00\x00"

// Transaction is what a client does between two moments outside of one.
type Transaction struct {
	Name  string
	Steps []Step
}

// Step is what a client sends at once, and how many ReadyForQuery that is
// answered with.
type Step struct {
	Bytes []byte
	Ready int
}

// Run does the steps of a transaction. It takes no memory.
func (c *Client) Run(t *Transaction) error {
	for i := range t.Steps {
		if err := c.Exchange(t.Steps[i].Bytes, t.Steps[i].Ready); err != nil {
			return err
		}
	}
	return nil
}

// Transactions are the shapes that they come in.
func Transactions() []Transaction {
	bind := func(b []byte, name string) []byte {
		return append(wire.AppendBindHead(b, "", name, 11), 0, 0, 0, 1, 0, 0, 0, 1, '7', 0, 0)
	}
	run := func(b []byte) []byte { return wire.AppendEmpty(wire.AppendExecute(b, ""), wire.MsgSync) }
	query := func(sql string) Step { return Step{wire.AppendQuery(nil, sql), 1} }
	parsed := bind(wire.AppendParse(nil, "", []byte(statement)), "")
	parsed = wire.AppendExecute(append(parsed, "D\x00\x00\x00\x06P\x00"...), "")
	extended := wire.AppendEmpty(bytes.Clone(parsed), wire.MsgSync)
	prepared := run(bind(nil, Known))
	return []Transaction{
		{"simple", []Step{query("select 1 as a")}},
		{"extended", []Step{{extended, 1}}},
		{"prepared", []Step{{prepared, 1}}},
		{"pipeline", []Step{{bytes.Repeat(prepared, 10), 10}}},
		{"batch", []Step{{wire.AppendEmpty(bytes.Repeat(parsed, 100), wire.MsgSync), 1}}},
		{"block", []Step{query("begin"), query("select 1 as a"), query("commit")}},
		{"rows", []Step{query(RowsQuery)}},
	}
}
