package proxy

import (
	"sync"
	"testing"

	"pgpoold/proxy/sqlscan"
)

// A2: statements are shared where text, types and the settings that parsing
// reads are equal, and nowhere else.
func TestIntern(t *testing.T) {
	var table statementTable
	utc, tokyo := set("TimeZone", "UTC"), set("TimeZone", "Asia/Tokyo")
	a := table.intern([]byte("SELECT 1\x00\x00\x00"), utc, 0)
	if b := table.intern([]byte("SELECT 1\x00\x00\x00"), utc, 0); b != a {
		t.Error("equal statements are two")
	}
	others := []*statement{
		table.intern([]byte("SELECT 2\x00\x00\x00"), utc, 0),
		table.intern([]byte("SELECT 1\x00\x00\x01\x00\x00\x00\x17"), utc, 0),
		table.intern([]byte("SELECT 1\x00\x00\x00"), tokyo, 0),
		table.intern([]byte("SELECT 'now'\x00\x00\x00"), utc, sqlscan.Moment),
		table.intern([]byte("SELECT 'now'\x00\x00\x00"), utc, sqlscan.Moment),
	}
	named := map[string]bool{a.name: true}
	for i, s := range others {
		if named[s.name] {
			t.Errorf("statement %d is shared", i)
		}
		named[s.name] = true
	}
	if n, bytes := table.size(); n != 6 || bytes < int64(6*statementCost) {
		t.Errorf("%d statements, %d bytes", n, bytes)
	}
	table.drop(a)
	if table.intern([]byte("SELECT 1\x00\x00\x00"), utc, 0) != a {
		t.Error("a statement that is in use was forgotten")
	}
	for _, s := range append(others, a, a) {
		table.drop(s)
	}
	if n, bytes := table.size(); n != 0 || bytes != 0 || len(table.byKey) != 0 {
		t.Errorf("%d statements, %d bytes, %d keys are left", n, bytes, len(table.byKey))
	}
	if b := table.intern([]byte("SELECT 1\x00\x00\x00"), utc, 0); b == a || b.name == a.name {
		t.Error("a name was given twice")
	}
}

func TestInternTogether(t *testing.T) {
	var table statementTable
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 500 {
				s := table.intern([]byte{'a' + byte((w+i)%5), 0, 0, 0}, noSettings, 0)
				table.hold(s)
				table.drop(s)
				table.release(s)
			}
		})
	}
	all.Wait()
	if n, bytes := table.size(); n != 0 || bytes != 0 || table.inSessions() != 0 {
		t.Errorf("%d statements, %d bytes are left, %d in sessions", n, bytes, table.inSessions())
	}
}

// use is a session's use of names. A Parse or Close is begun in a batch, and
// settled in order.
type use struct {
	names
	drops int // references given up
}

func (u *use) settle(c *change, done bool) {
	if u.names.settle(c, done) != nil {
		u.drops++
	}
}

func TestNames(t *testing.T) {
	var table statementTable
	a := table.intern([]byte("A\x00\x00\x00"), noSettings, 0)
	b := table.intern([]byte("B\x00\x00\x00"), noSettings, 0)
	type look struct {
		batch uint64
		want  *statement
		ready bool
	}
	for _, r := range []struct {
		name  string
		steps func(n *use)
		looks []look
		drops int // references given up by settle
	}{
		{"never heard of", func(*use) {}, []look{{1, nil, true}}, 0},
		{"parsed", func(n *use) { n.settle(n.begin([]byte("s"), a, 1), true) }, []look{{1, a, true}, {2, a, true}}, 0},
		{"on its way: its own batch may use it, a later one waits", func(n *use) { n.begin([]byte("s"), a, 1) }, []look{{1, a, true}, {2, nil, false}}, 0},
		{"failed", func(n *use) { n.settle(n.begin([]byte("s"), a, 1), false) }, []look{{2, nil, true}}, 1},
		{"closed", func(n *use) {
			n.settle(n.begin([]byte("s"), a, 1), true)
			n.settle(n.begin([]byte("s"), nil, 2), true)
		}, []look{{2, nil, true}}, 1},
		{"a Close that failed", func(n *use) {
			n.settle(n.begin([]byte("s"), a, 1), true)
			n.settle(n.begin([]byte("s"), nil, 2), false)
		}, []look{{2, a, true}}, 0},
		{"closed and parsed again in one batch", func(n *use) {
			n.settle(n.begin([]byte("s"), a, 1), true)
			c1 := n.begin([]byte("s"), nil, 2)
			c2 := n.begin([]byte("s"), b, 2)
			n.settle(c1, true)
			n.settle(c2, true)
		}, []look{{2, b, true}, {3, b, true}}, 1},
		{"B5: closed and parsed again behind an error", func(n *use) {
			n.settle(n.begin([]byte("s"), a, 1), true)
			c1 := n.begin([]byte("s"), nil, 2)
			c2 := n.begin([]byte("s"), b, 2)
			n.settle(c1, false)
			n.settle(c2, false)
		}, []look{{2, a, true}, {3, a, true}}, 1},
		{"the Close took effect, the Parse failed", func(n *use) {
			n.settle(n.begin([]byte("s"), a, 1), true)
			c1 := n.begin([]byte("s"), nil, 2)
			c2 := n.begin([]byte("s"), b, 2)
			n.settle(c1, true)
			n.settle(c2, false)
		}, []look{{2, nil, true}}, 2},
		{"half settled", func(n *use) {
			c1 := n.begin([]byte("s"), a, 1)
			n.begin([]byte("s"), nil, 1)
			n.settle(c1, true)
		}, []look{{1, nil, true}, {2, nil, false}}, 0},
	} {
		t.Run(r.name, func(t *testing.T) {
			var n use
			r.steps(&n)
			for _, l := range r.looks {
				if st, ready := n.lookup([]byte("s"), l.batch); ready != l.ready || ready && st != l.want {
					t.Errorf("in batch %d: %v, %v", l.batch, st, ready)
				}
			}
			held := 0
			for e := range n.all() {
				if e.cur != nil {
					held += len(e.cur.body) + statementCost
				}
				if e.next() != nil {
					held += len(e.next().body) + statementCost
				}
			}
			if n.bytes != held {
				t.Errorf("counts %d bytes, holds %d", n.bytes, held)
			}
			if n.drops != r.drops {
				t.Errorf("%d references were given up, want %d", n.drops, r.drops)
			}
		})
	}
}

func TestNamesClear(t *testing.T) {
	var table statementTable
	a := table.intern([]byte("A\x00\x00\x00"), noSettings, 0)
	b := table.intern([]byte("B\x00\x00\x00"), noSettings, 0)
	var n names
	n.settle(n.begin([]byte("one"), a, 1), true)
	coming := n.begin([]byte("two"), b, 1)
	if client, ok := n.byServerName(a.name); !ok || client != "one" {
		t.Errorf("%q, %v", client, ok)
	}
	if client, ok := n.byServerName(b.name); !ok || client != "two" {
		t.Errorf("%q, %v", client, ok)
	}
	if _, ok := n.byServerName("pgpoold_0"); ok {
		t.Error("a name that nobody has")
	}
	if all := n.clear(); len(all) != 1 || all[0] != a {
		t.Errorf("%v", all)
	}
	if st, ready := n.lookup([]byte("one"), 2); st != nil || !ready {
		t.Error("a name is left")
	}
	// What was on its way behind DEALLOCATE ALL takes effect.
	n.settle(coming, true)
	if st, ready := n.lookup([]byte("two"), 2); st != b || !ready {
		t.Error("a later Parse was forgotten")
	}
	if n.clear(); n.bytes != 0 || n.len() != 0 {
		t.Errorf("%d bytes, %d names are left", n.bytes, n.len())
	}
}

// What a server holds, the least recently used last.
func TestShelf(t *testing.T) {
	var table statementTable
	var s shelf
	var all []*statement
	for _, text := range []string{"A", "B", "C"} {
		st := table.intern([]byte(text+"\x00\x00\x00"), noSettings, 0)
		all = append(all, st)
		s.get(st, &table)
		table.drop(st) // the shelf's reference is left
	}
	a := s.get(all[0], &table) // used again
	if h := s.oldest(nil); h.st != all[1] {
		t.Errorf("the oldest is %q", h.st.body)
	}
	s.get(all[1], &table).pending++
	if h := s.oldest(nil); h.st != all[2] {
		t.Errorf("the oldest that is at rest is %q", h.st.body)
	}
	s.drop(a, &table)
	s.drop(a, &table) // only once
	if n, _ := table.size(); n != 2 {
		t.Errorf("%d statements are left", n)
	}
	s.clear(&table)
	if n, _ := table.size(); n != 0 || s.oldest(nil) != nil || s.order.Len() != 0 {
		t.Errorf("%d statements are left", n)
	}
}
