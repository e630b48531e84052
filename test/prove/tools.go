package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"pgpoold/test/postgres"
)

// staticcheckModule is what is installed where there is no staticcheck.
const staticcheckModule = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"

// staticcheck runs the linter, bringing it first where that is allowed.
func (p *proof) staticcheck(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	program, err := findStaticcheck(ctx, p.install)
	if err != nil {
		p.tally.skip(skip{pkg: "staticcheck", test: "staticcheck", reason: err.Error()})
		return
	}
	p.command(ctx, "staticcheck", nil, program, "./...")
}

func findStaticcheck(ctx context.Context, install bool) (string, error) {
	if path, err := exec.LookPath("staticcheck"); err == nil {
		return path, nil
	}
	bin := filepath.Join(postgres.CacheDir(), "bin")
	places := []string{bin}
	if out, err := exec.CommandContext(ctx, "go", "env", "GOPATH").Output(); err == nil {
		places = append(places, filepath.Join(strings.TrimSpace(string(out)), "bin"))
	}
	for _, dir := range places {
		if path, err := exec.LookPath(filepath.Join(dir, "staticcheck")); err == nil {
			return path, nil
		}
	}
	if !install {
		return "", fmt.Errorf("not installed; INSTALL=1 installs it")
	}
	cmd := exec.CommandContext(ctx, "go", "install", staticcheckModule)
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("go install: %w: %s", err, lines[len(lines)-1])
	}
	return filepath.Join(bin, "staticcheck"), nil
}

// wanted are the programs that tests use beside Go and PostgreSQL, and
// Debian's packages for them. The tests that need one are skipped without it.
var wanted = []struct {
	pkg     string
	missing func() bool
}{
	{"postgresql", without("/usr/lib/postgresql/*/bin/postgres")},
	{"postgresql-client", without("psql")},
	{"pgbouncer", without("pgbouncer", "/usr/sbin/pgbouncer")},
	{"strace", without("strace")},
	{"procps", without("ps")},
	{"qemu-user", without("qemu-x86_64")},
	{"python3", without("python3")},
	{"python3-venv", func() bool { return exec.Command("python3", "-m", "ensurepip", "--version").Run() != nil }},
	{"nodejs", without("node")},
	{"npm", without("npm")},
}

// without tells whether none of the programs is there, in PATH or, for a
// pattern with a slash, at that place.
func without(programs ...string) func() bool {
	return func() bool {
		for _, program := range programs {
			if strings.Contains(program, "/") {
				if found, _ := filepath.Glob(program); len(found) > 0 {
					return false
				}
			} else if _, err := exec.LookPath(program); err == nil {
				return false
			}
		}
		return true
	}
}

// bringPrograms installs what is missing: as root on Debian with its package
// manager, else, and for the fast proof, PostgreSQL alone from where
// postgres.Find gets it. What cannot be brought shows as skips.
func (p *proof) bringPrograms(ctx context.Context) {
	logf := func(format string, args ...any) { fmt.Fprintf(p.out, "      "+format+"\n", args...) }
	if _, err := exec.LookPath("apt-get"); err == nil && !p.fast && os.Geteuid() == 0 && runtime.GOOS == "linux" {
		var packages []string
		for _, w := range wanted {
			if w.missing() {
				packages = append(packages, w.pkg)
			}
		}
		if len(packages) > 0 {
			if err := postgres.InstallDebian(ctx, logf, packages...); err != nil {
				logf("%v", err)
			}
		}
	}
	o := postgres.TestOptions()
	o.Logf = logf
	in, err := postgres.Find(ctx, o)
	if err != nil {
		logf("%v", err)
		return
	}
	logf("PostgreSQL %s in %s", in.Full, in.Bin)
}
