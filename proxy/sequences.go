package proxy

import (
	"strings"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// currval and lastval give a session the numbers that it has itself drawn.
// Where one was asked for in a pool, no session finds on a server what another
// has drawn there (ownSequences), and a session that asks keeps its server
// from its next draw on (pinSequence).

// ownSequences adds to a replay what makes the server forget the numbers that
// another session has drawn. sql is "" where nothing else is to be done.
func (l *link) ownSequences(sql string) string {
	if !l.foreign || !l.pool.usesLast.Load() {
		return sql
	}
	l.foreign = false
	if sql == "" {
		return forgetSequences
	}
	// DISCARD takes a snapshot, behind which SET TRANSACTION comes too late.
	begin := "SET exit_on_error=on;"
	if strings.HasPrefix(sql, begin+notDeferrable) {
		begin += notDeferrable
	}
	return begin + "DISCARD SEQUENCES;" + strings.TrimPrefix(sql, begin)
}

const forgetSequences = "SET exit_on_error=on;DISCARD SEQUENCES;SET exit_on_error=off"

// forgetForeign is for the first text in a pool that asks, which has come when
// its server was attached already. In the middle of a transaction it is too late
// for that: who has drawn nothing there is refused, as it would be directly.
func (f *feeder) forgetForeign(found sqlscan.Finding) (refused *wire.Error) {
	s, l := f.s, f.l
	if found&sqlscan.LastValue == 0 || !l.foreign || !s.carries {
		return nil
	}
	drew := l.drew || (s.found|found)&sqlscan.Draws != 0
	if !f.atBegin() && (drew || l.ledger.Len() > 0 || l.ledger.Status() != wire.TxIdle || l.ledger.BatchOpen()) {
		if drew {
			return nil
		}
		return errForeignNumbers
	}
	l.foreign = false
	f.ownQuery(forgetSequences, s.settings)
	return nil
}

// errForeignNumbers stands for PostgreSQL's "currval of sequence is not yet
// defined in this session", which does not know of sessions that had the server before.
var errForeignNumbers = &wire.Error{Severity: wire.SeverityError, Code: "55000", Message: "currval and lastval are not yet defined in this session"}

// forgetDrawn follows DISCARD SEQUENCES.
func (s *session) forgetDrawn() {
	s.found &^= sqlscan.Draws
	s.setHeld(s.held &^ sqlscan.Draws)
}
