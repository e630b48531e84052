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
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"time"

	"pgpoold/wire/scram"
)

// The modes of listen.tls.mode.
const (
	tlsDisable    = "disable"
	tlsAllow      = "allow"
	tlsRequire    = "require"
	tlsVerifyCA   = "verify-ca"
	tlsVerifyFull = "verify-full"
)

// alpnPostgreSQL is the protocol name that direct TLS must agree on.
const alpnPostgreSQL = "postgresql"

// NewClientTLS makes the listener's side of TLS from listen.tls. disable gives
// nil. Without a certificate allow and require make one for this process,
// which clients can use for encryption but not verify. With a CA the
// certificates of clients are verified: those that are shown with allow and
// require, one from every client with verify-ca and verify-full.
func NewClientTLS(mode, certFile, keyFile, caFile string) (*ClientTLS, error) {
	verify := mode == tlsVerifyCA || mode == tlsVerifyFull
	switch {
	case mode == tlsDisable:
		return nil, nil
	case mode != tlsAllow && mode != tlsRequire && !verify:
		return nil, fmt.Errorf("listen.tls.mode: %q is none of disable, allow, require, verify-ca, verify-full", mode)
	case certFile != "" && keyFile == "":
		return nil, errors.New("listen.tls.cert_file is set, but listen.tls.key_file is not")
	case certFile == "" && keyFile != "":
		return nil, errors.New("listen.tls.key_file is set, but listen.tls.cert_file is not")
	case verify && certFile == "":
		return nil, fmt.Errorf("listen.tls.mode %s needs listen.tls.cert_file and listen.tls.key_file", mode)
	case verify && caFile == "":
		return nil, fmt.Errorf("listen.tls.mode %s needs listen.tls.ca_file, which verifies the clients' certificates", mode)
	}

	t := &ClientTLS{Mode: mode, SelfSigned: certFile == ""}
	var cert tls.Certificate
	var err error
	if t.SelfSigned {
		cert, err = selfSigned(time.Now())
	} else {
		cert, err = loadCertificate(certFile, keyFile)
	}
	if err != nil {
		return nil, err
	}
	t.Config = &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{alpnPostgreSQL},
		// No PostgreSQL client resumes a session.
		SessionTicketsDisabled: true,
	}
	if caFile != "" {
		if t.Config.ClientCAs, err = loadCAs(caFile); err != nil {
			return nil, err
		}
		t.Config.ClientAuth = tls.VerifyClientCertIfGiven
		if verify {
			t.Config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	sum := sha256.Sum256(cert.Leaf.Raw)
	t.Fingerprint = hex.EncodeToString(sum[:])
	if t.binding, err = scram.EndPoint(cert.Leaf); err != nil {
		t.binding = nil // SCRAM-SHA-256-PLUS is not offered
	}
	return t, nil
}

// endPoint is the channel binding data for authenticate.
func (t *ClientTLS) endPoint(onTLS bool) []byte {
	if t == nil || !onTLS {
		return nil
	}
	return t.binding
}

// checkSession judges a client's encryption and certificate once its startup
// packet has named the user. state is nil for a connection in plain text. It
// is not for Unix sockets, which never speak TLS.
func (t *ClientTLS) checkSession(state *tls.ConnectionState, user string) error {
	switch {
	case t == nil || t.Mode == tlsAllow:
		return nil
	case state == nil:
		return &authError{
			code:    codeInvalidAuthorization,
			message: "this server requires TLS",
			detail:  "listen.tls.mode is " + t.Mode + "; connect with sslmode=require.",
		}
	case t.Mode != tlsVerifyFull:
		return nil
	}
	if len(state.VerifiedChains) == 0 || !namesUser(state.PeerCertificates[0], user) {
		return &authError{
			code:    codeInvalidAuthorization,
			message: fmt.Sprintf("certificate authentication failed for user \"%s\"", user),
			detail:  "listen.tls.mode is verify-full, and the client's certificate does not name the user.",
		}
	}
	return nil
}

// namesUser reports whether the certificate is the user's: by its common name,
// or by a name among its DNS and e-mail alternatives.
func namesUser(cert *x509.Certificate, user string) bool {
	return user != "" && (cert.Subject.CommonName == user ||
		slices.Contains(cert.DNSNames, user) || slices.Contains(cert.EmailAddresses, user))
}

// checkDirectTLS judges a handshake that no SSLRequest had announced: like
// PostgreSQL's it must have agreed on the protocol.
func checkDirectTLS(state tls.ConnectionState) error {
	if state.NegotiatedProtocol == alpnPostgreSQL {
		return nil
	}
	return &authError{
		code:    codeProtocolViolation,
		message: "received direct SSL connection request without ALPN protocol negotiation extension",
	}
}

func loadCertificate(certFile, keyFile string) (tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("listen.tls.cert_file: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("listen.tls.key_file: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("listen.tls.cert_file %s with listen.tls.key_file %s: %w", certFile, keyFile, err)
	}
	return cert, nil
}

func loadCAs(caFile string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("listen.tls.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("listen.tls.ca_file: %s holds no certificate", caFile)
	}
	return pool, nil
}

// selfSigned makes a certificate that outlives any process.
func selfSigned(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "pgpoold"},
		NotBefore:             now.Add(-24 * time.Hour), // clocks differ
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
