// Package canned is a server whose every answer is a constant and a client
// that compares nothing: what stands between the two is all that costs, so
// that tests and benchmarks can say what pgpoold itself does for a transaction.
// It proves no behaviour; PostgreSQL does that.
package canned

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"

	"pgpoold/wire"
)

// Rows is how many rows, each a message body of RowSize bytes, RowsQuery is
// answered with.
const (
	Rows    = 1000
	RowSize = 100
)

// RowsQuery is the one text that is answered with many rows.
const RowsQuery = "select a from many"

var (
	answerLogin = func() []byte {
		b := []byte("R\x00\x00\x00\x08\x00\x00\x00\x00")
		for _, p := range [][2]string{{"server_version", "15.18"}, {"client_encoding", "UTF8"}, {"standard_conforming_strings", "on"}, {"DateStyle", "ISO, MDY"}, {"TimeZone", "UTC"}, {"application_name", ""}} {
			b = wire.AppendParameterStatus(b, p[0], p[1])
		}
		return wire.AppendReady(append(b, "K\x00\x00\x00\x0c\x00\x00\x00\x07\x00\x00\x00\x07"...), wire.TxIdle)
	}()
	answerRow    = wire.AppendCommandComplete([]byte("D\x00\x00\x00\x0b\x00\x01\x00\x00\x00\x011"), "SELECT 1")
	answerHead   = []byte("T\x00\x00\x00\x1a\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00")
	answerParams = []byte("t\x00\x00\x00\x0a\x00\x01\x00\x00\x00\x19")
	answerRows   = func() []byte {
		row := wire.AppendHeader(nil, wire.MsgDataRow, RowSize)
		row = binary.BigEndian.AppendUint32(append(row, 0, 1), RowSize-6)
		row = append(row, strings.Repeat("x", RowSize-6)...)
		return wire.AppendCommandComplete(bytes.Repeat(row, Rows), "SELECT 1000")
	}()
	answerBegin  = wire.AppendCommandComplete(nil, "BEGIN")
	answerCommit = wire.AppendCommandComplete(nil, "COMMIT")
)

// Server is the canned server.
type Server struct {
	ln      net.Listener
	serving sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // guarded by mu
	closed bool                  // guarded by mu
}

// Listen starts one on a free port of loopback.
func Listen() (*Server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{ln: ln, conns: map[net.Conn]struct{}{}}
	s.serving.Go(s.accept)
	return s, nil
}

// Port is where it listens.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Close ends it and waits until it has ended.
func (s *Server) Close() {
	s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *Server) accept() {
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			nc.Close()
		} else {
			s.conns[nc] = struct{}{}
			s.serving.Go(func() { s.serve(nc) })
		}
		s.mu.Unlock()
	}
}

// serve answers one connection until it ends.
func (s *Server) serve(nc net.Conn) {
	defer func() {
		nc.Close()
		s.mu.Lock()
		delete(s.conns, nc)
		s.mu.Unlock()
	}()
	in, out := make([]byte, 64<<10), make([]byte, 0, 256<<10)
	if _, err := io.ReadFull(nc, in[:4]); err != nil {
		return
	}
	rest := int(binary.BigEndian.Uint32(in)) - 4
	if rest < 0 || rest > len(in) {
		return
	}
	if _, err := io.ReadFull(nc, in[:rest]); err != nil {
		return
	}
	if _, err := nc.Write(answerLogin); err != nil {
		return
	}
	status := byte(wire.TxIdle)
	for n := 0; n < len(in); {
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
			body := in[pos+wire.HeaderLen : pos+size]
			pos += size
			switch typ {
			case wire.MsgParse:
				out = wire.AppendEmpty(out, wire.MsgParseComplete)
			case wire.MsgDescribe:
				if body[0] == 'S' {
					out = append(out, answerParams...)
				}
				out = append(out, answerHead...)
			case wire.MsgBind:
				out = wire.AppendEmpty(out, wire.MsgBindComplete)
			case wire.MsgExecute:
				out = append(out, answerRow...)
			case wire.MsgQuery:
				switch string(body) {
				case "begin\x00":
					status = wire.TxOpen
					out = append(out, answerBegin...)
				case "commit\x00":
					status = wire.TxIdle
					out = append(out, answerCommit...)
				case RowsQuery + "\x00":
					out = append(append(out, answerHead...), answerRows...)
				default:
					out = append(append(out, answerHead...), answerRow...)
				}
				out = wire.AppendReady(out, status)
			case wire.MsgSync:
				out = wire.AppendReady(out, status)
			}
		}
		n = copy(in, in[pos:n])
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}
