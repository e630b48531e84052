package config

import (
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"pgpoold/config/internal/nearest"
)

// secretKind is how a user's secret is kept.
type secretKind uint8

const (
	secretPlain secretKind = iota
	secretMD5
	secretSCRAM
	secretBroken // begins like a SCRAM verifier and is none
)

func kindOf(secret Secret) secretKind {
	s := string(secret)
	if len(s) == 35 && strings.HasPrefix(s, "md5") && strings.Trim(s[3:], "0123456789abcdef") == "" {
		return secretMD5
	}
	verifier, found := strings.CutPrefix(s, "SCRAM-SHA-256$")
	if !found {
		return secretPlain
	}
	saltPart, keys, ok := strings.Cut(verifier, "$")
	iterations, salt, ok2 := strings.Cut(saltPart, ":")
	stored, server, ok3 := strings.Cut(keys, ":")
	n, err := strconv.Atoi(iterations)
	if !ok || !ok2 || !ok3 || err != nil || n < 1 || !isBase64(salt, 0) || !isBase64(stored, 32) || !isBase64(server, 32) {
		return secretBroken
	}
	return secretSCRAM
}

// isBase64 reports whether s encodes size bytes, or any number but none for 0.
func isBase64(s string, size int) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	return err == nil && len(b) > 0 && (size == 0 || len(b) == size)
}

// finishAuth gathers who can log in, and checks each secret against auth.type.
func (l *loader) finishAuth() {
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Auth.Users)) {
		l.checkSecret(name, l.cfg.Auth.Users[name], join("auth.users", quoteName(name)))
	}
	if l.cfg.Auth.File != "" && !l.told["auth.file"] {
		l.readUserlist()
	}
	if !l.given("auth.users") && l.cfg.Auth.File == "" {
		l.usersFromDatabases()
	}
	if len(l.cfg.Auth.Users) == 0 && l.cfg.Auth.Type != "any" && len(l.mistakes) == 0 {
		l.mistake("auth.users", "nobody could log in: add users under auth.users or an auth.file")
	}
}

// needsSecret reports whether clients have to prove that they know it.
func (a *Auth) needsSecret() bool { return a.Type != "trust" && a.Type != "any" }

func (l *loader) checkSecret(name string, secret Secret, path string) {
	if name == "" {
		l.mistake(path, "a user needs a name")
		return
	}
	if reason := l.secretReason(secret); reason != "" {
		l.mistake(path, reason)
	}
}

// secretReason says why nobody could log in with a secret, "" where one can.
func (l *loader) secretReason(secret Secret) string {
	if !l.cfg.Auth.needsSecret() || l.told["auth.type"] {
		return ""
	}
	switch kind := kindOf(secret); {
	case secret == "":
		return `the secret "" works with auth.type trust and any only`
	case kind == secretBroken:
		return "the secret begins with SCRAM-SHA-256$ but is not a whole verifier (SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>; pgpoold hash makes one)"
	case kind == secretMD5 && l.cfg.Auth.Type == "scram-sha-256":
		return "an md5 secret cannot be used with auth.type scram-sha-256: write the password or a SCRAM verifier (pgpoold hash makes one), or set auth.type md5"
	}
	return ""
}

func (l *loader) readUserlist() {
	data, err := os.ReadFile(l.cfg.Auth.File)
	if err != nil {
		l.mistake("auth.file", err.Error())
		return
	}
	first := map[string]int{}
	blame := func(line int, text string) {
		l.mistakes = append(l.mistakes, Mistake{File: l.cfg.Auth.File, Line: line, Text: text})
	}
	parseUserlist(string(data), func(line int, name, secret string) {
		if at, dup := first[name]; dup {
			blame(line, fmt.Sprintf("user %s stands on line %d already", quoteName(name), at))
			return
		}
		first[name] = line
		if _, dup := l.cfg.Auth.Users[name]; dup {
			blame(line, "user "+quoteName(name)+" stands under auth.users too")
			return
		}
		if secret == "" && l.cfg.Auth.needsSecret() { // PgBouncer's way to lock a user out
			l.cfg.Warnings = append(l.cfg.Warnings,
				Mistake{File: l.cfg.Auth.File, Line: line, Text: "user " + quoteName(name) + " has an empty secret and cannot log in"}.Error())
			return
		}
		if reason := l.secretReason(Secret(secret)); reason != "" {
			blame(line, "user "+quoteName(name)+": "+reason)
		}
		l.cfg.Auth.Users[name] = Secret(secret)
	}, blame)
}

// usersFromDatabases lets clients log in with a DSN's own user and password,
// each into the databases of that user only. It is for configurations that
// say nothing about users.
func (l *loader) usersFromDatabases() {
	if l.cfg.Auth.Type == "any" {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Databases)) {
		d := l.cfg.Databases[name]
		path := databasePath(name)
		dsnPath := join(path, "dsn")
		if l.told[path] || l.told[dsnPath] || l.told[join(path, "password")] || l.told[join(path, "user")] {
			l.told["auth.users"] = true // who could log in is not known
			continue
		}
		switch {
		case d.User == "":
			l.mistake(dsnPath, "it has no user and there are no auth.users: nobody could log in")
			continue
		case !d.HasPassword && l.cfg.Auth.needsSecret():
			fix := "add auth.users, or set auth.type: trust"
			if l.fromEnv != "" {
				fix = "add it, or set PGPOOLD_AUTH_TYPE=trust to ask clients for none"
			}
			l.mistake(dsnPath, "it has no password that clients could log in with: "+fix)
			continue
		}
		if known, dup := l.cfg.Auth.Users[d.User]; dup && known != d.Password {
			l.mistake(dsnPath, "its user has another password in another database: say under auth.users which one clients use")
			continue
		}
		l.cfg.Auth.Users[d.User] = d.Password
		if d.Users == nil {
			d.Users = []string{d.User}
		}
	}
}

// checkUser tells of a name in a list of users that cannot log in.
func (l *loader) checkUser(path, name string) {
	if _, known := l.cfg.Auth.Users[name]; known || l.cfg.Auth.Type == "any" {
		return
	}
	text := quoteName(name) + " cannot log in: no such name under auth.users or in auth.file"
	// Names that come out of a DSN are not proposed.
	if !l.given("auth.users") && l.cfg.Auth.File == "" {
		l.blame(path, text)
		return
	}
	if near := nearest.Of(name, slices.Sorted(maps.Keys(l.cfg.Auth.Users))); near != "" {
		text += ", did you mean " + quoteName(near) + "?"
	}
	l.blame(path, text)
}
