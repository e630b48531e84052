package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/wire/scram"
)

const authTestTimeout = 30 * time.Second

// authServer logs clients in and serves nothing else.
type authServer struct {
	auth *authenticator
	tls  *ClientTLS
	ln   net.Listener

	wg      sync.WaitGroup
	results chan authResult // one for each client that sent a startup packet
}

type authResult struct {
	id  identity
	err error
}

func newAuthServer(t *testing.T, opts AuthOptions, clientTLS *ClientTLS) *authServer {
	t.Helper()
	a, err := newAuthenticator(opts)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &authServer{auth: a, tls: clientTLS, ln: ln, results: make(chan authResult, 1000)}
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		s.wg.Wait()
	})
	return s
}

func (s *authServer) accept() {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.serve(conn) })
	}
}

func (s *authServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(authTestTimeout))
	var state *tls.ConnectionState
	var startup *pgproto3.StartupMessage
	for startup == nil {
		msg, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage()
		if err != nil {
			return
		}
		switch msg := msg.(type) {
		case *pgproto3.StartupMessage:
			startup = msg
		case *pgproto3.SSLRequest:
			if s.tls == nil {
				_, _ = conn.Write([]byte{'N'})
				continue
			}
			_, _ = conn.Write([]byte{'S'})
			over := tls.Server(conn, s.tls.Config)
			if over.Handshake() != nil {
				return
			}
			cs := over.ConnectionState()
			state, conn = &cs, over
		default:
			_, _ = conn.Write([]byte{'N'})
		}
	}
	user := startup.Parameters["user"]
	err := s.tls.checkSession(state, user)
	var id identity
	if err == nil {
		id, err = authenticate(conn, user, s.auth, s.tls.endPoint(state != nil))
	}
	s.results <- authResult{id, err}
	client := pgproto3.NewBackend(conn, conn)
	var refused *authError
	switch {
	case errors.As(err, &refused):
		client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL",
			Code: refused.code, Message: refused.message, Detail: refused.detail})
	case err != nil:
		return
	default:
		client.Send(&pgproto3.AuthenticationOk{})
		client.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"})
		client.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
		client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
	if client.Flush() == nil {
		_, _ = io.Copy(io.Discard, conn) // until the client has read it and leaves
	}
}

// login is a real client's: pgconn.
func (s *authServer) login(t *testing.T, user, password string, change func(*pgconn.Config)) (authResult, error) {
	t.Helper()
	cfg, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	addr := s.ln.Addr().(*net.TCPAddr)
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = "127.0.0.1", uint16(addr.Port), user, password, "db"
	cfg.Fallbacks = nil
	if change != nil {
		change(cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), authTestTimeout)
	defer cancel()
	pc, err := pgconn.ConnectConfig(ctx, cfg)
	if err == nil {
		_ = pc.Close(ctx)
	}
	select {
	case r := <-s.results:
		return r, err
	case <-ctx.Done():
		t.Fatalf("the server never saw the login: %v", err)
		return authResult{}, err
	}
}

func mustHash(t testing.TB, password string, iterations int) string {
	t.Helper()
	hash, err := scram.HashPassword(password, iterations)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func testUsers(t testing.TB) map[string]string {
	return map[string]string{
		"plain": "secret",
		"md5":   scram.MD5Secret("secret", "md5"),
		"scram": mustHash(t, "secret", 100),
		"empty": "",
		"long":  strings.Repeat("x", 20000),
	}
}

func TestAuthenticate(t *testing.T) {
	users := testUsers(t)
	verifier, err := scram.ParseVerifier(users["scram"])
	if err != nil {
		t.Fatal(err)
	}
	keys, err := scram.DeriveKeys("secret", verifier.Salt, verifier.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	scramIdentity := identity{User: "scram", ClientKey: keys.ClientKey[:], ServerKey: keys.ServerKey[:]}
	const wrong = "28P01 password authentication failed for user"

	for _, tt := range []struct {
		method, user, password string
		want                   identity
		wantErr                string // code and text
		wantReason             string
	}{
		{"trust", "plain", "", identity{User: "plain", Password: "secret"}, "", ""},
		{"trust", "md5", "", identity{User: "md5", MD5Secret: users["md5"]}, "", ""},
		{"trust", "scram", "", identity{User: "scram"}, "", ""},
		{"trust", "empty", "", identity{User: "empty"}, "", ""},
		{"trust", "nobody", "", identity{}, `28000 role "nobody" does not exist`, ""},
		{"any", "plain", "", identity{User: "plain"}, "", ""},
		{"any", "nobody", "whatever", identity{User: "nobody"}, "", ""},

		{"password", "plain", "secret", identity{User: "plain", Password: "secret"}, "", ""},
		{"password", "md5", "secret", identity{User: "md5", Password: "secret"}, "", ""},
		{"password", "scram", "secret", identity{User: "scram", Password: "secret"}, "", ""},
		{"password", "plain", "wrong", identity{}, wrong + ` "plain"`, "wrong password"},
		{"password", "md5", "wrong", identity{}, wrong + ` "md5"`, "wrong password"},
		{"password", "md5", users["md5"], identity{}, wrong + ` "md5"`, "wrong password"},
		{"password", "scram", "wrong", identity{}, wrong + ` "scram"`, "wrong password"},
		{"password", "scram", users["scram"], identity{}, wrong + ` "scram"`, "wrong password"},
		{"password", "empty", "secret", identity{}, wrong + ` "empty"`, "empty"},
		{"password", "nobody", "secret", identity{}, wrong + ` "nobody"`, "not among auth.users"},
		{"password", "plain", "", identity{}, "28P01 empty password returned by client", ""},

		{"md5", "plain", "secret", identity{User: "plain", Password: "secret"}, "", ""},
		{"md5", "md5", "secret", identity{User: "md5", MD5Secret: users["md5"]}, "", ""},
		{"md5", "scram", "secret", scramIdentity, "", ""},
		{"md5", "long", users["long"], identity{User: "long", Password: users["long"]}, "", ""},
		{"md5", "plain", "wrong", identity{}, wrong + ` "plain"`, "wrong password"},
		{"md5", "plain", "", identity{}, wrong + ` "plain"`, "wrong password"},
		{"md5", "md5", "wrong", identity{}, wrong + ` "md5"`, "wrong password"},
		{"md5", "scram", "wrong", identity{}, wrong + ` "scram"`, "wrong password"},
		{"md5", "empty", "", identity{}, wrong + ` "empty"`, "empty"},
		{"md5", "nobody", "secret", identity{}, wrong + ` "nobody"`, "not among auth.users"},

		{"scram-sha-256", "plain", "secret", identity{User: "plain", Password: "secret"}, "", ""},
		{"scram-sha-256", "scram", "secret", scramIdentity, "", ""},
		{"scram-sha-256", "long", users["long"], identity{User: "long", Password: users["long"]}, "", ""},
		{"scram-sha-256", "md5", "secret", identity{}, wrong + ` "md5"`, "md5, which auth.type scram-sha-256 cannot use"},
		{"scram-sha-256", "plain", "wrong", identity{}, wrong + ` "plain"`, "wrong password"},
		{"scram-sha-256", "plain", "", identity{}, wrong + ` "plain"`, "wrong password"},
		{"scram-sha-256", "scram", "wrong", identity{}, wrong + ` "scram"`, "wrong password"},
		{"scram-sha-256", "empty", "", identity{}, wrong + ` "empty"`, "empty"},
		{"scram-sha-256", "nobody", "secret", identity{}, wrong + ` "nobody"`, "not among auth.users"},
	} {
		t.Run(tt.method+"/"+tt.user+"/"+fmt.Sprintf("%.8s", tt.password), func(t *testing.T) {
			s := newAuthServer(t, AuthOptions{Type: tt.method, Users: users}, nil)
			r, err := s.login(t, tt.user, tt.password, nil)
			if tt.wantErr == "" {
				if err != nil || r.err != nil {
					t.Fatalf("client %v, server %v", err, r.err)
				}
				if !sameIdentity(r.id, tt.want) {
					t.Errorf("identity %+v, want %+v", r.id, tt.want)
				}
				return
			}
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code+" "+pg.Message != tt.wantErr || pg.Severity != "FATAL" {
				t.Errorf("the client got %v, want %s", err, tt.wantErr)
			}
			if !sameIdentity(r.id, identity{}) {
				t.Errorf("a refused client has the identity %+v", r.id)
			}
			var refused *authError
			if !errors.As(r.err, &refused) || !strings.Contains(refused.reason, tt.wantReason) {
				t.Errorf("the reason for the log is %q", r.err)
			}
			for _, secret := range []string{"secret", users["md5"], users["scram"]} {
				if strings.Contains(strings.ReplaceAll(r.err.Error(), "user's secret in", ""), secret) {
					t.Errorf("the error shows a secret: %v", r.err)
				}
			}
		})
	}
}

func sameIdentity(a, b identity) bool {
	return a.User == b.User && a.Password == b.Password && a.MD5Secret == b.MD5Secret &&
		bytes.Equal(a.ClientKey, b.ClientKey) && bytes.Equal(a.ServerKey, b.ServerKey)
}

func TestCredentials(t *testing.T) {
	key := []byte("key")
	for _, tt := range []struct {
		id                  identity
		password, key, hash bool
	}{
		{identity{User: "u", Password: "p", ClientKey: key, ServerKey: key, MD5Secret: "m"}, true, false, false},
		{identity{User: "u", ClientKey: key, ServerKey: key, MD5Secret: "m"}, false, true, false},
		{identity{User: "u", MD5Secret: "m"}, false, false, true},
		{identity{User: "u"}, false, false, false},
	} {
		c := tt.id.credentials()
		if c.User != "u" || (c.Password != "") != tt.password || (c.ClientKey != nil) != tt.key || (c.ServerKey != nil) != tt.key || (c.MD5Secret != "") != tt.hash {
			t.Errorf("%+v gives %+v", tt.id, c)
		}
	}
}

// scriptedClient has sent everything already.
type scriptedClient struct {
	io.Reader
	bytes.Buffer // what it was sent
}

func (c *scriptedClient) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func passwordMessage(body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{'p'}, uint32(4+len(body))), body...)
}

func saslMessage(mechanism, data string) []byte {
	body := binary.BigEndian.AppendUint32([]byte(mechanism+"\x00"), uint32(len(data)))
	return passwordMessage(string(body) + data)
}

func TestHostileClient(t *testing.T) {
	huge := func(size uint32) []byte { return binary.BigEndian.AppendUint32([]byte{'p'}, size) }
	for _, tt := range []struct {
		name, method string
		sends        []byte
		code, want   string // code "": not an authError
	}{
		{"nothing", "password", nil, "", "EOF"},
		{"terminate", "password", []byte{'X', 0, 0, 0, 4}, "", "EOF"},
		{"cut header", "md5", []byte{'p', 0, 0}, "", "unexpected EOF"},
		{"cut body", "md5", passwordMessage("md5abc\x00")[:8], "", "unexpected EOF"},
		{"query", "password", []byte("Q\x00\x00\x00\x0dselect 1\x00"), "08P01", "expected password response, got message type 81"},
		{"query instead of SASL", "scram-sha-256", []byte("Q\x00\x00\x00\x0dselect 1\x00"), "08P01", "expected SASL response, got message type 81"},
		{"length 3", "password", huge(3), "08P01", "invalid message length"},
		{"length 2^32-1", "password", huge(1<<32 - 1), "08P01", "invalid message length"},
		{"length 2^31", "scram-sha-256", huge(1 << 31), "08P01", "invalid message length"},
		{"a byte too long", "password", huge(4 + maxAuthToken + 1), "08P01", "invalid message length"},
		{"as long as it may be", "password", huge(4 + maxAuthToken), "", "EOF"},
		{"empty body", "password", passwordMessage(""), "08P01", "invalid password packet size"},
		{"no terminator", "password", passwordMessage("secret"), "08P01", "invalid password packet size"},
		{"bytes behind the terminator", "password", passwordMessage("secret\x00x"), "08P01", "invalid password packet size"},
		{"two terminators", "md5", passwordMessage("secret\x00\x00"), "08P01", "invalid password packet size"},
		{"empty password", "password", passwordMessage("\x00"), "28P01", "empty password returned by client"},
		{"empty response", "md5", passwordMessage("\x00"), "28P01", "empty password returned by client"},
		{"SASL without a mechanism", "scram-sha-256", passwordMessage(""), "08P01", "invalid SASLInitialResponse"},
		{"SASL without a length", "scram-sha-256", passwordMessage("SCRAM-SHA-256\x00\x00\x00"), "08P01", "invalid SASLInitialResponse"},
		{"SASL length beyond the message", "scram-sha-256", passwordMessage("SCRAM-SHA-256\x00\x00\x00\x00\x09n,,"), "08P01", "invalid SASLInitialResponse"},
		{"SASL length short of the message", "scram-sha-256", passwordMessage("SCRAM-SHA-256\x00\x00\x00\x00\x01n,,"), "08P01", "invalid SASLInitialResponse"},
		{"SASL length -2", "scram-sha-256", passwordMessage("SCRAM-SHA-256\x00\xff\xff\xff\xfe"), "08P01", "invalid SASLInitialResponse"},
		{"SASL length -1 with data", "scram-sha-256", passwordMessage("SCRAM-SHA-256\x00\xff\xff\xff\xffn"), "08P01", "invalid SASLInitialResponse"},
		{"SASL without data, then nothing", "scram-sha-256", passwordMessage("SCRAM-SHA-256\x00\xff\xff\xff\xff"), "", "EOF"},
		{"SASL without data, then empty", "scram-sha-256", append(passwordMessage("SCRAM-SHA-256\x00\xff\xff\xff\xff"), passwordMessage("")...), "08P01", "The message is empty"},
		{"unknown mechanism", "scram-sha-256", saslMessage("SCRAM-SHA-1", "n,,n=,r=abc"), "08P01", "invalid SASL authentication mechanism"},
		{"plus without TLS", "scram-sha-256", saslMessage("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc"), "08P01", "invalid SASL authentication mechanism"},
		{"empty client-first", "scram-sha-256", saslMessage("SCRAM-SHA-256", ""), "08P01", "The message is empty"},
		{"bad client-final", "scram-sha-256", append(saslMessage("SCRAM-SHA-256", "n,,n=,r=abc"), passwordMessage("c=biws,r=abc,p=x")...), "08P01", "Malformed proof"},
		{"password instead of client-final", "scram-sha-256", append(saslMessage("SCRAM-SHA-256", "n,,n=,r=abc"), passwordMessage("secret\x00")...), "08P01", "Message length does not match"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := newAuthenticator(AuthOptions{Type: tt.method, Users: map[string]string{"app": "secret"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, user := range []string{"app", "nobody"} {
				in := bytes.NewReader(tt.sends)
				id, err := authenticate(&scriptedClient{Reader: in}, user, a, nil)
				if err == nil || !strings.Contains(err.Error(), tt.want) || !sameIdentity(id, identity{}) {
					t.Errorf("%s: %+v, %v", user, id, err)
				}
				var refused *authError
				if errors.As(err, &refused) != (tt.code != "") || refused != nil && refused.code != tt.code {
					t.Errorf("%s: %v", user, err)
				}
			}
		})
	}
}

// authenticate reads no byte behind the message it needs.
func TestAuthenticateReadsNothingAhead(t *testing.T) {
	a, err := newAuthenticator(AuthOptions{Type: "password", Users: map[string]string{"app": "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	in := bytes.NewReader(append(passwordMessage("secret\x00"), "Qrest"...))
	if _, err := authenticate(&scriptedClient{Reader: in}, "app", a, nil); err != nil {
		t.Fatal(err)
	}
	if in.Len() != len("Qrest") {
		t.Errorf("%d bytes are left", in.Len())
	}
}

// FuzzAuthenticate sends arbitrary bytes, none of which proves a password.
func FuzzAuthenticate(f *testing.F) {
	f.Add(passwordMessage("secret\x00"))
	f.Add(append(saslMessage("SCRAM-SHA-256", "n,,n=,r=abc"), passwordMessage("c=biws,r=abc,p=AAAA")...))
	f.Add(passwordMessage("SCRAM-SHA-256\x00\xff\xff\xff\xff"))
	var auths []*authenticator
	for _, method := range []string{"password", "md5", "scram-sha-256"} {
		a, err := newAuthenticator(AuthOptions{Type: method, Users: map[string]string{"app": "a long secret that is not in the corpus"}})
		if err != nil {
			f.Fatal(err)
		}
		auths = append(auths, a)
	}
	f.Fuzz(func(t *testing.T, sends []byte) {
		for _, a := range auths {
			id, err := authenticate(&scriptedClient{Reader: bytes.NewReader(sends)}, "app", a, []byte("hash"))
			if err == nil || !sameIdentity(id, identity{}) {
				t.Errorf("method %d: %q logs in", a.method, sends)
			}
		}
	})
}
