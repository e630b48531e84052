package regress

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgpoold/proxy"
)

// counts are those of one test.
type counts struct {
	xacts, pinned uint64
	servers       map[uint64]struct{}
	pins          map[string]uint64 // pinned transactions by reason
}

// tally counts transactions by test.
type tally struct {
	mu    sync.Mutex
	tests map[string]*counts // guarded by mu
}

// take counts a transaction. pg_regress tells psql the test's name as its
// application_name.
func (y *tally) take(x proxy.Transaction) {
	name, ok := strings.CutPrefix(x.Application, "pg_regress/")
	if !ok {
		name = "(others)"
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	c := y.tests[name]
	if c == nil {
		c = &counts{servers: map[uint64]struct{}{}, pins: map[string]uint64{}}
		y.tests[name] = c
	}
	c.xacts++
	c.servers[x.Server] = struct{}{}
	if x.Pin != "" {
		c.pinned++
		c.pins[x.Pin]++
	}
}

func (c *counts) share() float64 { return float64(c.pinned) / float64(c.xacts) }

func (c *counts) String() string {
	s := fmt.Sprintf("%d transactions on %d servers, %.0f %% pinned", c.xacts, len(c.servers), 100*c.share())
	for _, reason := range slices.Sorted(maps.Keys(c.pins)) {
		s += fmt.Sprintf(", %s %d", reason, c.pins[reason])
	}
	return s
}

// made is what a script must have in it, or what it loads, for a pin of the
// reason to be one that it has made.
var made = map[string]*regexp.Regexp{
	"temp":          regexp.MustCompile(`(?i)temp`),
	"advisory_lock": regexp.MustCompile(`(?i)advisory`),
	"hold_cursor":   regexp.MustCompile(`(?i)with hold`),
	"listen":        regexp.MustCompile(`(?i)listen`),
	"load":          regexp.MustCompile(`(?i)load`),
	"setseed":       regexp.MustCompile(`(?i)setseed`),
	"statistics":    regexp.MustCompile(`(?i)pg_stat`),
	"custom":        regexp.MustCompile(`(?i)set[^;]*\w\.\w`),
	"untracked":     regexp.MustCompile(`(?i)U&"|client_encoding|execute|\\encoding|prepare`),
	// Functions in C stand in tests' own libraries.
	"function": regexp.MustCompile(`(?i)language c|regresslib|trigger|widget|_oldstyle|reverse_name|binary_coercible|refint|autoinc|int44|city_budget|test_|iexit`),
}

// draws is made for sequences: at preserve only after the session has asked for
// one of them.
var draws = map[string]*regexp.Regexp{
	"preserve": regexp.MustCompile(`(?i)currval|lastval`),
	"strict":   regexp.MustCompile(`(?i)insert|copy|nextval|setval|merge`),
}

// judge prints what each test has kept, and fails where a session kept its
// server that has made nothing which its server must be kept for.
func (y *tally) judge(t *testing.T, src, mode string) {
	t.Helper()
	y.mu.Lock()
	defer y.mu.Unlock()
	var xacts, pinned uint64
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(y.tests)) {
		c := y.tests[name]
		fmt.Fprintf(&b, "\n%s: %s", name, c)
		xacts, pinned = xacts+c.xacts, pinned+c.pinned
		script, err := os.ReadFile(filepath.Join(src, "sql", name+".sql"))
		if err != nil {
			continue // it is none of the tests
		}
		for reason, n := range c.pins {
			has := made[reason]
			if reason == "sequence" {
				has = draws[mode]
			}
			if mode == "strict" && reason == "sequence" && !has.Match(script) {
				continue // a name in it is one that another test has given to what draws numbers
			}
			if has == nil || !has.Match(script) {
				t.Errorf("%s: %s has run %d transactions pinned for %s, and its script makes no such state", mode, name, n, reason)
			}
		}
	}
	t.Logf("%s, by test:%s", mode, b.String())
	if mode == "preserve" && len(y.tests) > 100 && 2*pinned > xacts {
		t.Errorf("%s: %d of %d transactions were pinned", mode, pinned, xacts)
	}
}

// summary is what all tests have kept, for the documentation.
func (y *tally) summary(mode string) string {
	y.mu.Lock()
	defer y.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "\nHow much of a test ran on a server that its session kept, at `%s`:\n\n| pinned | tests | transactions | servers for each test |\n|---|---|---|---|\n", mode)
	for _, band := range []struct {
		says     string
		from, to float64
	}{{"nothing", 0, 0}, {"up to 10 %", 0, 0.1}, {"up to half", 0.1, 0.5}, {"more", 0.5, 1}} {
		var tests, servers, xacts uint64
		for name, c := range y.tests {
			share := c.share()
			if name == "(others)" || share > band.to || share <= band.from && band.to > 0 {
				continue
			}
			tests++
			xacts += c.xacts
			servers += uint64(len(c.servers))
		}
		if tests > 0 {
			fmt.Fprintf(&b, "| %s | %d | %d | %.1f |\n", band.says, tests, xacts, float64(servers)/float64(tests))
		}
	}
	b.WriteString("\n| reason | tests | transactions |\n|---|---|---|\n")
	tests, xacts := map[string]int{}, map[string]uint64{}
	for name, c := range y.tests {
		if name == "(others)" {
			continue
		}
		for reason, n := range c.pins {
			tests[reason]++
			xacts[reason] += n
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(tests)) {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", reason, tests[reason], xacts[reason])
	}
	return b.String()
}
