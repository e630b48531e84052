package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// testCA signs certificates and keeps them as files.
type testCA struct {
	dir  string
	file string // the CA's certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	ca := &testCA{dir: t.TempDir(), pool: x509.NewCertPool()}
	ca.cert, ca.key = ca.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	ca.pool.AddCert(ca.cert)
	ca.file = ca.write(t, "ca.pem", "CERTIFICATE", ca.cert.Raw)
	return ca
}

// sign makes a certificate; parent nil means its own.
func (ca *testCA) sign(t *testing.T, template, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	signer := ca.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (ca *testCA) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(ca.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// files makes a certificate and its key as files.
func (ca *testCA) files(t *testing.T, name string, template *x509.Certificate) (certFile, keyFile string) {
	t.Helper()
	cert, key := ca.sign(t, template, ca.cert)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return ca.write(t, name+".crt", "CERTIFICATE", cert.Raw), ca.write(t, name+".key", "PRIVATE KEY", der)
}

func serverTemplate() *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "pgpoold.test"}, DNSNames: []string{"pgpoold.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

func clientTemplate(name string, dns ...string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: dns,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func TestNewClientTLS(t *testing.T) {
	ca := newTestCA(t)
	cert, key := ca.files(t, "server", serverTemplate())
	_, otherKey := ca.files(t, "other", serverTemplate())
	missing := filepath.Join(ca.dir, "missing")
	for _, tt := range []struct {
		mode, cert, key, ca string
		wantErr             []string
		selfSigned          bool
		clientAuth          tls.ClientAuthType
	}{
		{mode: "allow", selfSigned: true},
		{mode: "require", selfSigned: true},
		{mode: "allow", cert: cert, key: key},
		{mode: "require", cert: cert, key: key, ca: ca.file, clientAuth: tls.VerifyClientCertIfGiven},
		{mode: "verify-ca", cert: cert, key: key, ca: ca.file, clientAuth: tls.RequireAndVerifyClientCert},
		{mode: "verify-full", cert: cert, key: key, ca: ca.file, clientAuth: tls.RequireAndVerifyClientCert},

		{mode: "prefer", wantErr: []string{"listen.tls.mode", "prefer", "verify-full"}},
		{mode: "", wantErr: []string{"listen.tls.mode"}},
		{mode: "allow", cert: cert, wantErr: []string{"listen.tls.key_file is not"}},
		{mode: "allow", key: key, wantErr: []string{"listen.tls.cert_file is not"}},
		{mode: "verify-ca", ca: ca.file, wantErr: []string{"verify-ca needs listen.tls.cert_file and listen.tls.key_file"}},
		{mode: "verify-full", cert: cert, key: key, wantErr: []string{"verify-full needs listen.tls.ca_file"}},
		{mode: "allow", cert: missing, key: key, wantErr: []string{"listen.tls.cert_file", missing}},
		{mode: "allow", cert: cert, key: missing, wantErr: []string{"listen.tls.key_file", missing}},
		{mode: "allow", cert: cert, key: otherKey, wantErr: []string{"listen.tls.cert_file", "listen.tls.key_file", "does not match"}},
		{mode: "allow", cert: key, key: key, wantErr: []string{"listen.tls.cert_file"}},
		{mode: "verify-ca", cert: cert, key: key, ca: missing, wantErr: []string{"listen.tls.ca_file", missing}},
		{mode: "verify-ca", cert: cert, key: key, ca: key, wantErr: []string{"listen.tls.ca_file", "no certificate"}},
	} {
		c, err := NewClientTLS(tt.mode, tt.cert, tt.key, tt.ca)
		if len(tt.wantErr) > 0 {
			if err == nil {
				t.Errorf("%+v was taken", tt)
				continue
			}
			for _, want := range tt.wantErr {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		sum := sha256.Sum256(c.Config.Certificates[0].Certificate[0])
		if c.Mode != tt.mode || c.SelfSigned != tt.selfSigned || c.Config.ClientAuth != tt.clientAuth || c.Fingerprint != hex.EncodeToString(sum[:]) {
			t.Errorf("%+v gives %s, self-signed %v, client auth %v, fingerprint %s", tt, c.Mode, c.SelfSigned, c.Config.ClientAuth, c.Fingerprint)
		}
		if c.endPoint(true) == nil || c.endPoint(false) != nil {
			t.Errorf("%s: channel binding %x with TLS, %x without", tt.mode, c.endPoint(true), c.endPoint(false))
		}
	}

	c, err := NewClientTLS("disable", missing, "", "")
	if c != nil || err != nil {
		t.Errorf("disable gives %v, %v", c, err)
	}
	if c.endPoint(true) != nil || c.checkSession(nil, "app") != nil {
		t.Error("disable asks for something")
	}
}

func TestSelfSigned(t *testing.T) {
	now := time.Now()
	cert, err := selfSigned(now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := selfSigned(now)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Leaf.Equal(again.Leaf) || cert.Leaf.SerialNumber.Cmp(again.Leaf.SerialNumber) == 0 {
		t.Error("two processes share a certificate")
	}
	pub, ok := cert.Leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		t.Errorf("the key is %T", cert.Leaf.PublicKey)
	}
	if cert.Leaf.IsCA || now.Before(cert.Leaf.NotBefore) || now.AddDate(9, 0, 0).After(cert.Leaf.NotAfter) {
		t.Errorf("CA %v, %v to %v", cert.Leaf.IsCA, cert.Leaf.NotBefore, cert.Leaf.NotAfter)
	}
}

// handshake connects a TLS client to c and returns the server's view.
func handshake(t *testing.T, c *ClientTLS, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(authTestTimeout))
		if over := tls.Client(conn, client); over.Handshake() == nil {
			_, _ = over.Read(make([]byte, 1)) // until the server closes
		}
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(authTestTimeout))
	over := tls.Server(conn, c.Config)
	err = over.Handshake()
	state := over.ConnectionState()
	_ = conn.Close()
	<-done
	return state, err
}

func TestHandshake(t *testing.T) {
	ca, foreign := newTestCA(t), newTestCA(t)
	certFile, keyFile := ca.files(t, "server", serverTemplate())
	certificate := func(from *testCA, name string, dns ...string) []tls.Certificate {
		cert, key := from.files(t, name, clientTemplate(name, dns...))
		c, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	app, byAlternative := certificate(ca, "app"), certificate(ca, "machine", "app")
	other, forged := certificate(ca, "other"), certificate(foreign, "app")

	for _, tt := range []struct {
		name, mode string
		client     *tls.Config
		handshake  bool
		code       string // of checkSession for the user app
	}{
		{"no certificate where none is asked for", "require", &tls.Config{}, true, ""},
		{"any certificate of the CA", "require", &tls.Config{Certificates: other}, true, ""},
		{"a certificate that is not the CA's", "require", &tls.Config{Certificates: forged}, false, ""},
		{"verify-ca", "verify-ca", &tls.Config{Certificates: other}, true, ""},
		{"verify-ca without a certificate", "verify-ca", &tls.Config{}, false, ""},
		{"verify-ca with another CA's", "verify-ca", &tls.Config{Certificates: forged}, false, ""},
		{"verify-full", "verify-full", &tls.Config{Certificates: app}, true, ""},
		{"verify-full by an alternative name", "verify-full", &tls.Config{Certificates: byAlternative}, true, ""},
		{"verify-full for somebody else", "verify-full", &tls.Config{Certificates: other}, true, "28000"},
		{"verify-full without a certificate", "verify-full", &tls.Config{}, false, "28000"},
		{"TLS 1.2", "require", &tls.Config{MaxVersion: tls.VersionTLS12}, true, ""},
		{"TLS 1.1", "require", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false, ""},
		{"another protocol", "require", &tls.Config{NextProtos: []string{"h2"}}, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewClientTLS(tt.mode, certFile, keyFile, ca.file)
			if err != nil {
				t.Fatal(err)
			}
			tt.client.RootCAs, tt.client.ServerName = ca.pool, "pgpoold.test"
			if len(tt.client.Certificates) > 0 {
				// Shown whether or not the server lists its CA.
				tt.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &tt.client.Certificates[0], nil
				}
			}
			state, err := handshake(t, c, tt.client)
			if (err == nil) != tt.handshake {
				t.Fatalf("handshake: %v", err)
			}
			if tt.handshake {
				checkCode(t, c.checkSession(&state, "app"), tt.code)
			}
			checkCode(t, c.checkSession(nil, "app"), "28000")
		})
	}

	c, err := NewClientTLS("allow", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		protos []string
		code   string
	}{{[]string{"postgresql"}, ""}, {[]string{"h2", "postgresql"}, ""}, {nil, "08P01"}} {
		state, err := handshake(t, c, &tls.Config{InsecureSkipVerify: true, NextProtos: tt.protos})
		if err != nil {
			t.Fatal(err)
		}
		checkCode(t, checkDirectTLS(state), tt.code)
		checkCode(t, c.checkSession(&state, "app"), "")
	}
	checkCode(t, c.checkSession(nil, "app"), "")
}

// A state without a verified certificate never passes verify-full, whatever
// names it holds.
func TestVerifyFullNeedsAVerifiedChain(t *testing.T) {
	c := &ClientTLS{Mode: "verify-full"}
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "app"}}
	checkCode(t, c.checkSession(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}, "app"), "28000")
	checkCode(t, c.checkSession(&tls.ConnectionState{}, "app"), "28000")
	nameless := &x509.Certificate{}
	verified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{nameless}, VerifiedChains: [][]*x509.Certificate{{nameless}}}
	checkCode(t, c.checkSession(verified, ""), "28000")
}

func checkCode(t *testing.T, err error, code string) {
	t.Helper()
	var refused *authError
	if code == "" && err != nil || code != "" && (!errors.As(err, &refused) || refused.code != code) {
		t.Errorf("error %v, want %q", err, code)
	}
}

// TestLoginOverTLS lets real clients in and keeps them out.
func TestLoginOverTLS(t *testing.T) {
	ca := newTestCA(t)
	certFile, keyFile := ca.files(t, "server", serverTemplate())
	required, err := NewClientTLS("require", certFile, keyFile, "")
	if err != nil {
		t.Fatal(err)
	}
	s := newAuthServer(t, AuthOptions{Type: "scram-sha-256", Users: map[string]string{"app": "secret"}}, required)

	bound := func(cfg *pgconn.Config) {
		cfg.TLSConfig = &tls.Config{RootCAs: ca.pool, ServerName: "pgpoold.test"}
		cfg.ChannelBinding = "require"
	}
	r, err := s.login(t, "app", "secret", bound)
	if err != nil || r.id.Password != "secret" {
		t.Errorf("with TLS: %v, %v", err, r.err)
	}
	_, err = s.login(t, "app", "secret", nil)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "28000" || !strings.Contains(pg.Detail, "listen.tls.mode is require") {
		t.Errorf("without TLS: %v", err)
	}

	// Somebody in the middle with a certificate of his own passes the exchange on.
	middle := *required
	other, err := NewClientTLS("require", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	middle.Config = other.Config
	s = newAuthServer(t, AuthOptions{Type: "scram-sha-256", Users: map[string]string{"app": "secret"}}, &middle)
	r, err = s.login(t, "app", "secret", func(cfg *pgconn.Config) {
		bound(cfg)
		cfg.TLSConfig.InsecureSkipVerify = true
	})
	if err == nil || r.err == nil || !strings.Contains(r.err.Error(), "SCRAM channel binding check failed") {
		t.Errorf("a man in the middle: client %v, server %v", err, r.err)
	}
}
