package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgpoold/proxy/sqlscan"
)

// text is a version's body, "-" where there is none, "..." where it is not
// known yet.
func (u *unnamed) text(batch uint64) string {
	v, ready := u.current(batch)
	switch {
	case !ready:
		return "..."
	case v == nil || v.body == nil:
		return "-"
	}
	return string(v.body)
}

func TestUnnamed(t *testing.T) {
	for _, r := range []struct {
		name   string
		steps  func(u *unnamed)
		want   [3]string // in batches 1, 2 and 3
		exists bool
	}{
		{"none", func(*unnamed) {}, [3]string{"-", "-", "-"}, false},
		{"on its way", func(u *unnamed) { u.begin([]byte("A"), 0, noSettings, 1) }, [3]string{"A", "...", "..."}, true},
		{"parsed", func(u *unnamed) {
			u.begin([]byte("A"), 0, noSettings, 1)
			u.settle(true)
		}, [3]string{"A", "A", "A"}, true},
		{"failed", func(u *unnamed) {
			u.begin([]byte("A"), 0, noSettings, 1)
			u.settle(false)
		}, [3]string{"-", "-", "-"}, false},
		{"a second one in the same batch", func(u *unnamed) {
			u.begin([]byte("A"), 0, noSettings, 1)
			u.begin([]byte("B"), 0, noSettings, 1)
			u.settle(true)
		}, [3]string{"B", "...", "..."}, true},
		{"both settled", func(u *unnamed) {
			u.begin([]byte("A"), 0, noSettings, 1)
			u.begin([]byte("B"), 0, noSettings, 1)
			u.settle(true)
			u.settle(true)
		}, [3]string{"B", "B", "B"}, true},
		{"the second failed", func(u *unnamed) {
			u.begin([]byte("A"), 0, noSettings, 1)
			u.begin([]byte("B"), 0, noSettings, 1)
			u.settle(true)
			u.settle(false)
		}, [3]string{"A", "A", "A"}, true},
		{"a Query is on its way", func(u *unnamed) {
			u.begin([]byte("A"), 0, noSettings, 1)
			u.settle(true)
			u.begin(nil, 0, noSettings, 2)
		}, [3]string{"...", "-", "..."}, true},
		{"a Query took it away", func(u *unnamed) {
			u.begin([]byte("A"), 0, noSettings, 1)
			u.settle(true)
			u.begin(nil, 0, noSettings, 2)
			u.settle(true)
		}, [3]string{"-", "-", "-"}, false},
		{"a Query was skipped", func(u *unnamed) {
			u.begin([]byte("A"), 0, noSettings, 1)
			u.settle(true)
			u.begin(nil, 0, noSettings, 2)
			u.settle(false)
		}, [3]string{"A", "A", "A"}, true},
		{"a text that is not kept exists", func(u *unnamed) { u.begin([]byte{}, 0, noSettings, 1) }, [3]string{"", "...", "..."}, true},
		{"nothing to settle", func(u *unnamed) {
			if u.settle(true) != 0 {
				t.Error("settled something")
			}
		}, [3]string{"-", "-", "-"}, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			var u unnamed
			r.steps(&u)
			for i, want := range r.want {
				if got := u.text(uint64(i + 1)); got != want {
					t.Errorf("in batch %d it is %q, want %q", i+1, got, want)
				}
			}
			if u.exists() != r.exists {
				t.Errorf("exists: %v", u.exists())
			}
		})
	}
}

// A version is told from another by its generation, also one of the same
// text, and a text is not overwritten while it is in use.
func TestUnnamedGenerations(t *testing.T) {
	var u unnamed
	seen := map[uint64]bool{0: true}
	buf := []byte(strings.Repeat("A", 100))
	for i := range 50 {
		buf[0] = byte(i)
		gen := u.begin(buf, 0, noSettings, uint64(i))
		if seen[gen] {
			t.Fatalf("generation %d twice", gen)
		}
		seen[gen] = true
		if i%3 == 0 {
			continue // two at once
		}
		for len(u.versions()) > 1 {
			u.settle(true)
		}
		v, _ := u.current(uint64(i))
		if v.gen != gen || !bytes.Equal(v.body, buf) {
			t.Fatalf("%d: %q", i, v.body)
		}
	}
}

// A session that once had a large text does not keep its room.
func TestUnnamedShrinks(t *testing.T) {
	var u unnamed
	u.begin(make([]byte, 1<<20), 0, noSettings, 1)
	u.settle(true)
	u.begin(nil, 0, noSettings, 2)
	u.settle(true)
	n := cap(u.texts)
	for _, v := range u.all[:cap(u.all)] {
		n += cap(v.body)
	}
	if n > maxSpare {
		t.Errorf("%d bytes are kept", n)
	}
}

func TestUnnamedInErrors(t *testing.T) {
	s := &session{}
	for _, server := range []string{noSuchStatement, "pgpoold_7"} {
		text := []byte(`prepared statement "` + server + `" does not exist`)
		if got := string(s.translate(text, &replacement{server: server})); got != "unnamed prepared statement does not exist" {
			t.Errorf("%s: %s", server, got)
		}
	}
}

// What is true now and what is on its way are told apart after any sequence of
// changes and outcomes, and every text stays what it was.
func TestUnnamedOutcomes(t *testing.T) {
	type state struct {
		gen  uint64
		text string // "-": there is none
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var u unnamed
		var want []state
		sizes := []int{0, 1, 20, 60, maxSpare, maxSpare + 1}[:2+rnd.IntN(5)]
		for i := range 400 {
			switch n := rnd.IntN(10); {
			case n == 0 && len(want) < 2:
				u.shrink()
				if cap(u.all) > 2 || cap(u.texts) > maxSpare {
					t.Fatalf("a quiet one keeps %d versions, %d bytes", cap(u.all), cap(u.texts))
				}
			case n < 5:
				text := "-"
				var body []byte
				if rnd.IntN(8) > 0 {
					body = bytes.Repeat([]byte{byte(i)}, sizes[rnd.IntN(len(sizes))])
					text = string(body)
				}
				if len(want) == 0 {
					want = append(want, state{0, "-"})
				}
				want = append(want, state{u.begin(body, 0, noSettings, uint64(i)), text})
			case n == 9:
				u.drop()
				if len(want) > 0 {
					want[0].text = "-"
				}
			default:
				for range 1 + rnd.IntN(3) {
					if len(want) < 2 {
						break
					}
					done := rnd.IntN(3) > 0
					if gen := u.settle(done); gen != want[1].gen {
						t.Fatalf("settled %d, not %d", gen, want[1].gen)
					}
					if done {
						want = want[1:]
					} else {
						want = append(want[:1:1], want[2:]...)
					}
				}
			}
			coming := 0
			for i, v := range u.versions() {
				text := "-"
				if v.body != nil {
					text = string(v.body)
				}
				if i >= len(want) || want[i] != (state{v.gen, text}) {
					t.Fatalf("version %d of %d is generation %d, %.20q; want %.400s", i, len(u.versions()), v.gen, text, fmt.Sprint(want))
				}
				if i > 0 {
					coming += len(v.body)
				}
			}
			if len(u.versions()) != len(want) || int(u.coming) != coming {
				t.Fatalf("%d versions and %d bytes on their way, want %d and %d", len(u.versions()), u.coming, len(want), coming)
			}
		}
		if n := cap(u.all); n > 400 {
			t.Fatalf("room for %d versions", n)
		}
	}
}

// What a text says is looked for again once it is another, or is read otherwise.
func TestUnnamedSays(t *testing.T) {
	var u unnamed
	plain, sets := []byte("select 1\x00\x00\x00"), []byte("set a.b = '\\'; reset all --'\x00\x00\x00")
	for _, body := range [][]byte{plain, sets, sets, plain, nil} {
		for _, standard := range []bool{true, false, false} {
			var says said
			if body != nil {
				says = u.said(body, standard)
				if want := sqlscan.Scan(sqlOf(body), standard); says.own != want || says.control != endsXact(body) {
					t.Errorf("%q, standard strings %v: %v, want %v", body, standard, says, want)
				}
			}
			u.begin(body, 0, noSettings, 1)
			if v, _ := u.current(1); body != nil {
				v.says = says
			}
		}
	}
	if on, off := sqlscan.Scan(sqlOf(sets), true), sqlscan.Scan(sqlOf(sets), false); on == off {
		t.Errorf("%q says the same in both", sets)
	}
}

// TestTranslateOwnName: a client has given a statement a name that looks like one of
// ours, and is that of another statement of its own on the server. An error about SQL
// that names it means the client's.
func TestTranslateOwnName(t *testing.T) {
	s := &session{}
	add := func(text, server string) {
		c := s.names.begin([]byte(text), &statement{name: server}, 1)
		s.names.settle(c, true)
	}
	add("s2", "pgpoold_7")
	text := []byte(`wrong number of parameters for prepared statement "pgpoold_7"`)
	if got := string(s.translate(text, nil)); got != `wrong number of parameters for prepared statement "s2"` {
		t.Errorf("got %s", got)
	}
	add("pgpoold_7", "pgpoold_8")
	if got := string(s.translate(text, nil)); got != string(text) {
		t.Errorf("got %s", got)
	}
	if got := string(s.translate(text, &replacement{client: "s2"})); got != `wrong number of parameters for prepared statement "s2"` {
		t.Errorf("got %s", got)
	}
}
