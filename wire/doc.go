// Package wire knows bytes and protocol rules: frames, the messages that a
// pooler reads or makes, and the reply ledger. It has no policy, does no I/O
// and logs nothing. It follows "Frontend/Backend Protocol" of PostgreSQL's
// documentation, versions 3.0 and 3.2.
//
// Reading order: message.go (types and limits), frame.go (headers and
// strings), startup.go (before login), append.go (messages of our own),
// errorfields.go (ErrorResponse), ledger.go (which replies are owed).
//
// Memory: every function that returns a slice of its input says so; nothing
// here keeps a caller's slice.
package wire
