package proxy

import (
	"hash/maphash"
	"iter"
)

// nameTable finds the names of one session. It is a hash table of pointers with
// linear probing: a Go map takes three times as much for each, and many clients
// with hundreds of statements each are what takes a pooler's memory. The zero value
// is empty, and takes a pointer.
type nameTable struct{ *nameSlots }

type nameSlots struct {
	slots []*name // as many as a power of two, at most seven eighths in use; nil: free
	n     int
}

var nameSeed = maphash.MakeSeed()

// len is how many names there are.
func (t nameTable) len() int {
	if t.nameSlots == nil {
		return 0
	}
	return t.n
}

// get returns the name that reads so, or nil.
func (t nameTable) get(text []byte) *name {
	if t.nameSlots == nil {
		return nil
	}
	for i := int(maphash.Bytes(nameSeed, text)); ; i++ {
		e := t.slots[i&(len(t.slots)-1)]
		if e == nil || e.text == string(text) {
			return e
		}
	}
}

// put adds a name that is not in it.
func (t *nameTable) put(e *name) {
	if t.nameSlots == nil {
		t.nameSlots = &nameSlots{}
	}
	if t.n+1 > len(t.slots)/8*7 {
		old := t.slots
		t.slots = make([]*name, max(8, 2*len(old)))
		for _, o := range old {
			if o != nil {
				t.place(o)
			}
		}
	}
	t.place(e)
	t.n++
}

func (t *nameSlots) place(e *name) {
	for i := int(maphash.String(nameSeed, e.text)); ; i++ {
		if slot := &t.slots[i&(len(t.slots)-1)]; *slot == nil {
			*slot = e
			return
		}
	}
}

// remove takes a name out, if it is in it.
func (t *nameTable) remove(e *name) {
	if t.nameSlots == nil {
		return
	}
	mask := len(t.slots) - 1
	i := int(maphash.String(nameSeed, e.text)) & mask
	for ; t.slots[i] != e; i = (i + 1) & mask {
		if t.slots[i] == nil {
			return
		}
	}
	if t.n--; t.n == 0 {
		t.nameSlots = nil
		return
	}
	// Those behind it move up, up to a free place, where they would be looked for
	// in front of it.
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask {
		home := int(maphash.String(nameSeed, t.slots[j].text)) & mask
		if (j-home)&mask >= (j-i)&mask {
			t.slots[i], i = t.slots[j], j
		}
	}
	t.slots[i] = nil
}

// all goes over the names in no order. None may be added or removed meanwhile.
func (t nameTable) all() iter.Seq[*name] {
	return func(yield func(*name) bool) {
		if t.nameSlots == nil {
			return
		}
		for _, e := range t.slots {
			if e != nil && !yield(e) {
				return
			}
		}
	}
}
