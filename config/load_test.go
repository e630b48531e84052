package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// directives are the comments that testdata's files end with: #env NAME=value
// is their environment, #warn and #> what is expected.
func directives(t *testing.T, path string) (env environ, warnings, expected []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	env = environ{}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "#env "); ok {
			name, value, _ := strings.Cut(rest, "=")
			env[name] = value
		} else if rest, ok := strings.CutPrefix(line, "#warn "); ok {
			warnings = append(warnings, rest)
		} else if rest, ok := strings.CutPrefix(line, "#> "); ok {
			expected = append(expected, rest)
		}
	}
	if len(expected) == 0 {
		t.Fatalf("%s expects nothing", path)
	}
	return env, warnings, expected
}

// Each bad file gives exactly the mistakes that stand at its end.
func TestBadFiles(t *testing.T) {
	t.Chdir("testdata")
	paths, _ := filepath.Glob("*.bad.yaml")
	if len(paths) == 0 {
		t.Fatal("no files")
	}
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			env, _, expected := directives(t, path)
			_, err := Load(path, env.lookup)
			if err == nil {
				t.Fatal("no mistake was found")
			}
			if got, want := err.Error(), strings.Join(expected, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if strings.Contains(err.Error(), "s3") { // every secret in these files begins with it
				t.Errorf("a secret is printed: %s", err)
			}
		})
	}
}

// Each good file has exactly the warnings, and at least the effective settings,
// that stand at its end.
func TestGoodFiles(t *testing.T) {
	t.Chdir("testdata")
	paths, _ := filepath.Glob("*.good.yaml")
	if len(paths) == 0 {
		t.Fatal("no files")
	}
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			env, warnings, expected := directives(t, path)
			c, err := Load(path, env.lookup)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := strings.Join(c.Warnings, "\n"), strings.Join(warnings, "\n"); got != want {
				t.Errorf("warnings are\n%s\nwant\n%s", got, want)
			}
			var printed bytes.Buffer
			if err := c.Print(&printed); err != nil {
				t.Fatal(err)
			}
			lines := map[string]bool{}
			for _, line := range strings.Split(printed.String(), "\n") {
				setting, _, _ := strings.Cut(line, " # ")
				lines[strings.Join(strings.Fields(setting), " ")] = true
			}
			for _, want := range expected {
				if !lines[want] {
					t.Errorf("%q is not among\n%s", want, printed.String())
				}
			}
			for _, d := range c.Databases {
				if d.HasPassword && strings.Contains(printed.String(), string(d.Password)) && len(d.Password) > 2 {
					t.Errorf("the password of %s is printed", d.Name)
				}
			}
		})
	}
}

func TestEnvironmentAlone(t *testing.T) {
	const dsn = "postgres://app:p%40ss@127.0.0.1:5499/parts"
	for _, name := range []string{EnvDSN, EnvSupabaseDSN} {
		c, err := Load("", environ{name: dsn}.lookup)
		if err != nil {
			t.Fatal(err)
		}
		d := c.Database("parts")
		if len(c.Databases) != 1 || d == nil || d.User != "app" || d.Password != "p@ss" || d.DBName != "parts" || c.Database("other") != nil {
			t.Errorf("databases are %+v", c.Databases)
		}
		if len(c.Auth.Users) != 1 || c.Auth.Users["app"] != "p@ss" || c.Auth.Type != "scram-sha-256" ||
			strings.Join(c.Admin.Users, ",") != "app" {
			t.Errorf("auth is %+v, admin %+v", c.Auth, c.Admin)
		}
		if p := c.Effective("parts", "app"); p.Mode != "transaction" || p.Size != 20 || p.MinSize != 5 {
			t.Errorf("pool is %+v", p)
		}
		if len(c.Listen.Addrs) != 1 || c.Listen.Addrs[0] != (Addr{"tcp", "127.0.0.1:6432"}) || c.Admin.Addr != "127.0.0.1:6433" {
			t.Errorf("listens on %+v, %s", c.Listen.Addrs, c.Admin.Addr)
		}
	}
	c, err := Load("", environ{
		EnvDSN: "postgres://new@h/", EnvSupabaseDSN: "broken", "PGPOOLD_AUTH_TYPE": "trust", "PGPOOLD_POOL_SIZE": "3",
		"PGPOOLD_ADMIN_USERS": "new, new", "PGPOOLD_LISTEN_ADDR": ":7000, unix:/tmp", "PGPOOLD_ADMIN_ADDR": "off",
	}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Database("new"); d == nil || d.DBName != "new" {
		t.Errorf("databases are %+v", c.Databases)
	}
	if p := c.Effective("new", "new"); p.Size != 3 || p.MinSize != 3 || len(c.Admin.Users) != 2 || c.Admin.Addr != "" {
		t.Errorf("pool is %+v, admin %+v", p, c.Admin)
	}
	if a := c.Listen.Addrs; len(a) != 2 || a[1] != (Addr{"unix", "/tmp/.s.PGSQL.7000"}) {
		t.Errorf("listens on %+v", a)
	}
}

// Without a database in the file the environment's DSN is served too.
func TestFileWithoutDatabase(t *testing.T) {
	c := load(t, environ{EnvDSN: "postgres://u:p@h/d"}, "pool: {min_size: 1}\nadmin: {users: []}\n")
	if c.Database("d") == nil || c.Pool.MinSize != 1 || len(c.Admin.Users) != 0 {
		t.Errorf("databases %+v, pool %+v, admin %+v", c.Databases, c.Pool, c.Admin)
	}
}

func TestEnvironmentMistakes(t *testing.T) {
	for _, tt := range []struct {
		env  environ
		want string
	}{
		{nil, "no server to serve: set PGPOOLD_DSN or SUPABASE_POSTGRES_DSN to your PostgreSQL server's DSN " +
			"(postgres://user:password@host:5432/database), or name a configuration file with --config"},
		{environ{EnvDSN: "postgres://u:s3@cret@h/d"}, "PGPOOLD_DSN: its user or password seems to hold a raw @, #, / or ? " +
			"(write %40, %23, %2F or %3F): percent-encode it, or use `password:`"},
		{environ{EnvSupabaseDSN: "postgres://u:s3cret@h/d?sslmod=1"},
			"SUPABASE_POSTGRES_DSN: a key of its query is unknown, did you mean sslmode?"},
		{environ{EnvSupabaseDSN: "postgres://u:s3cret@localhost:6432/d"},
			"SUPABASE_POSTGRES_DSN: it leads back to pgpoold's own listener: SUPABASE_POSTGRES_DSN is pgpoold's side " +
				"and names PostgreSQL, only the clients' DSN names pgpoold"},
		{environ{EnvDSN: "postgres://h"}, "PGPOOLD_DSN: the DSN names no database that clients could ask for: " +
			"add one behind the port, as in .../postgres"},
		{environ{EnvDSN: "postgres://u@h/d"}, "PGPOOLD_DSN: it has no password that clients could log in with: " +
			"add it, or set PGPOOLD_AUTH_TYPE=trust to ask clients for none"},
		{environ{EnvDSN: "postgres://h/d"}, "PGPOOLD_DSN: it has no user and there are no auth.users: nobody could log in"},
		{environ{EnvDSN: "postgres://u:p@h/d", "PGPOOLD_POOL_MODE": "x", "PGPOOLD_LISTEN_ADDR": "6432"},
			"PGPOOLD_POOL_MODE: \"x\" is not one of transaction, session, statement\n" +
				"PGPOOLD_LISTEN_ADDR: \"6432\": it is a port alone, did you mean :6432?"},
	} {
		_, err := Load("", tt.env.lookup)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%v: got %v, want %s", tt.env, err, tt.want)
		}
	}
}

func TestClientTLSFiles(t *testing.T) {
	write(t, "listen: {tls: {mode: verify-full, cert_file: c.crt, key_file: c.key, ca_file: ca.crt}}\n"+
		"databases: {d: {dsn: \"postgres://u:p@h/d?sslmode=require&sslrootcert=ca.crt\"}}\n")
	writeCertificate(t, ".", "c.crt", "c.key")
	writeCertificate(t, ".", "ca.crt", "ca.key")
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("/")
	path := filepath.Join(dir, "config.yaml")
	c, err := Load(path, environ{}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	if want := (ClientTLS{"verify-full", dir + "/c.crt", dir + "/c.key", dir + "/ca.crt"}); c.Listen.TLS != want {
		t.Errorf("got %+v, want %+v", c.Listen.TLS, want)
	}
	// libpq: require with a root certificate verifies it.
	if want := (ServerTLS{Mode: "verify-ca", CAFile: dir + "/ca.crt"}); c.Databases["d"].TLS != want {
		t.Errorf("got %+v, want %+v", c.Databases["d"].TLS, want)
	}
	if err := os.Rename(dir+"/ca.key", dir+"/c.key"); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, environ{}.lookup); err == nil ||
		err.Error() != path+":1: listen.tls.cert_file: tls: private key does not match public key" {
		t.Errorf("got %v", err)
	}
}

// What the YAML parser says about a broken file can quote a value.
func TestSyntaxMistakesHoldNoSecret(t *testing.T) {
	for _, text := range []string{
		"a: *s3cret", "a: !s3cret x", "a: !<s3cret x", "a: &s3cret", "a: \"s3cret", "a: 's3cret", "a: [s3cret", "a: {s3cret", "a: s3cret: x",
		"a: \"\\qs3cret\"", "a: @s3cret", "a: %s3cret", "a: `s3cret", "%s3cret", "a: |s3cret", "a: >9s3cret", "s3cret", "- s3cret",
		"a: s3cret\n\tb: c", "auth: {users: [s3cret]}", "auth: {users: s3cret}", "auth: {users: {a: {b: s3cret}}}",
		"pool: s3cret", "pool: {mode: 'postgres://u:s3cret@h'}", "listen: {addr: [postgres://u:s3cret@h]}", "databases: s3cret", "databases: {a: s3cret}", "databases: {a: {dsn: {x: s3cret}}}", "\xffs3cret",
	} {
		got := mistakes(t, environ{EnvDSN: "postgres://u:p@h/d"}, text)
		if got == "" || strings.Contains(got, "s3cret") {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

func TestLoadMissingFile(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Load("none.yaml", environ{EnvDSN: "postgres://u:p@h/d"}.lookup)
	if err == nil || err.Error() != "open none.yaml: no such file or directory" {
		t.Errorf("got %v", err)
	}
}

// Each variable that the table names is read, and is nearer than the file.
func TestEverySettingFromEnvironment(t *testing.T) {
	values := map[Kind]string{KindBool: "false", KindInt: "17", KindShare: "0.17", KindList: "a, b", KindDuration: "17s", KindSize: "17000000", KindOctal: "0700"}
	special := map[string]string{
		"listen_addr": "127.0.0.1:7777", "admin_addr": "127.0.0.1:7778", "admin_users": "u", "stats_users": "u",
		"admin_token": "s3cret", "pool_mode": "statement", "session_state": "ignore", "client_gone": "finish",
		"log_level": "error", "log_format": "json", "client_tls_sslmode": "disable", "auth_type": "password",
		"client_tls_cert_file": "x", "client_tls_key_file": "x", "client_tls_ca_file": "x", "server_round_robin": "true",
	}
	for _, s := range Settings() {
		if s.Env() == "" || s.Name == "auth_file" || strings.HasPrefix(s.Name, "admin_tls_") {
			continue
		}
		value := special[s.Name]
		if value == "" {
			value = values[s.Kind]
		}
		// With TLS off its files are not opened.
		env := environ{s.Env(): value, EnvDSN: "postgres://u:p@h/d", "PGPOOLD_LISTEN_TLS_MODE": "disable"}
		c := load(t, env, "{}")
		ptr := c.pointer(&s)
		want := value
		if s.Kind == KindSecret {
			want = "[redacted]"
		}
		if got := format(ptr); got != want {
			t.Errorf("%s=%s: %s is %s", s.Env(), value, s.Path, got)
		}
		if got := c.origin(s.Path); got != s.Env() {
			t.Errorf("%s is said to come from %s", s.Path, got)
		}
	}
}

func TestTableIsConsistent(t *testing.T) {
	names, paths := map[string]bool{}, map[string]bool{}
	for _, s := range Settings() {
		path := s.section() + "." + s.key()
		if names[s.Name] || paths[path] {
			t.Errorf("%s (%s) stands twice", s.Name, path)
		}
		names[s.Name], paths[path] = true, true
		if s.Doc == "" || !strings.HasSuffix(s.Doc, ".") {
			t.Errorf("%s has no sentence", s.Name)
		}
		switch s.Kind {
		case KindInt, KindSize:
			if s.Max == 0 {
				t.Errorf("%s has no range", s.Name)
			}
		case KindDuration:
			if s.MaxTime == 0 {
				t.Errorf("%s has no range", s.Name)
			}
		case KindWord:
			if len(s.Words) == 0 {
				t.Errorf("%s has no words", s.Name)
			}
		}
	}
}
