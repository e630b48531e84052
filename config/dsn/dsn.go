// Package dsn reads PostgreSQL connection strings, and nothing but them: no
// environment variable, password file or service file ever adds to what a DSN
// says. A missing user stays missing, and so does a missing password.
//
// Both of libpq's forms are read, URLs (with the schemes that drivers made of
// them, such as postgresql+asyncpg) and key=value, several hosts included. The
// reader is strict where a guess could log in to the wrong place: what libpq
// would take literally, such as a raw @ in a password, is a mistake here.
//
// No text of a DSN is ever part of an error or a warning; both are made of
// fixed sentences and of names from this package's own tables.
//
// Files, in reading order: dsn.go (what a DSN says), url.go and keyvalue.go
// (the two forms), keys.go (the known keys), apply.go (what each key means),
// supabase.go (endpoints that are poolers themselves), secret.go.
package dsn

import (
	"strings"
	"time"
)

// DSN is what a connection string says. Empty fields were not given.
type DSN struct {
	Hosts []Host // tried in order; never empty after Parse

	User        string // "": each client's own identity is used
	Password    Secret
	HasPassword bool // an empty password differs from none
	DBName      string

	// SSLMode is one of libpq's words, or "" where the DSN has none.
	SSLMode     string
	SSLRootCert string // a file, or "system"
	SSLCert     string
	SSLKey      string

	// ConnectTimeout is nil where the DSN has none; 0 waits for ever.
	ConnectTimeout     *time.Duration
	TargetSessionAttrs string
	Keepalive          Keepalive

	// RuntimeParams go into the startup packet: application_name, options,
	// client_encoding and the PostgreSQL settings among the DSN's keys.
	RuntimeParams map[string]string

	// Warnings name what was read but has no effect, a sentence each.
	Warnings []string
}

// Host is one address. For the network "unix" Host is the socket's directory,
// as in libpq.
type Host struct {
	Network string // "tcp" or "unix"
	Host    string
	Port    uint16
}

// Keepalive holds libpq's TCP settings; nil fields were not given.
type Keepalive struct {
	Enable      *bool
	Idle        *time.Duration
	Interval    *time.Duration
	Count       *int
	UserTimeout *time.Duration
}

// DefaultPort is PostgreSQL's.
const DefaultPort = 5432

// maxLen bounds the work that a hostile or mistaken string can cause.
const maxLen = 64 << 10

// Error says what is wrong with a DSN without quoting any of it.
type Error struct{ Reason string }

func (e *Error) Error() string { return "DSN: " + e.Reason }

func fail(reason string) error { return &Error{Reason: reason} }

// pair is one key and its value, decoded, in the order they were written.
type pair struct{ key, value string }

// Parse reads a connection string of either form. Its error is an *Error.
func Parse(s string) (*DSN, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return nil, fail("it is empty")
	case len(s) > maxLen:
		return nil, fail("it is longer than 64 KiB")
	case s[0] == '"' || s[0] == '\'' || s[0] == '`':
		return nil, fail("it begins with a quote: remove the quotes around it")
	}
	d := &DSN{RuntimeParams: map[string]string{}}
	var (
		raw   rawDSN
		err   error
		isURL bool
	)
	scheme, rest, found := cutScheme(s)
	if found {
		isURL = true
		if err := checkScheme(scheme); err != nil {
			return nil, err
		}
		raw, err = splitURL(rest)
	} else {
		raw, err = splitKeyValue(s)
	}
	if err != nil {
		return nil, err
	}
	if err := d.apply(raw, isURL); err != nil {
		return nil, err
	}
	return d, nil
}

// cutScheme cuts at "://" where what stands before it can be a scheme; a
// key=value DSN may hold "://" inside a value.
func cutScheme(s string) (scheme, rest string, found bool) {
	scheme, rest, found = strings.Cut(s, "://")
	if !found || scheme == "" {
		return "", s, false
	}
	for _, c := range []byte(scheme) {
		if !isAlnum(c) && c != '+' && c != '-' && c != '.' && c != '_' && c != ':' {
			return "", s, false
		}
	}
	return strings.ToLower(scheme), rest, true
}

func checkScheme(scheme string) error {
	if strings.HasPrefix(scheme, "jdbc:") {
		return fail("it is a JDBC URL: write postgres://user:password@host:port/database")
	}
	base, driver, plus := strings.Cut(scheme, "+")
	if base != "postgres" && base != "postgresql" || plus && driver == "" || strings.ContainsAny(driver, "+:") {
		return fail("its scheme is unknown: write postgres:// or postgresql://")
	}
	return nil
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
