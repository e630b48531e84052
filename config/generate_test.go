package config

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write config.yaml and the generated documents from the tables")

func TestGenerated(t *testing.T) {
	for path, want := range map[string]string{
		"../config.yaml":      Sample(),
		"../docs/settings.md": Reference(),

		"../docs/from-pgbouncer.md": FromPgBouncer(),
	} {
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what the table says: run go generate ./config", path)
		}
	}
}

// The sample as it stands has the default everywhere.
func TestSampleIsDefault(t *testing.T) {
	env := environ{"SUPABASE_POSTGRES_DSN": "postgres://app:pw@127.0.0.1:5499/search"}
	sample, err := Load("../config.yaml", env.lookup)
	if err != nil {
		t.Fatal(err)
	}
	bare := load(t, env, "databases: {search: {dsn: ${SUPABASE_POSTGRES_DSN}}}")
	got, want := sample.Rows(), bare.Rows()
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("sample has %+v, the default is %+v", got[i], want[i])
		}
	}
	text, err := os.ReadFile("../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range Settings() {
		if !regexp.MustCompile(`(?m)^ *#?` + s.key() + `: `).Match(text) {
			t.Errorf("%s is not in the sample", s.Path)
		}
		if env := s.Env(); env != "" && !strings.Contains(string(text), env) {
			t.Errorf("%s is not in the sample", env)
		}
		if s.Scope != ScopeDatabase {
			if _, ok := sample.sources[s.Path]; !ok {
				t.Errorf("%s was not read from the sample", s.Path)
			}
		}
	}
}

// With its examples switched on the sample is a valid configuration too.
func TestSampleExamples(t *testing.T) {
	text, err := os.ReadFile("../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeCertificate(t, dir, "client.crt", "client.key")
	writeCertificate(t, dir, "prod-ca-2021.crt", "ca.key")
	on := regexp.MustCompile(`(?m)^( *)#([^ \n])`).ReplaceAllString(string(text), "$1$2")
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte(on), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environ{
		"SUPABASE_POSTGRES_DSN": "postgres://127.0.0.1:5499",
		"APP_PASSWORD":          "a", "REPORT_PASSWORD": "b", "SEARCH_PASSWORD": "c",
	}
	c, err := Load(path, env.lookup)
	if err != nil {
		t.Fatal(err)
	}
	d := c.Databases["search"]
	if d.User != "app" || d.Password != "c" || d.DBName != "postgres" || len(d.Users) != 2 ||
		d.TLS != (ServerTLS{"verify-full", dir + "/prod-ca-2021.crt", dir + "/client.crt", dir + "/client.key"}) {
		t.Errorf("search is %+v", d)
	}
	if p := c.Effective("search", "report"); p.Size != 3 || p.Mode != "session" {
		t.Errorf("report's settings are %+v", p)
	}
	if p := c.Effective("search", "app"); p.Size != 10 || p.Mode != "transaction" {
		t.Errorf("app's settings are %+v", p)
	}
	if c.Databases["*"] == nil {
		t.Error("the example of * was not read")
	}
}
