package proxy

import (
	"hash/fnv"
	"math/rand/v2"

	"go.uber.org/zap"

	"pgpoold/proxy/sqlscan"
)

// The audit asks PostgreSQL about a share of the transactions whose texts
// announce nothing. What it finds the scan has missed.

// maxAuditSeen bounds the findings that are told from new ones.
const maxAuditSeen = 10_000

// auditKey is a finding that is logged once.
type auditKey struct {
	fingerprint uint64 // of the text that was sent last
	kind        string
}

// noteText keeps the fingerprint of a text, for the log.
func (s *session) noteText(sql []byte) {
	if s.pool.state.Audit <= 0 {
		return
	}
	h := fnv.New64a()
	_, _ = h.Write(sql)
	s.print = h.Sum64()
}

// audited picks the transactions that are audited.
func (s *session) audited() bool {
	share := s.pool.state.Audit
	return share > 0 && s.carries && !s.lasting() && (share >= 1 || rand.Float64() < share)
}

// audit compares what PostgreSQL says with what was known before. The link's
// mu is held.
func (s *session) audit(before settings, held sqlscan.Finding, p *inspection) {
	if s.settings != before {
		s.px.missed(s, "settings")
	}
	for _, proof := range proofs {
		if p.pins&proof.kind&^held != 0 {
			s.px.missed(s, proof.reason)
		}
	}
}

// missed counts a finding of the audit and logs it once for each text.
func (px *Server) missed(s *session, kind string) {
	c := &px.counts
	key := auditKey{s.print, kind}
	c.mu.Lock()
	if c.missed == nil {
		c.missed, c.auditSeen = map[string]uint64{}, map[auditKey]struct{}{}
	}
	c.missed[kind]++
	_, seen := c.auditSeen[key]
	if !seen && len(c.auditSeen) < maxAuditSeen {
		c.auditSeen[key] = struct{}{}
	}
	c.mu.Unlock()
	if !seen {
		px.opts.Log.Warn("a transaction has left session state that its texts do not announce; it is kept from now on", zap.String("kind", kind),
			zap.Uint64("fingerprint", s.print), zap.Uint64("session", s.id), zap.String("user", s.user), zap.String("database", s.db.Name))
	}
}
