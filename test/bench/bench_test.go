package main

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgpoold/test/measure/process"
)

func TestSpread(t *testing.T) {
	tests := []struct {
		in   []float64
		want spread
	}{
		{[]float64{3, 1, 2}, spread{2, 1, 3}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4}},
		{[]float64{7}, spread{7, 7, 7}},
	}
	for _, tt := range tests {
		if got := spreadOf(tt.in); got != tt.want {
			t.Errorf("spreadOf(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
	if spreadOf(nil).valid() {
		t.Error("the spread of nothing is valid")
	}
}

func TestRatiosPairRounds(t *testing.T) {
	a := []result{{CPU: 10}, {CPU: 40}}
	b := []result{{CPU: 20}, {CPU: 40}, {CPU: 1}}
	if got, want := ratios(a, b, cpuOf), (spread{0.75, 0.5, 1}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if ratios(nil, b, cpuOf).valid() {
		t.Error("ratios without rounds are valid")
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	tests := []struct {
		in   []int64
		p    float64
		want int64
	}{
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 99.9, 100}, {hundred, 100, 100},
		{[]int64{5}, 50, 5}, {[]int64{5}, 99.9, 5}, {nil, 50, 0},
	}
	for _, tt := range tests {
		if got := percentile(tt.in, tt.p); got != tt.want {
			t.Errorf("percentile of %d values, %v = %d, want %d", len(tt.in), tt.p, got, tt.want)
		}
	}
}

func TestParseLogLine(t *testing.T) {
	got, err := parseLogLine("3 17 250 0 1700000000 000123")
	if err != nil || got != (transaction{end: 1700000000000123, latency: 250}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "1 2 3", "0 1 failed 0 1 2"} {
		if _, err := parseLogLine(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// TestEvaluate: ten transactions, 100 ms apart; samples of processor time at
// uneven moments, so that a wrong bound changes the counts.
func TestEvaluate(t *testing.T) {
	var txns []transaction
	for i := range 10 {
		txns = append(txns, transaction{end: 1_000_000 + int64(9-i)*100_000, latency: int64(i + 1)})
	}
	at := func(us int64, cpu time.Duration) sample {
		return sample{at: us, cpu: process.CPU{Total: cpu, User: cpu / 4, System: cpu - cpu/4}}
	}
	samples := []sample{at(900_000, 0), at(1_250_000, 10*time.Millisecond), at(1_650_000, 18*time.Millisecond), at(2_000_000, time.Hour)}
	r, err := evaluate(txns, samples, 200*time.Millisecond, time.Second, 1)
	if err != nil {
		t.Fatal(err)
	}
	// Between 1.25 s and 1.65 s end the transactions at 1.3, 1.4, 1.5 and 1.6 s.
	if r.Transactions != 4 || math.Abs(r.TPS-10) > 1e-9 || math.Abs(r.CPU-2000) > 1e-9 || r.UserShare != 0.25 {
		t.Errorf("got %+v", r)
	}
	r, err = evaluate(txns, nil, 200*time.Millisecond, time.Second, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	if r.Transactions != 14 || r.CPU != 0 || r.P99 != 7 {
		t.Errorf("direct, half of them logged: got %+v", r)
	}
	if _, err := evaluate(nil, nil, 0, time.Second, 1); !errors.Is(err, errTooShort) {
		t.Errorf("a run without transactions: %v", err)
	}
	if _, err := evaluate(txns, nil, 0, 2*time.Second, 1); !errors.Is(err, errTooShort) {
		t.Errorf("a run of 0.9 s instead of 2 s: %v", err)
	}
	if r, err := evaluate(txns, nil, 0, 500*time.Millisecond, 1); err != nil || r.Transactions != 5 {
		t.Errorf("a run that went on for too long: %+v, %v", r, err)
	}
	if _, err := evaluate(txns, samples[:1], 0, time.Second, 1); err == nil {
		t.Error("a run without samples has a cost")
	}
}

func TestVerdict(t *testing.T) {
	aa, none := spread{1, 0.9, 1.05}, spreadOf(nil)
	tests := []struct {
		median float64
		aa     spread
		aim    float64
		want   string
	}{
		{0.89, aa, 1, met}, {0.95, aa, 1, undecided}, {1.11, aa, 1, undecided}, {1.12, aa, 1, missed},
		{0.8, aa, 0.9, met}, {0.9, aa, 0.9, undecided}, {1.01, aa, 0.9, missed},
		{1, none, 1, met}, {1.004, none, 1, undecided}, {1.01, none, 1, missed},
		{0.5, aa, 0, ""}, {math.NaN(), aa, 1, ""},
	}
	for _, tt := range tests {
		if got := verdict(spread{tt.median, tt.median, tt.median}, tt.aa, tt.aim); got != tt.want {
			t.Errorf("verdict(%v, %v, %v) = %q, want %q", tt.median, tt.aa, tt.aim, got, tt.want)
		}
	}
	for median, want := range map[float64]string{1.4: met, 1.2: undecided, 1: missed} {
		if got := verdictAtLeast(spread{median, median, median}, aa, 1.2); got != want {
			t.Errorf("%v, at least 1.2: %q, want %q", median, got, want)
		}
	}
}

// TestFull: 20,000 transactions of 50 µs fill a processor, half of them do not.
func TestFull(t *testing.T) {
	for tps, want := range map[float64]bool{20_000: true, 18_000: true, 17_000: false, 10_000: false} {
		if got := full([]result{{CPU: 50, TPS: tps}}); got != want {
			t.Errorf("%v a second: %v", tps, got)
		}
	}
	if full(nil) {
		t.Error("nobody fills a processor")
	}
}

// TestOwnTable: each row divides by the right other point, a miss is seen, and not
// where two equal programs differed by as much.
func TestOwnTable(t *testing.T) {
	of := func(p99, p999, p50, cpu float64) map[string][]result {
		return map[string][]result{namePgpoold: {{P99: p99, P999: p999, P50: p50, CPU: cpu}}}
	}
	pair := func(rounds map[string][]result, pg, other result) map[string][]result {
		rounds[namePgbouncer], rounds[namePgbouncerB] = []result{pg}, []result{other}
		return rounds
	}
	rep := &report{Points: []measurements{
		{Point: point{Protocol: "simple", Clients: 1000}, Rounds: of(1, 30, 10, 9)},
		{Point: point{Protocol: "simple", Clients: 100}, Rounds: of(20, 1, 1, 9)},
		{Point: point{Protocol: "simple", Clients: 100, Idle: 9900}, Rounds: of(10, 1, 1, 9)},
		{Point: point{Protocol: "simple", Clients: 200, Cores: 1}, Rounds: of(1, 1, 1, 10)},
		{Point: point{Protocol: "simple", Clients: 200, Cores: 2}, Rounds: of(1, 1, 1, 12)},
		{Point: point{Protocol: "extended", Clients: 50}, Rounds: pair(of(10, 1, 1, 9), result{P99: 10}, result{P99: 12})},
		{Point: point{Protocol: "extended", Clients: 50, Idle: 9}, Rounds: pair(of(13, 1, 1, 9), result{P99: 7}, result{P99: 10})},
		{Point: point{Protocol: "extended", Clients: 7}, Rounds: pair(of(1, 1, 1, 9), result{CPU: 10}, result{CPU: 15})},
		{Point: point{Protocol: "extended", Clients: 7, Cores: 1}, Rounds: of(1, 1, 1, 10)},
		{Point: point{Protocol: "extended", Clients: 7, Cores: 2}, Rounds: of(1, 1, 1, 15)},
	}}
	var b strings.Builder
	rep.ownTable(&b)
	for _, want := range []string{
		"simple, 1000 clients on 20 servers | 3.00 (3.00-3.00) **✗** | n/a | n/a | 2.00",
		"100 clients, over the same without them | 0.50 (0.50-0.50) ✓ | n/a | n/a | 1.00",
		"simple, GOMAXPROCS=2, 200 clients, over GOMAXPROCS=1 | 1.20 (1.20-1.20) **✗** | n/a | n/a | 1.10",
		"50 clients, over the same without them | 1.30 (1.30-1.30) ~ | 1.31 (1.20-1.43) | 0.70 (0.70-0.70) | 1.00",
		"extended, GOMAXPROCS=2, 7 clients, over GOMAXPROCS=1 | 1.50 (1.50-1.50) ~ | 1.50 (1.50-1.50) | n/a | 1.10",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestParseVersion(t *testing.T) {
	tests := []struct {
		in       string
		want     pgbouncerVersion
		prepares bool
	}{
		{"PgBouncer 1.18.0\nlibevent 2.1", pgbouncerVersion{1, 18, 0}, false},
		{"PgBouncer 1.21.0", pgbouncerVersion{1, 21, 0}, true},
		{"PgBouncer 1.25.2dev", pgbouncerVersion{1, 25, 2}, true},
		{"PgBouncer 2.0", pgbouncerVersion{2, 0, 0}, true},
	}
	for _, tt := range tests {
		got, err := parseVersion(tt.in)
		if err != nil || got != tt.want || got.preparesStatements() != tt.prepares {
			t.Errorf("parseVersion(%q) = %v, %v", tt.in, got, err)
		}
	}
	if _, err := parseVersion("Odyssey"); err == nil {
		t.Error("another program's version was read")
	}
}

func TestPlan(t *testing.T) {
	all, err := plan("", "", false, false)
	if err != nil || len(all) != 41 {
		t.Errorf("the whole table has %d points, %v", len(all), err)
	}
	quick, err := plan("", "", true, false)
	if err != nil || len(quick) >= len(all) {
		t.Errorf("the quick table has %d points, %v", len(quick), err)
	}
	for _, p := range quick {
		if !slices.Contains(all, p) {
			t.Errorf("%s is not in the whole table", p)
		}
	}
	some, err := plan("prepared", "8,32", true, false)
	if err != nil || !slices.Equal(some, []point{{Protocol: "prepared", Clients: 8}, {Protocol: "prepared", Clients: 32}}) {
		t.Errorf("got %v, %v", some, err)
	}
	deep, err := plan("extended/100", "1", false, false)
	if err != nil || !slices.Equal(deep, []point{{Protocol: "extended", Clients: 1, Depth: 100}}) {
		t.Errorf("got %v, %v", deep, err)
	}
	if text := deep[0].script(); strings.Count(text, "SELECT abalance") != 100 || !strings.Contains(text, "\\startpipeline\n") {
		t.Errorf("the pipeline is\n%s", text)
	}
	other, err := plan("connect+scram+tls=both,simple+idle=7+cores=2", "3", false, false)
	if err != nil || !slices.Equal(other, []point{
		{Protocol: "simple", What: whatConnect, SCRAM: true, TLS: tlsBoth, Clients: 3}, {Protocol: "simple", Idle: 7, Cores: 2, Clients: 3},
	}) {
		t.Errorf("got %v, %v", other, err)
	}
	for _, bad := range [][2]string{{"simple/10", ""}, {"simple+tls", ""}, {"simple+tls=all", ""}, {"rows/10", ""}, {"simple+idle=x", ""}, {"simple+cores=0", ""}, {"simple+state", ""}, {"simple+state=off", ""}, {"simple+audit", ""}, {"simple+audit=2", ""}, {"prepared/0", ""}, {"prepared/x", ""}, {"binary", ""}, {"", "0"}, {"", "x"}} {
		if _, err := plan(bad[0], bad[1], false, false); err == nil {
			t.Errorf("plan(%q) was accepted", bad)
		}
	}
}

// TestLevels: a level is measured beside the default and PgBouncer, and its
// table pairs them round by round.
func TestLevels(t *testing.T) {
	points, err := plan("", "", false, true)
	if err != nil || len(points) != 3*6*2+6 {
		t.Fatalf("%d points, %v", len(points), err)
	}
	p, err := parsePoint("prepared+state=strict+audit=0.01")
	if err != nil || p != (point{Protocol: "prepared", State: "strict", Audit: "0.01"}) {
		t.Fatalf("got %+v, %v", p, err)
	}
	var taken []string
	for _, name := range []string{nameDirect, namePgpoold, nameDefault, namePgbouncer, namePgbouncerB, nameFloor} {
		if !p.without(name) {
			taken = append(taken, name)
		}
		if (point{Protocol: "simple"}).without(name) != (name == nameDefault) {
			t.Errorf("%s, where no level is asked for", name)
		}
	}
	if !slices.Equal(taken, []string{namePgpoold, nameDefault, namePgbouncer}) {
		t.Errorf("measured are %q", taken)
	}
	var programs programs
	if yaml := programs.pgpooldConfig(1, 2, p).YAML(); !strings.Contains(yaml, "pool:\n  size: 20\n  session_state: strict\n  session_state_audit: 0.01\ndatabases:") {
		t.Errorf("the configuration is\n%s", yaml)
	}
	p.Clients = 8
	r := report{Points: []measurements{{Point: p, Rounds: map[string][]result{
		namePgpoold: {{CPU: 30, P99: 1, TPS: 1}, {CPU: 40, P99: 1, TPS: 1}}, nameDefault: {{CPU: 20, P99: 2, TPS: 4}, {CPU: 20, P99: 2, TPS: 4}}, namePgbouncer: {{CPU: 10}, {CPU: 10}},
	}}}}
	text := r.markdown()
	if want := "| prepared | 8 | strict with audit 0.01 | 1.75 (1.50-2.00) | 3.50 (3.00-4.00) | 0.50 (0.50-0.50) | 0.25 (0.25-0.25) |\n"; !strings.Contains(text, want) {
		t.Errorf("the table has no row\n%s\n%s", want, text)
	}
	if strings.Contains(text, "### pgpoold / PgBouncer") {
		t.Error("there is a table without rows")
	}
}

func TestReplaceSection(t *testing.T) {
	doc := replaceSection("", "full", "first text")
	doc = replaceSection(doc, "quick", "two")
	doc = replaceSection(doc, "full", "three")
	if strings.Contains(doc, "first text") || !strings.Contains(doc, "two") || !strings.Contains(doc, "three") {
		t.Errorf("got %q", doc)
	}
	if strings.Index(doc, "three") > strings.Index(doc, "two") || !strings.HasPrefix(doc, "# Benchmarks") {
		t.Errorf("the order changed: %q", doc)
	}
	if again := replaceSection(doc, "quick", "two"); again != doc {
		t.Errorf("writing the same twice changes the document:\n%q\n%q", doc, again)
	}
}
