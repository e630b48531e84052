package proxy

import "testing"

func TestKeptPlaces(t *testing.T) {
	for _, tt := range []struct {
		name                        string
		had, may, attached, staying int
		lacks                       bool
		want                        int
	}{
		{"nobody is left", 4, 4, 0, 0, false, 0},
		{"all are in use", 4, 4, 4, 10, false, 4},
		{"sessions that stay leave one", 4, 4, 0, 10, false, 3},
		{"fewer of them need fewer", 4, 4, 1, 1, false, 2},
		{"of one they keep it", 1, 1, 0, 3, false, 1},
		{"what was given up is gone", 4, 2, 2, 5, false, 2},
		{"the others lack some", 4, 4, 1, 10, true, 1},
		{"and nobody needs one here", 4, 4, 0, 10, true, 0},
		{"a pool that had none", 0, 0, 0, 3, false, 0},
	} {
		if got := keptPlaces(tt.had, tt.may, tt.attached, tt.staying, tt.lacks); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
