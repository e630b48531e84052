// Package toolchain finds, and where it may, installs what the driver programs
// run on: Python, Node.js, Java, Rust, C and Go with the packages that their
// manifests pin, and PostgreSQL's own client programs.
//
// With INSTALL=1 in the environment missing packages are installed into
// ignored folders of the working tree (test/.venv, test/drivers/node/node_modules,
// .cache/drivers)
// and a failure to do so fails the test. Without it a test that needs them is
// skipped, and says what is missing.
package toolchain

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Python returns an interpreter that imports asyncpg and psycopg in the
// versions of test/drivers/python/requirements.txt.
func Python(tb testing.TB) string {
	tb.Helper()
	root := Root(tb)
	venv := filepath.Join(root, "test", ".venv")
	install(tb, installation{
		what:  "Python packages of test/drivers/python/requirements.txt",
		wants: []string{filepath.Join(root, "test", "drivers", "python", "requirements.txt")},
		stamp: filepath.Join(venv, "installed"),
		run: func() error {
			python, err := exec.LookPath("python3")
			if err != nil {
				return err
			}
			if err := run(tb, root, python, "-m", "venv", "--clear", venv); err != nil {
				return err
			}
			return run(tb, root, filepath.Join(venv, "bin", "python"), "-m", "pip", "install", "--quiet",
				"--disable-pip-version-check", "-r", filepath.Join("test", "drivers", "python", "requirements.txt"))
		},
	})
	return filepath.Join(venv, "bin", "python")
}

// Node returns the node program; the packages of test/drivers/node/package.json
// are installed beside that file.
func Node(tb testing.TB) string {
	tb.Helper()
	node := Program(tb, "node")
	dir := filepath.Join(Root(tb), "test", "drivers", "node")
	schema := filepath.Join(dir, "prisma", "schema.prisma")
	install(tb, installation{
		what:  "Node.js packages of test/drivers/node/package.json",
		wants: []string{filepath.Join(dir, "package.json"), schema},
		stamp: filepath.Join(dir, "node_modules", ".installed"),
		run: func() error {
			npm, err := exec.LookPath("npm")
			if err != nil {
				return err
			}
			// No scripts: Prisma's would fetch an engine, which its client does not need.
			err = run(tb, dir, npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error")
			if err != nil {
				return err
			}
			// Prisma looks for its schema engine before it generates a client, and does not run it for that.
			prisma := filepath.Join("node_modules", "prisma", "build", "index.js")
			return run(tb, dir, "env", "CHECKPOINT_DISABLE=1", "PRISMA_SCHEMA_ENGINE_BINARY="+node, node, prisma, "generate", "--schema", schema)
		},
	})
	return node
}

// Program returns the path of a program, looked for in dirs and then in PATH,
// and skips the test where it is missing.
func Program(tb testing.TB, name string, dirs ...string) string {
	tb.Helper()
	for _, dir := range dirs {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		tb.Skipf("%s is not installed", name)
	}
	return path
}

// Root returns the folder of the module's go.mod.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}

// An installation is current when the stamp holds a copy of the files it is
// made from.
type installation struct {
	what  string
	wants []string
	stamp string
	run   func() error
}

// install brings an installation up to date. Test packages run in several
// processes at once: a lock lets one of them install while the others wait.
func install(tb testing.TB, in installation) {
	tb.Helper()
	cache := built(tb, "")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		tb.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		tb.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		tb.Fatalf("lock %s: %v", lock.Name(), err)
	}
	var wants []byte
	for _, file := range in.wants {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		wants = append(wants, text...)
	}
	if has, err := os.ReadFile(in.stamp); err == nil && bytes.Equal(has, wants) {
		return
	}
	if os.Getenv("INSTALL") != "1" {
		tb.Skipf("%s are not installed; INSTALL=1 installs them", in.what)
	}
	if err := in.run(); err != nil {
		tb.Fatalf("install %s: %v", in.what, err)
	}
	if err := os.MkdirAll(filepath.Dir(in.stamp), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(in.stamp, wants, 0o644); err != nil {
		tb.Fatal(err)
	}
}

func run(tb testing.TB, dir, name string, args ...string) error {
	tb.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Logf("%s %v:\n%s", name, args, out)
	}
	return err
}
