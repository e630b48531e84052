package drivers

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgpoold/test/drivers/toolchain"
)

var update = flag.Bool("update", false, "write docs/drivers.md and docs/apps.md")

// The manifests that pin the drivers' versions, from the module's root.
const (
	goManifest       = "go.mod"
	goOtherManifest  = "test/drivers/golang/go.mod"
	pythonManifest   = "test/drivers/python/requirements.txt"
	nodeManifest     = "test/drivers/node/package.json"
	javaManifest     = "test/drivers/java/pom.xml"
	rustManifest     = "test/drivers/rust/Cargo.toml"
	machinesManifest = "" // comes with the machine's PostgreSQL
)

// version finds the version that a manifest pins for a package.
func version(t *testing.T, manifest, pkg string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(toolchain.Root(t), filepath.FromSlash(manifest)))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.QuoteMeta(pkg)
	pattern := map[string]string{
		goManifest:      `(?m)^\s*` + name + ` v(\S+)`,
		goOtherManifest: `(?m)^\s*` + name + ` v(\S+)`,
		pythonManifest:  `(?m)^` + name + `(?:\[\S*\])?==([^\s;]+)`,
		nodeManifest:    `"` + name + `": "([^"]+)"`,
		javaManifest:    `<artifactId>` + name + `</artifactId>\s*<version>([^<]+)`,
		rustManifest:    `(?m)^` + name + ` = (?:\{ version = )?"=?([^"]+)"`,
	}[manifest]
	var versions []string // Python's older releases have their own
	for _, found := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		versions = append(versions, string(found[1]))
	}
	if versions == nil {
		t.Fatalf("%s says no version of %s", manifest, pkg)
	}
	return strings.Join(versions, " or ")
}

// table is docs/drivers.md.
func table(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(tableHead)
	for _, scenario := range scenarioTexts {
		fmt.Fprintf(&b, "- **%s**: %s\n", scenario.name, scenario.text)
	}
	b.WriteString("\n## The table\n\n| driver | version |")
	for _, s := range scenarios {
		fmt.Fprintf(&b, " %s |", s)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(scenarios)) + "\n")
	var reasons []string
	note := func(reason string) string {
		at := slices.Index(reasons, reason)
		if at < 0 {
			at = len(reasons)
			reasons = append(reasons, reason)
		}
		return fmt.Sprintf("[%d](#reasons)", at+1)
	}
	for _, d := range drivers {
		if d.ownScenarios() {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s |", d.title, d.version(t))
		for _, s := range scenarios {
			cell := "equal"
			if reason := d.reason(s); reason != "" {
				cell = note(reason)
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	b.WriteString("\nPostgreSQL's own programs have scenarios of their own:\n\n| program | equal |\n|---|---|\n")
	for _, d := range drivers {
		if d.ownScenarios() {
			fmt.Fprintf(&b, "| %s | %s |\n", d.title, strings.Join(d.scenarios, ", "))
		}
	}
	if len(reasons) > 0 {
		b.WriteString("\n## Reasons\n\n")
		for n, reason := range reasons {
			fmt.Fprintf(&b, "%d. %s\n", n+1, reason)
		}
	}
	return b.String()
}

const tableHead = `# Drivers

<!-- Made by test/drivers. Change the code there, then: go test ./test/drivers -run TestPages -update -->

Every driver here runs one list of scenarios twice, in the newest version that has been released and with its default settings:
directly on PostgreSQL, and through pgpoold in transaction mode with five servers that are handed out in turn. "equal"
means that both runs gave the same rows, tags, errors with their SQLSTATE and text, and reported parameters. A test fails when
a cell of the table is not true. Where a package has two versions, the second is for an older Python.

The tests run the last scenario with 50 tasks for a second, make test-drivers runs it with 200 tasks on 20 servers for 20 seconds. How
to set each of them up is in [apps.md](apps.md).

## The scenarios

`

// TestPages keeps docs/drivers.md and docs/apps.md true to the code.
func TestPages(t *testing.T) {
	for name, want := range map[string]string{"drivers.md": table(t), "apps.md": apps(t)} {
		path := filepath.Join(toolchain.Root(t), "docs", name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, []byte(want)) {
			t.Errorf("docs/%s is not what the code says (%v): go test ./test/drivers -run TestPages -update", name, err)
		}
	}
}
