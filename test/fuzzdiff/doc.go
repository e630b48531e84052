// Package fuzzdiff compares pgpoold with PostgreSQL over random programs:
// several clients that send what a driver could send, and some of what none
// should. Each client's messages go to PostgreSQL directly, and through pgpoold
// on a pool of one and of two servers, all clients of a program at once. What
// each of them is told must be the same, message for message.
//
// A program is made from a seed alone, so a failure is repeated by its seed and
// number. It is written as wire scripts (test/scripts) and is printed as such,
// after everything that is not needed for the failure has been taken out.
package fuzzdiff
