package wirescript

import (
	"fmt"
	"strings"
)

// Diff compares two transcripts; "" means equal. It shows the first
// difference with what came before it.
func Diff(want, got []Entry) string {
	i := Divergence(want, got)
	if i < 0 {
		return ""
	}
	var s strings.Builder
	for j := max(0, i-6); j < i; j++ {
		fmt.Fprintf(&s, "    %s\n", clip(want[j]))
	}
	show := func(mark string, list []Entry) {
		if i >= len(list) {
			fmt.Fprintf(&s, "  %s (nothing)\n", mark)
		}
		for j := i; j < min(i+3, len(list)); j++ {
			fmt.Fprintf(&s, "  %s %s (line %d)\n", mark, clip(list[j]), list[j].Line)
		}
	}
	show("-", want)
	show("+", got)
	return s.String()
}

func clip(e Entry) string {
	s := e.String()
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return s
}

// Divergence is the index of the first entry of got that is not what want has
// there, -1 if all are.
func Divergence(want, got []Entry) int {
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i].Conn != got[i].Conn || !same(want[i].Msg, got[i].Msg) {
			return i
		}
	}
	return -1
}
