package pooling_test

import (
	"testing"

	"pgpoold/test/postgres"
)

// TestSequences: currval and lastval never tell a session another one's
// numbers, and after the first time they tell it its own.
func TestSequences(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, "create sequence s; create table t (id serial, a int)")
	p := startYAML(t, poolYAML(c, db, "size: 3, round_robin: true, max_pinned: 2", ""))
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	a.must("select nextval('s')")
	for range 6 {
		for _, q := range []string{"select currval('s')", "select lastval()"} {
			if r := b.query(q); r.code() != "55000" {
				t.Fatalf("%s gives a session that has drawn nothing %s", q, r)
			}
		}
		a.must("select nextval('s')")
		a.must("insert into t (a) values (1)")
	}
	a.query("select currval('s')") // 55000, or right
	for range 4 {
		drawn := a.must("select nextval('s')").cell()
		b.must("insert into t (a) values (2)")
		b.must("select nextval('s')")
		if got := a.must("select currval('s')").cell(); got != drawn {
			t.Fatalf("currval is %s, drawn was %s", got, drawn)
		}
		id := a.must("insert into t (a) values (1) returning id").cell()
		if got := a.must("select lastval()").cell(); got != id {
			t.Fatalf("lastval is %s, drawn was %s", got, id)
		}
	}
	if cl, _ := clientOf(p, a.pid); cl.Pin != "sequence" {
		t.Errorf("pin is %q", cl.Pin)
	}
	a.must("discard sequences")
	if cl, _ := clientOf(p, a.pid); cl.Pin != "" {
		t.Errorf("after DISCARD SEQUENCES the pin is %q", cl.Pin)
	}
	if r := a.query("select lastval()"); r.code() != "55000" {
		t.Errorf("lastval after DISCARD SEQUENCES gives %s", r)
	}
	a.must("select nextval('s')")
	a.vanish()
	clients(t, p, 1)
	// What has drawn nothing itself, and comes behind, finds nothing.
	last := login(t, p.Addr(), "app", db)
	for range 4 {
		if r := last.query("select lastval()"); r.code() != "55000" {
			t.Errorf("a new session's lastval gives %s", r)
		}
	}
	if n := closes(p, "pin") + closes(p, "tainted"); n != 0 {
		t.Errorf("%d servers were closed", n)
	}
}
