package wire

import "sync/atomic"

// Transition is one thing that a ledger can do, of which a Trace counts how
// often it happened.
type Transition uint8

// The transitions, in the order in which the ledger's code has them.
const (
	AppendSkipped      Transition = iota // a message behind an error is skipped as it is appended
	AppendSyncRecovers                   // a Sync ends the skipping
	AppendMarkEndsCopy                   // the client ends the data of an open COPY
	AppendMarkWaits                      // it does before the COPY has begun
	AppendMarkStray                      // and where none can begin
	AppendStruck                         // a Sync or Flush in the data of an open COPY
	AppendOpensBatch                     // a message of the extended protocol
	AppendEndsBatch                      // Sync, or a Query or FunctionCall in its place
	SettleNothing                        // a notice, a notification or a parameter
	SettleMore                           // a reply that is not the last one
	SettleLast                           // a reply that is
	SettleReplaced                       // what was to fail has not failed
	SettleClears                         // a reply that shows that no ReadyForQuery is left behind
	ErrorAwaitsReady                     // a Query, FunctionCall or Sync fails
	ErrorSkipsToSync                     // a batch fails whose Sync was sent
	ErrorSkipsOn                         // a batch fails whose Sync was not
	ErrorOfOurs                          // a message of pgpoold's own fails
	ErrorReplaced                        // an error goes on in other words
	ErrorLeavesSyncs                     // a COPY fails that may have eaten Syncs
	ReadyDone                            // a Query, FunctionCall or Sync is done
	ReadyFailed                          // it is done, and has failed
	ReadyExtra                           // a Sync that a failed COPY has not eaten
	ReadyExtraRecovers                   // and it ends the skipping
	ProbeRecovers                        // a probe shows that a Sync was not eaten
	ProbeSkipsOn                         // and that all were
	CopyBegins                           // the data is still to come
	CopyBeginsEnded                      // the client has sent its end already
	CopyStrikes                          // Syncs were sent in front of its end
	CopyReopensBatch                     // the batch's own Sync among them
	CopyEnds                             // with CommandComplete
	MarkDropped                          // a COPY's end that no COPY has met
	MadeUp                               // a made-up reply has its turn
	Abandoned                            // the server is lost, and owes replies
	transitions
)

var transitionNames = [transitions]string{
	"append: skipped behind an error", "append: Sync ends the skipping", "append: the end of an open COPY", "append: the end of a COPY to come",
	"append: the end of no COPY", "append: Sync or Flush in a COPY", "append: opens a batch", "append: ends a batch",
	"settle: nothing", "settle: more to come", "settle: the last reply", "settle: what was to fail has not", "settle: no ReadyForQuery is left behind",
	"error: ReadyForQuery follows", "error: up to a Sync that was sent", "error: up to a Sync to come", "error: to a message of ours", "error: in other words",
	"error: a COPY leaves Syncs in doubt", "ready: done", "ready: failed", "ready: of a Sync in doubt", "ready: of a Sync in doubt, ends the skipping",
	"probe: a Sync was not eaten", "probe: all were",
	"copy: begins", "copy: begins, its end was sent", "copy: strikes Syncs", "copy: opens the batch again", "copy: ends",
	"mark: no COPY came", "made up", "abandoned",
}

func (t Transition) String() string { return transitionNames[t] }

// Transitions are all of them.
func Transitions() []Transition {
	all := make([]Transition, transitions)
	for i := range all {
		all[i] = Transition(i)
	}
	return all
}

// Trace counts what ledgers do, for tests that are to reach all of it. It may
// be shared between ledgers.
type Trace struct{ n [transitions]atomic.Uint64 }

// Count is how often it happened.
func (t *Trace) Count(tr Transition) uint64 { return t.n[tr].Load() }

// note counts, if anybody wants to know.
func (l *Ledger) note(t Transition) {
	if l.Trace != nil {
		l.Trace.n[t].Add(1)
	}
}
