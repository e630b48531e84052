// Command dist builds the release: for each system a static binary in a
// tarball beside the documented config.yaml, README.md, LICENSE and
// CHANGELOG.md, and one file of SHA-256 checksums. make dist calls it.
package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	out := flag.String("out", "dist", "folder for the tarballs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := release(ctx, *out, targets); err != nil {
		fmt.Fprintln(os.Stderr, "make dist:", err)
		os.Exit(1)
	}
}

// target is a system.
type target struct{ os, arch string }

// targets are the systems that pgpoold is released for.
var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"},
}

// companions go into each tarball where the project has them.
var companions = []string{"config.yaml", "README.md", "LICENSE", "CHANGELOG.md"}

// release builds the targets into the folder out, which it empties first of
// what an earlier release left there.
func release(ctx context.Context, out string, targets []target) error {
	version, stamp, err := describe(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	old, _ := filepath.Glob(filepath.Join(out, "pgpoold-*"))
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	temp, err := os.MkdirTemp(out, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)

	var sums strings.Builder
	for _, t := range targets {
		name := "pgpoold-" + version + "-" + t.os + "-" + t.arch
		binary := filepath.Join(temp, "pgpoold")
		if err := build(ctx, binary, version, t.os, t.arch); err != nil {
			return err
		}
		sum, err := pack(filepath.Join(out, name+".tar.gz"), name, binary, stamp)
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s.tar.gz\n", sum, name)
		fmt.Printf("%s  %s\n", sum, filepath.Join(out, name+".tar.gz"))
	}
	return os.WriteFile(filepath.Join(out, "pgpoold-"+version+"-sha256sums.txt"), []byte(sums.String()), 0o644)
}

// describe returns the version that git gives this state, and the time of its
// commit, which all files in the tarballs carry: the same commit makes the
// same bytes.
func describe(ctx context.Context) (version string, stamp time.Time, err error) {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "", stamp, fmt.Errorf("git describe: %w", err)
	}
	version = strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
	out, err = exec.CommandContext(ctx, "git", "log", "-1", "--format=%cI").Output()
	if err != nil {
		return "", stamp, fmt.Errorf("git log: %w", err)
	}
	stamp, err = time.Parse(time.RFC3339, strings.TrimSpace(string(out)))
	return version, stamp.UTC(), err
}

// build compiles a static binary that knows its version and no path of this
// machine.
func build(ctx context.Context, binary, version, goos, goarch string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -X main.version="+version, "-o", binary, "./cmd/pgpoold")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s/%s: %w\n%s", goos, goarch, err, out)
	}
	return nil
}

// pack writes one tarball and returns its checksum.
func pack(to, name, binary string, stamp time.Time) (string, error) {
	f, err := os.Create(to)
	if err != nil {
		return "", err
	}
	zw := gzip.NewWriter(f)
	tw := tar.NewWriter(zw)
	err = add(tw, name+"/pgpoold", binary, 0o755, stamp)
	for _, c := range companions {
		if err == nil {
			err = add(tw, name+"/"+c, c, 0o644, stamp)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
	}
	if err = errors.Join(err, tw.Close(), zw.Close(), f.Close()); err != nil {
		return "", err
	}
	data, err := os.ReadFile(to)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

func add(tw *tar.Writer, name, path string, mode int64, stamp time.Time) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: mode, Size: int64(len(data)), ModTime: stamp, Format: tar.FormatUSTAR}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = tw.Write(data)
	return err
}
