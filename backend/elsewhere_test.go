package backend

import "testing"

// TestElsewhere: what another process has of a pool counts for its size, and whoever
// waits for such a place gets it when it is given back.
func TestElsewhere(t *testing.T) {
	p := newTestPool(t, newFakePG(t).options(3))
	p.SetElsewhere(2)
	has := p.get(nil)
	first, second := newSeat(nil), newSeat(nil)
	if p.ask(first) != nil || p.ask(second) != nil {
		t.Fatal("there are more servers than places")
	}
	first.silent(t)
	p.SetElsewhere(1)
	if srv, err := first.wait(t); srv == nil || err != nil {
		t.Fatal(srv, err)
	}
	second.silent(t)
	if p.LendFree() {
		t.Error("a place was lent that somebody waits for")
	}
	p.give(has, nil)
	if srv, err := second.wait(t); srv != has || err != nil {
		t.Fatal(srv, err)
	}
	p.SetElsewhere(0)
	if !p.LendFree() || p.LendFree() {
		t.Error("one place is free, and can be lent once")
	}
}
