package proxy

import "crypto/tls"

// AuthOptions say how clients prove who they are.
type AuthOptions struct {
	// Type is trust, any, password, md5 or scram-sha-256.
	Type string
	// Users' secrets by name: plain, "md5" and 32 hex digits, or
	// "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>".
	Users map[string]string
}

// ClientTLS is the listener's side of TLS.
type ClientTLS struct {
	// Mode is allow, require, verify-ca or verify-full; with disable there is
	// no ClientTLS. verify-full means verify-ca plus: the certificate's CN is the user.
	Mode   string
	Config *tls.Config
}
