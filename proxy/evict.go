package proxy

import (
	"container/list"
	"fmt"

	"pgpoold/wire"
)

// evict closes what the server holds too much of. In the middle of a batch it
// waits for its end, unless it is twice too much: a batch may have none.
func (f *feeder) evict(but *held) {
	limit, shelf := &f.l.px.opts.Prepared, &f.l.shelf
	number, bytes := len(shelf.m)-shelf.leaving, shelf.bytes-shelf.leavingBytes
	if f.l.ledger.BatchOpen() && (limit.PerServer <= 0 || number <= 2*limit.PerServer) && (limit.ServerBytes <= 0 || bytes <= 2*limit.ServerBytes) {
		return
	}
	var from *list.Element
	for limit.PerServer > 0 && number > limit.PerServer || limit.ServerBytes > 0 && bytes > limit.ServerBytes {
		h := shelf.oldest(from)
		if h == nil || h == but {
			return
		}
		from = h.place
		number--
		bytes -= h.st.size()
		shelf.leave(h, 1)
		f.l.stats.evictions++
		f.closeHeld(h)
	}
}

// overLimit refuses a statement of size bytes that would take more memory than
// there may be.
func (f *feeder) overLimit(size int) *wire.Error {
	limit, more := &f.l.px.opts.Prepared, int64(size+statementCost)
	e := &wire.Error{Severity: wire.SeverityError, Code: "53200",
		Hint: "Close statements that are no longer used, or send parameters instead of literals."}
	if limit.ClientBytes > 0 && int64(f.s.names.bytes)+more > limit.ClientBytes {
		e.Message = "too many prepared statements in this session (max_client_prepared_bytes)"
		e.Detail = fmt.Sprintf("Their texts would take more than %d bytes (pool.max_client_prepared_bytes).", limit.ClientBytes)
		return e
	}
	if limit.TotalBytes > 0 && f.l.px.statements.inSessions()+more > limit.TotalBytes {
		e.Message = "too many prepared statements (prepared_statement_memory)"
		e.Detail = fmt.Sprintf("The texts of all sessions would take more than %d bytes (prepared_statement_memory).", limit.TotalBytes)
		return e
	}
	return nil
}
