package daemon

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
	"os"
	"time"

	"go.uber.org/zap"

	"pgpoold/config"
	"pgpoold/proxy"
)

// alpn is PostgreSQL's protocol name, which direct TLS must agree on.
const alpn = "postgresql"

// clientTLS makes the clients' side of TLS; nil where it is disabled.
func clientTLS(t config.ClientTLS, log *zap.Logger) (*proxy.ClientTLS, error) {
	if t.Mode == "disable" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{alpn}}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("listen.tls.cert_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	} else {
		cert, err := selfSigned()
		if err != nil {
			return nil, fmt.Errorf("making a self-signed certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
		sum := sha256.Sum256(cert.Certificate[0])
		log.Info("clients get a self-signed certificate, made for this start; listen.tls.cert_file and key_file name one to keep",
			zap.String("sha256", hex.EncodeToString(sum[:])))
	}
	if t.Mode == "verify-ca" || t.Mode == "verify-full" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("listen.tls.ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, errors.New("listen.tls.ca_file: it holds no certificate in PEM")
		}
		cfg.ClientCAs, cfg.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return &proxy.ClientTLS{Mode: t.Mode, Config: cfg}, nil
}

// selfSigned makes a certificate that encrypts and proves nothing.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "pgpoold"},
		DNSNames:              []string{"localhost"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
