package wire

// ring is a growing queue of entries. It keeps a small array when it shrinks.
type ring struct {
	buf  []Entry // length is a power of two
	head int
	n    int

	popped uint64 // how many have left
}

// ringKeep is the most entries that an empty ring keeps room for, or Settled.
const ringKeep = 512

func (r *ring) len() int { return r.n }

// at is the i-th entry from the head.
func (r *ring) at(i int) *Entry { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

func (r *ring) push(e Entry) {
	if r.n == len(r.buf) {
		r.grow()
	}
	at := &r.buf[(r.head+r.n)&(len(r.buf)-1)]
	at.Msg, at.Action, at.Joined = e.Msg, e.Action, e.Joined
	if e.Ref != nil { // else it is nil already
		at.Ref = e.Ref
	}
	r.n++
}

func (r *ring) grow() {
	grown := make([]Entry, max(8, 2*len(r.buf)))
	for i := range r.n {
		grown[i] = *r.at(i)
	}
	r.buf, r.head = grown, 0
}

func (r *ring) pop() Entry {
	e := *r.at(0)
	r.drop()
	return e
}

// drop takes the head out.
func (r *ring) drop() {
	if head := r.at(0); head.Ref != nil {
		head.Ref = nil
	}
	r.pass(1)
}

// pass takes the first n out, which have no Ref.
func (r *ring) pass(n int) {
	if n == 0 {
		return
	}
	r.popped += uint64(n)
	r.head = (r.head + n) & (len(r.buf) - 1)
	r.n -= n
	if r.n == 0 && len(r.buf) > ringKeep {
		r.buf, r.head = nil, 0
	}
}

// remove takes the i-th entry out.
func (r *ring) remove(i int) Entry {
	if i == 0 {
		return r.pop()
	}
	e := *r.at(i)
	for ; i < r.n-1; i++ {
		*r.at(i) = *r.at(i + 1)
	}
	*r.at(r.n - 1) = Entry{}
	r.n--
	r.popped++
	return e
}
