package sqlscan

import (
	"fmt"
	"strings"
	"testing"
)

// Which custom settings a text sets.
func TestCustomNames(t *testing.T) {
	many := "do $$ begin "
	for i := range maxNames + 1 {
		many += fmt.Sprintf("set a.b%d = 1; ", i)
	}
	for _, r := range []struct {
		sql, want string
	}{
		{"SET app.user = 1", "app.user"}, {"set session App.User to 'x'", "app.user"}, {"SET LOCAL app.user = 1", "app.user"},
		{`SET "app"."User" = 1`, "app.user"}, {`SET "app.user" = 1`, "app.user"}, {"SET app /* x */ . -- y\n user = 1", "app.user"},
		{"SET session.x = 1", "session.x"}, {"SET local.x = 1", "local.x"}, {"SET a.b.c = 1", "a.b.c"}, {"SET work_mem = 1", ""},
		{"BEGIN; SET a.b = 1; SET c.d = 2; COMMIT", "a.b c.d"}, {"UPDATE t SET a = 1", ""}, {"SELECT t.a FROM public.t", ""},
		{"SELECT set_config('app.x', $1, true)", "app.x"}, {"SELECT pg_catalog.set_config('app.x'::text, 'y', false)", "app.x"},
		{"SELECT set_config($q$app.x$q$, 'y', false)", "app.x"}, {"SELECT set_config('work_mem', 'y', false)", ""},
		{"SELECT set_config(setting_name => 'app.x', new_value => 'y', is_local => false)", "app.x"},
		{"SELECT set_config($1, $2, false)", "params"}, {"SELECT set_config($1::text, $2, false)", "params"},
		{"SELECT set_config('app.' || $1, $2, false)", "unknown"}, {"SELECT set_config(name, 'x', false) FROM t", "unknown"},
		{"SELECT set_config(E'app\\x2ex', 'y', false)", "unknown"}, {"SELECT set_config('a'\n'.b', 'y', false)", "unknown"},
		{"SELECT set_config('app.\u00e4', 'y', false)", "unknown"}, {"SELECT set_config", ""},
		{"SELECT 'set_config(''a.b'', 1, false)'", ""}, {"-- SET a.b = 1\nSELECT 1", ""}, {"/* /* */ SET a.b = 1 */ SET c.d = 1", "c.d"},
		{"DO $$ BEGIN SET a.b = 1; END $$", "a.b"}, {"DO 'BEGIN PERFORM set_config(''a.b'', ''x'', false); END'", "a.b"},
		{"DO $$ BEGIN EXECUTE 'SET a.b = 1'; END $$", "a.b"}, {"DO $$ BEGIN EXECUTE 'SET ' || x; END $$", "unknown"},
		{"DO $$ BEGIN EXECUTE format('SET %I = 1', x); END $$", "unknown"}, {"DO $$ BEGIN UPDATE t SET x = 1; END $$", ""},
		{"DO $a$ BEGIN EXECUTE $b$ DO $c$ BEGIN SET a.b = 1; END $c$ $b$; END $a$", "a.b"},
		{"EXECUTE s('app.x', 'y')", "app.x"}, {"SELECT 1; EXECUTE s('x y', 'a.b')", "a.b"},
		{many + " end $$", "unknown"},
	} {
		n := CustomNames([]byte(r.sql), true)
		words := append([]string(nil), n.Settings...)
		if n.Params {
			words = append(words, "params")
		}
		if n.Unknown {
			words = append(words, "unknown")
		}
		if got := strings.Join(words, " "); got != r.want && !(r.want == "unknown" && n.Unknown) {
			t.Errorf("%s\n\tnames %q, want %q", r.sql, got, r.want)
		}
	}
}

func TestCustom(t *testing.T) {
	for name, want := range map[string]bool{"a.b": true, "a": false, "": false, ".": false, "a.": false, ".b": false, "a..b": false, "a.1": false, "a.b1$": true, "a b.c": false, "_a._b": true,
		strings.Repeat("a", 200) + ".b": false} {
		if Custom([]byte(name)) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func FuzzCustomNames(f *testing.F) {
	for _, sql := range []string{"SET a.b = 1", "DO $$ $$", "SELECT set_config('a.b'", "/* /*", "$a$", "E'\\", "\"", "EXECUTE s('a.b"} {
		f.Add([]byte(sql), true)
	}
	f.Fuzz(func(t *testing.T, sql []byte, standard bool) {
		for _, name := range CustomNames(sql, standard).Settings {
			if !Custom([]byte(name)) {
				t.Fatalf("%q is no custom setting", name)
			}
		}
	})
}
