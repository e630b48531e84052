package daemon

import (
	"go.uber.org/zap"

	"pgpoold/config"
	"pgpoold/proxy"
)

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
