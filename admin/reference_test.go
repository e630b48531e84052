package admin

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/console.md and docs/metrics.md from the code")

func TestTheDocumentsAreGenerated(t *testing.T) {
	for path, want := range map[string]string{"../docs/console.md": ConsoleReference(), "../docs/metrics.md": MetricsReference()} {
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what the code says: run go test ./admin -update", path)
		}
	}
}

// Every command that there is stands in SHOW HELP, and nothing else does.
func TestHelpIsTrue(t *testing.T) {
	_, dial := consoleOn(t, options(&source{snap: state()}))
	help := usage()
	for _, sh := range shows {
		if !strings.Contains(help, strings.ToUpper(sh.name)) {
			t.Errorf("SHOW %s is not in it", sh.name)
		}
	}
	conn := dial("grafana")
	for line := range strings.Lines(help) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "SHOW" || words[1] == "EXTENDED" {
			continue
		}
		for _, what := range strings.Split(words[1], "|") {
			if _, err := conn.Exec(timeout(t), "SHOW "+what).ReadAll(); err != nil {
				t.Errorf("SHOW %s: %v", what, err)
			}
			if what != "HELP" {
				if _, err := conn.Exec(timeout(t), "SHOW EXTENDED "+what).ReadAll(); err != nil {
					t.Errorf("SHOW EXTENDED %s: %v", what, err)
				}
			}
		}
	}
}
