package proxy

import (
	"bytes"
	"strings"
	"testing"
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
