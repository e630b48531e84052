// Command micro runs the benchmarks that stand beside the program's code, and
// compares them with those of another commit.
//
//	micro                what the working tree takes
//	micro -base main     beside what main takes, by benchstat
//	micro -base main -bench Transaction
//
// The two take turns, so that a machine that becomes slower meanwhile is slower
// for both. Whatever only one of them has is shown alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pgpoold/test/postgres"
)

// benchstatModule is what compares, brought where it is missing.
const benchstatModule = "golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da"

// packages have the benchmarks.
var packages = []string{"wire", "backend", "proxy", "proxy/sqlscan"}

func main() {
	m := &micro{}
	flag.StringVar(&m.base, "base", "", "compare with this commit")
	flag.StringVar(&m.bench, "bench", ".", "only those whose names match")
	flag.IntVar(&m.count, "count", 6, "how often each runs")
	flag.DurationVar(&m.benchtime, "benchtime", 200*time.Millisecond, "how long each runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := m.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type micro struct {
	base, bench string
	count       int
	benchtime   time.Duration
}

// side is a tree whose benchmarks run.
type side struct {
	root    string
	results string // file
	bins    string // folder of the built test binaries
}

func (m *micro) run(ctx context.Context, out io.Writer) (err error) {
	benchstat, err := findBenchstat(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "micro-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var sides []*side
	if m.base != "" {
		root := filepath.Join(dir, "tree")
		if err := extract(ctx, m.base, root); err != nil {
			return err
		}
		sides = append(sides, &side{root: root, results: filepath.Join(dir, m.name())})
	}
	sides = append(sides, &side{root: ".", results: filepath.Join(dir, "tree.txt")})
	for i, s := range sides {
		s.bins = filepath.Join(dir, fmt.Sprintf("bin%d", i))
		if err := s.build(ctx); err != nil {
			return err
		}
	}
	for i := range m.count {
		for _, s := range sides {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", i+1, m.count, filepath.Base(s.results))
			if err := m.round(ctx, s); err != nil {
				return err
			}
		}
	}
	var args []string
	for _, s := range sides {
		args = append(args, filepath.Base(s.results))
	}
	cmd := exec.CommandContext(ctx, benchstat, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, os.Stderr
	return cmd.Run()
}

// name is the base's in benchstat's table.
func (m *micro) name() string {
	return strings.NewReplacer("/", "-", "~", "-", "^", "-").Replace(m.base) + ".txt"
}

// extract writes a commit's files into a folder.
func extract(ctx context.Context, commit, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	git := exec.CommandContext(ctx, "git", "archive", "--format=tar", commit)
	tar := exec.CommandContext(ctx, "tar", "-x", "-C", dir)
	git.Stderr, tar.Stderr = os.Stderr, os.Stderr
	var err error
	if tar.Stdin, err = git.StdoutPipe(); err != nil {
		return err
	}
	if err := tar.Start(); err != nil {
		return fmt.Errorf("tar: %w", err)
	}
	err = git.Run()
	return errors.Join(err, tar.Wait())
}

// build compiles the tests of all packages that the tree has.
func (s *side) build(ctx context.Context) error {
	if err := os.Mkdir(s.bins, 0o700); err != nil {
		return err
	}
	for _, pkg := range packages {
		if _, err := os.Stat(filepath.Join(s.root, pkg)); err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", s.bin(pkg), "./"+pkg)
		cmd.Dir = s.root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

func (s *side) bin(pkg string) string {
	return filepath.Join(s.bins, strings.ReplaceAll(pkg, "/", "-")+".test")
}

// round runs everything once and appends the results.
func (m *micro) round(ctx context.Context, s *side) error {
	f, err := os.OpenFile(s.results, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, pkg := range packages {
		if _, err := os.Stat(s.bin(pkg)); err != nil {
			continue // the tree has no such package
		}
		cmd := exec.CommandContext(ctx, s.bin(pkg), "-test.run=^$", "-test.bench="+m.bench, "-test.benchtime="+m.benchtime.String(), "-test.benchmem")
		cmd.Dir = filepath.Join(s.root, pkg)
		cmd.Stdout, cmd.Stderr = f, os.Stderr
		if err := cmd.Run(); err != nil {
			said, _ := os.ReadFile(s.results)
			return fmt.Errorf("%s: %w\n%s", pkg, err, said)
		}
	}
	return nil
}

// findBenchstat is a benchstat in PATH, or the one in the ignored folder, which
// is installed where INSTALL=1 allows it.
func findBenchstat(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("benchstat"); err == nil {
		return path, nil
	}
	bin := filepath.Join(postgres.CacheDir(), "bin")
	path := filepath.Join(bin, "benchstat")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if os.Getenv(postgres.EnvInstall) != "1" {
		return "", errors.New("benchstat is not installed; INSTALL=1 installs it")
	}
	cmd := exec.CommandContext(ctx, "go", "install", benchstatModule)
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s: %w\n%s", benchstatModule, err, out)
	}
	return path, nil
}
