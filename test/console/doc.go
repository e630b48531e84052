// Package console tests what operators see and do: the console, the metrics,
// the HTTP port and its page, in front of a real PostgreSQL.
package console
