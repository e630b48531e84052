package operate

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgpoold/config"
	"pgpoold/test/postgres"
)

const top = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheReadmesConfigurationLoads(t *testing.T) {
	_, rest, ok := strings.Cut(read(t, "README.md"), "```yaml\n")
	text, _, ended := strings.Cut(rest, "```")
	if !ok || !ended || strings.Count(text, "\n") != 10 {
		t.Fatalf("there is no configuration of ten lines in the README: %q", text)
	}
	certs, err := postgres.NewTLS("db.internal")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"config.yaml":      strings.ReplaceAll(text, "/run/secrets/", dir+"/"),
		"ops":              "ops-pw\n",
		"prod-ca-2021.crt": string(certs.CA),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{
		"APP_PASSWORD": "app-pw", "GRAFANA_PASSWORD": "grafana-pw",
		"SUPABASE_POSTGRES_DSN": "postgres://owner:pw@db.internal:5432/postgres",
	}
	cfg, err := config.Load(filepath.Join(dir, "config.yaml"), func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Auth.Users["ops"] != "ops-pw" || cfg.Databases["search"].TLS.Mode != "verify-full" || len(cfg.Warnings) > 0 {
		t.Errorf("it says something else: %v", cfg.Warnings)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/operations.md"} {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if m[1] == "docs/benchmarks.md" {
				continue // make bench writes it
			}
			if _, err := os.Stat(filepath.Join(top, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

func TestTheReadmeBeginsWithTheTwoCommands(t *testing.T) {
	var commands []string
	for line := range strings.Lines(read(t, "README.md")) {
		if strings.HasPrefix(line, "    ") {
			commands = append(commands, strings.Join(strings.Fields(line)[:2], " "))
		}
		if len(commands) == 2 {
			break
		}
	}
	if len(commands) != 2 || commands[0] != "make run" || commands[1] != "make test" {
		t.Errorf("it begins with %q", commands)
	}
}
