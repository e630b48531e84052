package operate

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

// reloadable is a configuration that its test writes anew.
func reloadable(t *testing.T, cluster *postgres.Cluster) (p *pgpoold, write func(pool, users, more string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	write = func(pool, users, more string) {
		t.Helper()
		text := "auth: {users: {app: app-pw, ops: ops-pw" + users + "}}\nadmin: {users: [ops]}\npool: {" + pool + "}\n" +
			"databases: {search: {dsn: '" + cluster.DSN("postgres", "postgres") + "'}}\n" + more
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("size: 3", "", "")
	p = run(t, nil, "--config", file)
	p.waitReady(t)
	return p, write
}

func TestReload(t *testing.T) {
	p, write := reloadable(t, postgres.ForTest(t))
	ops := p.mustDial(t, "ops:ops-pw", "pgbouncer")
	setting := func(name string) string {
		t.Helper()
		r := ops.ExecParams(within(t), "SHOW CONFIG", nil, nil, nil, nil).Read()
		for _, row := range r.Rows {
			if string(row[0]) == name {
				return string(row[1])
			}
		}
		return ""
	}
	in := p.mustDial(t, "app:app-pw", "search")
	ask(t, in, "begin")

	// A file with a mistake changes nothing.
	write("size: many", ", report: report-pw", "")
	_, err := ops.Exec(within(t), "RELOAD").ReadAll()
	if code(err) != "F0000" || !strings.Contains(err.Error(), "RELOAD failed") {
		t.Fatalf("a file with a mistake: %v", err)
	}
	if detail := err.(*pgconn.PgError).Detail; !strings.Contains(detail, "pool.size") {
		t.Errorf("detail %q", detail)
	}
	if _, err := p.dial(t, "report:report-pw", "search", ""); code(err) != "28P01" {
		t.Errorf("half of it was taken: %v", err)
	}
	if got := setting("default_pool_size"); got != "3" {
		t.Errorf("size %s", got)
	}

	// What can be taken is, and what cannot be is named.
	if _, err := ops.Exec(within(t), "SET query_wait_timeout = 7").ReadAll(); err != nil || setting("query_wait_timeout") != "7" {
		t.Fatalf("SET: %v, %s", err, setting("query_wait_timeout"))
	}
	write("size: 1, session_state: ignore", ", report: report-pw", "log: {level: debug}\n")
	if _, err := ops.Exec(within(t), "RELOAD").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if size, wait, state := setting("default_pool_size"), setting("query_wait_timeout"), setting("session_state"); size != "1" || wait != "120" || state != "preserve" {
		t.Errorf("size %s, query_wait_timeout %s, session_state %s", size, wait, state)
	}
	l := p.lines(t, "the configuration was read again")
	if len(l) != 1 || !strings.Contains(p.log(), "session_state (pool.session_state) was changed: it needs a restart") {
		t.Errorf("%d lines of the reload", len(l))
	}
	ask(t, in, "commit") // nobody was thrown out
	report := p.mustDial(t, "report:report-pw", "search")
	ask(t, report, "select 1")
	ask(t, in, "select 1")
}

func TestShutdownOnTheConsole(t *testing.T) {
	dsn, cluster := table(t, "stopped")
	for _, mode := range []string{"SHUTDOWN", "SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN WAIT_FOR_CLIENTS"} {
		t.Run(mode, func(t *testing.T) {
			p := serve(t, dsn, map[string]string{"PGPOOLD_DRAIN_TIMEOUT": "100ms"})
			busy, idle := p.mustDial(t, "postgres:secret", "postgres"), p.mustDial(t, "postgres:secret", "postgres")
			ask(t, idle, "select 1")
			ask(t, busy, "begin; insert into stopped values (1)")
			console := p.mustDial(t, "postgres:secret", "pgbouncer")
			results, err := console.Exec(within(t), mode).ReadAll()
			switch mode {
			case "SHUTDOWN":
				if err == nil {
					t.Errorf("it answers %v", results)
				}
				if got := lastWord(t, busy); got != "57P01" {
					t.Errorf("a busy client was told %q", got)
				}
				p.exit(t, 0)
				return
			default:
				if err != nil || results[0].CommandTag.String() != "SHUTDOWN" {
					t.Fatalf("%v %v", results, err)
				}
			}
			p.until(t, "no new clients", func() bool {
				_, err := p.dial(t, "postgres:secret", "postgres", "")
				return err != nil
			})
			if status, _ := p.get(t, "/readyz"); status != 503 {
				t.Errorf("readiness %d", status)
			}
			ask(t, busy, "insert into stopped values (2)") // whatever drain_timeout says
			ask(t, busy, "commit")
			if mode == "SHUTDOWN WAIT_FOR_SERVERS" {
				for _, c := range []*pgconn.PgConn{idle, busy} {
					if got := lastWord(t, c); got != "57P01" {
						t.Errorf("a client was told %q", got)
					}
				}
			} else {
				ask(t, idle, "select 1") // as long as it likes
				for _, c := range []*pgconn.PgConn{idle, busy} {
					if err := c.Close(within(t)); err != nil {
						t.Fatal(err)
					}
				}
			}
			p.exit(t, 0)
		})
	}
	if n := count(t, cluster, "stopped"); n != "4" {
		t.Errorf("%s rows", n)
	}
}

func TestTheAdminPortOverTLS(t *testing.T) {
	cluster := postgres.ForTest(t)
	certs, err := postgres.NewTLS("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"ca.crt": certs.CA, "server.crt": certs.Cert, "server.key": certs.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := serve(t, cluster.DSN("postgres:secret", "postgres"), map[string]string{
		"PGPOOLD_ADMIN_TLS_CERT_FILE": filepath.Join(dir, "server.crt"), "PGPOOLD_ADMIN_TLS_KEY_FILE": filepath.Join(dir, "server.key"),
		"PGPOOLD_ADMIN_TOKEN": "s3cret", "PGPOOLD_ADMIN_PPROF": "true",
	})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certs.CA)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	for _, tt := range []struct {
		path, token string
		want        int
	}{
		{"/healthz", "", 200}, {"/readyz", "", 200}, {"/metrics", "", 401}, {"/metrics", "wrong", 401}, {"/metrics", "s3cret", 200},
		{"/", "s3cret", 200}, {"/debug/pprof/goroutine", "s3cret", 200}, {"/debug/pprof/goroutine", "", 401},
	} {
		req, err := http.NewRequest("GET", "https://"+p.admin+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.token != "" {
			req.Header.Set("Authorization", "Bearer "+tt.token)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s with %q: %d, want %d", tt.path, tt.token, resp.StatusCode, tt.want)
		}
	}
	health := exec.Command(program(t), "health")
	health.Env = []string{"PGPOOLD_ADMIN_ADDR=" + p.admin}
	if out, err := health.CombinedOutput(); err != nil {
		t.Errorf("health: %v %s", err, out)
	}
}
