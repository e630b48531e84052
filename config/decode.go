package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"pgpoold/config/internal/nearest"
)

var (
	yamlLine   = regexp.MustCompile(`^line (\d+): `)
	yamlAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	plainName  = regexp.MustCompile(`^(\*|[A-Za-z0-9_-]+)$`)
)

func (l *loader) decode(data []byte) {
	if !utf8.Valid(data) {
		l.unreadable = true
		l.mistakeAt(0, "", "the file is not UTF-8 text")
		return
	}
	l.shield = newShield(string(data))
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(l.shield.hide(string(data)))))
	var doc, second yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			l.syntaxMistake(err, string(data))
		}
		return
	}
	if err := decoder.Decode(&second); err == nil {
		l.unreadable = true
		l.mistakeAt(second.Line, "", "a second YAML document begins here; the file holds one")
	} else if !errors.Is(err, io.EOF) {
		l.syntaxMistake(err, string(data))
	}
	if len(doc.Content) == 0 {
		return
	}
	l.section(doc.Content[0], "", "", l.fields, map[string]func(*yaml.Node){
		"databases":  l.databases,
		"users":      l.users,
		"auth.users": l.authUsers,
	})
}

// syntaxMistake rewrites the parser's error, which quotes a value that begins
// with an asterisk: it can be a secret.
func (l *loader) syntaxMistake(err error, text string) {
	reason, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if m := yamlLine.FindStringSubmatch(reason); m != nil {
		line, _ = strconv.Atoi(m[1])
		reason = reason[len(m[0]):]
	}
	switch m := yamlAnchor.FindStringSubmatch(reason); {
	case m != nil:
		before, _, _ := strings.Cut(text, "*"+m[1])
		line = 1 + strings.Count(before, "\n")
		reason = "a value that begins with * needs quotes"
	case reason == "found character that cannot start any token":
		reason += " (no tabs in front of a key; a value that begins with @, ` or % needs quotes)"
	}
	l.unreadable = true
	l.mistakeAt(line, "", "not YAML: "+reason)
}

// member is one key of a mapping and its value.
type member struct {
	key   string
	line  int
	value *yaml.Node
}

// mapping returns the members of a node that has to be a mapping; nothing at
// all is an empty one. Duplicates are told and left out.
func (l *loader) mapping(node *yaml.Node, path string) []member {
	node = follow(node)
	if isNull(node) {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		l.mistakeAt(node.Line, path, "want a mapping (key: value), found "+kindName(node))
		return nil
	}
	var members []member
	first := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			l.mistakeAt(key.Line, path, "a key is "+kindName(key))
			continue
		}
		if key.Tag == "!!merge" {
			l.mistakeAt(key.Line, path, "merge keys (<<) are not read")
			continue
		}
		name := l.shield.restore(key.Value)
		if line, dup := first[name]; dup {
			l.mistakeAt(key.Line, join(path, quoteName(name)), fmt.Sprintf("duplicate key, first on line %d", line))
			continue
		}
		first[name] = key.Line
		members = append(members, member{name, key.Line, value})
	}
	return members
}

// section reads the mapping at prefix+rel whose known keys are fs; special
// sections have a reader of their own.
func (l *loader) section(node *yaml.Node, prefix, rel string, fs fields, special map[string]func(*yaml.Node)) {
	path := join(prefix, rel)
	for _, m := range l.mapping(node, path) {
		r := join(rel, m.key)
		full := join(path, quoteName(m.key))
		f, isField := fs[r]
		read, isSpecial := special[r]
		switch {
		case isSpecial:
			l.cfg.sources[full] = source{line: m.line}
			read(m.value)
		case isField:
			l.cfg.sources[full] = source{line: m.line}
			l.value(f, full, m.value)
		case fs.isSection(r) || hasPrefix(special, r):
			l.cfg.sources[full] = source{line: m.line}
			l.section(m.value, prefix, r, fs, special)
		default:
			l.mistakeAt(m.line, full, "unknown key"+propose(m.key, rel, prefix, fs, special))
		}
	}
}

func (fs fields) isSection(rel string) bool { return hasPrefix(fs, rel) }

func hasPrefix[V any](m map[string]V, rel string) bool {
	for path := range m {
		if strings.HasPrefix(path, rel+".") {
			return true
		}
	}
	return false
}

// propose names the key that was meant: a neighbour that is spelled alike, or
// the place of a canonical name or of a key from another section.
func propose(key, rel, prefix string, fs fields, special map[string]func(*yaml.Node)) string {
	var siblings []string
	add := func(path string) {
		if rest, found := strings.CutPrefix(path, rel); found && (rel == "" || strings.HasPrefix(rest, ".")) {
			first, _, _ := strings.Cut(strings.TrimPrefix(rest, "."), ".")
			if !slices.Contains(siblings, first) {
				siblings = append(siblings, first)
			}
		}
	}
	for path := range fs {
		add(path)
	}
	for path := range special {
		add(path)
	}
	slices.Sort(siblings)
	for _, s := range Settings() {
		if s.Name != key || s.Path == key {
			continue
		}
		if s.Scope == ScopePool && prefix != "" {
			return ", did you mean " + s.key() + "?"
		}
		if s.Scope != ScopeDatabase {
			return ", did you mean " + s.Path + "?"
		}
	}
	if near := nearest.Of(key, siblings); near != "" {
		return ", did you mean " + near + "?"
	}
	for _, s := range Settings() {
		if s.Scope != ScopeDatabase && s.key() == key {
			return ", did you mean " + s.Path + "?"
		}
	}
	return ""
}

// value reads one setting.
func (l *loader) value(f field, path string, node *yaml.Node) {
	node = follow(node)
	if f.refusal != "" {
		l.mistakeAt(node.Line, path, f.refusal)
		return
	}
	if f.setting.Kind == KindList && node.Kind == yaml.SequenceNode {
		list := []string{}
		for _, item := range node.Content {
			item = follow(item)
			text, _, ok := l.scalar(item, path)
			if !ok {
				continue
			}
			if reason := textReason(text); reason != "" {
				l.mistakeAt(item.Line, path, reason)
				continue
			}
			list = append(list, text)
		}
		*f.ptr.(*[]string) = list
		return
	}
	text, written, ok := l.scalar(node, path)
	if !ok {
		return
	}
	hidden := f.setting.Kind == KindSecret
	if reason := f.setting.parse(f.ptr, text, quoter(written, hidden)); reason != "" {
		l.mistakeAt(node.Line, path, reason)
		return
	}
	if f.setting.Kind == KindPath && text != "system" {
		p := f.ptr.(*string)
		*p = resolvePath(*p, l.dir)
	}
	if f.onSet != nil {
		f.onSet()
	}
}

// scalar returns a scalar's text with its variables replaced, and as written.
func (l *loader) scalar(node *yaml.Node, path string) (text, written string, ok bool) {
	switch {
	case node.Kind != yaml.ScalarNode:
		l.mistakeAt(node.Line, path, "want a single value, found "+kindName(node))
		return "", "", false
	case strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!"):
		l.mistakeAt(node.Line, path, "a value that begins with ! needs quotes")
		return "", "", false
	case isNull(node) && node.Anchor != "":
		l.mistakeAt(node.Line, path, "a value that begins with & needs quotes")
		return "", "", false
	case isNull(node):
		l.mistakeAt(node.Line, path, `has no value; leave the key out, or write ""`)
		return "", "", false
	}
	written = l.shield.restore(node.Value)
	text, reason := expand(written, l.dir, l.environ)
	if reason != "" {
		l.mistakeAt(node.Line, path, reason)
		return "", "", false
	}
	return text, written, true
}

func follow(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

func kindName(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func join(path, key string) string {
	if path == "" || key == "" {
		return path + key
	}
	return path + "." + key
}

// quoteName writes a name from the file as one step of a path.
func quoteName(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return strconv.Quote(name)
}

func (l *loader) databases(node *yaml.Node) {
	for _, m := range l.mapping(node, "databases") {
		path := databasePath(m.key)
		l.cfg.sources[path] = source{line: m.line}
		switch m.key {
		case "":
			l.mistakeAt(m.line, path, "a database needs a name")
			continue
		case "pgbouncer", "pgpoold":
			l.mistakeAt(m.line, path, "this name belongs to the console")
			continue
		}
		d, entry := &Database{Name: m.key}, &databaseEntry{}
		l.cfg.Databases[m.key], l.entries[d] = d, entry
		l.section(m.value, path, "", databaseFields(d, entry), nil)
	}
}

func (l *loader) users(node *yaml.Node) {
	for _, m := range l.mapping(node, "users") {
		path := join("users", quoteName(m.key))
		l.cfg.sources[path] = source{line: m.line}
		u := &User{}
		l.cfg.Users[m.key] = u
		l.section(m.value, path, "", overrideFields(&u.Overrides, true), nil)
	}
}

func (l *loader) authUsers(node *yaml.Node) {
	for _, m := range l.mapping(node, "auth.users") {
		path := join("auth.users", quoteName(m.key))
		l.cfg.sources[path] = source{line: m.line}
		var secret Secret
		l.value(field{setting: Setting{Kind: KindSecret}, ptr: &secret}, path, m.value)
		l.cfg.Auth.Users[m.key] = secret
	}
}

func databasePath(name string) string { return join("databases", quoteName(name)) }
