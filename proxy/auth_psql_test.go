package proxy

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"pgpoold/test/postgres"
)

// TestPsql logs libpq in: it insists on what it asks for, such as channel
// binding, and prepares passwords by itself.
func TestPsql(t *testing.T) {
	install, err := postgres.Find(t.Context(), postgres.TestOptions())
	if err != nil {
		t.Skip(err)
	}
	psql, err := install.Tool("psql")
	if err != nil {
		t.Skip(err)
	}
	clientTLS, err := NewClientTLS("allow", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	users := testUsers(t)
	users["unicode"] = "I\u00adX \u2168 \u00e9"
	users["emoji"] = mustHash(t, "\U0001f600", 0)
	for _, tt := range []struct {
		method, user, password, options string
		wantErr                         string
	}{
		{"trust", "plain", "", "sslmode=disable", ""},
		{"any", "nobody", "", "sslmode=require", ""},
		{"password", "plain", "secret", "sslmode=disable require_auth=password", ""},
		{"password", "scram", "secret", "sslmode=require require_auth=password", ""},
		{"password", "plain", "wrong", "sslmode=disable", `password authentication failed for user "plain"`},
		{"md5", "md5", "secret", "sslmode=disable require_auth=md5", ""},
		{"md5", "plain", "secret", "sslmode=require require_auth=md5", ""},
		{"md5", "scram", "secret", "sslmode=disable require_auth=scram-sha-256", ""},
		{"md5", "md5", "wrong", "sslmode=disable", `password authentication failed for user "md5"`},
		{"md5", "nobody", "wrong", "sslmode=disable", `password authentication failed for user "nobody"`},
		{"scram-sha-256", "plain", "secret", "sslmode=disable require_auth=scram-sha-256", ""},
		{"scram-sha-256", "plain", "secret", "sslmode=require", ""},
		{"scram-sha-256", "plain", "secret", "sslmode=require channel_binding=disable", ""},
		{"scram-sha-256", "plain", "secret", "sslmode=require channel_binding=require", ""},
		{"scram-sha-256", "scram", "secret", "sslmode=require channel_binding=require", ""},
		{"scram-sha-256", "unicode", "IX IX \u00e9", "sslmode=require", ""},
		{"scram-sha-256", "unicode", users["unicode"], "sslmode=require", ""},
		{"scram-sha-256", "emoji", "\U0001f600", "sslmode=require", ""},
		{"scram-sha-256", "scram", "wrong", "sslmode=require channel_binding=require", `password authentication failed for user "scram"`},
		{"scram-sha-256", "nobody", "secret", "sslmode=require channel_binding=require", `password authentication failed for user "nobody"`},
		{"scram-sha-256", "md5", "secret", "sslmode=require", `password authentication failed for user "md5"`},
	} {
		t.Run(tt.method+"/"+tt.user+"/"+tt.options, func(t *testing.T) {
			s := newAuthServer(t, AuthOptions{Type: tt.method, Users: users}, clientTLS)
			ctx, cancel := context.WithTimeout(t.Context(), authTestTimeout)
			defer cancel()
			options := tt.options
			if out, _ := exec.CommandContext(ctx, psql, "--version").Output(); !psqlKnowsRequireAuth(string(out)) {
				options, _, _ = strings.Cut(options, " require_auth")
			}
			cmd := exec.CommandContext(ctx, psql, "-X", "-w", "-c", `\conninfo`,
				fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=db %s", s.ln.Addr().(*net.TCPAddr).Port, tt.user, options))
			cmd.Env = append(os.Environ(), "PGPASSWORD="+tt.password, "PGCLIENTENCODING=UTF8", "LC_ALL=C", "HOME="+t.TempDir())
			if tt.password == "" {
				cmd.Env = append(cmd.Env, "PGPASSFILE=/dev/null")
			}
			out, err := cmd.CombinedOutput()
			if tt.wantErr == "" {
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if strings.Contains(tt.options, "sslmode=require") != strings.Contains(string(out), "SSL connection") {
					t.Errorf("the wrong encryption: %s", out)
				}
				return
			}
			if err == nil || !strings.Contains(string(out), tt.wantErr) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// psqlKnowsRequireAuth is true from libpq 16 on.
func psqlKnowsRequireAuth(version string) bool {
	var major int
	_, _ = fmt.Sscanf(version, "psql (PostgreSQL) %d", &major)
	return major >= 16
}
