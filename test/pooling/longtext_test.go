package pooling_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestLongTexts: what a text sets is seen however much stands in front of it,
// and does not reach other clients; for the client itself it holds.
func TestLongTexts(t *testing.T) {
	for _, size := range []int{16 << 10, 20_000, 9 << 20} {
		pad := "select '" + strings.Repeat("x", size) + "' is null"
		for _, test := range []struct {
			name string
			send func(c *peer)
		}{
			{"Query", func(c *peer) {
				c.send(sql(pad + "; set work_mem = '77MB'; set timezone = 'Asia/Tokyo'; set role pg_monitor"))
			}},
			{"unnamed Parse", func(c *peer) {
				c.send(append(batch(pad+", set_config('work_mem', '77MB', false), set_config('timezone', 'Asia/Tokyo', false), set_config('role', 'pg_monitor', false)"), &pgproto3.Sync{})...)
			}},
			{"named Parse", func(c *peer) {
				c.send(parse("n", pad+", set_config('work_mem', '77MB', false), set_config('timezone', 'Asia/Tokyo', false), set_config('role', 'pg_monitor', false)"), &pgproto3.Sync{},
					bind("n"), &pgproto3.Execute{}, &pgproto3.Sync{})
			}},
		} {
			if size > 1<<20 && test.name == "named Parse" {
				continue // refused by name
			}
			t.Run(fmt.Sprintf("%s/%d", test.name, size), func(t *testing.T) {
				t.Parallel()
				p, _, db := start(t, 3) // one of them for who has changed something
				fresh := login(t, p.Addr(), "app", db)
				state := func(c *peer) string {
					return c.must("select current_setting('work_mem') || ' ' || current_setting('timezone') || ' ' || current_user").cell()
				}
				base := state(fresh)
				a := login(t, p.Addr(), "app", db)
				test.send(a)
				for {
					r := a.read()
					if r.code() != "" {
						t.Fatal(r)
					}
					if len(r.tags) > 0 {
						break
					}
				}
				for range 3 {
					if got := state(a); got != "77MB Asia/Tokyo pg_monitor" {
						t.Errorf("the client itself has %s", got)
					}
					if got := state(fresh); got != base {
						t.Errorf("another client has %s, want %s", got, base)
					}
				}
				a.vanish()
				clients(t, p, 1)
				b := login(t, p.Addr(), "app", db)
				for range 3 {
					if got := state(b); got != base {
						t.Errorf("the next client has %s, want %s", got, base)
					}
				}
			})
		}
	}
}

// TestLongTextInPieces: a text that comes in any pieces gives what it gives
// directly, also one that is larger than what is looked at whole.
func TestLongTextInPieces(t *testing.T) {
	for _, size := range []int{20_000, 9 << 20} {
		text := "select length('" + strings.Repeat("x", size) + "')"
		for name, msgs := range map[string][]pgproto3.FrontendMessage{
			"Query": {sql(text)},
			"Parse": append(batch(text), &pgproto3.Sync{}),
		} {
			for _, at := range []int{5, 6, 16 << 10} {
				t.Run(fmt.Sprintf("%s/%d/%d", name, size, at), func(t *testing.T) {
					t.Parallel()
					rvSame(t, 1, nil, func(t *testing.T, open rvOpen) []string {
						c := open()
						b := encode(t, msgs...)
						if _, err := c.nc.Write(b[:at]); err != nil {
							t.Fatal(err)
						}
						time.Sleep(5 * time.Millisecond) // so that it is seen alone
						if _, err := c.nc.Write(b[at:]); err != nil {
							return []string{err.Error()}
						}
						return []string{rvGist(c.read()), rvGist(c.query("select 1"))}
					})
				})
			}
		}
	}
}
