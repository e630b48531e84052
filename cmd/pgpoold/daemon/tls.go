package daemon

import (
	"crypto/tls"
	"fmt"

	"go.uber.org/zap"

	"pgpoold/config"
	"pgpoold/proxy"
)

// adminTLS is TLS for the HTTP port, nil where it has no certificate. The
// files are read for each handshake, so that a new certificate needs nothing.
func adminTLS(a config.Admin) (*tls.Config, error) {
	if a.TLSCertFile == "" {
		return nil, nil
	}
	if _, err := tls.LoadX509KeyPair(a.TLSCertFile, a.TLSKeyFile); err != nil {
		return nil, fmt.Errorf("admin.tls: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(a.TLSCertFile, a.TLSKeyFile)
			return &cert, err
		},
	}, nil
}

// renewTLS is clientTLS for a running pgpoold: files are read again, and a
// certificate that was made stays.
func (d *Daemon) renewTLS(t config.ClientTLS) (*proxy.ClientTLS, error) {
	if was := d.tls.Load(); was != nil && was.SelfSigned && t == d.config().Listen.TLS {
		return was, nil
	}
	return clientTLS(t, d.log.Logger)
}

// clientTLS makes the clients' side of TLS, nil where it is disabled, and
// logs which certificate was made where none is configured.
func clientTLS(t config.ClientTLS, log *zap.Logger) (*proxy.ClientTLS, error) {
	c, err := proxy.NewClientTLS(t.Mode, t.CertFile, t.KeyFile, t.CAFile)
	if err != nil {
		return nil, err
	}
	if c != nil && c.SelfSigned {
		log.Info("clients get a self-signed certificate, made for this start; listen.tls.cert_file and key_file name one to keep",
			zap.String("sha256", c.Fingerprint))
	}
	return c, nil
}
