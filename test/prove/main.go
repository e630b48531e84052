// Command prove runs everything that proves the project and closes with one
// line per skipped test and the counts. make test and .ci/run call it.
//
//	prove          the whole proof
//	prove -fast    Go and PostgreSQL alone, without what takes long
//	prove -lint    gofmt, go vet and staticcheck alone
//	prove -fuzz D  every fuzz target for the duration D
//
// INSTALL=1 lets it, and the tests, bring what is missing. With CI=true a
// skip that test/skips.txt does not list counts as a failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"pgpoold/test/postgres"
)

func main() {
	fast := flag.Bool("fast", false, "leave out what takes long")
	lint := flag.Bool("lint", false, "run no tests")
	fuzz := flag.Duration("fuzz", 0, "run every fuzz target for so long, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// The profile for the compiler makes each of a dozen builds of pgpoold and all
	// it imports a minute longer, and changes nothing that a test looks at.
	os.Setenv("GOFLAGS", strings.TrimSpace(os.Getenv("GOFLAGS")+" -pgo=off"))
	p := &proof{
		fast:    *fast,
		lint:    *lint,
		fuzz:    *fuzz,
		install: os.Getenv(postgres.EnvInstall) == "1",
		out:     os.Stdout,
		tally:   newTally(),
	}
	if !p.run(ctx) {
		os.Exit(1)
	}
}

// proof is one run; everything in it belongs to the goroutine of main.
type proof struct {
	fast    bool
	lint    bool
	fuzz    time.Duration // 0: no fuzzing
	install bool
	out     io.Writer
	tally   *tally
	env     []string // of tests, besides the process's
}

// raced are the packages that also run under the race detector: all that is
// in the program, and the tests of the whole of it.
var raced = []string{
	"./wire/...", "./backend/...", "./proxy/...", "./admin/...", "./config/...", "./cmd/...",
	"./test/conformance/...", "./test/harness/...", "./test/pooling/...", "./test/guard/...", "./test/postgres/...",
}

// targets are the systems that pgpoold is released for.
var targets = []struct{ os, arch string }{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"},
}

// run does all steps, also after one failed, and prints the closing lines.
func (p *proof) run(ctx context.Context) bool {
	listed, err := readSkips("test/skips.txt")
	if err != nil {
		p.tally.fail("skips", err.Error())
	}
	if p.fuzz > 0 {
		p.fuzzAll(ctx)
	} else {
		p.prove(ctx)
	}
	if ctx.Err() != nil {
		p.tally.fail("proof", "interrupted")
	}
	return p.tally.close(p.out, listed, p.fast, os.Getenv("CI") == "true")
}

func (p *proof) prove(ctx context.Context) {
	if p.install && !p.lint {
		p.bringPrograms(ctx)
	}
	p.step(ctx, "gofmt", formatted)
	p.command(ctx, "go vet", nil, "go", "vet", "./...")
	if !p.fast {
		p.staticcheck(ctx)
	}
	if p.lint {
		return
	}
	if p.fast {
		// Most of them wait more than they work, and the first two longest.
		p.tests(ctx, "go test", "brief", append([]string{"go", "test", "-json", fmt.Sprintf("-p=%d", 2*runtime.GOMAXPROCS(0))}, existing([]string{"./test/pooling", "./test/conformance", "./test/change", "./..."})...)...)
	} else {
		for _, t := range targets {
			env := []string{"CGO_ENABLED=0", "GOOS=" + t.os, "GOARCH=" + t.arch}
			pgo := "-pgo=off"
			if t.os == "linux" && t.arch == "amd64" {
				pgo = "-pgo=auto" // as releases are built
			}
			p.command(ctx, "go build "+t.os+"/"+t.arch, env, "go", "build", pgo, "./cmd/...")
		}
		p.command(ctx, "go vet darwin/arm64", []string{"CGO_ENABLED=0", "GOOS=darwin", "GOARCH=arm64"}, "go", "vet", "./...")
		p.tests(ctx, "go test", "full", "go", "test", "-json", "-count=1", "-timeout=30m", "./...")
		// The ordinary system calls, which other systems use.
		p.tests(ctx, "go test -tags plainio", "fast", "go", "test", "-json", "-tags=plainio", "-count=1", "-timeout=30m", "./wire/stream/...", "./proxy/...")
		// Here every transaction is followed by the question what it has left, and
		// what nothing had announced fails the test.
		p.env = []string{"PGPOOLD_TEST_AUDIT=1"}
		race := append([]string{"go", "test", "-json", "-race", "-count=1", "-timeout=30m"}, existing(raced)...)
		p.tests(ctx, "go test -race", "fast", race...)
	}
}

// existing keeps the patterns whose folder there is.
func existing(patterns []string) []string {
	return slices.DeleteFunc(slices.Clone(patterns), func(pattern string) bool {
		_, err := os.Stat(strings.TrimSuffix(pattern, "/..."))
		return err != nil
	})
}

// step runs one thing that is no test and counts it.
func (p *proof) step(ctx context.Context, name string, do func(context.Context) error) {
	if ctx.Err() != nil {
		return
	}
	begin := time.Now()
	err := do(ctx)
	took := time.Since(begin).Round(100 * time.Millisecond)
	if err != nil {
		fmt.Fprintf(p.out, "FAIL  %s (%v)\n%v\n", name, took, err)
		p.tally.fail(name, "")
		return
	}
	fmt.Fprintf(p.out, "ok    %s (%v)\n", name, took)
	p.tally.passed++
}

// command is a step that runs a program and shows its output if it fails.
func (p *proof) command(ctx context.Context, name string, env []string, args ...string) {
	p.step(ctx, name, func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		endGroup(cmd)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
}

// formatted is the step gofmt.
func formatted(ctx context.Context) error {
	files, err := goFiles(".")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "gofmt", append([]string{"-l"}, files...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if len(out) > 0 {
		return fmt.Errorf("not formatted by gofmt:\n%s", out)
	}
	return nil
}

// goFiles lists the project's Go files, past folders that are ignored.
func goFiles(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "dist" && filepath.Dir(path) == root):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = errors.New("no Go files: prove runs in the module's root")
	}
	return files, err
}
