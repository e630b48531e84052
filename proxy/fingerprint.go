package proxy

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pgpoold/proxy/sqlscan"
)

// Statement fingerprints: which queries come most often and which take
// longest, without anything that their callers put in. The cost on the way of
// a query is a copy of its text, and for one in sampleEvery the rest; a slow
// one always counts.
const (
	sampleEvery   = 32
	slowQuery     = 100 * time.Millisecond
	maxSampleText = 1 << 10 // bytes of a text that are looked at
	maxPrintText  = 500     // bytes of a fingerprint that are kept
	maxPrints     = 500     // fingerprints that are kept
)

// textSample is the text of the query a server is running: the first of its
// batch. It is guarded by link.mu.
type textSample struct {
	of    *statement // or
	text  []byte
	set   bool
	count uint32
}

// printCache holds a statement's fingerprint once it was needed.
type printCache struct{ of atomic.Pointer[string] }

// noteText notes the text of a Query, or of an unnamed statement, that is
// being sent. mu is held.
func (l *link) noteText(sql []byte) {
	if !l.text.set {
		l.text.text, l.text.of, l.text.set = append(l.text.text[:0], sql[:min(len(sql), maxSampleText)]...), nil, true
	}
}

// noteStatement is noteText for a named one. mu is held.
func (l *link) noteStatement(st *statement) {
	if !l.text.set {
		l.text.of, l.text.set = st, true
	}
}

// noteQueryEnd counts a query that has ended. mu is held.
func (l *link) noteQueryEnd(s *session, took time.Duration) {
	l.stats.queryTime += took
	l.stats.queryTimes.Observe(took)
	l.notePrint(s, took)
}

// noteXactEnd counts a transaction that has ended. mu is held.
func (l *link) noteXactEnd(took time.Duration) {
	l.stats.xactTime += took
	l.stats.xactTimes.Observe(took)
}

// noteSent counts what goes to the attached client. mu is held.
func (l *link) noteSent(n int) {
	l.stats.sent += uint64(n)
	l.sess.outBytes += uint64(n)
}

// notePrint counts the fingerprint of a query that has ended. mu is held.
func (l *link) notePrint(s *session, took time.Duration) {
	if !l.text.set {
		return
	}
	l.text.set = false
	weight := uint64(1)
	if took < slowQuery {
		if l.text.count++; l.text.count%sampleEvery != 0 {
			return
		}
		weight = sampleEvery
	}
	if s.told.opaque {
		return // what is text and what is not cannot be told
	}
	l.px.prints.count(l.pool.key.database, l.text.print(s.told.standard), took, weight)
}

// print is the fingerprint of what was noted.
func (t *textSample) print(standard bool) string {
	if t.of == nil {
		return printOf(t.text, standard)
	}
	if p := t.of.print.of.Load(); p != nil {
		return *p
	}
	p := printOf([]byte(t.of.body[:min(len(t.of.body), maxSampleText)]), standard)
	t.of.print.of.Store(&p)
	return p
}

func printOf(sql []byte, standard bool) string {
	if i := bytes.IndexByte(sql, 0); i >= 0 {
		sql = sql[:i]
	}
	out := sqlscan.Normalize(make([]byte, 0, len(sql)), sql, standard, maxSampleText)
	if len(out) > maxPrintText {
		out = append(bytes.ToValidUTF8(out[:maxPrintText], nil), "..."...)
	}
	return string(bytes.ToValidUTF8(out, []byte("?")))
}

// FingerprintSnapshot is what is known of one query. Calls and Time are
// estimates: of queries faster than 100 ms one in 32 is looked at.
type FingerprintSnapshot struct {
	Database, Text string
	Calls          uint64
	Time           time.Duration
	Longest        time.Duration
	Last           time.Time
}

type printKey struct{ database, text string }

// fingerprints is a bounded table of them.
type fingerprints struct {
	mu sync.Mutex
	m  map[printKey]*FingerprintSnapshot // guarded by mu
}

// count adds a call that stands for weight of them.
func (f *fingerprints) count(database, text string, took time.Duration, weight uint64) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	key := printKey{database, text}
	p := f.m[key]
	if p == nil {
		if f.m == nil {
			f.m = map[printKey]*FingerprintSnapshot{}
		}
		if len(f.m) >= maxPrints {
			f.evictLocked()
		}
		p = &FingerprintSnapshot{Database: database, Text: text}
		f.m[key] = p
	}
	p.Calls += weight
	p.Time += took * time.Duration(weight)
	p.Longest = max(p.Longest, took)
	p.Last = now
}

// evictLocked makes room: of a few that the map gives, the one that took
// least time in all goes.
func (f *fingerprints) evictLocked() {
	const candidates = 16
	var least printKey
	n := 0
	for key, p := range f.m {
		if n == 0 || p.Time < f.m[least].Time {
			least = key
		}
		if n++; n == candidates {
			break
		}
	}
	delete(f.m, least)
}

// Fingerprints lists the queries that are known, those that took most time
// first.
func (px *Server) Fingerprints() []FingerprintSnapshot {
	f := &px.prints
	f.mu.Lock()
	all := make([]FingerprintSnapshot, 0, len(f.m))
	for _, p := range f.m {
		all = append(all, *p)
	}
	f.mu.Unlock()
	slices.SortFunc(all, func(a, b FingerprintSnapshot) int {
		return cmp.Or(-cmp.Compare(a.Time, b.Time), cmp.Compare(a.Database, b.Database), cmp.Compare(a.Text, b.Text))
	})
	return all
}
