//go:build linux

package measure

import (
	"bufio"
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

// TestSystemCallsPerTransaction: one client in steady state costs the daemon
// exactly two reads and two writes on sockets per transaction, failed ones
// (EAGAIN) included. Waiting (epoll, futex) is not counted.
func TestSystemCallsPerTransaction(t *testing.T) {
	postgres.RequireFull(t)
	strace := findStrace(t)
	d := startDaemon(t, 2)
	protocols := []struct {
		name    string
		prepare func(t *testing.T, c *pgconn.PgConn)
		run     func(ctx context.Context, c *pgconn.PgConn) error
	}{
		{
			name:    "simple",
			prepare: func(*testing.T, *pgconn.PgConn) {},
			run: func(ctx context.Context, c *pgconn.PgConn) error {
				return c.Exec(ctx, "SELECT 17").Close()
			},
		},
		{
			name: "prepared",
			prepare: func(t *testing.T, c *pgconn.PgConn) {
				_, err := c.Prepare(t.Context(), "s", "SELECT $1::int4", nil)
				check(t, err)
			},
			run: func(ctx context.Context, c *pgconn.PgConn) error {
				_, err := c.ExecPrepared(ctx, "s", [][]byte{[]byte("17")}, nil, nil).Close()
				return err
			},
		},
	}
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			// A context without a deadline: pgconn then sets none on its socket.
			ctx := context.Background()
			c := d.connect(t, database)
			p.prepare(t, c)
			for range 200 {
				check(t, p.run(ctx, c))
			}
			const transactions = 500
			// An edge of the poller that comes late, for bytes that were read
			// already, costs a read that finds nothing. A busy machine has
			// such edges now and then; the program's own calls are in every round.
			var n calls
			for range 5 {
				tr := attach(t, strace, d.proc.PID())
				for range transactions {
					check(t, p.run(ctx, c))
				}
				n = tr.detach(t)
				t.Logf("%d transactions: %+v", transactions, n)
				if n.reads == 2*transactions && n.writes == 2*transactions {
					break
				}
			}
			if n.reads != 2*transactions || n.writes != 2*transactions {
				t.Errorf("%d transactions cost %d reads (%d of them EAGAIN) and %d writes on sockets, want exactly %d each",
					transactions, n.reads, n.again, n.writes, 2*transactions)
			}
			// The coarse clock looks at parked connections without reading.
			if n.peeks > transactions/10 {
				t.Errorf("%d transactions cost %d looks at sockets with MSG_PEEK", transactions, n.peeks)
			}
		})
	}
}

// findStrace looks for strace, and with INSTALL=1 installs it.
func findStrace(t *testing.T) string {
	t.Helper()
	path, err := osexec.LookPath("strace")
	if err == nil {
		return path
	}
	if os.Getenv(postgres.EnvInstall) != "1" {
		t.Skip("strace is not installed (INSTALL=1 installs it)")
	}
	for _, install := range [][]string{
		{"apt-get", "install", "-y", "--no-install-recommends", "strace"},
		{"dnf", "install", "-y", "strace"},
		{"apk", "add", "strace"},
	} {
		if _, err := osexec.LookPath(install[0]); err != nil {
			continue
		}
		if out, err := osexec.Command(install[0], install[1:]...).CombinedOutput(); err != nil {
			t.Logf("%s: %v\n%s", strings.Join(install, " "), err, out)
		}
	}
	if path, err = osexec.LookPath("strace"); err != nil {
		t.Skip("strace could not be installed: ", err)
	}
	return path
}

// trace is a strace attached to a process.
type trace struct {
	cmd  *osexec.Cmd
	file string
	said *bufio.Reader
}

const tracedCalls = "read,readv,recvfrom,recvmsg,recvmmsg,write,writev,sendto,sendmsg,sendmmsg,splice"

func attach(t *testing.T, strace string, pid int) *trace {
	t.Helper()
	tr := &trace{file: filepath.Join(t.TempDir(), "trace")}
	tr.cmd = osexec.Command(strace, "-f", "-yy", "-s", "0", "-e", "trace="+tracedCalls, "-e", "signal=none", "-o", tr.file, "-p", fmt.Sprint(pid))
	said, err := tr.cmd.StderrPipe()
	check(t, err)
	check(t, tr.cmd.Start())
	tr.said = bufio.NewReader(said)
	line, err := tr.said.ReadString('\n')
	if !strings.Contains(line, "attached") {
		tr.cmd.Wait()
		t.Skipf("strace may not attach here: %q, %v", line, err)
	}
	return tr
}

// calls counts what was seen on sockets.
type calls struct {
	reads, writes, again, peeks int
}

// detach waits until the traced process was quiet and takes the counts.
func (tr *trace) detach(t *testing.T) calls {
	t.Helper()
	// What follows the last answer, such as a read that finds nothing, is part
	// of the transaction.
	for size, quiet := int64(-1), 0; quiet < 5; time.Sleep(20 * time.Millisecond) {
		info, err := os.Stat(tr.file)
		check(t, err)
		if info.Size() == size {
			quiet++
		} else {
			size, quiet = info.Size(), 0
		}
	}
	check(t, tr.cmd.Process.Signal(syscall.SIGINT))
	for {
		if _, err := tr.said.ReadString('\n'); err != nil {
			break
		}
	}
	// strace ends by the signal it was sent.
	_ = tr.cmd.Wait()
	f, err := os.Open(tr.file)
	check(t, err)
	defer f.Close()
	var n calls
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		n.count(sc.Text())
	}
	check(t, sc.Err())
	return n
}

// A line is "pid call(fd<what>, ...) = result"; a call that another thread's
// interrupted is "pid call(fd<what> <unfinished ...>" and later
// "pid <... call resumed>...) = result".
var (
	callPattern    = regexp.MustCompile(`^\d+\s+([a-z]+)\(\d+<(?:TCP|TCPv6|UNIX|UNIX-STREAM|socket):`)
	resumedPattern = regexp.MustCompile(`^\d+\s+<\.\.\. (read|readv|recvfrom|recvmsg|recvmmsg) resumed>.*EAGAIN`)
)

func (n *calls) count(line string) {
	if resumedPattern.MatchString(line) {
		n.again++
		return
	}
	m := callPattern.FindStringSubmatch(line)
	switch {
	case m == nil:
	case strings.Contains(line, "MSG_PEEK"):
		n.peeks++
	case strings.HasPrefix(m[1], "re"):
		n.reads++
		if strings.Contains(line, "EAGAIN") {
			n.again++
		}
	case strings.HasPrefix(m[1], "splice"):
		n.reads++
		n.writes++
	default:
		n.writes++
	}
}

func TestCountTraceLines(t *testing.T) {
	lines := []string{
		`7 read(8<TCP:[127.0.0.1:1->127.0.0.1:2]>, ""..., 4096) = 20`,
		`7 recvfrom(8<TCP:[127.0.0.1:1->127.0.0.1:2]>, 0xc000, 4096, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)`,
		`7 recvfrom(8<TCP:[127.0.0.1:1->127.0.0.1:2]>, 0xc000, 1, MSG_PEEK|MSG_DONTWAIT, NULL, NULL) = 1`,
		`7 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, ""..., 20 <unfinished ...>`,
		`7 <... write resumed>) = 20`,
		`7 read(8<TCP:[127.0.0.1:1->127.0.0.1:2]>,  <unfinished ...>`,
		`7 <... read resumed>0xc000, 4096) = -1 EAGAIN (Resource temporarily unavailable)`,
		`7 sendto(8<socket:[77]>, ""..., 3, 0, NULL, 0) = 3`,
		`7 write(5<anon_inode:[eventfd]>, ""..., 8) = 8`,
		`7 read(3</proc/stat>, ""..., 8) = 8`,
	}
	var n calls
	for _, l := range lines {
		n.count(l)
	}
	if want := (calls{reads: 3, writes: 2, again: 2, peeks: 1}); n != want {
		t.Errorf("got %+v, want %+v", n, want)
	}
}
