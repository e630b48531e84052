// Package backend is the server side: it dials PostgreSQL, keeps the server
// connections of one (database, server user) in a Pool, sends cancel requests,
// and closes what is too old or no longer clean.
//
// Reading order: options.go, dial.go (hosts, TLS, login), server.go (one
// connection and its pump), pool.go (who gets which server), waiters.go,
// dialler.go (when to dial), tick.go (what time brings), cancel.go.
//
// A server's life:
//
//	login -> idle <-> active -> closed
//	           |        |
//	         tested   being canceled
//
// Locks: Pool.mu is the innermost lock of the program. Nothing is called,
// logged or written while it is held.
package backend
