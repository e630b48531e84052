package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxSecretFile bounds what ${file:PATH} reads.
const maxSecretFile = 1 << 20

var (
	variable     = regexp.MustCompile(`\$\{[^{}\r\n]*\}`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// shield lets ${NAME} stand in a flow mapping without quotes, where YAML would
// take its braces for its own: they are exchanged for two runes that the text
// does not hold, and put back into each value after parsing.
type shield struct{ open, close string }

func newShield(text string) shield {
	free := func(r rune) rune {
		for strings.ContainsRune(text, r) {
			r++
		}
		return r
	}
	open := free('\ue000')
	return shield{string(open), string(free(open + 1))}
}

func (s shield) hide(text string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		return "$" + s.open + v[2:len(v)-1] + s.close
	})
}

func (s shield) restore(value string) string {
	return strings.NewReplacer("$"+s.open, "${", s.close, "}").Replace(value)
}

// expand replaces ${NAME}, ${NAME:-default} and ${file:PATH} in one value.
// What they are replaced by is not looked at again. reason is "" or says what
// is wrong, without any of the value but a variable's name or a file's.
func expand(value, dir string, environ func(string) (string, bool)) (result, reason string) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(value, "${")
		b.WriteString(before)
		if !found {
			return b.String(), ""
		}
		inner, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", "a ${ lacks its }"
		}
		text, reason := lookup(inner, dir, environ)
		if reason != "" {
			return "", reason
		}
		b.WriteString(text)
		value = after
	}
}

func lookup(inner, dir string, environ func(string) (string, bool)) (text, reason string) {
	if path, found := strings.CutPrefix(inner, "file:"); found {
		return readSecretFile(path, dir)
	}
	name, fallback, hasFallback := strings.Cut(inner, ":-")
	if !variableName.MatchString(name) {
		return "", "what stands in ${...} is not a variable's name, NAME:-default or file:PATH"
	}
	value, set := environ(name)
	switch {
	case value != "":
		return value, ""
	case hasFallback:
		return fallback, ""
	case !set:
		return "", fmt.Sprintf("the environment variable %s is not set", name)
	}
	return "", ""
}

// readSecretFile reads a file without the newline at its end.
func readSecretFile(path, dir string) (text, reason string) {
	f, err := os.Open(resolvePath(path, dir))
	if err != nil {
		return "", "${file:...}: " + err.Error()
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	switch {
	case err != nil:
		return "", "${file:...}: " + err.Error()
	case len(data) > maxSecretFile:
		return "", "${file:...}: " + path + " is larger than 1 MiB"
	case !utf8.Valid(data):
		return "", "${file:...}: " + path + " is not UTF-8 text"
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), ""
}

func resolvePath(path, dir string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
