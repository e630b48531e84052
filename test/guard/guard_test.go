package guard

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envRole turns the test binary into a program that owns a Guard.
const envRole = "PGPOOLD_GUARD_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		own(role)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// own starts a Guard with two children, says which, and then ends as its role
// says. With a role that begins with "stubborn" the second child ignores all
// signals that it can.
func own(role string) {
	g, err := New()
	if err != nil {
		panic(err)
	}
	scripts := []string{"echo; exec sleep 1000", "echo; exec sleep 1000"}
	role, stubborn := strings.CutPrefix(role, "stubborn ")
	if stubborn {
		scripts[1] = `trap "" QUIT TERM INT HUP; echo; while :; do sleep 1000; done`
	}
	for _, script := range scripts {
		r, w, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Stdout = w
		p, err := g.Start(cmd)
		if err != nil {
			panic(err)
		}
		w.Close()
		if _, err := r.Read(make([]byte, 1)); err != nil {
			panic(err)
		}
		fmt.Println(p.PID())
	}
	if err := os.WriteFile(filepath.Join(g.Dir(), "file"), nil, 0o600); err != nil {
		panic(err)
	}
	fmt.Println(g.Dir())
	switch role {
	case "exit":
		return
	case "close":
		if err := g.Close(); err != nil {
			panic(err)
		}
		fmt.Println("closed")
	}
	time.Sleep(time.Hour)
}

// eventually waits for something that another process does by itself; the
// deadline only ends a test that would hang.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(end) {
			t.Fatal("still not so: ", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestNothingOutlivesTheOwner(t *testing.T) {
	for _, tc := range []struct {
		role string
		sig  syscall.Signal
	}{
		{"exit", 0},
		{"stay", syscall.SIGKILL},
		{"stay", syscall.SIGINT},
		{"stay", syscall.SIGHUP},
		{"stubborn stay", syscall.SIGKILL},
		{"stubborn close", syscall.SIGKILL},
	} {
		t.Run(fmt.Sprintf("%s %v", tc.role, tc.sig), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), envRole+"="+tc.role)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			lines := bufio.NewScanner(out)
			next := func() string {
				if !lines.Scan() {
					t.Fatal("the owner ended early")
				}
				return lines.Text()
			}
			var pids []int
			for range 2 {
				pid, err := strconv.Atoi(next())
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			dir := next()
			gone := func() bool {
				_, err := os.Stat(dir)
				return os.IsNotExist(err)
			}
			if strings.HasSuffix(tc.role, "close") {
				if next() != "closed" || !gone() {
					t.Error("Close left the directory")
				}
				for _, pid := range pids {
					if birth(pid) != "" {
						t.Errorf("Close left process %d", pid)
					}
				}
			}
			if tc.sig != 0 {
				if err := cmd.Process.Signal(tc.sig); err != nil {
					t.Fatal(err)
				}
			}
			cmd.Wait()
			eventually(t, "directory removed", gone)
			for _, pid := range pids {
				eventually(t, "process ended", func() bool { return birth(pid) == "" })
			}
		})
	}
}

func TestStartFailsAfterClose(t *testing.T) {
	g, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err := g.Start(exec.Command("/bin/true")); err == nil {
		p.End(syscall.SIGKILL, 0)
		t.Error("a closed guard started a process")
	}
}

func TestListen(t *testing.T) {
	me := os.Getpid()
	text := fmt.Sprintf("+%d\n+1\n+x\n\n+999999999\n-999999999\n+%d\n", me, me)
	left := listen(strings.NewReader(text))
	if len(left) != 1 || left[me] == "" || left[me] != birth(me) {
		t.Errorf("got %v, want only this process, with its birth", left)
	}
}

func TestMakeDirPassesOverClosedFolders(t *testing.T) {
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if Reachable(closed) {
		t.Error("a folder without the search bit counts as reachable")
	}
	dir, err := makeDir([]string{closed, "/tmp"})
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	if filepath.Dir(dir) != "/tmp" {
		t.Errorf("made %s", dir)
	}
	if _, err := makeDir([]string{closed}); err == nil {
		t.Error("made a directory that others cannot reach")
	}
}
