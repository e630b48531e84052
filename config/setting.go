package config

import (
	"strings"
	"time"
)

// Kind is how a setting's value is written.
type Kind uint8

// The kinds of value.
const (
	KindString Kind = iota
	KindPath        // a file; relative ones start at the configuration file's folder
	KindWord        // one of Setting.Words
	KindBool
	KindInt
	KindDuration
	KindShare // from 0 to 1
	KindSize  // bytes
	KindOctal // a file mode
	KindList  // of strings; one string is a list of one
	KindSecret
)

// Scope is where a setting may stand.
type Scope uint8

// The scopes.
const (
	ScopeGlobal   Scope = iota
	ScopePool           // under pool, databases.X and users.X
	ScopeDatabase       // under databases.X only
)

// Setting is one row of the table of settings.
type Setting struct {
	Name    string // canonical, PgBouncer's where the meaning is the same
	Path    string // in YAML; below databases.X for ScopeDatabase
	Kind    Kind
	Scope   Scope
	Default string // as it would be written
	Words   []string
	// PoolOnly, NotForUsers and NotForDatabases say where a setting of
	// ScopePool is refused: under databases.X and users.X, under users.X, or
	// under databases.X.
	PoolOnly, NotForUsers, NotForDatabases bool
	Min, Max                               int           // KindInt, KindSize
	MaxTime                                time.Duration // KindDuration; the least is 0
	// Milliseconds: PgBouncer's plain number means milliseconds, so a number
	// without a unit would be read in two ways and is refused.
	Milliseconds bool
	// Changeable settings follow a running daemon, all others need a restart.
	Changeable bool
	Doc        string // one sentence or more, plain text
	Example    string // for the sample, where there is no default to show

	global   func(*Config) any        // pointer to the value, ScopeGlobal
	pool     func(*Pool) any          // ScopePool
	database func(*databaseEntry) any // ScopeDatabase
}

// Env is the setting's environment variable, "" where it has none.
func (s *Setting) Env() string {
	if s.Scope == ScopeDatabase {
		return ""
	}
	return "PGPOOLD_" + strings.ToUpper(strings.ReplaceAll(s.Path, ".", "_"))
}

// Unit is the unit of a plain number, for documents.
func (s *Setting) Unit() string {
	switch s.Kind {
	case KindDuration:
		return "duration"
	case KindInt:
		return "number"
	case KindShare:
		return "share, 0 to 1"
	case KindSize:
		return "size"
	case KindBool:
		return "true or false"
	case KindWord:
		return strings.Join(s.Words, ", ")
	case KindPath:
		return "file"
	case KindOctal:
		return "octal mode"
	case KindList:
		return "list"
	case KindSecret:
		return "secret"
	}
	return "text"
}

// Reload is what a document says about changing the setting.
func (s *Setting) Reload() string {
	if s.Changeable {
		return "reload"
	}
	return "restart"
}

// places says where else a setting of ScopePool may stand, "" for none.
func (s *Setting) places() string {
	switch {
	case s.Scope != ScopePool || s.PoolOnly:
		return ""
	case s.NotForUsers:
		return "databases.X"
	case s.NotForDatabases:
		return "users.X"
	}
	return "databases.X, users.X"
}

// key is the last part of a pool setting's path, as under databases.X.
func (s *Setting) key() string { return s.Path[strings.LastIndexByte(s.Path, '.')+1:] }
