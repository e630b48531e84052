// Package wirescript runs wire scripts: text files that say, message by
// message, what PostgreSQL clients send and what must come back.
//
// A script is run against an address. Everything the other side says is
// recorded in a transcript; run once against PostgreSQL and once through a
// pooler, the two transcripts must be equal. PostgreSQL is the oracle: nothing
// in here knows what a right answer is, beyond what a script asserts for
// itself. What may differ between two runs, and why, is one table: see
// Normalisations.
//
// The runner follows the protocol with a tracker of its own and so knows in
// which state of the session each message was really sent. From that the table
// of cells (message type by state) is made, so no script can claim a cell that
// it does not reach.
//
// The package has its own framing and decoding on purpose: it must not share a
// mistake with the program it judges.
package wirescript
