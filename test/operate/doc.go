// Package operate tests pgpoold as a process, from outside: how it starts,
// what it says, how signals end it, and what its console and its admin port
// show. Every test runs the built program in front of a real PostgreSQL.
package operate
