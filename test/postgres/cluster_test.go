package postgres

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func value(t *testing.T, c *Cluster, sql string) string {
	t.Helper()
	rows, err := c.Query(t.Context(), "postgres", sql)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		t.Fatalf("%s: got %v, want one value", sql, rows)
	}
	return rows[0][0]
}

func TestSharedClusterServesTCPAndSocket(t *testing.T) {
	c := ForTest(t)
	if again := ForTest(t); again != c {
		t.Error("ForTest returned two clusters")
	}
	for _, dsn := range []string{c.DSN(Superuser, "postgres"), c.SocketDSN(Superuser, "postgres"), c.SuperDSN("postgres")} {
		conn, err := pgconn.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatalf("%s: %v", dsn, err)
		}
		conn.Close(t.Context())
	}
}

func TestSettingsAndMaxConnections(t *testing.T) {
	c := StartForTest(t, Config{MaxConnections: 37, Settings: map[string]string{"work_mem": "5MB", "timezone": "Europe/Berlin"}})
	for name, want := range map[string]string{"max_connections": "37", "work_mem": "5MB", "timezone": "Europe/Berlin", "fsync": "off"} {
		if got := value(t, c, "SHOW "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestPasswordAndHBA(t *testing.T) {
	c := StartForTest(t, Config{Password: "it's secret", HBA: []string{"host all guest 127.0.0.1/32 trust"}})
	if err := c.Exec(t.Context(), "postgres", "CREATE ROLE guest LOGIN"); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		user, code string
	}{
		{"guest", ""},
		{Superuser + ":it's secret", ""},
		{Superuser + ":wrong", "28P01"},
	}
	for _, tc := range cases {
		conn, err := pgconn.Connect(t.Context(), c.DSN(tc.user, "postgres"))
		if err == nil {
			conn.Close(t.Context())
		}
		var pgErr *pgconn.PgError
		code := ""
		if errors.As(err, &pgErr) {
			code = pgErr.Code
		} else if err != nil {
			t.Fatal(err)
		}
		if code != tc.code {
			t.Errorf("login of %q: code %q, want %q", tc.user, code, tc.code)
		}
	}
}

func TestTLSVerifiesHostName(t *testing.T) {
	files, err := NewTLS("db.test", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c := StartForTest(t, Config{TLS: files})
	ca := t.TempDir() + "/ca.crt"
	if err := os.WriteFile(ca, files.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(c.DSN(Superuser, "postgres"), "sslmode=disable", "sslmode=verify-full&sslrootcert="+ca, 1)
	conn, err := pgconn.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	if conn, err = pgconn.Connect(t.Context(), strings.Replace(dsn, "127.0.0.1", "localhost", 1)); err == nil {
		conn.Close(t.Context())
		t.Error("verify-full accepted a certificate for another host")
	}
}

func TestHaltKeepsDataAndPort(t *testing.T) {
	c := StartForTest(t, Config{})
	if err := c.Exec(t.Context(), "postgres", "CREATE TABLE kept(x int); INSERT INTO kept VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []HaltMode{Fast, Immediate, Crash, Smart} {
		port := c.Port()
		c.Halt(mode)
		if c.PID() != 0 {
			t.Errorf("a halted cluster has process %d", c.PID())
		}
		if conn, err := pgconn.Connect(t.Context(), c.DSN(Superuser, "postgres")); err == nil {
			conn.Close(t.Context())
			t.Fatal("a halted cluster accepts connections")
		}
		if err := c.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := value(t, c, "SELECT x FROM kept"); got != "7" || c.Port() != port {
			t.Errorf("after a halt: value %q on port %d, want 7 on %d", got, c.Port(), port)
		}
	}
	old := c.PID()
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.PID() == old {
		t.Error("Restart kept the process")
	}
}

func TestStartSaysWhatPostgreSQLSaid(t *testing.T) {
	ForTest(t)
	s, err := NewServer()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Start(context.Background(), Config{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v, want PostgreSQL's line about no_such_setting", err)
	}
}
