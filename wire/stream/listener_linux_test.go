package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// option asks for a socket option of a connection.
func option(t *testing.T, nc net.Conn, level, name int) (n int) {
	t.Helper()
	sock, err := NewSocket(nc)
	if err != nil {
		t.Fatal(err)
	}
	var got error
	if err := sock.plug.Load().control(func(fd uintptr) { n, got = unix.GetsockoptInt(int(fd), level, name) }); err != nil || got != nil {
		t.Fatal(err, got)
	}
	return n
}

// TestListener: clients have their addresses, and the options that the socket
// was prepared with, also who connected before it was.
func TestListener(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			plain := listen(t, network)
			dial := func() net.Conn {
				c, err := net.Dial(network, plain.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			early := dial()
			l := NewListener(plain).(*Listener)
			t.Cleanup(func() { l.Close() })
			calls := 0
			l.Prepare(func(fd int) error {
				calls++
				return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			})
			for i, peer := range []net.Conn{early, nil, nil} {
				came := make(chan net.Conn, 1)
				go func() {
					if nc, err := l.Accept(); err == nil {
						came <- nc
					}
					close(came)
				}()
				if peer == nil {
					time.Sleep(10 * time.Millisecond) // Accept has looked
					peer = dial()
				}
				nc := <-came
				if nc == nil {
					t.Fatal("nobody came")
				}
				if got, want := nc.RemoteAddr().String(), peer.LocalAddr().String(); got != want && network == "tcp" {
					t.Errorf("the client is %s, want %s", got, want)
				}
				if got, want := nc.LocalAddr().String(), plain.Addr().String(); got != want {
					t.Errorf("it is here at %s, want %s", got, want)
				}
				if got := nc.RemoteAddr().Network(); got != network {
					t.Errorf("it came by %s", got)
				}
				if option(t, nc, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 1 && network == "tcp" {
					t.Errorf("client %d has no keepalive", i)
				}
				if _, err := peer.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 5)
				if _, err := io.ReadFull(nc, got); err != nil || string(got) != "hello" {
					t.Errorf("%q, %v", got, err)
				}
				nc.Close()
				if _, err := peer.Read(got); err != io.EOF {
					t.Errorf("the end is %v", err)
				}
				if nc.RemoteAddr() == nil {
					t.Error("a closed connection has no address")
				}
			}
			if calls > 2 {
				t.Errorf("the options were set %d times: for the socket and who was there before is enough", calls)
			}
		})
	}
}

// TestListenerEnds: a deadline and Close end Accept.
func TestListenerEnds(t *testing.T) {
	l := NewListener(listen(t, "tcp")).(*Listener)
	failed := make(chan error, 1)
	accept := func() {
		nc, err := l.Accept()
		if err == nil {
			nc.Close()
		}
		failed <- err
	}
	go accept()
	_ = l.SetDeadline(longAgo)
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline: %v", err)
	}
	_ = l.SetDeadline(time.Time{})
	go accept()
	time.Sleep(10 * time.Millisecond)
	addr := l.Addr().String()
	l.Close()
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
}

// TestAcceptTellsThePeer: the address that a client is known by is the one it has, also
// when it has reset the connection before it was accepted.
func TestAcceptTellsThePeer(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		plain, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err)
			continue
		}
		l := NewListener(plain)
		t.Cleanup(func() { _ = l.Close() })
		for _, reset := range []bool{false, true} {
			client, err := net.Dial("tcp", plain.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			want := client.LocalAddr().String()
			if reset {
				_ = client.(*net.TCPConn).SetLinger(0)
				_ = client.Close()
			}
			nc, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if got := nc.RemoteAddr().String(); got != want {
				t.Errorf("%s, reset %v: it is %s, want %s", addr, reset, got, want)
			}
			_ = nc.Close()
			_ = client.Close()
		}
	}
}
