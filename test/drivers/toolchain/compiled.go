package toolchain

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// built is the folder of what is compiled for the tests.
func built(tb testing.TB, name string) string {
	tb.Helper()
	return filepath.Join(Root(tb), ".cache", "drivers", name)
}

// Java returns the command that runs the program of test/drivers/java, without
// its arguments.
func Java(tb testing.TB) []string {
	tb.Helper()
	java, maven := Program(tb, "java"), Program(tb, "mvn")
	dir, out := filepath.Join(Root(tb), "test", "drivers", "java"), built(tb, "java")
	libraries, classes := filepath.Join(out, "lib"), filepath.Join(out, "classes")
	path := filepath.Join(libraries, "*")
	source := filepath.Join(dir, "Smoke.java")
	install(tb, installation{
		what:  "Java libraries of test/drivers/java/pom.xml",
		wants: []string{filepath.Join(dir, "pom.xml"), source},
		stamp: filepath.Join(out, "installed"),
		run: func() error {
			if err := os.MkdirAll(classes, 0o755); err != nil {
				return err
			}
			if err := run(tb, dir, maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory="+libraries); err != nil {
				return err
			}
			return run(tb, dir, "javac", "-d", classes, "-cp", path, source)
		},
	})
	return []string{java, "-cp", classes + string(os.PathListSeparator) + path, "Smoke"}
}

// Rust returns the program of test/drivers/rust.
func Rust(tb testing.TB) string {
	tb.Helper()
	cargo := Program(tb, "cargo", filepath.Join(os.Getenv("HOME"), ".cargo", "bin"))
	dir, out := filepath.Join(Root(tb), "test", "drivers", "rust"), built(tb, "rust")
	sources, err := filepath.Glob(filepath.Join(dir, "src", "*.rs"))
	if err != nil {
		tb.Fatal(err)
	}
	install(tb, installation{
		what:  "Rust crates of test/drivers/rust/Cargo.toml",
		wants: append([]string{filepath.Join(dir, "Cargo.toml")}, sources...),
		stamp: filepath.Join(out, "installed"),
		run:   func() error { return run(tb, dir, cargo, "build", "--quiet", "--target-dir", out) },
	})
	return filepath.Join(out, "debug", "smoke")
}

// C returns the program of test/drivers/c, made with libpq.
func C(tb testing.TB) string {
	tb.Helper()
	compiler := Program(tb, "cc")
	headers, err := exec.Command(Program(tb, "pg_config"), "--includedir").Output()
	if err != nil {
		tb.Fatal(err)
	}
	include := strings.TrimSpace(string(headers))
	if _, err := os.Stat(filepath.Join(include, "libpq-fe.h")); err != nil {
		tb.Skip("libpq's headers are not installed")
	}
	dir, out := filepath.Join(Root(tb), "test", "drivers", "c"), built(tb, "c")
	source, program := filepath.Join(dir, "pipeline.c"), filepath.Join(out, "pipeline")
	install(tb, installation{
		what:  "what test/drivers/c is compiled with",
		wants: []string{source},
		stamp: filepath.Join(out, "installed"),
		run: func() error {
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			return run(tb, dir, compiler, "-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Werror", "-O1", "-I"+include, "-o", program, source, "-lpq")
		},
	})
	return program
}

// Go returns the program of test/drivers/golang, a module of its own.
func Go(tb testing.TB) string {
	tb.Helper()
	dir, out := filepath.Join(Root(tb), "test", "drivers", "golang"), built(tb, "golang")
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		tb.Fatal(err)
	}
	program := filepath.Join(out, "smoke")
	install(tb, installation{
		what:  "Go modules of test/drivers/golang/go.mod",
		wants: append([]string{filepath.Join(dir, "go.mod")}, sources...),
		stamp: filepath.Join(out, "installed"),
		run:   func() error { return run(tb, dir, "go", "build", "-o", program, ".") },
	})
	return program
}
