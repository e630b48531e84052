// Package measure holds the tests that weigh the whole program from outside:
// its system calls per transaction, its memory under big values, many idle
// clients and a flood of logins, and what clients that vanish leave behind.
//
// They run pgpoold as a process of its own and need its whole machine, so they
// run in the full proof only.
package measure
