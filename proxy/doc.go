// Package proxy is the client side and the pairing: it lets clients in, keeps
// what each session is and wishes, and attaches sessions to servers for as
// long as a transaction lasts.
//
// Reading order: options.go; server.go (accepting, the clock), login.go with
// startup.go and the auth files (from accept to ReadyForQuery); session.go and
// input.go (what a client sends), attach.go (taking a server), feeder.go and
// prepare.go (what goes to it), link.go, relay.go, tags.go, servererror.go and
// settle.go (what comes back), leave.go and cancel.go; statements.go, unnamed.go, held.go and settings.go
// (what is remembered); pools.go and limits.go; timeouts.go (what the clock
// ends); control.go, reconfigure.go, pinned.go and shutdown.go (what changes
// while clients work); observe.go.
//
// Locks, in this order: session.in, link.mu, then any one of the others. See
// docs/architecture.md.
package proxy
