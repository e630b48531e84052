package conformance

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgpoold/test/wirescript"
)

var (
	fill = flag.Bool("fill", false, "replace each read line that begins with ... by what PostgreSQL says, in the scripts that -run selects")
	show = flag.Bool("show", false, "print the transcripts of the scripts that -run selects")
)

// fillIn rewrites a script's open read lines ("a< ... Z") with what came, so
// that it is an assertion from then on. Long answers are left open.
func fillIn(t *testing.T, name string, entries []wirescript.Entry) {
	t.Helper()
	const most = 14
	path := filepath.Join("..", "scripts", filepath.FromSlash(name)+".wire")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	came := map[int][]wirescript.Message{}
	for _, e := range entries {
		came[e.Line] = append(came[e.Line], e.Msg)
	}
	lines := strings.Split(string(text), "\n")
	repeated := false
	for i, l := range lines {
		if strings.HasPrefix(l, "repeat ") || l == "end" {
			repeated = l != "end"
		}
		head, rest, ok := strings.Cut(l, "< ")
		if !ok || repeated || !strings.HasPrefix(rest, "...") || strings.ContainsAny(head, " #") || len(came[i+1]) > most {
			continue
		}
		words := make([]string, len(came[i+1]))
		for j, m := range came[i+1] {
			words[j] = wirescript.PatternFor(m)
		}
		lines[i] = head + "< " + strings.Join(words, " ")
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}
