package change

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// nameServer answers every question for an IPv4 address with the one it has,
// and every other with nothing, as an authority for one host would.
type nameServer struct {
	conn  net.PacketConn
	addr  atomic.Pointer[net.IP] // nil: it says that there is no such name
	asked atomic.Int64
	done  chan struct{}
}

func serveNames(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, done: make(chan struct{})}
	go s.run()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		_ = conn.Close()
		<-s.done
	})
	return s
}

// run is the name server's goroutine: RFC 1035, sections 4.1.1 to 4.1.3.
func (s *nameServer) run() {
	defer close(s.done)
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		end := 12 // of the question
		for end < n && buf[end] != 0 {
			end += int(buf[end]) + 1
		}
		if end += 5; end > n {
			continue
		}
		s.asked.Add(1)
		out := append([]byte{buf[0], buf[1], 0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, buf[12:end]...)
		ip := s.addr.Load()
		switch {
		case ip == nil:
			out[3] |= 3 // no such name
		case buf[end-3] == 1:
			out[7] = 1
			out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			out = append(out, *ip...)
		}
		_, _ = s.conn.WriteTo(out, from)
	}
}

func (s *nameServer) is(ip string) {
	addr := net.ParseIP(ip).To4()
	s.addr.Store(&addr)
}

// forward makes another address lead to a cluster.
func forward(t *testing.T, addr, to string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("this machine has only one loopback address: %v", err)
	}
	var pipes sync.WaitGroup
	var open sync.Map
	pipes.Add(1)
	go func() {
		defer pipes.Done()
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			open.Store(in, out)
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				pipes.Add(1)
				go func() {
					defer pipes.Done()
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
					_ = way[1].Close()
				}()
			}
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		open.Range(func(in, out any) bool {
			_ = in.(net.Conn).Close()
			_ = out.(net.Conn).Close()
			return true
		})
		pipes.Wait()
	})
}

// TestNamesAreFollowed: the name of a server's host gets another address, as in
// a fail-over by DNS. Servers move there between transactions, and no client sees
// an error, neither then nor while the name cannot be looked up.
func TestNamesAreFollowed(t *testing.T) {
	postgres.SkipBrief(t)
	one, two := postgres.StartForTest(t, postgres.Config{}), postgres.StartForTest(t, postgres.Config{})
	for name, c := range map[string]*postgres.Cluster{"one": one, "two": two} {
		if err := c.Exec(within(t), "postgres", "create table who (name text); insert into who values ('"+name+"')"); err != nil {
			t.Fatal(err)
		}
	}
	names := serveNames(t)
	names.is("127.0.0.1")
	forward(t, fmt.Sprintf("127.0.0.2:%d", one.Port()), two.Addr())
	p := harness.Start(t, harness.Options{YAML: common + fmt.Sprintf(
		"dns_max_ttl: 1s\npool: {size: 3, min_size: 2}\ndatabases: {postgres: {dsn: 'postgres://%s@db.pgpoold.test:%d/postgres?sslmode=disable'}}\n", postgres.Superuser, one.Port())})

	var seen atomic.Pointer[string]
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		conn := connect(t, p, "app", "postgres")
		clients.Add(1)
		go func() {
			defer clients.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				var name string
				if err := conn.QueryRow(within(t), "select name from who").Scan(&name); err != nil {
					t.Errorf("a client sees %v", err)
					return
				}
				seen.Store(&name)
			}
		}()
	}
	defer clients.Wait()
	defer close(stop)
	answers := func(want string) func() bool {
		return func() bool { s := seen.Load(); return s != nil && *s == want }
	}
	until(t, "the first answers", answers("one"))
	until(t, "the name is looked up without need", func() bool { return names.asked.Load() > 6 })
	names.is("127.0.0.2")
	until(t, "the second answers", answers("two"))
	until(t, "nobody is at the first", func() bool {
		rows, err := one.Query(within(t), "postgres", "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")
		return err == nil && rows[0][0] == "0"
	})
	names.addr.Store(nil)
	asked := names.asked.Load()
	until(t, "the name is looked up in vain", func() bool { return names.asked.Load() > asked+4 })
	until(t, "the second goes on", answers("two"))
	if n := servers(p, "postgres"); n == 0 {
		t.Error("servers were given up for a name that cannot be looked up")
	}
}
