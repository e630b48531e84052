package main

import (
	"fmt"
	"slices"
	"strings"
)

// measurements are all rounds of all targets at one point.
type measurements struct {
	Point  point
	Rounds map[string][]result // by target
	Note   string              // why a target is missing
}

// report is one run of the benchmark, ready to be written.
type report struct {
	Title    string
	Date     string
	Machine  machine
	Versions []string
	Commands []string
	Configs  map[string]string
	Rounds   int
	Points   []measurements
}

func cpuOf(r result) float64  { return r.CPU }
func tpsOf(r result) float64  { return r.TPS }
func p50Of(r result) float64  { return r.P50 }
func p99Of(r result) float64  { return r.P99 }
func p999Of(r result) float64 { return r.P999 }
func rssOf(r result) float64  { return r.RSS }

// unfairOf is how much longer than most the unluckiest wait.
func unfairOf(r result) float64 { return r.P999 / max(r.P50, 1) }

// markdown is the whole section.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s. ", r.Title, r.Date)
	fmt.Fprintf(&b, "Machine: %s, memory %s, Linux %s, load average before the run %s.\n\n", r.Machine.CPU, r.Machine.Memory, r.Machine.Kernel, r.Machine.Load)
	for _, v := range r.Versions {
		fmt.Fprintf(&b, "- %s\n", v)
	}
	r.ratioTable(&b)
	r.ownTable(&b)
	r.levelTable(&b)
	r.absoluteTable(&b)
	fmt.Fprintf(&b, "\n### How it was run\n\n%d rounds, the targets one after the other within each round, in turning order; direct and floor in the first two alone. Every point begins with fresh proxies and an unmeasured run of 20 transactions per client. Meanwhile the metrics of pgpoold are read once a second.\n\n```\n%s\n```\n", r.Rounds, strings.Join(r.Commands, "\n"))
	r.pipelines(&b)
	for _, name := range []string{namePgpoold, namePgbouncer} {
		if c, ok := r.Configs[name]; ok {
			fmt.Fprintf(&b, "\n%s's configuration:\n\n```\n%s```\n", name, c)
		}
	}
	return b.String()
}

// pipelines says what the scripts of the pipelined points are.
func (r *report) pipelines(b *strings.Builder) {
	for _, m := range r.Points {
		if m.Point.Depth > 0 {
			fmt.Fprintf(b, "\nA transaction of a pipelined row is one pipeline of so many queries. %s, shown for one query:\n\n```\n%s```\n",
				m.Point.scriptName(), point{Depth: 1}.script())
			return
		}
	}
}

// levelTable compares pgpoold at a level with pgpoold at the defaults, in the
// same rounds.
func (r *report) levelTable(b *strings.Builder) {
	if !slices.ContainsFunc(r.Points, func(m measurements) bool { return m.Point.leveled() }) {
		return
	}
	fmt.Fprintf(b, `
### What a level costs

pgpoold at the level of the row over pgpoold with the defaults (%[1]s, no audit) and over PgBouncer, measured in the same rounds: the median of the rounds' ratios, with the smallest and the largest.
The rows of %[1]s are two equal programs: what they differ by is the machine's. "write" is pgbench's -N, a transaction of five statements with an INSERT; the others are its -S.
It runs with fewer clients than max_pinned, as at strict whoever inserts keeps its server.

| protocol | clients | level | CPU/transaction over the default | over PgBouncer | p99 over the default | tps over the default |
|---|---|---|---|---|---|---|
`, defaultState)
	for _, m := range r.Points {
		if !m.Point.leveled() {
			continue
		}
		at, base, pg := m.Rounds[namePgpoold], m.Rounds[nameDefault], m.Rounds[namePgbouncer]
		plain := m.Point
		plain.State, plain.Audit = "", ""
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s | %s |\n", plain.workload(), plain.Clients, m.Point.level(),
			ratioCell(ratios(at, base, cpuOf)), ratioCell(ratios(at, pg, cpuOf)), ratioCell(ratios(at, base, p99Of)), ratioCell(ratios(at, base, tpsOf)))
	}
}

func (r *report) ratioTable(b *strings.Builder) {
	if !slices.ContainsFunc(r.Points, func(m measurements) bool { return !m.Point.leveled() }) {
		return
	}
	fmt.Fprintf(b, `
### pgpoold / PgBouncer

Each cell is the median of the rounds' ratios, with the smallest and the largest. The floor is a program that does the system calls of a
transaction and nothing else (test/bench/floor), over PgBouncer: what a pooler in Go could reach. Below 1 pgpoold is cheaper (CPU, latency, memory) or slower (tps).
The A/A columns are PgBouncer against a second PgBouncer: what the machine does to two equal programs.
Where there is an aim, ✓ meets it and **✗** misses it by more than the A/A pair differed in any round, and ~ lies between. Aims: CPU per transaction at most 1 (0.9 with TLS, for pipelines,
rows, values and COPY), throughput at least 1 (1.2 with TLS, where PgBouncer has its one processor full), p99 and p99.9 at most 1 with 32 and 200 clients. A p99.9 is judged where every round has 100,000 transactions.

| protocol | clients | CPU/transaction | A/A | floor | p99 | A/A | p50 | p99.9 | A/A | tps | A/A | memory |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
	for _, m := range r.Points {
		if m.Point.Cores > 0 || m.Point.leveled() {
			continue
		}
		po, pg, pgB := m.Rounds[namePgpoold], m.Rounds[namePgbouncer], m.Rounds[namePgbouncerB]
		aim := m.Point.aims()
		cpu, cpuAA := ratios(po, pg, cpuOf), ratios(pgB, pg, cpuOf)
		p99, p99AA := ratios(po, pg, p99Of), ratios(pgB, pg, p99Of)
		p999, p999AA := ratios(po, pg, p999Of), ratios(pgB, pg, p999Of)
		tps, tpsAA := ratios(po, pg, tpsOf), ratios(pgB, pg, tpsOf)
		if !deep(po, pg, pgB) {
			aim.p999 = 0
		}
		if m.Point.TLS != tlsNone && !full(pg) {
			aim.tps = 1
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", m.Point.workload(), m.Point.Clients,
			ratioCell(cpu)+verdict(cpu, cpuAA, aim.cpu), ratioCell(cpuAA), ratioCell(ratios(m.Rounds[nameFloor], pg, cpuOf)),
			ratioCell(p99)+verdict(p99, p99AA, aim.p99), ratioCell(p99AA), ratioCell(ratios(po, pg, p50Of)),
			ratioCell(p999)+verdict(p999, p999AA, aim.p999), ratioCell(p999AA),
			ratioCell(tps)+verdictAtLeast(tps, tpsAA, aim.tps), ratioCell(tpsAA), ratioCell(ratios(po, pg, rssOf)))
	}
	for _, m := range r.Points {
		if m.Note != "" {
			fmt.Fprintf(b, "\n%s: %s.\n", m.Point, m.Note)
		}
	}
}

func ratioCell(s spread) string {
	if !s.valid() {
		return "n/a"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", s.Median, s.Min, s.Max)
}

func (r *report) absoluteTable(b *strings.Builder) {
	fmt.Fprint(b, `
### Absolute numbers

Medians over the rounds; for CPU and tps with the smallest and the largest. CPU is the proxy process's user and system time per transaction, from /proc (all
threads), the share of user time in brackets; latencies are pgbench's, per transaction; memory is resident at the end of a run.

| protocol | clients | target | tps | p50 µs | p99 µs | p99.9 µs | p99.9/p50 | CPU µs/transaction | memory MiB | transactions/round |
|---|---|---|---|---|---|---|---|---|---|---|
`)
	for _, m := range r.Points {
		for _, name := range []string{nameDirect, namePgpoold, nameDefault, namePgbouncer, namePgbouncerB, nameFloor} {
			rs := m.Rounds[name]
			if len(rs) == 0 {
				continue
			}
			cpu, mem := "-", "-"
			if name != nameDirect {
				c, user := over(rs, cpuOf), over(rs, func(r result) float64 { return r.UserShare })
				cpu = fmt.Sprintf("%.1f (%.1f-%.1f) [%.0f %%]", c.Median, c.Min, c.Max, 100*user.Median)
				mem = fmt.Sprintf("%.1f", over(rs, rssOf).Median/(1<<20))
			}
			tps := over(rs, tpsOf)
			fmt.Fprintf(b, "| %s | %d | %s | %.0f (%.0f-%.0f) | %.0f | %.0f | %.0f | %.1f | %s | %s | %.0f |\n", m.Point.workload(), m.Point.Clients, name,
				tps.Median, tps.Min, tps.Max, over(rs, p50Of).Median, over(rs, p99Of).Median, over(rs, p999Of).Median,
				over(rs, unfairOf).Median, cpu, mem,
				over(rs, func(r result) float64 { return float64(r.Transactions) }).Median)
		}
	}
}

// docHead opens the generated document.
const docHead = `# Benchmarks

Written by ` + "`make bench`" + ` (the whole table), ` + "`make bench QUICK=1`" + ` (a subset within three minutes) and
` + "`make bench-levels`" + ` (what each level of session state costs); each replaces its own section.
` + "`PGBOUNCER=/path`" + ` chooses the PgBouncer to compare with, else the installed one is taken.
`

func sectionMarks(name string) (begin, end string) {
	return "<!-- begin " + name + " -->\n", "<!-- end " + name + " -->\n"
}

// replaceSection puts text into doc in the place of the section of that name,
// or behind everything where there is none yet.
func replaceSection(doc, name, text string) string {
	begin, end := sectionMarks(name)
	if doc == "" {
		doc = docHead
	}
	section := begin + "\n" + text + "\n" + end
	before, rest, ok := strings.Cut(doc, begin)
	if !ok {
		return strings.TrimRight(doc, "\n") + "\n\n" + section
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		after = ""
	}
	return before + section + after
}
