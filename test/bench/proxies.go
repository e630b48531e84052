package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pgpoold/test/guard"
	"pgpoold/test/measure/process"
)

// Names of the targets, in the order of the first round.
const (
	nameDirect     = "direct"
	namePgpoold    = "pgpoold"
	nameDefault    = "default" // a pgpoold beside another that has a level of session state
	namePgbouncer  = "pgbouncer"
	namePgbouncerB = "pgbouncer-b" // the second half of the A/A pair
	nameFloor      = "floor"       // what no pooler in Go gets below
)

// benchPassword is every client's, where one is asked for.
const benchPassword = "benchmark"

// poolSize is both proxies' number of servers.
const poolSize = 20

// target is something that pgbench can be pointed at.
type target struct {
	name string
	addr string
	// admin is pgpoold's admin address.
	admin string
	pid   int            // 0: PostgreSQL itself
	proc  *guard.Process // nil: PostgreSQL itself
	// connecting is how long pgbench took to connect all clients of the point.
	connecting time.Duration
}

func (t *target) stop() {
	if t.proc != nil {
		t.proc.End(syscall.SIGTERM, 10*time.Second)
	}
}

// programs are the binaries under measurement and where they reach PostgreSQL.
type programs struct {
	guard        *guard.Guard
	pgpoold      string // "" where it is not measured
	pgbouncer    string // "" where there is none
	floor        string // "" where it is not measured
	version      pgbouncerVersion
	dir          string // readable by the proxies' user
	upstream     process.Upstream
	clients      int                  // the most clients of any point
	certificates map[bool]certificate // for client-side TLS: of P-256, and of RSA-2048 under true
	credential   *syscall.Credential
	log          *os.File
}

// start runs the named target, fresh.
func (p *programs) start(ctx context.Context, name string, at point) (*target, error) {
	if name == nameDirect {
		return &target{name: name, addr: fmt.Sprintf("%s:%d", p.upstream.Host, p.upstream.Port)}, nil
	}
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	t := &target{name: name, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	opts := process.Options{Credential: p.credential, Log: p.log}
	switch name {
	case namePgpoold, nameDefault:
		if name == nameDefault {
			at.State, at.Audit = "", ""
		}
		opts.Path = p.pgpoold
		opts.Args, t.admin, err = p.pgpooldArgs(name, port, at)
		if at.Cores > 0 {
			opts.Env = append(opts.Env, fmt.Sprintf("GOMAXPROCS=%d", at.Cores))
		}
	case nameFloor:
		opts.Path = p.floor
		opts.Args = p.floorArgs(port)
	default:
		opts.Path = p.pgbouncer
		opts.Args, err = p.pgbouncerArgs(name, port, at)
	}
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if t.proc, err = process.Start(wait, p.guard, opts, t.addr); err != nil {
		return nil, err
	}
	t.pid = t.proc.PID()
	return t, nil
}

func (p *programs) pgpooldConfig(port, admin int, at point) process.Pgpoold {
	c := process.Pgpoold{
		Port: port, AdminPort: admin, Upstream: p.upstream,
		PoolSize: poolSize, MaxClientConn: p.clients + 100, UpstreamTLS: at.serverTLS(),
		State: at.State, Audit: at.Audit,
	}
	if at.clientTLS() {
		c.Cert, c.Key = p.certificates[at.RSA].cert, p.certificates[at.RSA].key
	}
	if at.SCRAM {
		c.Password = benchPassword
	}
	return c
}

// pgpooldArgs writes the configuration; admin is the admin port's address.
func (p *programs) pgpooldArgs(name string, port int, at point) (args []string, admin string, err error) {
	adminPort, err := process.FreePort()
	if err != nil {
		return nil, "", err
	}
	cfg := p.pgpooldConfig(port, adminPort, at)
	file := filepath.Join(p.dir, name+".yaml")
	return []string{"--config", file}, cfg.AdminAddr(), cfg.WriteConfig(file)
}

func (p *programs) pgbouncerArgs(name string, port int, at point) ([]string, error) {
	users := filepath.Join(p.dir, "userlist.txt")
	if err := os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", p.upstream.User, benchPassword), 0o644); err != nil {
		return nil, err
	}
	file := filepath.Join(p.dir, name+".ini")
	if err := os.WriteFile(file, []byte(p.pgbouncerIni(port, users, at)), 0o644); err != nil {
		return nil, err
	}
	return []string{"-q", file}, nil
}

func (p *programs) floorArgs(port int) []string {
	u := p.upstream
	return []string{"-listen", fmt.Sprintf("127.0.0.1:%d", port), "-upstream", fmt.Sprintf("%s:%d", u.Host, u.Port),
		"-user", u.User, "-database", u.Database, "-size", strconv.Itoa(poolSize)}
}

func (p *programs) pgbouncerIni(port int, users string, at point) string {
	u := p.upstream
	auth, clientTLS, serverTLS := "trust", "disable", "disable"
	if at.SCRAM {
		auth = "scram-sha-256"
	}
	if at.clientTLS() {
		clientTLS = fmt.Sprintf("require\nclient_tls_cert_file = %s\nclient_tls_key_file = %s", p.certificates[at.RSA].cert, p.certificates[at.RSA].key)
	}
	if at.serverTLS() {
		serverTLS = "require"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `[databases]
%s = host=%s port=%d dbname=%s user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = %s
auth_file = %s
pool_mode = transaction
default_pool_size = %d
max_client_conn = %d
client_tls_sslmode = %s
server_tls_sslmode = %s
log_connections = 0
log_disconnections = 0
log_pooler_errors = 0
log_stats = 0
`, u.Database, u.Host, u.Port, u.Database, u.User, port, auth, users, poolSize, p.clients+100, clientTLS, serverTLS)
	if p.version.preparesStatements() {
		b.WriteString("max_prepared_statements = 200\n")
	}
	return b.String()
}

// pgbouncerVersion is what PgBouncer says it is.
type pgbouncerVersion struct{ Major, Minor, Patch int }

func (v pgbouncerVersion) String() string {
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
}

// preparesStatements: since 1.21 protocol-level prepared statements work in
// transaction mode.
func (v pgbouncerVersion) preparesStatements() bool {
	return v.Major > 1 || v.Major == 1 && v.Minor >= 21
}

var versionPattern = regexp.MustCompile(`PgBouncer (\d+)\.(\d+)(?:\.(\d+))?`)

func parseVersion(out string) (pgbouncerVersion, error) {
	m := versionPattern.FindStringSubmatch(out)
	if m == nil {
		return pgbouncerVersion{}, fmt.Errorf("no version in %q", out)
	}
	var n [3]int
	for i, s := range m[1:] {
		if s == "" {
			continue
		}
		v, err := strconv.Atoi(s)
		if err != nil {
			return pgbouncerVersion{}, err
		}
		n[i] = v
	}
	return pgbouncerVersion{n[0], n[1], n[2]}, nil
}

// findPgbouncer takes $PGBOUNCER, else the installed one.
func findPgbouncer(ctx context.Context) (string, pgbouncerVersion, error) {
	path := os.Getenv("PGBOUNCER")
	if path == "" {
		for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"} {
			if found, err := exec.LookPath(name); err == nil {
				path = found
				break
			}
		}
	}
	if path == "" {
		return "", pgbouncerVersion{}, fmt.Errorf("no pgbouncer is installed; install one, or name it with PGBOUNCER=/path")
	}
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", pgbouncerVersion{}, fmt.Errorf("%s --version: %w", path, err)
	}
	v, err := parseVersion(string(out))
	return path, v, err
}
