package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

const moduleRoot = "../.."

// binDir holds the built program and, after its first run, pgpoold; TestMain
// makes and removes it.
var binDir string

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "run-test-bin-"); err != nil {
		panic(err)
	}
	code := postgres.Main(m)
	os.RemoveAll(binDir)
	os.Exit(code)
}

// started is a running make run with a temporary folder of its own.
type started struct {
	t    *testing.T
	cmd  *exec.Cmd
	temp string
	out  *bufio.Reader // its output; belongs to the test's goroutine
	said bytes.Buffer  // what was read of it
}

// startRun builds the program and starts it as a process whose output goes
// into a pipe.
func startRun(t *testing.T, env []string, args ...string) *started {
	t.Helper()
	s := prepareRun(t, env, args...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = w, w
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.start(r, w)
	return s
}

// prepareRun builds the program and makes its command.
func prepareRun(t *testing.T, env []string, args ...string) *started {
	t.Helper()
	postgres.ForTest(t) // skips where there is no PostgreSQL
	program := filepath.Join(binDir, "run")
	build := exec.Command("go", "build", "-o", program, "./test/run")
	build.Dir = moduleRoot
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	s := &started{t: t, temp: openTemp(t)}
	s.cmd = exec.Command(program, append(args, "-bin", binDir)...)
	s.cmd.Dir = moduleRoot
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "PGPOOLD_") && name != "SUPABASE_POSTGRES_DSN" && name != "TMPDIR" {
			s.cmd.Env = append(s.cmd.Env, kv)
		}
	}
	s.cmd.Env = append(append(s.cmd.Env, "TMPDIR="+s.temp), env...)
	return s
}

// start starts the command; from is what the test reads, and to what the
// program alone is to hold.
func (s *started) start(from, to *os.File) {
	s.t.Helper()
	s.out = bufio.NewReader(from)
	err := s.cmd.Start()
	to.Close()
	if err != nil {
		from.Close()
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		from.Close()
	})
}

// openTemp makes a temporary folder that PostgreSQL's user can enter too.
func openTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "run-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// awaitLine reads up to a line that begins with prefix.
func (s *started) awaitLine(prefix string) string {
	s.t.Helper()
	for {
		line, err := s.out.ReadString('\n')
		s.said.WriteString(line)
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSpace(line)
		}
		if err != nil {
			s.t.Fatalf("no line %q in:\n%s", prefix, s.said.String())
		}
	}
}

// signal sends sig n times in a row.
func (s *started) signal(sig syscall.Signal, n int) {
	s.t.Helper()
	for range n {
		if err := s.cmd.Process.Signal(sig); err != nil && n == 1 {
			s.t.Fatal(err)
		}
	}
}

// end waits for the program and checks that nothing is left: none of the
// processes in family, none of its temporary files.
func (s *started) end(family map[int]string) error {
	s.t.Helper()
	rest, _ := io.ReadAll(s.out)
	s.said.Write(rest)
	err := s.cmd.Wait()
	for pid, name := range family {
		eventually(s.t, fmt.Sprintf("process %d (%s) ended", pid, name), func() bool {
			return !alive(pid)
		})
	}
	eventually(s.t, "the temporary folder is empty", func() bool {
		left, err := os.ReadDir(s.temp)
		return err == nil && len(left) == 0
	})
	return err
}

// endedInOrder is end for a program that had the time to clean up itself: when
// it is gone, everything is gone.
func (s *started) endedInOrder(family map[int]string) {
	s.t.Helper()
	rest, _ := io.ReadAll(s.out)
	s.said.Write(rest)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("%v:\n%s", err, s.said.String())
	}
	for pid, name := range family {
		if alive(pid) {
			s.t.Errorf("process %d (%s) is left", pid, name)
		}
	}
	left, err := os.ReadDir(s.temp)
	if err != nil || len(left) > 0 {
		s.t.Errorf("files left: %v (%v)", left, err)
	}
}

// eventually waits for what another process does; the deadline only ends a
// test that would hang.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(end) {
			t.Fatal("still not so: ", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// alive tells whether a process runs; one that is dead and not yet waited for
// by its new parent does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return false
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

// family lists the program's children and theirs, with their names.
func (s *started) family() map[int]string {
	s.t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,comm=").Output()
	if err != nil {
		s.t.Skip("needs ps: ", err)
	}
	type process struct {
		ppid int
		name string
	}
	all := make(map[int]process)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		pid, _ := strconv.Atoi(f[0])
		ppid, _ := strconv.Atoi(f[1])
		all[pid] = process{ppid, f[2]}
	}
	family := make(map[int]string)
	for pid, p := range all {
		for up := pid; up > 1; up = all[up].ppid {
			if all[up].ppid == s.cmd.Process.Pid {
				family[pid] = p.name
				break
			}
		}
	}
	return family
}

// paste runs the line as a shell would run it.
func (s *started) paste(line string) {
	s.t.Helper()
	dsn := strings.TrimPrefix(line, "psql ")
	conn, err := pgconn.Connect(s.t.Context(), dsn)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.said.String())
	}
	conn.Close(s.t.Context())
	in := postgres.ForTest(s.t).Install()
	psql, err := in.Tool("psql")
	if err != nil {
		s.t.Log("the line was not given to psql: ", err)
		return
	}
	cmd := exec.Command("/bin/sh", "-c", psql+strings.TrimPrefix(line, "psql")+` -AtXc "select 'row ' || 42"`)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "row 42" {
		s.t.Errorf("psql said %q, %v", out, err)
	}
}

const psqlLine = "psql postgres://"

func TestDemoServesAndLeavesNothing(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sig   syscall.Signal
		times int
		full  bool
	}{
		{"Ctrl-C", syscall.SIGINT, 1, false},
		{"Ctrl-C twice", syscall.SIGINT, 2, true},
		{"Ctrl-C five times", syscall.SIGINT, 5, true},
		{"closed terminal", syscall.SIGHUP, 1, true},
		{"SIGTERM", syscall.SIGTERM, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.full {
				postgres.RequireFull(t)
			}
			s := startRun(t, nil, "-demo")
			s.paste(s.awaitLine(psqlLine))
			family := s.family()
			names := fmt.Sprint(family)
			if !strings.Contains(names, "pgpoold") || !strings.Contains(names, "postgres") {
				t.Fatalf("expected pgpoold and postgres among %s", names)
			}
			s.signal(tc.sig, tc.times)
			s.endedInOrder(family)
		})
	}
}

func TestSecondInterruptEndsOpenTransactions(t *testing.T) {
	s := startRun(t, nil, "-demo")
	line := s.awaitLine(psqlLine)
	conn, err := pgconn.Connect(t.Context(), strings.TrimPrefix(line, "psql "))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.Exec(t.Context(), "BEGIN; SELECT 1").Close(); err != nil {
		t.Fatal(err)
	}
	family := s.family()
	s.signal(syscall.SIGINT, 1)
	s.awaitLine("Ending")
	s.signal(syscall.SIGINT, 1)
	s.endedInOrder(family)
}

func TestInterruptWhileStarting(t *testing.T) {
	s := startRun(t, nil, "-demo")
	s.awaitLine("Starting a private PostgreSQL")
	family := s.family()
	s.signal(syscall.SIGINT, 1)
	if err := s.end(family); err != nil { // what initdb has started ends a moment after it
		t.Errorf("%v:\n%s", err, s.said.String())
	}
	if strings.Contains(s.said.String(), psqlLine) {
		t.Error("it went on after the signal")
	}
}

func TestKilledRunLeavesNothing(t *testing.T) {
	postgres.RequireFull(t)
	s := startRun(t, nil, "-demo")
	s.awaitLine(psqlLine)
	family := s.family()
	s.signal(syscall.SIGKILL, 1)
	if err := s.end(family); err == nil {
		t.Error("SIGKILL did not end it")
	}
}

func TestOwnDatabaseIsNamedAndItsPasswordIsNot(t *testing.T) {
	c := postgres.StartForTest(t, postgres.Config{Password: "s3cret-of-mine"})
	s := startRun(t, []string{"SUPABASE_POSTGRES_DSN=" + c.SuperDSN("postgres")})
	named := s.awaitLine("Connecting to database")
	if !strings.Contains(named, c.Addr()) || !strings.Contains(named, `"postgres"`) {
		t.Errorf("said %q", named)
	}
	line := s.awaitLine(psqlLine)
	s.paste(line)

	// The DSN's own user and password work too: only the host has to change.
	_, at, _ := strings.Cut(line, "@")
	own := "postgres://" + postgres.Superuser + ":s3cret-of-mine@" + at
	conn, err := pgconn.Connect(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())

	family := s.family()
	s.signal(syscall.SIGINT, 1)
	s.endedInOrder(family)
	if strings.Contains(s.said.String(), "s3cret") {
		t.Errorf("the password is on the screen:\n%s", s.said.String())
	}
}
