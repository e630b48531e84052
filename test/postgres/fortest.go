package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// The environment variables by which the proof steers the tests.
const (
	// EnvScope is "full" where tests that take long are to run, and "brief" for
	// make test-fast, where others are left out or shorter too.
	EnvScope = "PGPOOLD_TEST"
	// EnvInstall is "1" where missing programs may be downloaded and installed.
	EnvInstall = "INSTALL"
)

// FastMode is the text of every skip that RequireFull makes.
const FastMode = "fast mode"

// testServer is what all tests of one test binary share: package state,
// because a test binary is a program whose main is not ours.
var testServer struct {
	mu      sync.Mutex
	server  *Server  // guarded by mu
	cluster *Cluster // guarded by mu; what ForTest hands out
	err     error    // guarded by mu; the first failure, so that it is not tried for each test
}

// Main runs a test binary's tests and then ends what ForTest and StartForTest
// started. Use it as os.Exit(postgres.Main(m)). Without it the guard's
// watching process does the same a moment after the binary has ended.
func Main(m *testing.M) int {
	code := m.Run()
	testServer.mu.Lock()
	defer testServer.mu.Unlock()
	if testServer.server != nil {
		if err := testServer.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			if code == 0 {
				code = 1
			}
		}
	}
	return code
}

// ForTest returns the cluster that all tests of this binary share. It trusts
// everyone; a test makes the roles, databases and tables it needs under names
// of its own. Where there is no PostgreSQL the test is skipped with the line
// that says what to install.
func ForTest(tb testing.TB) *Cluster {
	tb.Helper()
	testServer.mu.Lock()
	defer testServer.mu.Unlock()
	if testServer.cluster == nil && testServer.err == nil {
		s, err := sharedServer()
		if err == nil {
			testServer.cluster, err = s.Start(context.Background(), Config{})
		}
		testServer.err = err
	}
	failOrSkip(tb, testServer.err)
	return testServer.cluster
}

// StartForTest starts a cluster of the test's own, stopped at its end.
func StartForTest(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	testServer.mu.Lock()
	s, err := sharedServer()
	testServer.mu.Unlock()
	failOrSkip(tb, err)
	c, err := s.Start(context.Background(), cfg)
	failOrSkip(tb, err)
	tb.Cleanup(func() {
		if err := c.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// sharedServer returns the binary's Server; testServer.mu is held.
func sharedServer() (*Server, error) {
	if testServer.server == nil {
		s, err := NewServer()
		if err != nil {
			return nil, err
		}
		testServer.server = s
	}
	return testServer.server, nil
}

func failOrSkip(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, ErrNotFound) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// TestOptions is how the tests look for PostgreSQL: what is installed, else
// what is cached; with INSTALL=1 everything else too.
func TestOptions() Options {
	install := os.Getenv(EnvInstall) == "1"
	return Options{CacheDir: CacheDir(), Download: install, Install: install}
}

// CacheDir is the ignored folder for downloads in the module's root, or empty
// outside the module.
func CacheDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, ".cache")
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// RequireFull skips a test that takes long, unless the whole proof runs.
func RequireFull(tb testing.TB) {
	tb.Helper()
	if os.Getenv(EnvScope) != "full" {
		tb.Skip(FastMode)
	}
}

// Brief reports whether make test-fast runs, which has two minutes for all.
func Brief() bool { return os.Getenv(EnvScope) == "brief" }

// SkipBrief skips a test that make test-fast has no time for.
func SkipBrief(tb testing.TB) {
	tb.Helper()
	if Brief() {
		tb.Skip(FastMode)
	}
}

// LeakOptions tells goleak about the goroutines of clusters that live longer
// than one test.
func LeakOptions() []goleak.Option {
	return []goleak.Option{goleak.IgnoreAnyFunction("pgpoold/test/guard.(*Process).run")}
}
