// Package scram holds the secrets of PostgreSQL's password authentication and
// the arithmetic of proving them: SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC
// 5802, RFC 7677, RFC 5929) from both sides, and the md5 method.
//
// It does no I/O and keeps no state beyond one exchange. Server is the side
// that knows a Verifier and, when the exchange has succeeded, also the
// client's Keys; Client is the side that logs in with such keys
// instead of a password.
//
// Limits and error texts are those of PostgreSQL's auth-scram.c. Comparisons
// that involve a secret take constant time, and no error carries one.
package scram
