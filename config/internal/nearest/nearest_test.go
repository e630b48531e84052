package nearest

import "testing"

func TestOf(t *testing.T) {
	words := []string{"size", "min_size", "mode", "round_robin", "query_wait_timeout"}
	for _, tt := range []struct{ word, want string }{
		{"sise", "size"},
		{"SIZE", "size"},
		{"szie", "size"},
		{"min-size", "min_size"},
		{"query_wait_timout", "query_wait_timeout"},
		{"xyz", ""},
		{"", ""},
		{"m", ""},
		{"completely_different", ""},
	} {
		if got := Of(tt.word, words); got != tt.want {
			t.Errorf("Of(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}
