package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"pgpoold/wire/scram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// command runs pgpoold in this process.
func command(t *testing.T, env map[string]string, stdin string, args ...string) (code int, out, problems string) {
	t.Helper()
	in := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(in, []byte(stdin), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stdout, stderr bytes.Buffer
	p := &program{
		stdin: f, stdout: &stdout, stderr: &stderr,
		environ: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		signals: make(chan os.Signal, 1),
	}
	code = p.run(args)
	return code, stdout.String(), stderr.String()
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args             []string
		code             int
		stdout, problems string
	}{
		{[]string{"version"}, 0, "pgpoold ", ""},
		{[]string{"--version"}, 0, "pgpoold ", ""},
		{[]string{"help"}, 0, "Usage:", ""},
		{[]string{"-h"}, 0, "", "Usage:"},
		{[]string{"frob"}, 2, "", `unknown command "frob"`},
		{[]string{"--frob"}, 2, "", "not defined: -frob"},
		{[]string{"check", "extra"}, 2, "", `unexpected argument "extra"`},
		{[]string{"--config"}, 2, "", "needs an argument"},
		{[]string{"hash", "--iterations", "0"}, 2, "", "--iterations"},
		{nil, 1, "", "SUPABASE_POSTGRES_DSN"},
		{[]string{"--config", "/nonexistent.yaml"}, 1, "", "/nonexistent.yaml"},
	} {
		code, out, problems := command(t, nil, "", tt.args...)
		if code != tt.code || !strings.Contains(out, tt.stdout) || !strings.Contains(problems, tt.problems) {
			t.Errorf("%q: exit %d\n%s%s", tt.args, code, out, problems)
		}
	}
}

func TestCheckPrintsAMistakePerLine(t *testing.T) {
	bad := file(t, "pool:\n  sise: 3\n  mode: often\ndatabases: {a: {dsn: 'postgres://u:p@h/a'}}\n")
	code, out, _ := command(t, nil, "", "check", "--config", bad)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 1 || len(lines) != 2 || !strings.HasPrefix(lines[0], bad+":2: ") || !strings.Contains(lines[0], "did you mean size?") ||
		!strings.HasPrefix(lines[1], bad+":3: ") {
		t.Fatalf("exit %d\n%s", code, out)
	}
}

func TestCheckOfAGoodFile(t *testing.T) {
	good := file(t, "databases: {a: {dsn: 'postgres://u:sEcReT@127.0.0.1/a'}}\n")
	if code, out, _ := command(t, map[string]string{"PGPOOLD_CONFIG": good}, "", "check"); code != 0 || out != "ok\n" {
		t.Fatalf("exit %d %s", code, out)
	}
	code, out, problems := command(t, nil, "", "check", "--config", good, "--print")
	if code != 0 || !strings.Contains(out, "pool.size") || strings.Contains(out+problems, "sEcReT") {
		t.Fatalf("exit %d %s%s", code, out, problems)
	}
	// Nobody listens on port 1.
	gone := file(t, "databases: {a: {dsn: 'postgres://u:sEcReT@127.0.0.1:1/a'}}\n")
	code, out, problems = command(t, nil, "", "check", "--config", gone, "--connect")
	if code != 1 || !strings.Contains(out, "a: cannot connect to server 127.0.0.1:1: ") || strings.Contains(out+problems, "sEcReT") {
		t.Fatalf("exit %d %s%s", code, out, problems)
	}
}

func TestAServerThatIsPgpooldItselfIsRefused(t *testing.T) {
	env := map[string]string{"SUPABASE_POSTGRES_DSN": "postgres://u:p@localhost:6432/a"}
	for _, args := range [][]string{{"check"}, nil} {
		code, out, problems := command(t, env, "", args...)
		if code != 1 || !strings.Contains(out+problems, "SUPABASE_POSTGRES_DSN is pgpoold's side") {
			t.Errorf("%q: exit %d %s%s", args, code, out, problems)
		}
	}
}

func TestHash(t *testing.T) {
	code, out, problems := command(t, nil, "pen cil\r\n", "hash", "--iterations", "5000")
	v, err := scram.ParseVerifier(strings.TrimSpace(out))
	if code != 0 || err != nil || !strings.HasPrefix(out, "SCRAM-SHA-256$5000:") || !v.CheckPassword("pen cil") {
		t.Fatalf("exit %d %q %v %s", code, out, err, problems)
	}
	if code, out, _ := command(t, nil, "\n", "hash"); code != 1 || out != "" {
		t.Fatalf("an empty password: exit %d %q", code, out)
	}
}

func TestHealth(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
	}{
		{"environment", map[string]string{"PGPOOLD_ADMIN_ADDR": addr}, nil},
		{"every interface", map[string]string{"PGPOOLD_ADMIN_ADDR": addr[strings.LastIndexByte(addr, ':'):]}, nil},
		{"the environment wins", map[string]string{"PGPOOLD_ADMIN_ADDR": addr}, []string{"--config", "/nonexistent"}},
		{"a proxy is not asked", map[string]string{"PGPOOLD_ADMIN_ADDR": addr, "http_proxy": "http://127.0.0.1:1"}, nil},
		{"file", nil, []string{"--config", file(t, "admin: {addr: '"+addr+"'}\ndatabases: {a: {dsn: 'postgres://u:p@127.0.0.1/a'}}\n")}},
	} {
		if code, out, problems := command(t, tt.env, "", append([]string{"health"}, tt.args...)...); code != 0 || out != "ok\n" {
			t.Errorf("%s: exit %d %s%s", tt.name, code, out, problems)
		}
	}
	status = http.StatusServiceUnavailable
	if code, _, _ := command(t, map[string]string{"PGPOOLD_ADMIN_ADDR": addr}, "", "health"); code != 1 {
		t.Errorf("a sick one: exit %d", code)
	}
	srv.Close()
	for _, addr := range []string{addr, "off"} {
		if code, _, _ := command(t, map[string]string{"PGPOOLD_ADMIN_ADDR": addr}, "", "health"); code != 1 {
			t.Errorf("%s: exit %d", addr, code)
		}
	}
}

func TestDialable(t *testing.T) {
	for in, want := range map[string]string{
		":6433":          "127.0.0.1:6433",
		"0.0.0.0:6433":   "127.0.0.1:6433",
		"[::]:6433":      "[::1]:6433",
		"127.0.0.1:1":    "127.0.0.1:1",
		"localhost:6433": "localhost:6433",
	} {
		if got := dialable(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
