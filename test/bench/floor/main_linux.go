// Command floor is the least that a transaction pooler can be: it reads,
// takes a server, writes, reads the answer, writes it, and gives the server back
// when the answer ends in ReadyForQuery outside a transaction. It knows no other
// message, no state, no error. What it costs on a machine is what no pooler in Go
// gets below there; the benchmark prints it beside the real ones.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:6432", "where clients connect")
	upstream := flag.String("upstream", "127.0.0.1:5432", "where PostgreSQL listens, and trusts")
	user := flag.String("user", "postgres", "whom the servers log in as")
	database := flag.String("database", "postgres", "the database")
	size := flag.Int("size", 20, "servers")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "floor:", run(*listen, *upstream, *user, *database, *size))
	os.Exit(1)
}

// end is one socket, a client's or a server's.
type end struct {
	fd     int
	server bool
	peer   *end // a client's server, a server's client
	held   []byte
}

// loop is all there is; one goroutine has it.
type loop struct {
	ep    int
	ends  map[int32]*end
	idle  []*end // servers
	queue []*end // clients that wait for one
	buf   []byte
}

// run serves until something fails.
func run(listen, upstream, user, database string, size int) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	l := &loop{ep: ep, ends: map[int32]*end{}, buf: make([]byte, 64<<10)}
	for range size {
		fd, err := server(upstream, user, database)
		if err != nil {
			return err
		}
		e := &end{fd: fd, server: true}
		if err := l.add(e); err != nil {
			return err
		}
		l.idle = append(l.idle, e)
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	clients := make(chan int)
	go func() { // ends with the process
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if fd, err := client(c); err == nil {
				clients <- fd
			}
		}
	}()
	return l.serve(clients)
}

func (l *loop) add(e *end) error {
	l.ends[int32(e.fd)] = e
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, e.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(e.fd)})
}

func (l *loop) serve(clients <-chan int) error {
	events := make([]unix.EpollEvent, 128)
	for {
		for more := true; more; {
			select {
			case fd := <-clients:
				if err := l.add(&end{fd: fd}); err != nil {
					return err
				}
			default:
				more = false
			}
		}
		// New clients are looked for at least so often.
		n, err := unix.EpollWait(l.ep, events, 10)
		if err != nil && err != unix.EINTR {
			return err
		}
		for i := range max(n, 0) {
			if e := l.ends[events[i].Fd]; e != nil {
				l.readable(e)
			}
		}
	}
}

func (l *loop) readable(e *end) {
	n := rawRead(e.fd, l.buf)
	switch {
	case n <= 0:
		if n < 0 {
			return
		}
		_ = unix.Close(e.fd)
		delete(l.ends, int32(e.fd))
		return
	case e.server:
		if e.peer == nil {
			return
		}
		rawWrite(e.peer.fd, l.buf[:n])
		if n >= 6 && l.buf[n-6] == 'Z' && l.buf[n-1] == 'I' {
			e.peer.peer, e.peer = nil, nil
			if len(l.queue) == 0 {
				l.idle = append(l.idle, e)
				return
			}
			c := l.queue[0]
			l.queue = l.queue[1:]
			c.peer, e.peer = e, c
			rawWrite(e.fd, c.held)
			c.held = c.held[:0]
		}
	case l.buf[0] == 'X':
		_ = unix.Close(e.fd)
		delete(l.ends, int32(e.fd))
	case e.peer != nil:
		rawWrite(e.peer.fd, l.buf[:n])
	case len(l.idle) > 0:
		s := l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		e.peer, s.peer = s, e
		rawWrite(s.fd, l.buf[:n])
	default:
		if len(e.held) == 0 {
			l.queue = append(l.queue, e)
		}
		e.held = append(e.held, l.buf[:n]...)
	}
}

func rawRead(fd int, p []byte) int {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno == syscall.EAGAIN || errno == syscall.EINTR {
		return -1
	}
	if errno != 0 {
		return 0
	}
	return int(n)
}

func rawWrite(fd int, p []byte) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
}

// server logs in at PostgreSQL.
func server(addr, user, database string) (fd int, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	var body []byte
	body = binary.BigEndian.AppendUint32(body, 196608)
	for _, s := range []string{"user", user, "database", database} {
		body = append(append(body, s...), 0)
	}
	body = append(body, 0)
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)); err != nil {
		return 0, err
	}
	buf := make([]byte, 4096)
	for n := 0; ; {
		m, err := c.Read(buf[n:])
		if err != nil {
			return 0, err
		}
		if n += m; n >= 6 && buf[n-6] == 'Z' {
			return descriptor(c)
		}
	}
}

// client lets a client in.
func client(c net.Conn) (fd int, err error) {
	var head [4]byte
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return 0, err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
		if _, err := io.ReadFull(c, body); err != nil {
			return 0, err
		}
		if len(body) > 4 {
			break
		}
		if _, err := c.Write([]byte{'N'}); err != nil { // a request for encryption
			return 0, err
		}
	}
	out := []byte("R\x00\x00\x00\x08\x00\x00\x00\x00")
	for _, kv := range []string{"server_version\x0015.0\x00", "client_encoding\x00UTF8\x00", "standard_conforming_strings\x00on\x00", "integer_datetimes\x00on\x00"} {
		out = append(binary.BigEndian.AppendUint32(append(out, 'S'), uint32(len(kv)+4)), kv...)
	}
	out = append(out, "K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x01Z\x00\x00\x00\x05I"...)
	if _, err := c.Write(out); err != nil {
		return 0, err
	}
	return descriptor(c)
}

// descriptor takes a connection out of the runtime's hands.
func descriptor(c net.Conn) (fd int, err error) {
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return 0, err
	}
	_ = c.Close()
	fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	_ = f.Close()
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	return fd, err
}
