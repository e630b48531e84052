package conformance

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"pgpoold/test/wirescript"
)

const (
	protocolPage = "../../docs/protocol.md"
	beginMark    = "<!-- generated: go test ./test/conformance -run TestDirect -update -->"
	endMark      = "<!-- end of generated -->"
)

// checkTable compares the generated part of docs/protocol.md with what the
// scripts really reached, or writes it.
func checkTable(t *testing.T, cells wirescript.Cells) {
	t.Helper()
	page, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), beginMark)
	_, foot, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		t.Fatalf("%s has no generated part", protocolPage)
	}
	want := head + beginMark + "\n" + generated(t, cells) + endMark + foot
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the scripts reach: run go test ./test/conformance -run TestDirect -update", protocolPage)
	}
	if err := os.WriteFile(protocolPage, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func generated(t *testing.T, cells wirescript.Cells) string {
	var s strings.Builder
	s.WriteString("\n### The table of cells\n\n")
	if err := cells.WriteTable(&s); err != nil {
		t.Fatal(err)
	}
	s.WriteString("\nA message counts for a column when it was sent while:\n\n")
	for _, c := range wirescript.Columns() {
		fmt.Fprintf(&s, "- **%s**: %s.\n", c, c.Meaning())
	}
	s.WriteString("\n### What a comparison does not see\n\n| what | why |\n|---|---|\n")
	for _, n := range wirescript.Normalisations() {
		fmt.Fprintf(&s, "| %s | %s |\n", n.What, n.Reason)
	}
	s.WriteString("\n### Where pgpoold answers otherwise\n\n")
	for _, script := range loadScripts(t, wirescript.OnlyBoth) {
		if script.Differs != "" {
			fmt.Fprintf(&s, "- [%s](../test/scripts/%[1]s.wire): %s\n", script.Name, script.Differs)
		}
	}
	s.WriteByte('\n')
	return s.String()
}
