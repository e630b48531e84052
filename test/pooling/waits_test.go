package pooling_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
)

// TestWaitForName: a Bind whose statement hangs on the outcome of an earlier
// batch goes on when that is known, however many made-up replies are owed
// behind it.
func TestWaitForName(t *testing.T) {
	for name, closing := range map[string]*pgproto3.Close{
		"statements": {ObjectType: 'S', Name: "q"}, // made up
		"portals":    {ObjectType: 'P', Name: "q"}, // PostgreSQL's
	} {
		for _, n := range []int{1, 2000, 2500, 5000} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				rvSame(t, 1, nil, func(t *testing.T, open rvOpen) []string {
					a := open()
					ms := []pgproto3.FrontendMessage{parse("x", "select pg_sleep(0.2)"), bind("x"), &pgproto3.Execute{}, &pgproto3.Sync{}, &pgproto3.Close{ObjectType: 'P', Name: "q"}}
					for range n {
						ms = append(ms, closing)
					}
					ms = append(ms, bind("x"), &pgproto3.Execute{}, &pgproto3.Sync{})
					sent := make(chan error, 1)
					b := encode(t, ms...)
					go func() {
						_, err := a.nc.Write(b)
						sent <- err
					}()
					lines := []string{rvGist(a.read()), rvGist(a.read())}
					if err := <-sent; err != nil {
						lines = append(lines, err.Error())
					}
					return lines
				})
			})
		}
	}
}

// TestWaitForNameAgain is many short waits, each of which ends in the moment
// in which another batch is under way.
func TestWaitForNameAgain(t *testing.T) {
	p, _, db := start(t, 1)
	a := login(t, p.Addr(), "app", db)
	_ = a.nc.SetDeadline(time.Now().Add(patience))
	sync := &pgproto3.Sync{}
	for i := range 300 {
		b := encode(t, parse("x", "select 1"), sync, parse("", "select 2"), bind("x"), &pgproto3.Execute{}, sync, rvClose("x"), sync)
		at := i % len(b)
		for _, part := range [][]byte{b[:at], b[at:]} {
			if _, err := a.nc.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if r1, r2, r3 := a.read(), a.read(), a.read(); r1.types != "1Z" || r2.types != "12DCZ" || r3.types != "3Z" {
			t.Fatalf("round %d: %s, %s, %s", i, r1, r2, r3)
		}
	}
}

// rvAssignments is how often servers were given to sessions.
func rvAssignments(p *harness.Pgpoold) (n uint64) {
	for _, pool := range p.Server().Snapshot().Pools {
		n += pool.Stats.ServerAssignments
	}
	return n
}

// TestServerForWholeMessages: a client that sends byte by byte gets its server
// once, not for every byte.
func TestServerForWholeMessages(t *testing.T) {
	p, _, db := start(t, 1)
	slow := login(t, p.Addr(), "app", db, "timezone", "Asia/Tokyo")
	other := login(t, p.Addr(), "app", db)
	slow.send(parse("s", "select $1::text"), &pgproto3.Sync{})
	slow.read()
	sync := &pgproto3.Sync{}
	for _, test := range []struct {
		name string
		msgs []pgproto3.FrontendMessage
		step int
		want string
	}{
		{"Query", []pgproto3.FrontendMessage{sql("select 1 -- " + strings.Repeat("z", 100))}, 1, "TDCZ"},
		{"long Query", []pgproto3.FrontendMessage{sql("select 1 -- " + strings.Repeat("z", 50_000))}, 1000, "TDCZ"},
		{"Parse", append(batch("select 1 -- "+strings.Repeat("z", 100)), sync), 1, "12DCZ"},
		{"long Parse", append(batch("select 1 -- "+strings.Repeat("z", 50_000)), sync), 1000, "12DCZ"},
		{"Bind", []pgproto3.FrontendMessage{bind("s", "a value"), &pgproto3.Execute{}, sync}, 1, "2DCZ"},
		{"Describe", []pgproto3.FrontendMessage{rvDescribe("s"), sync}, 1, "tTZ"},
		{"Execute", []pgproto3.FrontendMessage{&pgproto3.Execute{Portal: "a_portal_that_is_not_there"}, sync}, 1, "EZ"},
		{"Close", []pgproto3.FrontendMessage{rvClose("s"), sync}, 1, "3Z"},
		{"FunctionCall", []pgproto3.FrontendMessage{&pgproto3.FunctionCall{Function: 2026}}, 1, "VZ"}, // pg_backend_pid
	} {
		other.must("select 1") // the settings must be brought again
		before := rvAssignments(p)
		b := encode(t, test.msgs...)
		for len(b) > 0 {
			n := min(test.step, len(b))
			if _, err := slow.nc.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
			time.Sleep(200 * time.Microsecond) // long enough to be seen alone; nothing depends on it
		}
		r := slow.read()
		if got := strings.ReplaceAll(strings.ReplaceAll(r.types, "S", ""), "?", "V"); got != test.want {
			t.Errorf("%s: got %s", test.name, r)
		}
		if got := rvAssignments(p) - before; got > 1 {
			t.Errorf("%s: the server was assigned %d times", test.name, got)
		}
	}
}
