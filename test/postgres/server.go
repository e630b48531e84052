package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"pgpoold/test/guard"
)

// Server makes clusters that share one guarded directory, one initdb and one
// account. A program makes one and closes it.
type Server struct {
	guard *guard.Guard
	user  *account

	mu        sync.Mutex
	count     int               // guarded by mu; numbers the clusters
	templates map[string]string // guarded by mu; bin folder -> data folder after initdb
	copies    map[string]string // guarded by mu; bin folder -> the one the account can reach
}

// NewServer makes the guarded directory. Close ends every cluster in it.
func NewServer() (*Server, error) {
	user, err := serverAccount()
	if err != nil {
		return nil, err
	}
	g, err := guard.New()
	if err != nil {
		return nil, err
	}
	return &Server{
		guard:     g,
		user:      user,
		templates: make(map[string]string),
		copies:    make(map[string]string),
	}, nil
}

// Guard is the guarded directory, for other files and processes that are to
// go when the program goes.
func (s *Server) Guard() *guard.Guard { return s.guard }

// Close ends every cluster and removes all files.
func (s *Server) Close() error { return s.guard.Close() }

// prepare returns the installation as the account can run it, a fresh folder
// for a cluster, and the folder that initdb filled.
func (s *Server) prepare(ctx context.Context, in *Install) (run Install, dir, template string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run = *in
	if run.Bin, err = s.reachableBin(in); err != nil {
		return run, "", "", err
	}
	if template, err = s.template(ctx, run.Bin); err != nil {
		return run, "", "", err
	}
	s.count++
	dir = filepath.Join(s.guard.Dir(), strconv.Itoa(s.count))
	return run, dir, template, s.user.mkdir(dir, 0o755)
}

// reachableBin copies an installation that lies where the account cannot go,
// such as below root's home. It is called with s.mu held.
func (s *Server) reachableBin(in *Install) (string, error) {
	bin, root := in.Bin, in.root
	if root == "" {
		root = filepath.Dir(bin)
	}
	if s.user == nil || guard.Reachable(bin) {
		return bin, nil
	}
	if done, ok := s.copies[bin]; ok {
		return done, nil
	}
	to := filepath.Join(s.guard.Dir(), "install"+strconv.Itoa(len(s.copies)))
	rel, err := filepath.Rel(root, bin)
	if err != nil {
		return "", err
	}
	if err := copyTree(root, to, nil); err != nil {
		return "", fmt.Errorf("copy PostgreSQL: %w", err)
	}
	s.copies[bin] = filepath.Join(to, rel)
	return s.copies[bin], nil
}

// template runs initdb once per installation. It is called with s.mu held.
func (s *Server) template(ctx context.Context, bin string) (string, error) {
	if done, ok := s.templates[bin]; ok {
		return done, nil
	}
	home := filepath.Join(s.guard.Dir(), "initdb"+strconv.Itoa(len(s.templates)))
	if err := s.user.mkdir(home, 0o700); err != nil {
		return "", err
	}
	data := filepath.Join(home, "data")
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", Superuser,
		"-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync")
	if err := s.runToEnd(ctx, cmd, filepath.Join(home, "initdb.log")); err != nil {
		return "", err
	}
	s.templates[bin] = data
	return data, nil
}

// runToEnd runs one of PostgreSQL's programs as the account; the error holds
// the last line of what it said.
func (s *Server) runToEnd(ctx context.Context, cmd *exec.Cmd, logPath string) error {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Env = serverEnv()
	cmd.Dir = s.guard.Dir()
	cmd.Stdout, cmd.Stderr = log, log
	s.user.runAs(cmd)
	p, err := s.guard.Start(cmd)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.End(syscall.SIGKILL, 0)
		return ctx.Err()
	}
	if p.Err() != nil {
		said, _ := os.ReadFile(logPath)
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), p.Err(), lastLine(said))
	}
	return nil
}

// logTail returns the last lines of a log, for an error message.
func logTail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
