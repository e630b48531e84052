package proxy

import (
	"crypto/tls"

	"pgpoold/backend"
)

// AuthOptions say how clients prove who they are.
type AuthOptions struct {
	// Type is trust, any, password, md5 or scram-sha-256.
	Type string
	// Users' secrets by name: plain, "md5" and 32 hex digits, or
	// "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>".
	Users map[string]string
}

// ClientTLS is the listener's side of TLS, made by NewClientTLS.
type ClientTLS struct {
	// Mode is allow, require, verify-ca or verify-full; with disable there is
	// no ClientTLS. verify-full means verify-ca plus: the certificate names the user.
	Mode   string
	Config *tls.Config
	// SelfSigned tells that the certificate was made for this process.
	SelfSigned bool
	// Fingerprint is the certificate's SHA-256 in hex digits, for the log.
	Fingerprint string

	binding []byte // tls-server-end-point of the certificate; nil: it has none
}

// identity is who a client has proved to be, and what a login to PostgreSQL
// in its name can use. It holds secrets.
type identity struct {
	User     string
	Password string
	// ClientKey and ServerKey come from the client's SCRAM proof; PostgreSQL
	// takes them where it stores the same verifier.
	ClientKey []byte
	ServerKey []byte
	MD5Secret string
}

// credentials are the identity's for a server login, with the secret that
// serves most methods.
func (id identity) credentials() backend.Credentials {
	c := backend.Credentials{User: id.User}
	switch {
	case id.Password != "":
		c.Password = id.Password
	case id.ClientKey != nil:
		c.ClientKey, c.ServerKey = id.ClientKey, id.ServerKey
	default:
		c.MD5Secret = id.MD5Secret
	}
	return c
}

// authError refuses a client. Everything but reason is for the client.
type authError struct {
	code    string // SQLSTATE
	message string
	detail  string
	reason  string // for the log only: it may tell whether a name exists
}

func (e *authError) Error() string {
	s := e.message
	if e.detail != "" {
		s += ": " + e.detail
	}
	if e.reason != "" {
		s += " (" + e.reason + ")"
	}
	return s
}
