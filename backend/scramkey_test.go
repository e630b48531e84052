package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
	"pgpoold/wire/scram"
)

// keyCluster is PostgreSQL with TLS and a role for each way to ask for a secret.
func keyCluster(t *testing.T) (*postgres.Cluster, *x509.CertPool) {
	t.Helper()
	files, err := postgres.NewTLS("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c := postgres.StartForTest(t, postgres.Config{
		TLS: files,
		HBA: []string{
			"host all by_scram 127.0.0.1/32 scram-sha-256",
			"host all by_md5 127.0.0.1/32 md5",
			"host all by_word 127.0.0.1/32 password",
			"host all by_trust 127.0.0.1/32 trust",
		},
	})
	ctx := t.Context()
	for _, sql := range []string{
		"create role by_scram login password 'secret'",
		"create role by_word login password 'secret'",
		"create role by_trust login",
		"set password_encryption = md5; create role by_md5 login password 'secret'",
	} {
		if err := c.Exec(ctx, "postgres", sql); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files.CA) {
		t.Fatal("no CA")
	}
	return c, roots
}

func storedSecret(t *testing.T, c *postgres.Cluster, role string) string {
	t.Helper()
	rows, err := c.Query(t.Context(), "postgres", "select rolpassword from pg_authid where rolname = '"+role+"'")
	if err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	return rows[0][0]
}

// clientKeys lets a real client prove its password to a server that knows
// the verifier only, and returns what that server learnt.
func clientKeys(t *testing.T, verifier, password string) scram.Keys {
	t.Helper()
	v, err := scram.ParseVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	var keys scram.Keys
	addr := fakeServer(t, func(conn net.Conn, client *pgproto3.Backend) error {
		s, err := scram.NewServer(v, nil)
		if err != nil {
			return err
		}
		client.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: scram.Mechanisms(nil)})
		if err := client.Flush(); err != nil {
			return err
		}
		if err := client.SetAuthType(pgproto3.AuthTypeSASL); err != nil {
			return err
		}
		msg, err := client.Receive()
		if err != nil {
			return err
		}
		initial := msg.(*pgproto3.SASLInitialResponse)
		first, err := s.First(initial.AuthMechanism, initial.Data)
		if err != nil {
			return err
		}
		client.Send(&pgproto3.AuthenticationSASLContinue{Data: first})
		if err := client.Flush(); err != nil {
			return err
		}
		if err := client.SetAuthType(pgproto3.AuthTypeSASLContinue); err != nil {
			return err
		}
		if msg, err = client.Receive(); err != nil {
			return err
		}
		final, err := s.Final(msg.(*pgproto3.SASLResponse).Data)
		if err != nil {
			return err
		}
		keys, _ = s.Keys()
		client.Send(&pgproto3.AuthenticationSASLFinal{Data: final})
		client.Send(&pgproto3.AuthenticationOk{})
		client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		return client.Flush()
	})
	pc, err := pgconn.Connect(t.Context(), "postgres://app:"+password+"@"+addr+"/db?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	_ = pc.Close(t.Context())
	return keys
}

// fakeServer accepts one connection, reads its startup packet and runs serve.
// The test waits for it, and fails with serve's error.
func fakeServer(t *testing.T, serve func(net.Conn, *pgproto3.Backend) error) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			conn, err := ln.Accept()
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				return err
			}
			client := pgproto3.NewBackend(conn, conn)
			if _, err := client.ReceiveStartupMessage(); err != nil {
				return err
			}
			return serve(conn, client)
		}()
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		if err := <-done; err != nil {
			t.Errorf("fake server: %v", err)
		}
	})
	return ln.Addr().String()
}

func keyConfig(t *testing.T, addr, user string, change func(*pgconn.Config)) *pgconn.Config {
	t.Helper()
	cfg, err := pgconn.ParseConfig("postgres://" + user + "@" + addr + "/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnectTimeout = 30 * time.Second
	if change != nil {
		change(cfg)
	}
	return cfg
}

func TestLoginWithKeys(t *testing.T) {
	c, roots := keyCluster(t)
	keys := clientKeys(t, storedSecret(t, c, "by_scram"), "secret")
	good := Credentials{ClientKey: keys.ClientKey[:], ServerKey: keys.ServerKey[:]}
	wrongKey, wrongServer := keys, keys
	wrongKey.ClientKey[31] ^= 1
	wrongServer.ServerKey[0] ^= 1
	md5 := Credentials{MD5Secret: storedSecret(t, c, "by_md5")}
	overTLS := func(cfg *pgconn.Config) {
		cfg.TLSConfig = &tls.Config{RootCAs: roots, ServerName: "localhost"}
	}

	for _, tt := range []struct {
		name, user string
		cred       Credentials
		change     func(*pgconn.Config)
		want       string // part of the error; "" is success
	}{
		{"scram", "by_scram", good, nil, ""},
		{"scram over TLS", "by_scram", good, overTLS, ""},
		{"scram, binding required", "by_scram", good, func(cfg *pgconn.Config) { overTLS(cfg); cfg.ChannelBinding = "require" }, ""},
		{"scram, binding disabled", "by_scram", good, func(cfg *pgconn.Config) { overTLS(cfg); cfg.ChannelBinding = "disable" }, ""},
		{"scram, binding required without TLS", "by_scram", good, func(cfg *pgconn.Config) { cfg.ChannelBinding = "require" },
			"SCRAM-SHA-256-PLUS is not possible"},
		{"scram required", "by_scram", good, func(cfg *pgconn.Config) { cfg.RequireAuth = "scram-sha-256" }, ""},
		{"scram forbidden", "by_scram", good, func(cfg *pgconn.Config) { cfg.RequireAuth = "!scram-sha-256" }, "require_auth=!scram-sha-256"},
		{"scram required, trust found", "by_trust", good, func(cfg *pgconn.Config) { cfg.RequireAuth = "md5, scram-sha-256" }, "does not allow the method none"},
		{"binding required, trust found", "by_trust", good, func(cfg *pgconn.Config) { overTLS(cfg); cfg.ChannelBinding = "require" }, "accepted the login without any"},
		{"trust", "by_trust", good, nil, ""},
		{"wrong ClientKey", "by_scram", Credentials{ClientKey: wrongKey.ClientKey[:], ServerKey: keys.ServerKey[:]}, nil,
			`password authentication failed for user "by_scram" (SQLSTATE 28P01)`},
		{"wrong ServerKey", "by_scram", Credentials{ClientKey: keys.ClientKey[:], ServerKey: wrongServer.ServerKey[:]}, nil,
			"signature is wrong"},
		{"short key", "by_scram", Credentials{ClientKey: keys.ClientKey[:8], ServerKey: keys.ServerKey[:]}, nil, "wrong length"},
		{"scram keys where md5 is stored", "by_md5", good, nil, "asks for an md5 response, and pgpoold knows only the SCRAM keys"},
		{"scram keys where the password is asked for", "by_word", good, nil, "asks for the password itself"},
		{"md5", "by_md5", md5, nil, ""},
		{"md5 over TLS", "by_md5", md5, overTLS, ""},
		{"md5, binding required", "by_md5", md5, func(cfg *pgconn.Config) { overTLS(cfg); cfg.ChannelBinding = "require" }, "channel_binding=require"},
		{"md5 forbidden", "by_md5", md5, func(cfg *pgconn.Config) { cfg.RequireAuth = "scram-sha-256" }, "does not allow the method md5"},
		{"md5 where SCRAM is stored", "by_scram", md5, nil, "asks for a SCRAM proof, and pgpoold knows only the user's md5 secret"},
		{"wrong md5", "by_md5", Credentials{MD5Secret: scram.MD5Secret("wrong", "by_md5")}, nil, "SQLSTATE 28P01"},
		{"a password stays pgconn's", "by_scram", Credentials{Password: "secret"}, func(cfg *pgconn.Config) { cfg.Password = "secret" }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			cfg := keyConfig(t, c.Addr(), tt.user, tt.change)
			withKeys(cfg, tt.cred)
			pc, err := pgconn.ConnectConfig(ctx, cfg)
			if tt.want != "" {
				if err == nil {
					_ = pc.Close(ctx)
					t.Fatal("the login succeeded")
				}
				var pg *pgconn.PgError
				if !strings.Contains(err.Error(), tt.want) || !errors.As(err, &pg) || !strings.HasPrefix(pg.Code, "28") {
					t.Fatalf("error %v", err)
				}
				if strings.Contains(err.Error(), md5.MD5Secret) {
					t.Error("the error shows a secret")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// Enough rows that messages straddle many reads.
			res, err := pc.Exec(ctx, "select current_user; select repeat('x', 3000) from generate_series(1, 300)").ReadAll()
			if err != nil || string(res[0].Rows[0][0]) != tt.user || len(res[1].Rows) != 300 {
				t.Errorf("the connection does not work after the login: %v", err)
			}
			_ = pc.Close(ctx)
		})
	}
}

// The verifier that PostgreSQL makes of a password is the one made here,
// whatever SASLprep does to it.
func TestVerifierIsPostgresqls(t *testing.T) {
	c := postgres.StartForTest(t, postgres.Config{})
	for _, password := range []string{
		"secret", "with space ", "I\u00adX", "\u00aa", "\u2168", "\ufb01sh", "a\u00a0b\u3000c", "a\u200bb", "e\u0301", "\u00c5ngstr\u00f6m",
		"\u0627\u00ad\u0628", "\u0627\u00ad1", "\u0627a\u00ad\u0628", "\u00e9\u0007\u00ad", "\u0221\u00ad", "\U0001f600\u00aa", "\u0340\u00ad",
		"\u00ad", "\uff11\uff12", "\u1e9b\u0323", "\uac00\u11a8", "\u0958", "\u2126",
	} {
		if err := c.Exec(t.Context(), "postgres", "drop role if exists someone; create role someone password '"+password+"'"); err != nil {
			t.Fatal(err)
		}
		v, err := scram.ParseVerifier(storedSecret(t, c, "someone"))
		if err != nil {
			t.Fatal(err)
		}
		if !v.CheckPassword(password) {
			t.Errorf("%+q has another verifier in PostgreSQL", password)
		}
		if v.CheckPassword(password + "x") {
			t.Errorf("%+q: a wrong password was taken", password)
		}
		if err := c.Exec(t.Context(), "postgres", "alter role someone password '"+v.String()+"'"); err != nil {
			t.Fatal(err)
		}
		if storedSecret(t, c, "someone") != v.String() {
			t.Errorf("PostgreSQL does not take the text of the verifier")
		}
	}
	hashed, err := scram.HashPassword("secret", 10000)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(t.Context(), "postgres", "alter role someone password '"+hashed+"'"); err != nil || storedSecret(t, c, "someone") != hashed {
		t.Errorf("PostgreSQL does not take a hashed password as it is: %v", err)
	}
}

// After Hijack the connection underneath is all there is: nothing was read
// ahead of pgconn.
func TestUnwrapAfterHijack(t *testing.T) {
	c, roots := keyCluster(t)
	keys := clientKeys(t, storedSecret(t, c, "by_scram"), "secret")
	cfg := keyConfig(t, c.Addr(), "by_scram", func(cfg *pgconn.Config) {
		cfg.TLSConfig = &tls.Config{RootCAs: roots, ServerName: "localhost"}
		cfg.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
			return &outerConn{conn}, nil
		}
		cfg.ChannelBinding = "require" // finds the TLS connection below outerConn
	})
	withKeys(cfg, Credentials{ClientKey: keys.ClientKey[:], ServerKey: keys.ServerKey[:]})
	pc, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.SyncConn(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, err := pc.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	u, ok := h.Conn.(interface{ Unwrap() net.Conn })
	if !ok {
		t.Fatalf("%T cannot be unwrapped", h.Conn)
	}
	conn := u.Unwrap()
	if _, ok := conn.(*outerConn); !ok {
		t.Fatalf("%T is underneath", conn)
	}
	defer conn.Close()
	server := pgproto3.NewFrontend(conn, conn)
	server.Send(&pgproto3.Query{String: "select 7"})
	if err := server.Flush(); err != nil {
		t.Fatal(err)
	}
	var got string
	for {
		msg, err := server.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if row, ok := msg.(*pgproto3.DataRow); ok {
			got = string(row.Values[0])
		}
		if _, ok := msg.(*pgproto3.ReadyForQuery); ok {
			break
		}
	}
	if got != "7" {
		t.Errorf("select 7 gives %q", got)
	}
}

type outerConn struct{ net.Conn }

func (c *outerConn) Unwrap() net.Conn { return c.Conn }
