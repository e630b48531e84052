package pooling_test

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// loginCode is the SQLSTATE with which a login and a first query end.
func loginCode(t testing.TB, dsn string) string {
	t.Helper()
	conn, err := pgx.Connect(within(t), dsn)
	if err != nil {
		return code(err)
	}
	defer conn.Close(context.Background())
	var n int
	return code(conn.QueryRow(within(t), "select $1::int", 7).Scan(&n))
}

func md5Secret(user, password string) string {
	sum := md5.Sum([]byte(password + user))
	return "md5" + hex.EncodeToString(sum[:])
}

// TestAuthentication: every type with every kind of secret, and what an
// unknown user sees.
func TestAuthentication(t *testing.T) {
	c := postgres.StartForTest(t, postgres.Config{})
	for _, q := range []string{"create role verified login password 'sesame'"} {
		if err := c.Exec(within(t), "postgres", q); err != nil {
			t.Fatal(err)
		}
	}
	verifier := value(t, c, "postgres", "select rolpassword from pg_authid where rolname = 'verified'")
	for _, auth := range []string{"trust", "any", "password", "md5", "scram-sha-256"} {
		t.Run(auth, func(t *testing.T) {
			users, secrets := []string{"plain", "verified"}, fmt.Sprintf("plain: sesame, verified: %q", verifier)
			if auth != "scram-sha-256" { // which cannot be done with an md5 secret
				users, secrets = append(users, "hashed"), fmt.Sprintf("%s, hashed: %q", secrets, md5Secret("hashed", "sesame"))
			}
			p := startYAML(t, fmt.Sprintf("auth: {type: %s, users: {%s}}\ndatabases: {postgres: {dsn: %q}}\n", auth, secrets, c.SuperDSN("postgres")))
			for _, user := range users {
				bad := "28P01"
				if auth == "trust" || auth == "any" {
					bad = ""
				}
				for password, want := range map[string]string{"sesame": "", "wrong": bad} {
					if got := loginCode(t, p.DSN(user+":"+password, "postgres")); got != want {
						t.Errorf("%s:%s: %q, want %q", user, password, got, want)
					}
				}
			}
			want := map[string]string{"trust": "28000", "any": ""}[auth]
			if auth != "trust" && auth != "any" {
				want = "28P01"
			}
			if got := loginCode(t, p.DSN("nobody:sesame", "postgres")); got != want {
				t.Errorf("nobody: %q, want %q", got, want)
			}
		})
	}
}

// TestOwnIdentity: a DSN without a user logs each client in to PostgreSQL as
// itself, with what its login has shown.
func TestOwnIdentity(t *testing.T) {
	c := postgres.StartForTest(t, postgres.Config{Password: "root"})
	for _, q := range []string{
		"create role scram login password 'sesame'",
		"set password_encryption = md5; create role hashed login password 'sesame'",
		"create role other login password 'different'",
	} {
		if err := c.Exec(within(t), "postgres", q); err != nil {
			t.Fatal(err)
		}
	}
	verifier := value(t, c, "postgres", "select rolpassword from pg_authid where rolname = 'scram'")
	foreign := value(t, c, "postgres", "select rolpassword from pg_authid where rolname = 'other'")
	md5c := postgres.StartForTest(t, postgres.Config{HBA: []string{"host all hashed 127.0.0.1/32 md5"}})
	if err := md5c.Exec(within(t), "postgres", "set password_encryption = md5; create role hashed login password 'sesame'"); err != nil {
		t.Fatal(err)
	}
	dsn := "postgres://" + c.Addr() + "/postgres?sslmode=disable"
	for _, test := range []struct{ name, auth, user, secret, dsn, want string }{
		{"plain", "scram-sha-256", "scram", "sesame", dsn, ""},
		{"plain, password", "password", "scram", "sesame", dsn, ""},
		{"plain, md5", "md5", "scram", "sesame", dsn, ""},
		{"verifier", "scram-sha-256", "scram", verifier, dsn, ""},
		{"verifier of another", "scram-sha-256", "scram", foreign, dsn, "28P01"},
		{"md5", "md5", "hashed", md5Secret("hashed", "sesame"), "postgres://" + md5c.Addr() + "/postgres?sslmode=disable", ""},
		{"md5 where the server wants SCRAM", "md5", "scram", md5Secret("scram", "sesame"), dsn, "57P03"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := startYAML(t, fmt.Sprintf("auth: {type: %s, users: {%s: %q}}\ndatabases: {postgres: {dsn: %q}}\n", test.auth, test.user, test.secret, test.dsn))
			conn, err := pgx.Connect(within(t), p.DSN(test.user+":sesame", "postgres"))
			if got := code(err); got != test.want {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			if err != nil {
				return
			}
			defer conn.Close(context.Background())
			var who string
			if err := conn.QueryRow(within(t), "select session_user").Scan(&who); err != nil || who != test.user {
				t.Errorf("is %q: %v", who, err)
			}
		})
	}
	// Two identities never share a server.
	p := startYAML(t, fmt.Sprintf("auth: {type: password, users: {scram: sesame, other: different}}\npool: {size: 1}\ndatabases: {postgres: {dsn: %q}}\n", dsn))
	for range 3 {
		for user, password := range map[string]string{"scram": "sesame", "other": "different"} {
			conn := connect(t, p.DSN(user+":"+password, "postgres"))
			var who string
			if err := conn.QueryRow(within(t), "select session_user").Scan(&who); err != nil || who != user {
				t.Errorf("%s is %q: %v", user, who, err)
			}
		}
	}
}

// writeTLS puts a certificate's files into a folder of the test's.
func writeTLS(t testing.TB, c *postgres.TLS) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	ca, cert, key = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, text := range map[string][]byte{ca: c.CA, cert: c.Cert, key: c.Key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ca, cert, key
}

// TestTLSToClients: sslmode=require works without any configuration, and
// verify-full with a certificate.
func TestTLSToClients(t *testing.T) {
	c := postgres.ForTest(t)
	p := startYAML(t, fmt.Sprintf("databases: {postgres: {dsn: %q}}\n", c.SuperDSN("postgres")))
	for mode, want := range map[string]bool{"disable": true, "prefer": true, "require": true} {
		got := loginCode(t, "postgres://app@"+p.Addr()+"/postgres?sslmode="+mode)
		if (got == "") != want {
			t.Errorf("sslmode=%s: %s", mode, got)
		}
	}
	certs, err := postgres.NewTLS("localhost")
	if err != nil {
		t.Fatal(err)
	}
	ca, cert, key := writeTLS(t, certs)
	p = startYAML(t, fmt.Sprintf("listen: {tls: {mode: require, cert_file: %q, key_file: %q}}\ndatabases: {postgres: {dsn: %q}}\n", cert, key, c.SuperDSN("postgres")))
	_, port, _ := net.SplitHostPort(p.Addr())
	for dsn, want := range map[string]bool{
		"postgres://app@localhost:" + port + "/postgres?sslmode=verify-full&sslrootcert=" + ca: true,
		"postgres://app@127.0.0.1:" + port + "/postgres?sslmode=verify-full&sslrootcert=" + ca: false,
		"postgres://app@127.0.0.1:" + port + "/postgres?sslmode=verify-ca&sslrootcert=" + ca:   true,
		"postgres://app@127.0.0.1:" + port + "/postgres?sslmode=disable":                       false,
	} {
		if got := loginCode(t, dsn); (got == "") != want {
			t.Errorf("%s: %q", dsn[len("postgres://app@"):len("postgres://app@")+9], got)
		}
	}
	off := startYAML(t, fmt.Sprintf("listen: {tls: {mode: disable}}\ndatabases: {postgres: {dsn: %q}}\n", c.SuperDSN("postgres")))
	if got := loginCode(t, "postgres://app@"+off.Addr()+"/postgres?sslmode=require"); got == "" {
		t.Error("TLS where it is turned off")
	}
}

// TestTLSToServers: what each mode demands of the server.
func TestTLSToServers(t *testing.T) {
	certs, err := postgres.NewTLS("localhost")
	if err != nil {
		t.Fatal(err)
	}
	c := postgres.StartForTest(t, postgres.Config{TLS: certs, HBA: []string{"hostnossl all all all reject"}})
	ca, _, _ := writeTLS(t, certs)
	others, err := postgres.NewTLS("localhost")
	if err != nil {
		t.Fatal(err)
	}
	otherCA, _, _ := writeTLS(t, others)
	plain := postgres.ForTest(t)
	for _, test := range []struct {
		host, mode, ca string
		to             *postgres.Cluster
		works          bool
	}{
		{"127.0.0.1", "disable", "", c, false},
		{"127.0.0.1", "prefer", "", c, true},
		{"127.0.0.1", "require", "", c, true},
		{"127.0.0.1", "verify-ca", ca, c, true},
		{"127.0.0.1", "verify-ca", otherCA, c, false},
		{"localhost", "verify-full", ca, c, true},
		{"127.0.0.1", "verify-full", ca, c, false},
		{"localhost", "verify-full", otherCA, c, false},
		{"127.0.0.1", "prefer", "", plain, true},
		{"127.0.0.1", "require", "", plain, false},
	} {
		dsn := fmt.Sprintf("postgres://postgres@%s:%d/postgres?sslmode=%s", test.host, test.to.Port(), test.mode)
		if test.ca != "" {
			dsn += "&sslrootcert=" + test.ca
		}
		p := startYAML(t, fmt.Sprintf("databases: {postgres: {dsn: %q}}\n", dsn))
		s, r := tryLogin(t, p.Addr(), "app", "postgres")
		if (r.code() == "") != test.works {
			t.Errorf("%s, %s: %s", test.host, test.mode, r)
		}
		if r.code() != "" || test.to == plain {
			continue
		}
		if got := s.must("select ssl from pg_stat_ssl where pid = pg_backend_pid()").cell(); got != "t" {
			t.Errorf("%s, %s: the server connection is not encrypted", test.host, test.mode)
		}
		// A cancel takes the same way.
		s.send(sql("select pg_sleep(300)"))
		running(t, c, "postgres", "pg_sleep")
		if err := cancelRequest(p.Addr(), s.pid, s.key); err != nil {
			t.Fatal(err)
		}
		if r := s.read(); r.code() != "57014" {
			t.Errorf("%s, %s: cancel: %s", test.host, test.mode, r)
		}
	}
}

// TestTLSCarries: bulk in both directions, and leaving, over TLS.
func TestTLSCarries(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (a text)")
	p := startYAML(t, fmt.Sprintf("pool: {size: 1}\ndatabases: {%q: {dsn: %q}}\n", db, c.SuperDSN(db)))
	s := dialStorm(t, p.Addr(), db, 1, true)
	big := strings.Repeat("x", 5<<20)
	s.send(parse("", "insert into t values ($1) returning a"), bind("", big), &pgproto3.Execute{}, &pgproto3.Sync{})
	if r := s.read(); r.cell() != big {
		t.Errorf("%d bytes came back", len(r.cell()))
	}
	s.must("begin")
	s.vanish()
	clients(t, p, 0)
	resting(t, p, c, db)
}

// TestDirectTLS: TLS from the first byte, with and without ALPN.
func TestDirectTLS(t *testing.T) {
	c := postgres.ForTest(t)
	p := harness.Start(t, harness.Options{DSN: c.SuperDSN("postgres")})
	for alpn, works := range map[string]bool{"postgresql": true, "": false, "http/1.1": false} {
		cfg := &tls.Config{InsecureSkipVerify: true}
		if alpn != "" {
			cfg.NextProtos = []string{alpn}
		}
		nc, err := tls.Dial("tcp", p.Addr(), cfg)
		var r reply
		if err == nil {
			s := newPeer(t, nc)
			if _, err = nc.Write(encode(t, &pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app", "database": "postgres"}})); err == nil {
				r = s.read()
			}
		}
		if ok := err == nil && r.code() == ""; ok != works {
			t.Errorf("ALPN %q: %v %s", alpn, err, r)
		}
	}
}

// TestPlainBytesBehindSSLRequest: what came in plain before the handshake is
// never read as if it had been encrypted.
func TestPlainBytesBehindSSLRequest(t *testing.T) {
	c := postgres.ForTest(t)
	p := harness.Start(t, harness.Options{DSN: c.SuperDSN("postgres")})
	nc, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	start := encode(t, &pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app", "database": "postgres"}})
	if _, err := nc.Write(append([]byte{0, 0, 0, 8, 4, 210, 22, 47}, start...)); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(nc)
	if len(all) == 0 || all[0] != 'S' || strings.Contains(string(all), "client_encoding") {
		t.Errorf("got %q", all)
	}
	clients(t, p, 0)
}

// TestLoginDeadline: who says nothing, or half of it, is closed.
func TestLoginDeadline(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.ForTest(t)
	p := startYAML(t, fmt.Sprintf("listen: {client_login_timeout: 1s}\ndatabases: {postgres: {dsn: %q}}\n", c.SuperDSN("postgres")))
	start := encode(t, &pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app", "database": "postgres"}})
	for _, said := range [][]byte{nil, start[:1], start[:10], {0, 0, 0, 8, 4, 210, 22, 47}, {0x16}} {
		nc, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		if _, err := nc.Write(said); err != nil {
			t.Fatal(err)
		}
		switch all, err := io.ReadAll(nc); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Errorf("still there after %q", said)
		case !strings.Contains(string(all), "client_login_timeout"):
			t.Errorf("told %q after %q", all, said)
		}
		_ = nc.Close()
	}
	s := login(t, p.Addr(), "app", "postgres")
	sleepUntil(within(t), 1200*time.Millisecond)
	s.must("select 1") // one that has logged in has no deadline
}

// TestHostileLengths: packets that lie about their length end the connection
// before anything is allocated.
func TestHostileLengths(t *testing.T) {
	c := postgres.ForTest(t)
	p := harness.Start(t, harness.Options{DSN: c.SuperDSN("postgres")})
	for _, b := range [][]byte{
		{0, 0, 0, 0}, {0, 0, 0, 7, 0, 3, 0}, {0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff}, {0, 1, 0, 0, 0, 3, 0, 0}, []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		nc, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, _ = nc.Write(b)
		if _, err := io.ReadAll(nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q was believed", b)
		}
		_ = nc.Close()
	}
	login(t, p.Addr(), "app", "postgres").must("select 1")
}

// rawStartup sends a startup message of any version and returns what comes
// up to ReadyForQuery, by type.
func rawStartup(t testing.TB, addr string, version uint32, params ...string) map[byte][][]byte {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := nc.Write(startupMessage(version, "app", "postgres", params...)); err != nil {
		t.Fatal(err)
	}
	got := map[byte][][]byte{}
	for len(got['Z']) == 0 && len(got['E']) == 0 {
		var head [5]byte
		if _, err := io.ReadFull(nc, head[:]); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(nc, body); err != nil {
			t.Fatal(err)
		}
		got[head[0]] = append(got[head[0]], body)
	}
	return got
}

// TestProtocolVersions: 3.0 has short cancel keys and 3.2 long ones; newer
// ones and unknown options are negotiated.
func TestProtocolVersions(t *testing.T) {
	c := postgres.ForTest(t)
	p := harness.Start(t, harness.Options{DSN: c.SuperDSN("postgres")})
	for _, test := range []struct {
		version uint32
		params  []string
		key     int
		answer  string // body of NegotiateProtocolVersion
	}{
		{0x30000, nil, 4, ""},
		{0x30002, nil, 32, ""},
		{0x30000, []string{"_pq_.what", "1"}, 4, "\x00\x03\x00\x00\x00\x00\x00\x01_pq_.what\x00"},
		{0x30009, nil, 32, "\x00\x03\x00\x02\x00\x00\x00\x00"},
		{0x30009, []string{"_pq_.a", "1", "_pq_.b", "2"}, 32, "\x00\x03\x00\x02\x00\x00\x00\x02_pq_.a\x00_pq_.b\x00"},
	} {
		got := rawStartup(t, p.Addr(), test.version, test.params...)
		if len(got['K']) != 1 || len(got['K'][0]) != 4+test.key {
			t.Errorf("%x: BackendKeyData is %q", test.version, got['K'])
		}
		answer := ""
		if len(got['v']) > 0 {
			answer = string(got['v'][0])
		}
		if answer != test.answer {
			t.Errorf("%x: NegotiateProtocolVersion is %q, want %q", test.version, answer, test.answer)
		}
	}
	if got := rawStartup(t, p.Addr(), 0x20000); len(got['E']) != 1 {
		t.Errorf("protocol 2.0: %q", got)
	}
}

// TestLongCancelKey: a key of 3.2 cancels.
func TestLongCancelKey(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := harness.Start(t, harness.Options{DSN: c.SuperDSN(db), Size: 1, Lucky: true})
	nc, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s := newPeer(t, nc)
	s.send(&pgproto3.StartupMessage{ProtocolVersion: 0x30002, Parameters: map[string]string{"user": "app", "database": db}})
	if r := s.read(); r.code() != "" || len(s.key) != 32 {
		t.Fatalf("a key of %d bytes: %s", len(s.key), r)
	}
	s.send(sql("select pg_sleep(300)"))
	running(t, c, db, "pg_sleep")
	for _, key := range [][]byte{s.key[:4], s.key} {
		if err := cancelRequest(p.Addr(), s.pid, key); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.read(); r.code() != "57014" {
		t.Errorf("got %s", r)
	}
	if n := p.Server().Snapshot().Totals.CancelRequests; n != 1 {
		t.Errorf("%d requests were believed", n)
	}
}

// TestUpstreamPooler: a server that says it is a transaction pooler is
// refused with the sentence that names the right endpoint.
func TestUpstreamPooler(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				servePooler(nc)
			}()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	p := startYAML(t, fmt.Sprintf("databases: {postgres: {dsn: %q}}\n", "postgres://app@"+ln.Addr().String()+"/postgres?sslmode=disable"))
	_, r := tryLogin(t, p.Addr(), "app", "postgres")
	if r.code() != "57P03" || !strings.Contains(r.err.Message, "transaction pooler") || !strings.Contains(r.err.Message, "own endpoint") {
		t.Errorf("got %s", r)
	}
	if ok, why := p.Server().Ready(); ok || !strings.Contains(why, "pooler") {
		t.Errorf("ready: %v, %s", ok, why)
	}
}

// servePooler logs one client in as PgBouncer in transaction mode would, and
// answers its queries with nothing.
func servePooler(nc net.Conn) {
	defer nc.Close()
	b := pgproto3.NewBackend(nc, nc)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"})
	b.Send(&pgproto3.ParameterStatus{Name: "pgbouncer.pool_mode", Value: "transaction"})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		switch m.(type) {
		case *pgproto3.Query:
			b.Send(&pgproto3.EmptyQueryResponse{})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		}
	}
}

// TestLoginInOneWrite: a client may send its queries behind its startup packet
// without waiting. They run once, in order, and their replies come behind the
// login's.
func TestLoginInOneWrite(t *testing.T) {
	c := postgres.ForTest(t)
	p := startYAML(t, fmt.Sprintf("auth: {type: trust, users: {app: ''}}\nadmin: {users: [app]}\ndatabases: {postgres: {dsn: %q}}\n", c.SuperDSN("postgres")))
	for _, test := range []struct {
		db   string
		over bool
	}{{"postgres", false}, {"postgres", true}, {"pgbouncer", false}, {"pgbouncer", true}} {
		t.Run(fmt.Sprintf("%s, TLS %v", test.db, test.over), func(t *testing.T) {
			nc, err := net.Dial("tcp", p.Addr())
			if err != nil {
				t.Fatal(err)
			}
			if test.over {
				if _, err := nc.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
			}
			s := newPeer(t, nc)
			first, second := "select 'first'", "select '"+strings.Repeat("second", 5000)+"'"
			if test.db == "pgbouncer" {
				first, second = "SHOW VERSION", "SHOW VERSION"
			}
			s.send(&pgproto3.StartupMessage{ProtocolVersion: 196608, Parameters: map[string]string{"user": "app", "database": test.db}},
				&pgproto3.Query{String: first}, &pgproto3.Query{String: second}, &pgproto3.Terminate{})
			if r := s.read(); r.code() != "" || len(r.rows) != 0 {
				t.Fatalf("the login: %v", r)
			}
			for _, sql := range []string{first, second} {
				want := strings.TrimSuffix(strings.TrimPrefix(sql, "select '"), "'")
				if r := s.read(); r.code() != "" || len(r.rows) != 1 || test.db == "postgres" && r.cell() != want {
					t.Fatalf("%.20s: %.200v", sql, r)
				}
			}
			if rest, err := io.ReadAll(nc); len(rest) > 0 || err != nil {
				t.Errorf("more came: %q, %v", rest, err)
			}
		})
	}
}
