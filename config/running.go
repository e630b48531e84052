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
	out.Databases = make(map[string]*Database, len(c.Databases))
	for _, name := range slices.Sorted(maps.Keys(next.Databases)) {
		if c.Databases[name] == nil {
			notes = append(notes, databasePath(name)+" was added: it needs a restart")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		was, want := c.Databases[name], next.Databases[name]
		if want == nil {
			notes = append(notes, databasePath(name)+" was removed: it needs a restart")
			out.Databases[name] = was
			continue
		}
		d := *was
		d.Users, d.Overrides = want.Users, want.Overrides
		if mode := was.Overrides.values.Mode; mode != want.Overrides.values.Mode {
			notes = append(notes, join(databasePath(name), "mode")+" was changed: it needs a restart")
			d.Overrides.values.Mode = mode
			d.Overrides.set = maps.Clone(want.Overrides.set)
			d.Overrides.set["pool_mode"] = was.Overrides.set["pool_mode"]
		}
		same := *want
		same.Users, same.Overrides = d.Users, d.Overrides
		if !reflect.DeepEqual(same, d) {
			notes = append(notes, databasePath(name)+": where or how it is reached was changed: it needs a restart")
		}
		out.Databases[name] = &d
	}
	return &out, notes
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
