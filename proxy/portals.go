package proxy

import (
	"bytes"
	"fmt"

	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
)

// portals are those of a session whose texts name statements, as what an Execute
// does to the names hangs on the text, and of RESETs. They end with the transaction.
type portals struct {
	texts map[string]portalText
	bytes int64 // what they take
}

// portalText is the text that a portal was made of.
type portalText struct {
	sql   []byte
	found sqlscan.Finding
	means string // what goes behind its Execute
}

// size is what it takes.
func (t *portalText) size() int64 { return int64(len(t.sql)+len(t.means)) + statementCost }

// drop forgets a portal.
func (p *portals) drop(portal []byte) {
	if p == nil {
		return
	}
	name := string(wire.Name(portal))
	if t, ok := p.texts[name]; ok {
		p.bytes -= t.size()
		delete(p.texts, name)
	}
}

// bindPortal notes what a portal will run when it is executed, if its text
// names statements or is a RESET. It refuses what takes more memory than there may be.
func (f *feeder) bindPortal(portal []byte) *wire.Error {
	s := f.s
	s.portals.drop(portal)
	t := portalText{found: f.found, means: f.means}
	switch {
	case f.found&sqlscan.Names != 0:
		t.sql = bytes.Clone(f.text)
	case f.found&sqlscan.Resets == 0:
		return nil
	}
	if s.portals == nil {
		s.portals = &portals{texts: map[string]portalText{}}
	}
	if limit := f.l.px.opts.Prepared.ClientBytes; limit > 0 && s.portals.bytes+t.size() > limit {
		return &wire.Error{Severity: wire.SeverityError, Code: "53200", Message: "too many portals that name prepared statements (max_client_prepared_bytes)",
			Detail: fmt.Sprintf("Their texts would take more than %d bytes (pool.max_client_prepared_bytes).", limit),
			Hint:   "Close portals that are no longer used, or end the transaction."}
	}
	s.portals.bytes += t.size()
	s.portals.texts[string(wire.Name(portal))] = t
	return nil
}
