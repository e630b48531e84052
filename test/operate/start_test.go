package operate

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgpoold/test/postgres"
)

func TestTheReadyLine(t *testing.T) {
	cluster := postgres.ForTest(t)
	dir, err := os.MkdirTemp("", "pgp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := run(t, map[string]string{
		"SUPABASE_POSTGRES_DSN": cluster.DSN("postgres:secret", "postgres"),
		"PGPOOLD_LISTEN_ADDR":   "127.0.0.1:0, unix:" + dir,
		"PGPOOLD_LOG_LEVEL":     "error", // the ready line comes all the same
	})
	l := p.waitReady(t)
	if len(l.Listen) != 2 || p.socket != filepath.Join(dir, ".s.PGSQL.6432") || !slices.Equal(l.Databases, []string{"postgres"}) ||
		l.Mode != "transaction" || l.Size != 20 {
		t.Fatalf("ready line %+v", l)
	}
	c := p.mustDial(t, "postgres:secret", "postgres")
	ask(t, c, "select 1")
	over, err := p.dial(t, "postgres:secret", "postgres", "host="+dir+"&port=6432&sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	ask(t, over, "select 1")
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
	if _, err := os.Stat(p.socket); !os.IsNotExist(err) {
		t.Errorf("the socket was left behind: %v", err)
	}
}

func TestPgpooldStartsWithoutPostgreSQL(t *testing.T) {
	cluster := postgres.StartForTest(t, postgres.Config{})
	cluster.Halt(postgres.Fast)
	p := run(t, map[string]string{
		"SUPABASE_POSTGRES_DSN":           cluster.DSN("postgres:secret", "postgres"),
		"PGPOOLD_POOL_SERVER_LOGIN_RETRY": "1s",
	})
	// The line comes once it is clear that this is no matter of a moment.
	l := p.waitLine(t, "not ready: ")
	p.take(l)
	if !strings.Contains(l.Msg, "connection refused") {
		t.Errorf("the log says %q", l.Msg)
	}
	if status, why := p.get(t, "/readyz"); status != 503 || !strings.Contains(why, "connection refused") || strings.Contains(why, "\n") {
		t.Errorf("readiness: %d %q", status, why)
	}
	if status, _ := p.get(t, "/healthz"); status != 200 {
		t.Errorf("health: %d", status)
	}
	// Several attempts later the reason still stands there once.
	for range 3 {
		if _, err := p.dial(t, "postgres:secret", "postgres", ""); code(err) != "57P03" || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("a client was told %v", err)
		}
	}
	if n := len(p.lines(t, "not ready: ")); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	if err := cluster.Resume(within(t)); err != nil {
		t.Fatal(err)
	}
	p.waitReady(t)
	ask(t, p.mustDial(t, "postgres:secret", "postgres"), "select 1")
	if status, why := p.get(t, "/readyz"); status != 200 {
		t.Errorf("readiness: %d %q", status, why)
	}
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
}

func TestTakenAddressesAreNamed(t *testing.T) {
	cluster := postgres.ForTest(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for variable, setting := range map[string]string{"PGPOOLD_LISTEN_ADDR": "listen.addr", "PGPOOLD_ADMIN_ADDR": "admin.addr"} {
		p := run(t, map[string]string{
			"SUPABASE_POSTGRES_DSN": cluster.DSN("postgres:secret", "postgres"),
			variable:                l.Addr().String(),
		})
		p.exit(t, 1)
		if want := fmt.Sprintf("pgpoold: %s: %s is taken", setting, l.Addr()); !strings.Contains(p.log(), want) {
			t.Errorf("%s: no %q", variable, want)
		}
	}
}

// The spelling of this DSN does not tell that it leads back to pgpoold.
func TestAHiddenWayBackIsRefused(t *testing.T) {
	dir, err := os.MkdirTemp("", "pgp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	p := run(t, map[string]string{
		"SUPABASE_POSTGRES_DSN": "postgres://postgres:secret@/postgres?sslmode=disable&port=6432&host=" + filepath.Join(dir, "b"),
		"PGPOOLD_LISTEN_ADDR":   "unix:" + filepath.Join(dir, "a"),
	})
	l := p.waitLine(t, "not ready: ")
	if !strings.Contains(l.Msg, "pgpoold's own listener") || !strings.Contains(l.Msg, "SUPABASE_POSTGRES_DSN") {
		t.Fatalf("it says %q", l.Msg)
	}
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
}

func TestALowDescriptorLimitIsTold(t *testing.T) {
	cluster := postgres.ForTest(t)
	p := launch(t, map[string]string{
		"SUPABASE_POSTGRES_DSN":          cluster.DSN("postgres:secret", "postgres"),
		"PGPOOLD_LISTEN_MAX_CLIENT_CONN": "5000",
		"PATH":                           os.Getenv("PATH"),
	}, "sh", "-c", `ulimit -Sn 100 && ulimit -Hn 300 && exec "$0"`, program(t))
	p.waitReady(t)
	warnings := p.lines(t, "the limit on open files does not carry max_client_conn")
	if len(warnings) != 1 {
		t.Fatalf("%d warnings", len(warnings))
	}
	w := warnings[0]
	if w.Level != "warn" || w.Limit != 300 || w.Wanted != 5000 || w.Needed <= 5000 || w.Effective >= 300 || w.Effective < 100 {
		t.Fatalf("warning %+v", w)
	}
	ask(t, p.mustDial(t, "postgres:secret", "postgres"), "select 1")
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
}

// A DSN from another pooler's documentation keeps sslmode=require.
func TestClientsMayAskForTLS(t *testing.T) {
	cluster := postgres.ForTest(t)
	p := serve(t, cluster.DSN("postgres:secret", "postgres"), nil)
	for _, mode := range []string{"disable", "prefer", "require"} {
		c, err := p.dial(t, "postgres:secret", "postgres", "sslmode="+mode)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		ask(t, c, "select 1")
	}
	if _, err := p.dial(t, "postgres:secret", "postgres", "sslmode=verify-ca"); err == nil {
		t.Error("a certificate that nobody signed was verified")
	}

	certs, err := postgres.NewTLS("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{"ca": certs.CA, "cert": certs.Cert, "key": certs.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p = serve(t, cluster.DSN("postgres:secret", "postgres"), map[string]string{
		"PGPOOLD_LISTEN_TLS_MODE":      "require",
		"PGPOOLD_LISTEN_TLS_CERT_FILE": filepath.Join(dir, "cert"),
		"PGPOOLD_LISTEN_TLS_KEY_FILE":  filepath.Join(dir, "key"),
	})
	c, err := p.dial(t, "postgres:secret", "postgres", "sslmode=verify-full&sslrootcert="+filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "select 1")
	if _, err := p.dial(t, "postgres:secret", "postgres", "sslmode=disable"); err == nil {
		t.Error("TLS is required and was not")
	}
}

func TestCheckConnects(t *testing.T) {
	cluster := postgres.StartForTest(t, postgres.Config{Password: "right"})
	check := func(password string) (string, error) {
		cmd := exec.Command(program(t), "check", "--connect")
		cmd.Env = []string{"SUPABASE_POSTGRES_DSN=" + cluster.DSN("postgres:"+password, "postgres")}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := check("right"); err != nil || !strings.Contains(out, "postgres: connected to "+cluster.Addr()+" as postgres: PostgreSQL ") {
		t.Errorf("%v %s", err, out)
	}
	out, err := check("wr0ng")
	if err == nil || !strings.Contains(out, "28P01") || strings.Contains(out, "wr0ng") {
		t.Errorf("%v %s", err, out)
	}
}

func TestTheLogTellsSessionsAndNoSecret(t *testing.T) {
	cluster := postgres.ForTest(t)
	p := serve(t, cluster.DSN("postgres:t0psecret", "postgres"), map[string]string{"PGPOOLD_LOG_LEVEL": "debug", "PGPOOLD_ADMIN_TOKEN": "t0ken"})
	c := p.mustDial(t, "postgres:t0psecret", "postgres")
	r := c.ExecParams(within(t), "select length($1::text)", [][]byte{[]byte("p4rameter")}, nil, nil, nil).Read()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.dial(t, "postgres:wr0ngpass", "postgres", ""); code(err) != "28P01" {
		t.Errorf("a wrong password: %v", err)
	}
	ended := p.waitLine(t, "session ended")
	if ended.Reason == "" {
		t.Errorf("a session ended for no reason: %+v", ended)
	}
	if n := len(p.lines(t, "session ended")); n != 1 {
		t.Errorf("%d lines for one session", n)
	}
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
	for _, secret := range []string{"t0psecret", "wr0ngpass", "p4rameter", "t0ken"} {
		if strings.Contains(p.log(), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}
