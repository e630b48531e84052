package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Mistake is one thing that is wrong with a configuration.
type Mistake struct {
	File string // "" where the file is not to blame
	Line int
	Env  string // the environment variable to blame, or ""
	Path string // the YAML path, or ""
	Text string
}

func (m Mistake) Error() string {
	var b strings.Builder
	if m.File != "" {
		b.WriteString(m.File)
		if m.Line > 0 {
			fmt.Fprintf(&b, ":%d", m.Line)
		}
		b.WriteString(": ")
	}
	if m.Env != "" {
		b.WriteString(m.Env + ": ")
	}
	if m.Path != "" {
		b.WriteString(m.Path + ": ")
	}
	b.WriteString(m.Text)
	return b.String()
}

// Mistakes is the error of Load: everything that is wrong, the file's in the
// order of its lines, then auth.file's, then the environment's.
type Mistakes []Mistake

// Error has a line for each mistake.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].Error()
	}
	return strings.Join(lines, "\n")
}

// The variables that hold the server's DSN where no database is configured;
// the first one that is set is taken.
const (
	EnvDSN         = "PGPOOLD_DSN"
	EnvSupabaseDSN = "SUPABASE_POSTGRES_DSN"
)

// source says where a value came from.
type source struct {
	line int    // in the file, or 0
	env  string // or an environment variable
}

// Load reads the file at path, or none where path is "", and lays the
// environment over it. environ looks up one variable, as os.LookupEnv does. A
// flag that is nearer than the environment is an environ that answers for it.
//
// Where no database is configured, the DSN of the environment is the only one:
// under its own database's name, its user and password are the clients' too
// and its user is the admin, unless auth.users and admin.users say otherwise.
//
// The error, if any, is a Mistakes with everything that is wrong.
func Load(path string, environ func(string) (string, bool)) (*Config, error) {
	l := &loader{
		file:    path,
		environ: environ,
		told:    map[string]bool{},
		entries: map[*Database]*databaseEntry{},
		cfg: &Config{
			File:      path,
			Users:     map[string]*User{},
			Databases: map[string]*Database{},
			Auth:      Auth{Users: map[string]Secret{}},
			sources:   map[string]source{},
		},
	}
	l.fields = l.topFields()
	l.defaults()
	if path != "" {
		l.dir = filepath.Dir(path)
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, Mistakes{{Text: err.Error()}}
		}
		l.decode(data)
	}
	if !l.unreadable {
		l.readEnvironment()
		l.finishListen()
		l.finishDatabases()
		l.finishAuth()
		l.validate()
	}
	if len(l.mistakes) > 0 {
		slices.SortStableFunc(l.mistakes, func(a, b Mistake) int {
			return cmp.Or(cmp.Compare(l.rank(a), l.rank(b)), cmp.Compare(a.Line, b.Line))
		})
		return nil, l.mistakes
	}
	return l.cfg, nil
}

// rank orders mistakes by what is to blame: the file, a file that it names,
// the environment.
func (l *loader) rank(m Mistake) int {
	switch {
	case m.Env != "" || m.File == "":
		return 2
	case m.File != l.file:
		return 1
	}
	return 0
}

// loader holds what Load knows; it lives on one goroutine.
type loader struct {
	cfg      *Config
	file     string
	dir      string // relative paths of the file start here
	environ  func(string) (string, bool)
	fields   fields
	shield   shield
	entries  map[*Database]*databaseEntry
	mistakes Mistakes

	// told holds the paths whose own value is a mistake: what must fit
	// together with such a value is not checked.
	told       map[string]bool
	unreadable bool   // the file is not YAML
	fromEnv    string // the variable whose DSN is the only database, or ""
}

// field is a setting and the value it fills.
type field struct {
	setting Setting
	ptr     any
	onSet   func()
	refusal string // why it may not stand here, "" where it may
}

// fields are the settings of one section by their path in it.
type fields map[string]field

func (l *loader) topFields() fields {
	fs := fields{}
	for _, s := range Settings() {
		switch s.Scope {
		case ScopeGlobal:
			fs[s.Path] = field{setting: s, ptr: s.global(l.cfg)}
		case ScopePool:
			fs[s.Path] = field{setting: s, ptr: s.pool(&l.cfg.Pool)}
		}
	}
	return fs
}

// overrideFields are the pool settings below databases.X and users.X.
func overrideFields(o *Overrides, forUser bool) fields {
	o.set = map[string]bool{}
	fs := fields{}
	for _, s := range poolSettings() {
		f := field{setting: s, ptr: s.pool(&o.values), onSet: func() { o.set[s.Name] = true }}
		switch {
		case s.PoolOnly:
			f.refusal = "this version takes it under pool only"
		case s.NotForUsers && forUser:
			f.refusal = "this version takes it under pool and databases.X only"
		case s.NotForDatabases && !forUser:
			f.refusal = "it stands under pool and users.X only"
		}
		fs[s.key()] = f
	}
	return fs
}

func databaseFields(d *Database, entry *databaseEntry) fields {
	fs := overrideFields(&d.Overrides, false)
	for _, s := range databaseSettings() {
		fs[s.Path] = field{setting: s, ptr: s.database(entry)}
	}
	return fs
}

func (l *loader) defaults() {
	for _, f := range l.fields {
		if f.setting.Default == "" {
			continue
		}
		if reason := f.setting.parse(f.ptr, f.setting.Default, strconv.Quote); reason != "" {
			panic("bug: default of " + f.setting.Path + ": " + reason)
		}
	}
}

// readEnvironment lays PGPOOLD_<SECTION>_<KEY> over the file. A variable that
// is set to "" counts as not set.
func (l *loader) readEnvironment() {
	for _, s := range Settings() {
		name := s.Env()
		if name == "" {
			continue
		}
		text, _ := l.environ(name)
		if text == "" {
			continue
		}
		f := l.fields[s.Path]
		l.cfg.sources[s.Path] = source{env: name}
		if reason := s.parse(f.ptr, text, quoter(text, s.Kind == KindSecret)); reason != "" {
			l.told[s.Path] = true
			l.mistakes = append(l.mistakes, Mistake{Env: name, Text: reason})
		}
	}
}

// mistake blames whatever gave the value at path: a line, a variable, or for a
// default the section that is nearest to it. One value is blamed once.
func (l *loader) mistake(path, text string) {
	if l.told[path] {
		return
	}
	l.told[path] = true
	l.blame(path, text)
}

func (l *loader) blame(path, text string) {
	src, at := l.cfg.sources[path], path
	for src == (source{}) && at != "" {
		at = at[:max(0, strings.LastIndexByte(at, '.'))]
		src = l.cfg.sources[at]
	}
	if src.env != "" {
		if at == path {
			path = ""
		}
		l.mistakes = append(l.mistakes, Mistake{Env: src.env, Path: path, Text: text})
		return
	}
	l.mistakes = append(l.mistakes, Mistake{File: l.file, Line: src.line, Path: path, Text: text})
}

func (l *loader) mistakeAt(line int, path, text string) {
	l.told[path] = true
	l.mistakes = append(l.mistakes, Mistake{File: l.file, Line: line, Path: path, Text: text})
}

// warn notes a warning in the form of a mistake.
func (l *loader) warn(path, text string) {
	n := len(l.mistakes)
	l.blame(path, text)
	l.cfg.Warnings = append(l.cfg.Warnings, l.mistakes[n].Error())
	l.mistakes = l.mistakes[:n]
}

// given reports whether the file or the environment set the value at path.
func (l *loader) given(path string) bool {
	_, ok := l.cfg.sources[path]
	return ok
}

// quoter returns how a value appears in a mistake.
func quoter(written string, hidden bool) func(string) string {
	return func(text string) string {
		if hidden || text != written || strings.Contains(text, "://") {
			return "its value"
		}
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return text
		}
		if len(text) > 40 {
			text = strings.ToValidUTF8(text[:40], "") + "..."
		}
		return strconv.Quote(text)
	}
}
