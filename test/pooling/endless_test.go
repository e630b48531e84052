package pooling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestEndlessBatch: a batch without a Sync can go on for ever. What pgpoold and
// the server keep of it is bounded.
func TestEndlessBatch(t *testing.T) {
	p, _, db := start(t, 1)
	c := login(t, p.Addr(), "app", db)
	held := func() int {
		n := 0
		for _, s := range p.Server().Snapshot().Servers {
			n = max(n, s.PreparedStatements)
		}
		return n
	}
	const rounds, each = 60, 50
	for round := range rounds {
		var msgs []pgproto3.FrontendMessage
		for i := range each {
			msgs = append(msgs, rvClose("s"), parse("s", fmt.Sprintf("select %d", round*each+i)), bind("s"), &pgproto3.Execute{})
		}
		c.send(append(msgs, rvClose("end"), &pgproto3.Flush{})...)
		for i := range each {
			if r := c.until('C'); r.types != "312DC" || r.cell() != fmt.Sprint(round*each+i) {
				t.Fatalf("statement %d: %s", round*each+i, r)
			}
		}
		c.until('3')
		if n, sent := held(), (round+1)*each; sent < 2*200 && n < sent {
			t.Fatalf("of %d statements the server holds %d: some were evicted within the batch", sent, n)
		}
		if n := held(); n > 2*200+each+10 {
			t.Fatalf("after %d statements the server holds %d", (round+1)*each, n)
		}
	}
	if r := c.ask(&pgproto3.Sync{}); r.types != "Z" {
		t.Errorf("Sync: %s", r)
	}
	for range 3 {
		c.ask(append(batch("select 1"), &pgproto3.Sync{})...)
		c.ask(parse("s2", "select 2"), rvClose("s2"), &pgproto3.Sync{})
	}
	if n := held(); n > 210 {
		t.Errorf("behind it the server holds %d", n)
	}
}

// TestManyPortalTexts: portals of a text that names statements take memory, and
// are refused beyond a bound.
func TestManyPortalTexts(t *testing.T) {
	p, _, db := start(t, 1)
	c := login(t, p.Addr(), "app", db)
	c.must("prepare x as select 7")
	c.ask(parse("long", "execute x /* "+strings.Repeat("x", 1<<20)+" */"), &pgproto3.Sync{})
	refused := false
	for i := 0; i < 100 && !refused; i++ {
		c.send(&pgproto3.Bind{DestinationPortal: fmt.Sprint("p", i), PreparedStatement: "long"}, &pgproto3.Flush{})
		r := c.until('2')
		refused = r.code() == "53200"
	}
	if !refused {
		t.Error("a hundred portals of a megabyte each were not refused")
	}
	if r := c.ask(&pgproto3.Sync{}); r.types != "Z" {
		t.Errorf("Sync: %s", r)
	}
	if r := c.ask(execute("long")...); r.cell() != "7" {
		t.Errorf("afterwards: %s", r)
	}
}

// TestManyLargeNamed: texts of named statements that are on their way take
// bounded memory, and the session goes on.
func TestManyLargeNamed(t *testing.T) {
	p, _, db := start(t, 1)
	client := login(t, p.Addr(), "app", db)
	text := string(append([]byte("select 1 --"), make300k()...))
	var msgs []pgproto3.FrontendMessage
	for range 40 {
		msgs = append(msgs, rvClose("s"), parse("s", text))
	}
	go client.send(append(msgs, &pgproto3.Sync{})...)
	if r := client.read(); r.code() != "" || len(r.types) != 81 {
		t.Errorf("one batch: %s", r)
	}
}
