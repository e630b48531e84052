// Package backend is the server side: it dials PostgreSQL, keeps the server
// connections of one (database, server user) in a Pool, sends cancel requests,
// and closes what is too old or no longer clean.
//
// Reading order: options.go, dial.go (hosts, TLS, login), server.go (one
// connection and its pump), pool.go (who gets which server), waiters.go,
// dialler.go (when to dial), limits.go and share.go (what several pools share),
// tick.go (what time brings), control.go (what changes while it runs),
// moved.go (names of hosts), cancel.go.
//
// A server's life:
//
//	login -> idle <-> active -> closed
//	           |        |
//	         tested   being canceled
//
// Locks: Pool.mu is the innermost lock of the program but for that of Shares.
// Nothing is called, logged or written while one of them is held.
package backend
