package proxy

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

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
	print []byte // a buffer
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
	db := l.pool.key.database
	if st := l.text.of; st != nil {
		l.px.prints.counted(db, st.fingerprint(s.told.standard), took, weight)
		return
	}
	l.text.print = appendPrint(l.text.print[:0], l.text.text, s.told.standard)
	l.px.prints.count(db, l.text.print, took, weight)
}

// fingerprint is made once for each statement.
func (st *statement) fingerprint(standard bool) string {
	if p := st.print.of.Load(); p != nil {
		return *p
	}
	p := string(appendPrint(nil, []byte(st.body[:min(len(st.body), maxSampleText)]), standard))
	st.print.of.Store(&p)
	return p
}

// appendPrint appends the fingerprint of a text.
func appendPrint(dst, sql []byte, standard bool) []byte {
	if i := bytes.IndexByte(sql, 0); i >= 0 {
		sql = sql[:i]
	}
	dst = sqlscan.Normalize(dst, sql, standard, maxSampleText)
	if len(dst) > maxPrintText {
		dst = append(dst[:maxPrintText], "..."...)
	}
	if !utf8.Valid(dst) { // another encoding, or cut within a character
		dst = bytes.ToValidUTF8(dst, []byte("?"))
	}
	return dst
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

// fingerprints is a bounded table of them.
type fingerprints struct {
	mu sync.Mutex
	m  map[string]map[string]*FingerprintSnapshot // guarded by mu: by database and text
	n  int                                        // guarded by mu
}

// count adds a call that stands for weight of them. What is known already
// costs no memory.
func (f *fingerprints) count(database string, text []byte, took time.Duration, weight uint64) {
	f.mu.Lock()
	p := f.m[database][string(text)]
	if p == nil {
		p = f.addLocked(database, string(text))
	}
	p.add(took, weight)
	f.mu.Unlock()
}

// counted is count for a text that lives on.
func (f *fingerprints) counted(database, text string, took time.Duration, weight uint64) {
	f.mu.Lock()
	p := f.m[database][text]
	if p == nil {
		p = f.addLocked(database, text)
	}
	p.add(took, weight)
	f.mu.Unlock()
}

func (p *FingerprintSnapshot) add(took time.Duration, weight uint64) {
	p.Calls += weight
	p.Time += took * time.Duration(weight)
	p.Longest = max(p.Longest, took)
	p.Last = time.Now()
}

func (f *fingerprints) addLocked(database, text string) *FingerprintSnapshot {
	if f.n >= maxPrints {
		f.evictLocked()
	}
	if f.m == nil {
		f.m = map[string]map[string]*FingerprintSnapshot{}
	}
	if f.m[database] == nil {
		f.m[database] = map[string]*FingerprintSnapshot{}
	}
	p := &FingerprintSnapshot{Database: database, Text: text}
	f.m[database][text] = p
	f.n++
	return p
}

// evictLocked makes room: of a few that the maps give, the one that took
// least time in all goes.
func (f *fingerprints) evictLocked() {
	const candidates = 16
	var least *FingerprintSnapshot
	seen := 0
	for _, texts := range f.m {
		for _, p := range texts {
			if least == nil || p.Time < least.Time {
				least = p
			}
			if seen++; seen%candidates == 0 {
				break
			}
		}
	}
	delete(f.m[least.Database], least.Text)
	if len(f.m[least.Database]) == 0 {
		delete(f.m, least.Database)
	}
	f.n--
}

// Fingerprints lists the queries that are known, those that took most time
// first.
func (px *Server) Fingerprints() []FingerprintSnapshot {
	f := &px.prints
	f.mu.Lock()
	all := make([]FingerprintSnapshot, 0, f.n)
	for _, texts := range f.m {
		for _, p := range texts {
			all = append(all, *p)
		}
	}
	f.mu.Unlock()
	all = px.mergePrints(all)
	slices.SortFunc(all, func(a, b FingerprintSnapshot) int {
		return cmp.Or(-cmp.Compare(a.Time, b.Time), cmp.Compare(a.Database, b.Database), cmp.Compare(a.Text, b.Text))
	})
	return all
}
