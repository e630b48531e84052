package config

import (
	"slices"
	"testing"
)

// TestFromPgBouncer: each of its settings stands for a setting of ours, by its
// own name or by another, or it is said why there is none.
func TestFromPgBouncer(t *testing.T) {
	settings := Settings()
	has := func(name string) bool {
		return slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == name && (s.Scope != ScopeDatabase || name != "user") })
	}
	seen := map[string]bool{}
	for _, p := range pgbouncerSettings() {
		if seen[p.name] {
			t.Errorf("%s stands twice", p.name)
		}
		seen[p.name] = true
		none := len(p.note) >= 4 && p.note[:4] == "None"
		switch {
		case p.here != "" && !has(p.here):
			t.Errorf("%s: there is no setting %s", p.name, p.here)
		case p.here == "" && has(p.name) == none:
			t.Errorf("%s: it exists: %v, but the note is %q", p.name, has(p.name), p.note)
		}
	}
	// As many as its SHOW CONFIG has rows, the names of 1.25 that 1.26 has dropped included.
	if len(seen) != 101 {
		t.Errorf("%d settings", len(seen))
	}
	places := map[string]bool{}
	for _, s := range settings {
		switch {
		case s.Scope == ScopeDatabase:
			places[s.place()] = true
		case s.Scope == ScopePool && !s.PoolOnly:
			if !s.NotForDatabases {
				places["databases.X."+s.key()] = true
			}
			if !s.NotForUsers {
				places["users.X."+s.key()] = true
			}
		}
	}
	for _, k := range pgbouncerKeys() {
		if k.here != "" && !places[k.here] {
			t.Errorf("[%s] %s: there is no %s", k.section, k.name, k.here)
		}
		if k.here == "" && k.note == "" {
			t.Errorf("[%s] %s: it is not said why there is none", k.section, k.name)
		}
	}
}
