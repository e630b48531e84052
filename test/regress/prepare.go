package regress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// prepare brings the regression tests of the installed server's version into
// dir: the sources of its package, and a regress.so built with the headers of
// the package for development. Nothing of the system is changed: apt-get works
// in folders of its own.
func prepare(ctx context.Context, dir, bin string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("PostgreSQL's sources are taken from the system's package, which is known here for Debian and its like")
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`PostgreSQL\) (\d+)`).FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("no version in %q", out)
	}
	major := string(m[1])
	version, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${source:Version}", "postgresql-"+major).Output()
	if err != nil {
		return fmt.Errorf("postgresql-%s is not installed as a package: %w", major, err)
	}
	work := dir + ".work"
	defer os.RemoveAll(work)
	apt, err := aptIn(work)
	if err != nil {
		return err
	}
	steps := [][]string{
		append(apt, "update"),
		append(apt, "source", "--download-only", "postgresql-"+major+"="+string(version)),
		append(apt, "download", "postgresql-server-dev-"+major+"="+string(version)),
	}
	for _, step := range steps {
		if err := runIn(ctx, work, step...); err != nil {
			return err
		}
	}
	one := func(pattern string) string {
		all, _ := filepath.Glob(filepath.Join(work, pattern))
		if len(all) == 0 {
			return pattern
		}
		return all[0]
	}
	tree := filepath.Join(work, "tree")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	if err := runIn(ctx, work, "tar", "xf", one("*.orig.tar.*"), "-C", tree, "--strip-components=1", "--wildcards", "*/src/test/regress"); err != nil {
		return err
	}
	if err := runIn(ctx, work, "dpkg-deb", "-x", one("postgresql-server-dev-*.deb"), filepath.Join(work, "dev")); err != nil {
		return err
	}
	src := filepath.Join(tree, "src/test/regress")
	include := filepath.Join(work, "dev/usr/include/postgresql")
	if err := runIn(ctx, src, "cc", "-O1", "-fPIC", "-shared", "-o", "regress.so", "regress.c", "-I"+filepath.Join(include, major, "server"), "-I/usr/include/postgresql"); err != nil {
		return err
	}
	for _, name := range []string{"autoinc.so", "refint.so"} { // the triggers test loads them from here
		b, err := os.ReadFile(filepath.Join(filepath.Dir(bin), "lib", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(src, name), b, 0o755); err != nil {
			return err
		}
	}
	return os.Rename(src, dir)
}

// aptIn is an apt-get that keeps everything in a folder, and knows the sources
// of the system's packages.
func aptIn(work string) ([]string, error) {
	for _, d := range []string{"parts", "lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, d), 0o755); err != nil {
			return nil, err
		}
	}
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, f := range append(files, "/etc/apt/sources.list") {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if strings.HasSuffix(f, ".sources") {
			b = regexp.MustCompile(`(?m)^Types:\s*deb\s*$`).ReplaceAll(b, []byte("Types: deb deb-src"))
		} else {
			lines := regexp.MustCompile(`(?m)^deb (.*)$`).FindAllSubmatch(b, -1)
			for _, l := range lines {
				b = append(append(append(b, "\ndeb-src "...), l[1]...), '\n')
			}
		}
		if err := os.WriteFile(filepath.Join(work, "parts", filepath.Base(f)), b, 0o644); err != nil {
			return nil, err
		}
	}
	return []string{"apt-get", "-qq", "-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=" + filepath.Join(work, "parts"),
		"-o", "Dir::State::lists=" + filepath.Join(work, "lists"), "-o", "Dir::Cache=" + filepath.Join(work, "cache"), "-o", "APT::Sandbox::User=root"}, nil
}

func runIn(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, text.String())
	}
	return nil
}
