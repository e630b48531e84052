package admin

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	metricName  = regexp.MustCompile(`\b(pgpoold|go|process)_[a-z_]+\b`)
	selection   = regexp.MustCompile(`(pgpoold_[a-z_]+)\{([^}]*)\}`)
	labelName   = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	grouping    = regexp.MustCompile(`\bby \(([^)]*)\)`)
	alwaysThere = []string{"instance", "job", "le"}
)

// The dashboard and the alert rules name metrics and labels that exist.
func TestDashboardAndAlertsAreTrue(t *testing.T) {
	labels := map[string][]string{}
	all := []string{}
	for _, f := range families() {
		names := []string{"pgpoold_" + f.name}
		if f.kind == kindHistogram {
			names = []string{"pgpoold_" + f.name + "_bucket", "pgpoold_" + f.name + "_sum", "pgpoold_" + f.name + "_count"}
		}
		for _, n := range names {
			labels[n] = append(slices.Clone(alwaysThere), f.labels...)
			all = append(all, f.labels...)
		}
	}
	_, runtime := call{path: "/metrics"}.do(t, port(options(&source{snap: state()})))
	check := func(where, expr string) {
		for _, name := range metricName.FindAllString(expr, -1) {
			if strings.HasPrefix(name, "pgpoold_") {
				if labels[name] == nil {
					t.Errorf("%s: there is no metric %s", where, name)
				}
			} else if !strings.Contains(runtime, "\n"+name) {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
		for _, m := range selection.FindAllStringSubmatch(expr, -1) {
			for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels[m[1]], l[1]) {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
			}
		}
		for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
			for _, l := range strings.Split(m[1], ",") {
				if l = strings.TrimSpace(l); !slices.Contains(all, l) && !slices.Contains(alwaysThere, l) {
					t.Errorf("%s: nothing has the label %s", where, l)
				}
			}
		}
	}
	text, err := os.ReadFile("../deploy/grafana/pgpoold.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Query string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
			n++
		}
	}
	for _, v := range dashboard.Templating.List {
		check("a variable", v.Query)
	}
	rules, err := os.ReadFile("../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	operations, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	alert := ""
	for line := range strings.Lines(string(rules)) {
		switch key, value, _ := strings.Cut(strings.TrimLeft(line, " -"), ": "); key {
		case "alert":
			if alert = strings.TrimSpace(value); !strings.Contains(string(operations), "`"+alert+"`") {
				t.Errorf("%s is not in docs/operations.md", alert)
			}
		case "expr":
			check(alert, value)
			n++
		}
	}
	if n < 40 {
		t.Errorf("%d expressions", n)
	}
}
