package drivers

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgpoold/test/drivers/toolchain"
)

var (
	// cutLine of apps.md is replaced by a piece of a program that the matrix
	// runs: what stands in the file between the comments "apps: NAME" and
	// "apps: end".
	cutLine = regexp.MustCompile(`(?m)^cut (\S+) (\S+)\n`)
)

// apps is docs/apps.md.
func apps(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("apps.md")
	if err != nil {
		t.Fatal(err)
	}
	return cutLine.ReplaceAllStringFunc(string(text), func(match string) string {
		found := cutLine.FindStringSubmatch(match)
		return snippet(t, found[1], found[2])
	})
}

// snippet is a piece of a file of this folder, as a block of Markdown.
func snippet(t *testing.T, path, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(toolchain.Root(t), "test", "drivers", filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	mark := regexp.MustCompile(`(?s)[ \t]*(?:#|//|--) apps: ` + regexp.QuoteMeta(name) + `\n(.*?)[ \t]*(?:#|//|--) apps: end\n`)
	found := mark.FindStringSubmatch(string(text))
	if found == nil {
		t.Fatalf("%s has no piece %q", path, name)
	}
	language := map[string]string{".py": "python", ".js": "js", ".ts": "ts", ".go": "go", ".java": "java", ".rs": "rust", ".c": "c"}
	return "```" + language[filepath.Ext(path)] + "\n" + dedent(found[1]) + "```\n"
}

// dedent takes away the white space that all lines begin with.
func dedent(text string) string {
	lines := strings.SplitAfter(text, "\n")
	var indent string
	for n, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		own := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		if n == 0 || len(own) < len(indent) {
			indent = own
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.TrimPrefix(l, indent))
	}
	return b.String()
}
