package scram

import (
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512 for crypto.Hash.New
	"crypto/x509"
	"fmt"
)

// EndPoint is the tls-server-end-point channel binding data of a server
// certificate (RFC 5929 §4.1): its hash by the signature's own hash function,
// with SHA-256 in place of MD5 and SHA-1. Signatures without a hash function
// of their own, such as Ed25519, have none.
func EndPoint(cert *x509.Certificate) ([]byte, error) {
	var h crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return nil, fmt.Errorf("no channel binding is defined for the signature algorithm %v", cert.SignatureAlgorithm)
	}
	sum := h.New()
	sum.Write(cert.Raw)
	return sum.Sum(nil), nil
}
