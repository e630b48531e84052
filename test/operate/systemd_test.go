package operate

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manager plays systemd: it hears what a service tells it.
type manager struct {
	conn *net.UnixConn

	mu   sync.Mutex
	told []string
}

func startManager(t *testing.T) (*manager, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{conn: conn}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.told = append(m.told, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	return m, path
}

// count is how many messages have a line that begins with a text.
func (m *manager) count(begins string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, told := range m.told {
		for _, line := range strings.Split(told, "\n") {
			if strings.HasPrefix(line, begins) {
				n++
			}
		}
	}
	return n
}

// managedSockets are two listening sockets of systemd's own, for clients and
// for the admin port.
func managedSockets(t *testing.T) (files []*os.File, addrs []string) {
	t.Helper()
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		_ = l.Close()
		t.Cleanup(func() { _ = f.Close() })
		files = append(files, f)
	}
	return files, addrs
}

// TestSystemd plays systemd: the sockets are its own, and it hears of the
// start, of each sign of life, of a reload and of the end.
func TestSystemd(t *testing.T) {
	dsn, _ := table(t, "managed")
	m, notify := startManager(t)
	files, addrs := managedSockets(t)
	// A client that comes before the service is kept by the socket.
	early, err := net.Dial("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte("drain_timeout: 3s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launchWith(t, map[string]string{
		"SUPABASE_POSTGRES_DSN": dsn, "NOTIFY_SOCKET": notify, "WATCHDOG_USEC": "400000",
		"LISTEN_FDS": "2", "LISTEN_FDNAMES": "clients:admin",
	}, files, "/bin/sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" "$@"`, program(t), "--config", config)
	l := p.waitReady(t)
	if p.addr != addrs[0] || l.Admin != addrs[1] {
		t.Fatalf("it listens on %s and %s, not on %q", p.addr, l.Admin, addrs)
	}
	p.until(t, "READY", func() bool { return m.count("READY=1") == 1 })
	if _, err := early.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		t.Fatal(err)
	}
	_ = early.SetReadDeadline(time.Now().Add(hang))
	if n, err := early.Read(make([]byte, 1)); n != 1 {
		t.Errorf("the early client was not answered: %v", err)
	}
	ask(t, p.mustDial(t, "postgres:secret", "postgres"), "select 1")
	p.until(t, "signs of life", func() bool { return m.count("WATCHDOG=1") >= 3 })

	p.signal(t, syscall.SIGHUP)
	p.until(t, "the reload", func() bool { return m.count("RELOADING=1") == 1 && m.count("READY=1") == 2 })
	if m.count("MONOTONIC_USEC=") != 1 {
		t.Error("the reload has no time")
	}
	p.signal(t, syscall.SIGTERM)
	p.until(t, "STOPPING", func() bool { return m.count("STOPPING=1") == 1 })
	if m.count("EXTEND_TIMEOUT_USEC=") != 1 {
		t.Error("it does not say how long its end may take")
	}
	p.exit(t, 0)
}

// TestSystemdUpgrade: the process that leaves says which its successor is, and
// nothing more; the successor says the rest, with systemd's own sockets.
func TestSystemdUpgrade(t *testing.T) {
	dsn, _ := table(t, "managedon")
	m, notify := startManager(t)
	files, addrs := managedSockets(t)
	p := launchWith(t, map[string]string{
		"SUPABASE_POSTGRES_DSN": dsn, "NOTIFY_SOCKET": notify, "WATCHDOG_USEC": "400000", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "clients:admin",
	}, files, "/bin/sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0"`, program(t))
	p.waitReady(t)
	c := p.mustDial(t, "postgres:secret", "postgres")
	p.until(t, "READY", func() bool { return m.count("READY=1") == 1 })
	if said, code := p.upgradeBy(t); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	h := p.successor(t)
	p.exit(t, 0)
	if m.count("RELOADING=1") != 1 || m.count("MAINPID="+strconv.Itoa(h.pid)) != 1 || m.count("STOPPING=1") != 0 {
		t.Errorf("systemd was told %q", m.told)
	}
	signs := m.count("WATCHDOG=1")
	p.until(t, "signs of life of the successor", func() bool { return m.count("WATCHDOG=1") >= signs+3 })
	ask(t, c, "select 1")
	p.addr = addrs[0]
	ask(t, p.mustDial(t, "postgres:secret", "postgres"), "select 1")
	h.signal(t, syscall.SIGTERM)
	h.exit(t)
	p.until(t, "STOPPING", func() bool { return m.count("STOPPING=1") == 1 })
}
