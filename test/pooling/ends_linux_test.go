package pooling_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestHiddenEnd: the end of a client's connection, in the middle of a transaction,
// comes in one segment with its last bytes, so that it may be announced by nothing
// but these. It is found all the same, and the server is free again. The clients
// read on: a reset would give their ends away.
func TestHiddenEnd(t *testing.T) {
	const n = 10
	p, _, db := start(t, n)
	var all []*peer
	for range n {
		c := login(t, p.Addr(), "app", db)
		c.must("begin")
		all = append(all, c)
	}
	for _, c := range all {
		raw, err := c.nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var corked error
		if err := raw.Control(func(fd uintptr) { corked = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) }); err != nil || corked != nil {
			t.Fatal(err, corked)
		}
		c.send(&pgproto3.Sync{})
		if err := c.nc.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	clients(t, p, 0)
	login(t, p.Addr(), "app", db).must("select 1")
}
