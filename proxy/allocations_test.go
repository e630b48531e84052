//go:build !race

// The race detector allocates for itself.

package proxy

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"pgpoold/backend"
	"pgpoold/wire"
)

// canned is a server whose every answer is a constant, so that what is
// measured in front of it is pgpoold's own.
type canned struct {
	ln   net.Listener
	done chan struct{}
}

var (
	cannedLogin = func() []byte {
		b := []byte("R\x00\x00\x00\x08\x00\x00\x00\x00")
		for _, p := range [][2]string{{"server_version", "15.18"}, {"client_encoding", "UTF8"}, {"standard_conforming_strings", "on"}, {"DateStyle", "ISO, MDY"}, {"TimeZone", "UTC"}, {"application_name", ""}} {
			b = wire.AppendParameterStatus(b, p[0], p[1])
		}
		return wire.AppendReady(append(b, "K\x00\x00\x00\x0c\x00\x00\x00\x07\x00\x00\x00\x07"...), wire.TxIdle)
	}()
	cannedRow    = []byte("D\x00\x00\x00\x0b\x00\x01\x00\x00\x00\x011C\x00\x00\x00\x0dSELECT 1\x00")
	cannedHead   = []byte("T\x00\x00\x00\x1a\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00")
	cannedParams = []byte("t\x00\x00\x00\x0a\x00\x01\x00\x00\x00\x19")
	cannedDone   = wire.AppendReady(nil, wire.TxIdle)
)

func startCanned(t *testing.T) *canned {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &canned{ln: ln, done: make(chan struct{})}
	go c.serve()
	t.Cleanup(func() {
		ln.Close()
		<-c.done
	})
	return c
}

// serve takes one connection.
func (c *canned) serve() {
	defer close(c.done)
	nc, err := c.ln.Accept()
	if err != nil {
		return
	}
	defer nc.Close()
	in, out := make([]byte, 64<<10), make([]byte, 0, 64<<10)
	if _, err := io.ReadFull(nc, in[:4]); err != nil {
		return
	}
	if _, err := io.ReadFull(nc, in[:binary.BigEndian.Uint32(in)-4]); err != nil {
		return
	}
	if _, err := nc.Write(cannedLogin); err != nil {
		return
	}
	for n := 0; ; {
		m, err := nc.Read(in[n:])
		if err != nil {
			return
		}
		n += m
		pos := 0
		out = out[:0]
		for n-pos >= wire.HeaderLen {
			typ, size := wire.Header(in[pos:n])
			if n-pos < size {
				break
			}
			pos += size
			switch typ {
			case wire.MsgParse:
				out = wire.AppendEmpty(out, wire.MsgParseComplete)
			case wire.MsgDescribe:
				out = append(append(out, cannedParams...), cannedHead...)
			case wire.MsgBind:
				out = wire.AppendEmpty(out, wire.MsgBindComplete)
			case wire.MsgExecute:
				out = append(out, cannedRow...)
			case wire.MsgQuery:
				out = append(append(append(out, cannedHead...), cannedRow...), cannedDone...)
			case wire.MsgSync:
				out = append(out, cannedDone...)
			}
		}
		n = copy(in, in[pos:n])
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}

// TestAllocations runs whole transactions from a client's socket to a server's
// and back. Once a client has been there, they take no memory: neither of the
// two pumps, the attach, the ledger nor the pool allocates.
func TestAllocations(t *testing.T) {
	server := startCanned(t)
	px, err := New(Options{
		Auth: AuthOptions{Type: "any"},
		Databases: map[string]*Database{"db": {Name: "db", Pool: backend.PoolOptions{
			Hosts:       []backend.Host{{Network: "tcp", Host: "127.0.0.1", Port: uint16(server.ln.Addr().(*net.TCPAddr).Port)}},
			Credentials: backend.Credentials{User: "app"},
			TLS:         backend.TLSOptions{Mode: backend.TLSDisable},
			Size:        1,
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- px.Serve(ln) }()
	t.Cleanup(func() {
		px.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	in := make([]byte, 64<<10)
	// exchange sends b and reads as many ReadyForQuery as the server owes.
	exchange := func(b []byte, ready int) {
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		for n, pos := 0, 0; ready > 0; {
			m, err := nc.Read(in[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
			for n-pos >= wire.HeaderLen {
				typ, size := wire.Header(in[pos:n])
				if n-pos < size {
					break
				}
				if typ == wire.MsgError {
					t.Fatalf("%q", in[pos:n])
				}
				if pos += size; typ == wire.MsgReady {
					ready--
				}
			}
		}
	}
	startup := []byte("\x00\x00\x00\x00\x00\x03\x00\x00user\x00app\x00database\x00db\x00application_name\x00bench\x00\x00")
	binary.BigEndian.PutUint32(startup, uint32(len(startup)))
	exchange(startup, 1)

	sync := wire.AppendEmpty(nil, wire.MsgSync)
	bound := append(wire.AppendBindHead(nil, "", "known", 11), 0, 0, 0, 1, 0, 0, 0, 1, '7', 0, 0)
	bound = append(bound, "E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04"...)
	parsed := wire.AppendParse(nil, "", []byte("select $1\x00\x00\x00"))
	unnamed := append(wire.AppendBindHead(nil, "", "", 11), 0, 0, 0, 1, 0, 0, 0, 1, '7', 0, 0)
	unnamed = append(append(parsed, unnamed...), "E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04"...)
	pipeline := append([]byte(nil), bound...)
	for range 9 {
		pipeline = append(pipeline, bound...)
	}
	exchange(append(wire.AppendParse(nil, "known", []byte("select $1\x00\x00\x00")), sync...), 1)
	for _, c := range []struct {
		name  string
		bytes []byte
		ready int
	}{
		{"a simple query", wire.AppendQuery(nil, "select 1 as a"), 1},
		{"a known statement", bound, 1},
		{"an unnamed statement", unnamed, 1},
		{"a pipeline of ten known statements", pipeline, 10},
	} {
		for range 10 {
			exchange(c.bytes, c.ready) // what is kept for reuse is made
		}
		before := px.Snapshot()
		const runs = 500
		if n := testing.AllocsPerRun(runs, func() { exchange(c.bytes, c.ready) }); n != 0 {
			t.Errorf("%s takes %v allocations", c.name, n)
		}
		after := px.Snapshot()
		if q := after.Pools[0].Stats.Queries - before.Pools[0].Stats.Queries; q < uint64(runs*c.ready) {
			t.Errorf("%s: only %d queries were run", c.name, q)
		}
	}
}
