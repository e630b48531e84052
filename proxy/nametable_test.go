package proxy

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestNameTable plays against a map: what is in it is found, and nothing else,
// however often names come and go.
func TestNameTable(t *testing.T) {
	var table nameTable
	want := map[string]*name{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range 200_000 {
		most := 1 + step/1000 // grows, so that the table is nearly full and nearly empty in turns
		text := fmt.Sprint("s", rnd.IntN(most))
		e := table.get([]byte(text))
		if e != want[text] {
			t.Fatalf("step %d: %s is %v, want %v", step, text, e, want[text])
		}
		switch {
		case e == nil && rnd.IntN(3) > 0:
			e = &name{text: text}
			table.put(e)
			want[text] = e
		case e != nil && rnd.IntN(3) > 0:
			table.remove(e)
			delete(want, text)
			table.remove(e) // it is not in it any more
		}
		if table.len() != len(want) {
			t.Fatalf("step %d: %d names, want %d", step, table.len(), len(want))
		}
		if step%997 != 0 {
			continue
		}
		seen := 0
		for e := range table.all() {
			if seen++; want[e.text] != e {
				t.Fatalf("step %d: %q is gone over", step, e.text)
			}
		}
		if seen != len(want) {
			t.Fatalf("step %d: %d names are gone over, want %d", step, seen, len(want))
		}
		for text, e := range want {
			if table.get([]byte(text)) != e {
				t.Fatalf("step %d: %s is not found", step, text)
			}
		}
	}
}
