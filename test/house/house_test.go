package house

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	moduleRoot = "../.."
	module     = "pgpoold"
)

// rooms are the folders of the program in the order of imports: each may
// import itself and what stands before it.
var rooms = []string{"wire", "backend", "proxy", "admin", "cmd"}

// configReaders may import config, which itself imports no room.
var configReaders = []string{"admin", "cmd"}

// modules are what the program is built from, and the rooms that may know of
// each; nil: all of them.
var modules = map[string][]string{
	"github.com/jackc/pgx/v5":               {"wire", "backend", "proxy", "admin", "cmd"},
	"github.com/jackc/puddle/v2":            {"backend"},
	"go.uber.org/zap":                       {"backend", "proxy", "admin", "cmd"},
	"gopkg.in/yaml.v3":                      {"config", "cmd"},
	"github.com/prometheus/client_golang":   {"admin", "cmd"},
	"golang.org/x/crypto":                   nil,
	"golang.org/x/net":                      nil,
	"golang.org/x/sync":                     nil,
	"golang.org/x/sys":                      nil,
	"golang.org/x/term":                     {"cmd"},
	"github.com/coreos/go-systemd/v22":      {"cmd"},
	"golang.org/x/text":                     nil,
	"github.com/xdg-go/stringprep":          {"wire"}, // SASLprep, as PostgreSQL and pgconn apply it
	"github.com/prometheus/client_model/go": {"admin"},
}

// testModules are what only tests import, beside modules.
var testModules = []string{
	"go.uber.org/goleak",
	"github.com/chromedp/cdproto",
	"github.com/chromedp/chromedp",
	"github.com/stretchr/testify",
	"github.com/prometheus/client_model",
	"github.com/prometheus/common",
	"google.golang.org/protobuf",
	"github.com/lib/pq", // these run in a module of their own, against the daemon
	"gorm.io/driver/postgres",
	"gorm.io/gorm",
}

// maxLines is the length of a file at which it is about a second thing.
const maxLines = 700

// sleepers are the files of the program that may call time.Sleep, with the
// reason.
var sleepers = map[string]string{}

// topLevel is what the project's folder holds.
var topLevel = []string{
	".ci", ".dockerignore", ".gitignore", ".gitattributes", "CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "LICENSE",
	"Makefile", "README.md", "SECURITY.md", "admin", "backend", "cmd", "config", "config.yaml", "deploy", "docs",
	"examples", "go.mod", "go.sum", "proxy", "test", "wire",
}

// fixed are the names that the project's owner relies on.
var fixed = []string{
	"go.mod", "go.sum", "cmd/pgpoold", "proxy", "wire", "backend", "config.yaml", "test", "Dockerfile",
}

// forbidden is what no tracked file may say, each split so that this file
// does not say it.
var forbidden = []struct{ what, text string }{
	{"a path of one machine", "/wo" + "rk/main"},
	{"a path of one machine", "/wo" + "rk/shared"},
	{"a path of one machine", "/ro" + "ot/"},
	{"a path of one machine", "/tmp/bri" + "ef"},
	{"a registry's host", "proxy.go" + "lang.org"},
	{"a registry's host", "registry.npm" + "js.org"},
	{"a registry's host", "py" + "pi.org"},
	{"a registry's host", "files.python" + "hosted.org"},
	{"a registry's host", "repo1.ma" + "ven.org"},
	{"a registry's host", "repo.ma" + "ven.apache.org"},
	{"a registry's host", "deb.deb" + "ian.org"},
	{"a note to do it later", "TO" + "DO"},
	{"a note to do it later", "FIX" + "ME"},
}

// source is a parsed Go file.
type source struct {
	path string // from the module's root, with slashes
	text []byte
	fset *token.FileSet
	file *ast.File
}

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// room is the top folder.
func (s *source) room() string {
	room, _, _ := strings.Cut(s.path, "/")
	return room
}

// inProgram tells whether the file is built into pgpoold.
func (s *source) inProgram() bool {
	return !s.isTest() && (slices.Contains(rooms, s.room()) || s.room() == "config")
}

func (s *source) imports() []string {
	var list []string
	for _, spec := range s.file.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		list = append(list, name)
	}
	return list
}

// tracked lists the project's files: what git tracks or would add, or, where
// there is no git, what lies there.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = moduleRoot
	out, err := cmd.Output()
	if err != nil {
		t.Skip("not in a git repository")
	}
	files := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	return slices.DeleteFunc(files, func(f string) bool {
		st, err := os.Lstat(filepath.Join(moduleRoot, f))
		return err != nil || !st.Mode().IsRegular()
	})
}

func sources(t *testing.T) []*source {
	t.Helper()
	var list []*source
	for _, f := range tracked(t) {
		if !strings.HasSuffix(f, ".go") || strings.Contains(f, "/testdata/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(moduleRoot, f))
		if err != nil {
			t.Fatal(err)
		}
		s := &source{path: f, text: text, fset: token.NewFileSet()}
		if s.file, err = parser.ParseFile(s.fset, f, text, parser.ParseComments); err != nil {
			t.Error(err)
			continue
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		t.Fatal("no Go files")
	}
	return list
}

// mayImport tells whether a file of the program in one room may import a
// package of the module; it returns the rule that forbids it, or "".
func mayImport(room, imported string) string {
	to, _, _ := strings.Cut(strings.TrimPrefix(imported, module+"/"), "/")
	from, into := slices.Index(rooms, room), slices.Index(rooms, to)
	switch {
	case to == "config":
		if room != "config" && !slices.Contains(configReaders, room) {
			return "config is read by " + strings.Join(configReaders, " and ") + " alone"
		}
	case room == "config":
		return "config imports no other room"
	case into < 0:
		return "the program does not import " + to
	case into > from:
		return "imports go " + strings.Join(rooms, " <- ")
	}
	return ""
}

func TestImportRules(t *testing.T) {
	for _, tc := range []struct {
		room, imported string
		allowed        bool
	}{
		{"backend", "pgpoold/wire/scram", true},
		{"wire", "pgpoold/backend", false},
		{"proxy", "pgpoold/admin", false},
		{"proxy", "pgpoold/config", false},
		{"cmd", "pgpoold/config/dsn", true},
		{"config", "pgpoold/config/dsn", true},
		{"config", "pgpoold/wire", false},
		{"cmd", "pgpoold/test/postgres", false},
	} {
		if rule := mayImport(tc.room, tc.imported); (rule == "") != tc.allowed {
			t.Errorf("%s imports %s: %q, want allowed=%v", tc.room, tc.imported, rule, tc.allowed)
		}
	}
}

func TestImportOrder(t *testing.T) {
	for _, s := range sources(t) {
		if !s.inProgram() {
			continue
		}
		for _, imported := range s.imports() {
			if imported == module || strings.HasPrefix(imported, module+"/") {
				if rule := mayImport(s.room(), imported); rule != "" {
					t.Errorf("%s imports %s: %s", s.path, imported, rule)
				}
			}
		}
	}
}

func TestThirdPartyImports(t *testing.T) {
	under := func(imported, mod string) bool { return imported == mod || strings.HasPrefix(imported, mod+"/") }
	for _, s := range sources(t) {
		for _, imported := range s.imports() {
			first, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(first, ".") {
				continue // the standard library, or the module itself
			}
			known := !s.inProgram() && slices.ContainsFunc(testModules, func(mod string) bool { return under(imported, mod) })
			for mod, allowed := range modules {
				if under(imported, mod) && (!s.inProgram() || allowed == nil || slices.Contains(allowed, s.room())) {
					known = true
				}
			}
			if !known {
				t.Errorf("%s imports %s, which its room may not", s.path, imported)
			}
		}
	}
}

func TestEveryPackageHasOneDoc(t *testing.T) {
	docs := make(map[string][]string)
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		dir := path.Dir(s.path)
		if _, ok := docs[dir]; !ok {
			docs[dir] = nil
		}
		if s.file.Doc == nil {
			continue
		}
		docs[dir] = append(docs[dir], s.path)
		want := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			want = "Command " + path.Base(dir) + " "
		}
		if !strings.HasPrefix(s.file.Doc.Text(), want) {
			t.Errorf("%s: the package's comment does not begin with %q", s.path, want)
		}
	}
	for dir, files := range docs {
		if len(files) != 1 {
			t.Errorf("%s: %d package comments %v, want one", dir, len(files), files)
		}
	}
}

func TestFormatted(t *testing.T) {
	for _, s := range sources(t) {
		if formatted, err := format.Source(s.text); err != nil || !bytes.Equal(formatted, s.text) {
			t.Errorf("%s is not as gofmt writes it (%v)", s.path, err)
		}
	}
}

func TestFilesStaySmall(t *testing.T) {
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n > maxLines && !s.isTest() {
			t.Errorf("%s has %d lines; more than %d are about a second thing", s.path, n, maxLines)
		}
	}
}

func TestNothingSleeps(t *testing.T) {
	used := make(map[string]bool)
	for _, s := range sources(t) {
		if !s.inProgram() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
				used[s.path] = true
				if sleepers[s.path] == "" {
					t.Errorf("%s sleeps: wait for what is to happen, or say why in sleepers", s.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
	for file := range sleepers {
		if !used[file] {
			t.Errorf("%s sleeps no more: take it out of sleepers", file)
		}
	}
}

func TestTopLevelNames(t *testing.T) {
	for _, f := range tracked(t) {
		name, _, _ := strings.Cut(f, "/")
		if !slices.Contains(topLevel, name) {
			t.Errorf("%s: %s has no place at the top of the project", f, name)
		}
	}
	for _, name := range fixed {
		if _, err := os.Stat(filepath.Join(moduleRoot, name)); err != nil {
			t.Errorf("%s is missing: %v", name, err)
		}
	}
}

func TestForbiddenWords(t *testing.T) {
	for _, f := range tracked(t) {
		text, err := os.ReadFile(filepath.Join(moduleRoot, f))
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range forbidden {
			at := bytes.Index(text, []byte(bad.text))
			if at >= 0 {
				t.Errorf("%s:%d: %s: %s", f, 1+bytes.Count(text[:at], []byte("\n")), bad.what, bad.text)
			}
		}
	}
}

// replaceLine is a directive in go.mod that would make the module build
// differently for somebody who imports it.
var replaceLine = regexp.MustCompile(`(?m)^\s*(replace|exclude)\b`)

func TestGoModIsPlain(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(moduleRoot, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if m := replaceLine.Find(text); m != nil {
		t.Errorf("go.mod has a line %q", m)
	}
}
