package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad looks for panics, and for a DSN's password in mistakes: wherever in
// the file the variable stands that holds it.
func FuzzLoad(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.yaml")
	for _, path := range append(paths, "../config.yaml") {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	const secret = "Zq7XkW"
	for _, path := range []string{
		"listen: {addr: %}", "listen: {addr: [%]}", "listen: {tls: {cert_file: %, mode: %}}", "pool: {size: %, mode: %}",
		"admin: {users: [%], addr: %}", "auth: {file: %, type: %, users: %}", "databases: {a: {user: %, tls: {ca_file: %}}}",
		"log: %", "drain_timeout: x%", "databases: {a: {dsn: %x}}", "databases: {a: {dsn: \"${SUPABASE_POSTGRES_DSN}?x=1\"}}",
	} {
		f.Add(strings.ReplaceAll(path, "%", "${SUPABASE_POSTGRES_DSN}"))
	}
	env := environ{"SUPABASE_POSTGRES_DSN": "postgres://u:" + secret + "@h/d"}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, env.lookup)
		if (c == nil) == (err == nil) {
			t.Fatalf("Load returned %v, %v", c, err)
		}
		if err != nil && !strings.Contains(text, secret) && strings.Contains(err.Error(), secret) {
			t.Errorf("a mistake holds a secret: %v", err)
		}
		if c == nil {
			return
		}
		var b strings.Builder
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Databases {
			for _, user := range []string{"", "app"} {
				if p := c.Effective(d.Name, user); p.Size > 0 && p.MinSize > p.Size {
					t.Errorf("min_size %d of %d", p.MinSize, p.Size)
				}
			}
		}
	})
}
