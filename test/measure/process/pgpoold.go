package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ModuleRoot is the directory of this module's go.mod.
func ModuleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("not inside a Go module")
	}
	return filepath.Dir(mod), nil
}

// BuildPgpoold builds the daemon into dir and returns the binary's path. With
// PGPOOLD set, that binary is taken instead.
func BuildPgpoold(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv("PGPOOLD"); path != "" {
		return path, nil
	}
	return Build(ctx, dir, "./cmd/pgpoold")
}

// Build builds one of the project's commands into dir and returns its path.
func Build(ctx context.Context, dir, pkg string) (string, error) {
	root, err := ModuleRoot(ctx)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, pkg)
	cmd.Dir = root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out.String())
	}
	return bin, nil
}

// Upstream is where the proxies under measurement find PostgreSQL.
type Upstream struct {
	Host     string
	Port     int
	Database string
	User     string // PostgreSQL trusts it
}

// Pgpoold is how the daemon is configured for a measurement: one database,
// PostgreSQL without passwords, no log below warn; clients without passwords and
// plain TCP where nothing else is said.
type Pgpoold struct {
	Port, AdminPort int
	Upstream        Upstream
	PoolSize        int
	MaxClientConn   int
	Cert, Key       string // files: clients must use TLS
	UpstreamTLS     bool
	Password        string // clients log in by SCRAM
	State, Audit    string // session_state and session_state_audit; "" for the defaults
}

// Addr is where clients connect.
func (p Pgpoold) Addr() string { return fmt.Sprintf("127.0.0.1:%d", p.Port) }

// AdminAddr is the admin port's address.
func (p Pgpoold) AdminAddr() string { return fmt.Sprintf("127.0.0.1:%d", p.AdminPort) }

// YAML is the configuration file. The upstream's user is also admin.
func (p Pgpoold) YAML() string {
	u := p.Upstream
	tls, auth, sslmode := "{mode: disable}", "trust", "disable"
	if p.Cert != "" {
		tls = fmt.Sprintf("{mode: require, cert_file: %s, key_file: %s}", p.Cert, p.Key)
	}
	if p.Password != "" {
		auth = "scram-sha-256"
	}
	if p.UpstreamTLS {
		sslmode = "require"
	}
	var state string
	if p.State != "" {
		state += "\n  session_state: " + p.State
	}
	if p.Audit != "" {
		state += "\n  session_state_audit: " + p.Audit
	}
	return fmt.Sprintf(`listen:
  addr: 127.0.0.1:%d
  max_client_conn: %d
  tls: %s
admin:
  addr: 127.0.0.1:%d
  users: [%s]
  pprof: true
auth:
  type: %s
  users: {%s: %q}
pool:
  size: %d%s
databases:
  %s: {dsn: "postgres://%s@%s:%d/%s?sslmode=%s"}
log: {level: warn}
`, p.Port, p.MaxClientConn, tls, p.AdminPort, u.User, auth, u.User, p.Password, p.PoolSize, state,
		u.Database, u.User, u.Host, u.Port, u.Database, sslmode)
}

// WriteConfig puts the configuration into a file that any user can read.
func (p Pgpoold) WriteConfig(path string) error {
	return os.WriteFile(path, []byte(p.YAML()), 0o644)
}
