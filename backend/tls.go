package backend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// configs lists how a host is to be tried: nil is plain. libpq's sslmode
// decides (libpq documentation, "SSL Support"); a Unix socket is never
// encrypted.
func (o TLSOptions) configs(host Host) ([]*tls.Config, error) {
	if host.Network == "unix" || o.Mode == TLSDisable {
		return []*tls.Config{nil}, nil
	}
	cfg, err := o.config(host.Host)
	if err != nil {
		return nil, err
	}
	switch o.Mode {
	case TLSAllow:
		return []*tls.Config{nil, cfg}, nil
	case TLSPrefer, "":
		return []*tls.Config{cfg, nil}, nil
	case TLSRequire, TLSVerifyCA, TLSVerifyFull:
		return []*tls.Config{cfg}, nil
	}
	return nil, fmt.Errorf("unknown TLS mode %q", o.Mode)
}

// config builds the client side of TLS towards host.
func (o TLSOptions) config(host string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	mode := o.Mode
	if mode == TLSRequire && o.CAFile != "" {
		mode = TLSVerifyCA // as libpq does, for compatibility with itself
	}
	if o.CertFile != "" || o.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate for the server: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	switch mode {
	case TLSVerifyFull, TLSVerifyCA:
		roots, err := o.roots()
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = roots
		if mode == TLSVerifyCA {
			cfg.InsecureSkipVerify = true // the host name; the chain is verified here
			cfg.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
		}
	default:
		cfg.InsecureSkipVerify = true
	}
	return cfg, nil
}

// roots reads the CA file; nil stands for the system's.
func (o TLSOptions) roots() (*x509.CertPool, error) {
	if o.CAFile == "" || o.CAFile == "system" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s holds no certificate", o.CAFile)
	}
	return pool, nil
}

// verifyChain is verify-ca: a trusted certificate, whatever its name.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server has shown no certificate")
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(opts)
	return err
}
