package proxy

import (
	"bytes"

	"pgpoold/proxy/sqlscan"
)

// unnamed is a session's unnamed statement, as PostgreSQL keeps it: it lives
// across Syncs and transactions until the next Parse of it, a Close, or any
// Query.
type unnamed struct {
	all    []version // of them those in front of first are used up
	first  int32
	coming int32  // bytes of the texts that are on their way
	texts  []byte // where small texts lie, one behind the other
	last   uint64 // generation of the last change
}

// version is one state of the unnamed statement.
type version struct {
	gen       uint64 // 0: there has never been one
	body      []byte // of its Parse, without the name; nil: there is none
	batch     uint64
	found     sqlscan.Finding // of its text
	says      said
	env       settings // in force at its Parse, as far as parsing reads them
	unsettled bool     // env is only known when the transaction of its Parse has ended
	outdated  bool     // and never will be
	blind     bool     // env is that of the end of the batch of its Parse
	shape     shape    // what the client was told of its result, if it asked
}

// unnamedChange is a change of a session's unnamed statement, as a Ref.
type unnamedChange struct{}

// said is what a text says itself.
type said struct {
	own      sqlscan.Finding
	standard bool // it was read under standard_conforming_strings
	control  bool // endsXact
}

// said is what a Parse's body says. Many a client sends the same one again and
// again.
func (u *unnamed) said(body []byte, standard bool) said {
	if vs := u.versions(); len(vs) > 0 {
		if v := &vs[len(vs)-1]; v.says.standard == standard && len(v.body) > 0 && bytes.Equal(v.body, body) {
			return v.says
		}
	}
	return said{sqlscan.Scan(sqlOf(body), standard), standard, endsXact(body)}
}

// versions are what is true now, in front, and the changes on their way to the
// server, in order.
func (u *unnamed) versions() []version { return u.all[u.first:] }

// current is what the unnamed statement is in this batch; ready is false
// while that hangs on the outcome of an earlier one.
func (u *unnamed) current(batch uint64) (v *version, ready bool) {
	vs := u.versions()
	if len(vs) == 0 {
		return nil, true
	}
	v = &vs[len(vs)-1]
	if len(vs) > 1 && v.batch != batch {
		return nil, false
	}
	return v, true
}

// exists reports whether there is one, or one on its way.
func (u *unnamed) exists() bool {
	for i := range u.versions() {
		if u.versions()[i].body != nil {
			return true
		}
	}
	return false
}

// begin notes a change that is being sent. body nil means that the unnamed
// statement goes away.
func (u *unnamed) begin(body []byte, found sqlscan.Finding, env settings, batch uint64) (gen uint64) {
	if vs := u.versions(); u.first > 0 && (len(vs) == 1 || len(u.all) == cap(u.all) && len(vs) <= len(u.all)/2) {
		n := copy(u.all, vs)
		clear(u.all[n:])
		u.all, u.first = u.all[:n], 0
	}
	if len(u.all) == 0 {
		u.all = append(u.all, version{})
	}
	u.last++
	v := version{gen: u.last, batch: batch, found: found, env: env}
	if body != nil {
		v.body = u.keep(body)
	}
	u.coming += int32(len(v.body))
	u.all = append(u.all, v)
	return v.gen
}

// keep copies a text to where it stays for as long as a version has it. It returns
// no nil, also for a text that is not kept.
func (u *unnamed) keep(body []byte) []byte {
	if len(body) > maxSpare {
		return bytes.Clone(body)
	}
	if vs := u.versions(); len(u.texts)+len(body) > cap(u.texts) && len(vs) == 1 && len(vs[0].body)+len(body) <= cap(u.texts) {
		u.texts = append(u.texts[:0], vs[0].body...) // nobody else has any
		if vs[0].body != nil {
			vs[0].body = u.texts[:len(u.texts):len(u.texts)]
		}
	}
	if u.texts == nil || len(u.texts)+len(body) > cap(u.texts) {
		u.texts = make([]byte, 0, max(len(body), min(2*cap(u.texts), maxTexts)))
	}
	n := len(u.texts)
	u.texts = append(u.texts, body...)
	return u.texts[n:len(u.texts):len(u.texts)]
}

// settle notes the outcome of the oldest change under way and returns its
// generation.
func (u *unnamed) settle(done bool) (gen uint64) {
	vs := u.versions()
	if len(vs) < 2 {
		return 0
	}
	gen = vs[1].gen
	u.coming -= int32(len(vs[1].body))
	if !done {
		vs[1] = vs[0]
	}
	vs[0] = version{}
	u.first++
	return gen
}

// shrink gives back what many changes at a time have taken, if none is under way.
func (u *unnamed) shrink() {
	vs := u.versions()
	if len(vs) != 1 || cap(u.all) <= 2 && cap(u.texts) <= maxSpare {
		return
	}
	v := vs[0]
	v.body = bytes.Clone(v.body)
	*u = unnamed{all: []version{v}, last: u.last}
}

// drop forgets what was true until now.
func (u *unnamed) drop() {
	if vs := u.versions(); len(vs) > 0 {
		vs[0].body = nil
	}
}

// describe notes what the client was told of a generation's result.
func (u *unnamed) describe(gen uint64, s shape) {
	for i := range u.versions() { // the answer is to one of the first
		if v := &u.versions()[i]; v.gen >= gen {
			if v.gen == gen {
				v.shape = s
			}
			return
		}
	}
}

// maxComing bounds the texts of statements that are on their way: a session that
// has sent more waits.
const maxComing = 1 << 20

// maxSpare is the largest buffer that a session keeps for reuse, when it is quiet.
const maxSpare = 1 << 10

// maxTexts is how many bytes of texts lie behind one another.
const maxTexts = 8 << 10

// unnamedInjected is the Ref of a Parse that brings a session's unnamed
// statement to a server.
type unnamedInjected struct {
	gen   uint64
	tells string // as heldChange's
}
