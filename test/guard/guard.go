package guard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// envDir names the directory that a process started as the watching half is
// to remove. Its presence is what makes a process the watching half.
const envDir = "PGPOOLD_GUARD_DIR"

// dirPrefix begins the name of every directory that a Guard owns, so that the
// watching half never removes anything else.
const dirPrefix = "pgpoold-"

// endPatience is how long a process may take to obey a signal before SIGKILL,
// where its owner says nothing else.
const endPatience = 5 * time.Second

// Guard owns a temporary directory and the processes started with Start.
type Guard struct {
	dir   string    // set by New
	watch *exec.Cmd // the watching half; set by New, waited for by Close

	mu      sync.Mutex
	pipe    io.WriteCloser // guarded by mu; nil once closed
	running map[*Process]struct{}
	adopted map[int]string // guarded by mu: births of processes that others have started
}

// New makes the directory and starts the watching half. The directory and
// all its parents can be entered by every user of the machine, because
// PostgreSQL refuses to run as root; what is put inside decides who may read.
func New() (*Guard, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	dir, err := makeDir(tempCandidates())
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("guard: %w", err)
	}
	watch := exec.Command(self)
	watch.Env = []string{envDir + "=" + dir}
	watch.Dir = "/"
	watch.Stdin = r
	watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = watch.Start()
	r.Close()
	if err != nil {
		w.Close()
		os.RemoveAll(dir)
		return nil, fmt.Errorf("guard: %w", err)
	}
	return &Guard{dir: dir, watch: watch, pipe: w, running: make(map[*Process]struct{})}, nil
}

// Dir is the directory that goes when the program goes.
func (g *Guard) Dir() string { return g.dir }

// Close ends every process that still runs, removes the directory and waits
// for the watching half. A second call does nothing.
func (g *Guard) Close() error {
	g.mu.Lock()
	pipe := g.pipe
	g.pipe = nil
	left := make([]*Process, 0, len(g.running))
	for p := range g.running {
		left = append(left, p)
	}
	g.mu.Unlock()
	if pipe == nil {
		return nil
	}
	for _, p := range left {
		p.End(syscall.SIGQUIT, 0)
	}
	g.mu.Lock()
	endAll(g.adopted)
	g.adopted = nil
	g.mu.Unlock()
	err := removeAll(g.dir)
	pipe.Close()
	if werr := g.watch.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("guard: watching process: %w", werr))
	}
	return err
}

// note tells the watching half about a process; it is called with g.mu held.
func (g *Guard) note(sign byte, pid int) error {
	if g.pipe == nil {
		return errors.New("guard: closed")
	}
	_, err := fmt.Fprintf(g.pipe, "%c%d\n", sign, pid)
	return err
}

// tempCandidates lists where a directory may be made, best first.
func tempCandidates() []string {
	return []string{os.TempDir(), "/tmp", "/var/tmp"}
}

// makeDir makes a fresh directory in the first candidate that every user can
// reach.
func makeDir(candidates []string) (string, error) {
	var last error
	for _, base := range candidates {
		if !Reachable(base) {
			last = fmt.Errorf("%s cannot be entered by other users", base)
			continue
		}
		dir, err := os.MkdirTemp(base, dirPrefix)
		if err != nil {
			last = err
			continue
		}
		if err := os.Chmod(dir, 0o711); err != nil {
			os.RemoveAll(dir)
			return "", err
		}
		return dir, nil
	}
	return "", last
}

// Reachable tells whether a user other than the owner can enter path: it and
// every parent carry the search bit for others.
func Reachable(path string) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false
	}
	for {
		st, err := os.Stat(path)
		if err != nil || !st.IsDir() || st.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(path)
		if parent == path {
			return true
		}
		path = parent
	}
}

// removeAll removes dir, again for a while where a process that is just
// ending still writes into it.
func removeAll(dir string) error {
	var err error
	for end := time.Now().Add(endPatience); ; {
		if err = os.RemoveAll(dir); err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Adopt takes on a process that a child has started: it is ended with the
// others.
func (g *Guard) Adopt(pid int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.adopted == nil {
		g.adopted = map[int]string{}
	}
	g.adopted[pid] = birth(pid)
	return g.note('+', pid)
}

// Alive reports whether a process that was adopted still runs.
func (g *Guard) Alive(pid int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	born := g.adopted[pid]
	return born != "" && birth(pid) == born
}
