package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// ErrRestart says that a setting does not change while pgpoold runs.
var ErrRestart = errors.New("it needs a restart")

// Running returns what holds when a running pgpoold takes next: next, with
// everything that needs a restart as it was. The notes name each such change.
func (c *Config) Running(next *Config) (effective *Config, notes []string) {
	out := *next
	for _, s := range Settings() {
		was, now := c.pointer(&s), out.pointer(&s)
		if was == nil || s.Changeable {
			continue
		}
		old, wanted := reflect.ValueOf(was).Elem(), reflect.ValueOf(now).Elem()
		if reflect.DeepEqual(old.Interface(), wanted.Interface()) {
			continue
		}
		wanted.Set(old)
		notes = append(notes, fmt.Sprintf("%s (%s) was changed: it needs a restart", s.Name, s.Path))
	}
	out.Listen.Addrs = c.Listen.Addrs
	out.Databases = make(map[string]*Database, len(next.Databases))
	for _, name := range slices.Sorted(maps.Keys(next.Databases)) {
		was, want := c.Databases[name], next.Databases[name]
		d := *want
		if was != nil && ((was.User == "") != (want.User == "") || was.UpstreamPooler != want.UpstreamPooler) {
			notes = append(notes, databasePath(name)+": whether clients are themselves on the server, or upstream_pooler, was changed: it needs a restart")
			d = *was
			d.Users, d.Overrides = want.Users, want.Overrides
		}
		if was != nil {
			notes = append(notes, d.Overrides.keep(&was.Overrides, databasePath(name))...)
		}
		out.Databases[name] = &d
	}
	out.Users = make(map[string]*User, len(next.Users))
	for _, name := range slices.Sorted(maps.Keys(next.Users)) {
		u := *next.Users[name]
		if was := c.Users[name]; was != nil {
			notes = append(notes, u.Overrides.keep(&was.Overrides, join("users", quoteName(name)))...)
		}
		out.Users[name] = &u
	}
	return &out, notes
}

// keep takes what needs a restart from before. The notes name each change
// that it undoes.
func (o *Overrides) keep(was *Overrides, path string) (notes []string) {
	o.set = maps.Clone(o.set)
	for _, s := range poolSettings() {
		before, now := reflect.ValueOf(s.pool(&was.values)).Elem(), reflect.ValueOf(s.pool(&o.values)).Elem()
		if s.Changeable || o.set[s.Name] == was.set[s.Name] && reflect.DeepEqual(before.Interface(), now.Interface()) {
			continue
		}
		now.Set(before)
		if delete(o.set, s.Name); was.set[s.Name] {
			o.set[s.Name] = true
		}
		notes = append(notes, fmt.Sprintf("%s (%s) was changed: it needs a restart", s.Name, join(path, s.key())))
	}
	return notes
}

// With returns a copy in which one setting has the value that text says. The
// error of one that cannot change while pgpoold runs wraps ErrRestart.
func (c *Config) With(name, text string) (*Config, error) {
	for _, s := range Settings() {
		if s.Name != name {
			continue
		}
		out := *c
		ptr := out.pointer(&s)
		switch {
		case ptr == nil:
			return nil, fmt.Errorf("%s stands in a database's own section: change the file and RELOAD", name)
		case !s.Changeable:
			return nil, fmt.Errorf("%s (%s): %w", name, s.Path, ErrRestart)
		}
		if reason := s.parse(ptr, text, strconv.Quote); reason != "" {
			return nil, fmt.Errorf("%s (%s): %s", name, s.Path, reason)
		}
		if out.Pool.Size > 0 && out.Pool.MinSize > out.Pool.Size {
			return nil, fmt.Errorf("%s: min_pool_size would be larger than default_pool_size", name)
		}
		return &out, nil
	}
	return nil, fmt.Errorf("there is no setting %q", name)
}
