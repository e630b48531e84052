package backend

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgpoold/wire/stream"
)

// TestKeepaliveInherited: who comes by a listener that has been prepared has
// the options that Apply sets on a connection.
func TestKeepaliveInherited(t *testing.T) {
	options := func(nc net.Conn) (got [6]int) {
		rc, err := nc.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = rc.Control(func(fd uintptr) {
			for i, o := range [6][2]int{
				{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
				{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
			} {
				if got[i], err = unix.GetsockoptInt(int(fd), o[0], o[1]); err != nil {
					t.Fatal(err)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got[0] == 0 { // then nobody asks when
			got[2], got[3], got[4] = 0, 0, 0
		}
		return got
	}
	accept := func(l net.Listener) net.Conn {
		peer, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	for i, k := range []Keepalive{
		{Enable: true, UserTimeout: 9 * time.Second}, {}, {Enable: true}, {Enable: true, Idle: time.Minute, Interval: 1500 * time.Millisecond, Count: 3},
		{Enable: true, UserTimeout: 7 * time.Second},
	} {
		multipath := i == 0 // such a socket takes no user timeout
		var got [2][6]int
		for i := range got {
			var lc net.ListenConfig
			lc.SetMultipathTCP(multipath)
			l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if i == 0 {
				nc := accept(l)
				// It may have had others.
				if err := (Keepalive{Enable: true, Idle: time.Hour, Interval: time.Minute, Count: 2, UserTimeout: 3 * time.Second}).Apply(nc); err != nil && !multipath {
					t.Fatal(err)
				}
				if err := k.Apply(nc); err != nil {
					t.Fatal(err)
				}
				got[i] = options(nc)
				continue
			}
			in := stream.NewListener(l)
			defer in.Close()
			Keepalive{Enable: true, UserTimeout: 3 * time.Second}.Inherit(in) // another process's
			k.Inherit(in)
			for range 2 {
				got[i] = options(accept(in))
			}
		}
		if got[0] != got[1] {
			t.Errorf("%+v: inherited %v, set %v", k, got[1], got[0])
		}
	}
}
