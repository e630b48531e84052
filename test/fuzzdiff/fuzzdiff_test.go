package fuzzdiff

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgpoold/test/postgres"
	"pgpoold/test/wirescript"
	"pgpoold/wire"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// What is asked for by the environment: make fuzz-diff sets the first.
const (
	envFor  = "PGPOOLD_FUZZDIFF"      // a duration: as many programs as it takes
	envSeed = "PGPOOLD_FUZZDIFF_SEED" // a number, or now; the default is always the same
	envOnly = "PGPOOLD_FUZZDIFF_ONLY" // the number of one program, or first-last; they are printed
	envMore = "PGPOOLD_FUZZDIFF_MORE" // anything: it goes on behind a program that differs, and makes none smaller
)

// programs is how many are played without being asked for more, where all
// tests run, and where only those that take no time do.
const (
	programs     = 600
	programsFast = 160
)

// plan is what a run plays.
type plan struct {
	seed        uint64
	from, count uint64
	until       time.Time // zero: count decides
	bounded     bool      // every cell must be reached
	tables      bool      // as newProgram's
}

func planned(t *testing.T) plan {
	t.Helper()
	p := plan{seed: 1, count: programsFast, bounded: true}
	switch {
	case os.Getenv(postgres.EnvScope) == "full":
		p.count = programs
	case postgres.Brief():
		p.count, p.bounded = programsFast/4, false
	}
	number := func(name, text string) uint64 {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	// What tables that change make of statements differs in a few ways that hang
	// on which server comes next: they are for who looks for more of them.
	p.tables = os.Getenv(envSeed) != ""
	switch text := os.Getenv(envSeed); text {
	case "":
	case "now":
		p.seed = uint64(time.Now().UnixNano())
	default:
		p.seed = number(envSeed, text)
	}
	if text := os.Getenv(envFor); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s: %v", envFor, err)
		}
		p.until, p.count = time.Now().Add(d), 1<<62
	}
	if text := os.Getenv(envOnly); text != "" {
		first, last, several := strings.Cut(text, "-")
		p.from, p.count, p.bounded = number(envOnly, first), 1, false
		if several {
			p.count = number(envOnly, last) - p.from + 1
		}
	}
	return p
}

// TestDifferential plays random programs. It stops at the first that differs.
func TestDifferential(t *testing.T) {
	pl := planned(t)
	o := newOracle(t)
	poolers := []*pooler{newPooler(t, o, 1), newPooler(t, o, 2)}
	trace := &wire.Trace{}
	for _, k := range poolers {
		k.p.Server().SetTrace(trace)
	}
	counts := map[wirescript.Cell]int{}
	begin, played, clients := time.Now(), uint64(0), 0
	for n := pl.from; played < pl.count && (pl.until.IsZero() || time.Now().Before(pl.until)); n++ {
		p := newProgram(pl.seed, n, pl.tables)
		if os.Getenv(envOnly) != "" {
			t.Logf("\n%s", p)
		}
		want, err := o.direct(p, patience)
		if err != nil {
			t.Fatalf("seed %d, program %d: %v\n%s", pl.seed, n, err, p)
		}
		for _, h := range want {
			for _, c := range h.cells {
				counts[c]++
			}
		}
		for _, k := range poolers {
			switch diff := k.differs(p, want, patience); {
			case diff.kind == "":
			case os.Getenv(envMore) != "":
				t.Errorf("seed %d, program %d, after %.0f s: %s", pl.seed, n, time.Since(begin).Seconds(), diff.text)
			default:
				fail(t, o, p, k.size, diff)
			}
		}
		played++
		clients += len(p.clients)
	}
	t.Logf("seed %d: %d programs of %d clients in %.0f s, each on pools of 1 and 2", pl.seed, played, clients, time.Since(begin).Seconds())
	t.Logf("messages sent in each cell:\n%s", table(counts))
	t.Logf("what the ledgers did:\n%s", transitions(trace))
	if !pl.bounded {
		return
	}
	for _, c := range claimed() {
		if counts[c] == 0 {
			t.Errorf("no program sends %s in the state %q", c.Row, c.Col)
		}
	}
	for _, tr := range wire.Transitions() {
		if trace.Count(tr) == 0 && unreached[tr] == "" {
			t.Errorf("no program makes a ledger do this: %s", tr)
		}
	}
}

// fail prints the program, made smaller, and how to repeat it.
func fail(t *testing.T, o *oracle, p *program, size int, diff difference) {
	t.Helper()
	wait := time.Minute
	if os.Getenv(envFor) != "" {
		wait = 10 * time.Minute
	}
	s := &shrinker{t: t, o: o, size: size, deadline: time.Now().Add(wait)}
	t.Logf("program %d differs and is made smaller: %s", p.number, diff.text)
	small, smallDiff := s.shrink(p, diff.kind)
	again := fmt.Sprintf("%s=%d %s=%d go test ./test/fuzzdiff -run TestDifferential -v", envSeed, p.seed, envOnly, p.number)
	if smallDiff.kind == "" {
		t.Fatalf("seed %d, program %d: it differs, but not by itself, only behind those before it\n%s%s\n%s", p.seed, p.number, diff.text, again, p)
	}
	t.Fatalf("seed %d, program %d (%s)\n%s\nwhat is left of it after %d attempts:\n%s", p.seed, p.number, again, smallDiff.text, s.attempts, small)
}

// table shows how often each cell was reached.
func table(counts map[wirescript.Cell]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-22s", "")
	for _, col := range wirescript.Columns() {
		fmt.Fprintf(&b, " %9.9s", col)
	}
	for _, row := range wirescript.Rows() {
		fmt.Fprintf(&b, "\n%-22s", row)
		for _, col := range wirescript.Columns() {
			fmt.Fprintf(&b, " %9d", counts[wirescript.Cell{Row: row, Col: col}])
		}
	}
	return b.String()
}

// unreached are the transitions that no client and no PostgreSQL can cause, or
// none for certain, with the reason.
var unreached = map[wire.Transition]string{
	wire.AppendSkipped:   "the proxy drops it itself",
	wire.AppendMarkStray: "the proxy drops it itself",
	wire.SettleReplaced:  "what is sent to fail does fail",
	wire.ProbeRecovers:   "PostgreSQL mostly sends an error and the reply to the Sync behind it together",
}

func transitions(trace *wire.Trace) string {
	var b strings.Builder
	for _, tr := range wire.Transitions() {
		fmt.Fprintf(&b, "%9d  %s\n", trace.Count(tr), tr)
	}
	return b.String()
}
