package change

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// patience bounds what would otherwise hang.
const patience = 30 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

var databases atomic.Int64

// newDB makes a database for one test.
func newDB(t testing.TB, c *postgres.Cluster) string {
	t.Helper()
	name := strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "_"))
	name = fmt.Sprintf("%s_%d", name[max(0, len(name)-40):], databases.Add(1))
	if err := c.Exec(within(t), "postgres", `create database "`+name+`"`); err != nil {
		t.Fatal(err)
	}
	return name
}

// common is what the tests' configurations begin with.
const common = "auth: {users: {app: app, report: report, ops: ops}}\nadmin: {users: [ops]}\nlog: {level: debug}\ndrain_timeout: 5s\n"

// start runs pgpoold with a configuration that common stands in front of.
func start(t testing.TB, yaml string) *harness.Pgpoold {
	t.Helper()
	return harness.Start(t, harness.Options{YAML: common + yaml})
}

// connect logs in to a database through pgpoold.
func connect(t testing.TB, p pooler, user, db string) *pgx.Conn {
	t.Helper()
	conn, err := open(t, p, user, db)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func open(t testing.TB, p pooler, user, db string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(within(t), p.DSN(user+":"+user, db))
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(within(t), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// later runs SQL on a goroutine of its own; the channel gives its error.
func later(t testing.TB, conn *pgx.Conn, sql string) <-chan error {
	done := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := conn.Exec(ctx, sql)
		done <- err
	}()
	return done
}

func ended(t testing.TB, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatalf("%s: it does not end", what)
		return nil
	}
}

// until waits for something to become true.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}

// servers counts a database's servers as pgpoold does; "" is all.
func servers(p *harness.Pgpoold, db string) (n int) {
	for _, s := range p.Server().Snapshot().Servers {
		if db == "" || s.Database == db {
			n++
		}
	}
	return n
}

// waiting is how many clients queue for a server.
func waiting(p *harness.Pgpoold) (n int) {
	for _, c := range p.Server().Snapshot().Clients {
		if c.State == "waiting" {
			n++
		}
	}
	return n
}

// told is PostgreSQL's error in an error.
func told(err error) *pgconn.PgError {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg
	}
	return &pgconn.PgError{Message: fmt.Sprint(err)}
}

// refused fails the test unless an error has this severity and code and names
// the setting in its text or detail, and its place in YAML in the detail.
func refused(t testing.TB, err error, severity, code, setting, path string) {
	t.Helper()
	e := told(err)
	if e.Severity != severity || e.Code != code {
		t.Errorf("%s %s %q, want %s %s", e.Severity, e.Code, e.Message, severity, code)
	}
	if !strings.Contains(e.Message+e.Detail, setting) || !strings.Contains(e.Detail+e.Message, path) {
		t.Errorf("%q, %q: %s (%s) is not named", e.Message, e.Detail, setting, path)
	}
}

// writeCert makes a self-signed certificate with a serial number.
func writeCert(t testing.TB, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// withQuery is a DSN to which "&key=value" can be added.
func withQuery(dsn string) string {
	if strings.Contains(dsn, "?") {
		return dsn
	}
	return dsn + "?connect_timeout=10"
}

// lasting is a context for something that takes its time.
func lasting(t testing.TB, length time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), length+2*patience)
	t.Cleanup(cancel)
	return ctx
}
