package proxy

import "pgpoold/proxy/sqlscan"

// unnamed is a session's unnamed statement, as PostgreSQL keeps it: it lives
// across Syncs and transactions until the next Parse of it, a Close, or any
// Query. versions[0] is what is true now; the others are changes on their way
// to the server, in order.
type unnamed struct {
	versions []version
	spare    []byte // a buffer to reuse
	last     uint64 // generation of the last change
	coming   int    // bytes of the texts that are on their way
}

// version is one state of the unnamed statement.
type version struct {
	gen       uint64 // 0: there has never been one
	body      []byte // of its Parse, without the name; nil: there is none
	batch     uint64
	found     sqlscan.Finding // of its text
	env       settings        // in force at its Parse, as far as parsing reads them
	unsettled bool            // env is only known when the transaction of its Parse has ended
	blind     bool            // env is that of the end of the batch of its Parse
	shape     shape           // what the client was told of its result, if it asked
}

// unnamedChange is a change of a session's unnamed statement, as a Ref.
type unnamedChange struct{}

// current is what the unnamed statement is in this batch; ready is false
// while that hangs on the outcome of an earlier one.
func (u *unnamed) current(batch uint64) (v *version, ready bool) {
	n := len(u.versions)
	if n == 0 {
		return nil, true
	}
	v = &u.versions[n-1]
	if n > 1 && v.batch != batch {
		return nil, false
	}
	return v, true
}

// exists reports whether there is one, or one on its way.
func (u *unnamed) exists() bool {
	for i := range u.versions {
		if u.versions[i].body != nil {
			return true
		}
	}
	return false
}

// begin notes a change that is being sent. body nil means that the unnamed
// statement goes away.
func (u *unnamed) begin(body []byte, found sqlscan.Finding, env settings, batch uint64) (gen uint64) {
	if len(u.versions) == 0 {
		u.versions = append(u.versions, version{})
	}
	u.last++
	v := version{gen: u.last, batch: batch, found: found, env: env}
	if body != nil {
		if u.spare == nil {
			u.spare = []byte{} // not nil, also for a text that is not kept
		}
		v.body = append(u.spare[:0], body...)
		u.spare = nil
	}
	u.coming += len(v.body)
	u.versions = append(u.versions, v)
	return v.gen
}

// settle notes the outcome of the oldest change under way and returns its
// generation.
func (u *unnamed) settle(done bool) (gen uint64) {
	if len(u.versions) < 2 {
		return 0
	}
	gen = u.versions[1].gen
	u.coming -= len(u.versions[1].body)
	drop := 1
	if done {
		drop = 0
	}
	if b := u.versions[drop].body; b != nil && cap(b) <= maxSpare {
		u.spare = b
	}
	u.versions = append(u.versions[:drop], u.versions[drop+1:]...)
	return gen
}

// drop forgets what was true until now.
func (u *unnamed) drop() {
	if len(u.versions) > 0 {
		u.versions[0].body = nil
	}
}

// describe notes what the client was told of a generation's result.
func (u *unnamed) describe(gen uint64, s shape) {
	for i := range u.versions {
		if u.versions[i].gen == gen {
			u.versions[i].shape = s
		}
	}
}

// maxComing bounds the texts of statements that are on their way: a session that
// has sent more waits.
const maxComing = 1 << 20

// maxSpare is the largest buffer that a session keeps for reuse.
const maxSpare = 1 << 10

// unnamedInjected is the Ref of a Parse that brings a session's unnamed
// statement to a server.
type unnamedInjected struct {
	gen   uint64
	tells string // as heldChange's
}
