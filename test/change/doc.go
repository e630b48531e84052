// Package change tests what changes while clients work: limits that are
// reached, timeouts, reloads, pauses, drains, and servers that come and go.
// Clients run in the background, and what each was told is compared with what
// PostgreSQL has.
package change
