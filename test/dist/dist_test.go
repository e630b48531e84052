package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgpoold/test/postgres"
)

// TestRelease builds the tarball for this machine, checks it against the list
// of checksums, and runs its program. That the others compile is a step of
// prove.
func TestRelease(t *testing.T) {
	postgres.RequireFull(t)
	t.Chdir("../..")
	if err := exec.Command("git", "rev-parse", "HEAD").Run(); err != nil {
		t.Skip("not in a git repository")
	}
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "pgpoold-0-old.tar.gz"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := release(t.Context(), out, []target{{runtime.GOOS, runtime.GOARCH}}); err != nil {
		t.Fatal(err)
	}
	lists, _ := filepath.Glob(filepath.Join(out, "*-sha256sums.txt"))
	all, _ := os.ReadDir(out)
	if len(lists) != 1 || len(all) != 2 {
		t.Fatalf("the folder holds %v", all)
	}
	text, err := os.ReadFile(lists[0])
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s: wrong checksum", name)
		}
		program := extract(t, filepath.Join(out, name))
		said, err := exec.Command(program, "version").Output()
		version := strings.TrimSuffix(strings.TrimPrefix(name, "pgpoold-"), "-"+runtime.GOOS+"-"+runtime.GOARCH+".tar.gz")
		if err != nil || !strings.Contains(string(said), version) {
			t.Errorf("pgpoold version said %q (%v), want %s in it", said, err, version)
		}
	}
}

// extract returns the program of a tarball.
func extract(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			t.Fatal("no program in ", path)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, "/pgpoold") {
			continue
		}
		if h.Mode != 0o755 || h.Uid != 0 {
			t.Errorf("%s has mode %o and owner %d", h.Name, h.Mode, h.Uid)
		}
		program := filepath.Join(t.TempDir(), "pgpoold")
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, data, 0o755); err != nil {
			t.Fatal(err)
		}
		return program
	}
}
