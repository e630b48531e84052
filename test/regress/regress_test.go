package regress

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// parallel is how many tests run at a time.
const parallel = 10

// result is one run of the whole schedule.
type result struct {
	passed, failed []string
	diffs          string // the file
	took           time.Duration

	xacts, attaches, inspections uint64
	switched                     float64
	pins                         map[string]uint64
	tests                        *tally
}

// open is the mode of folders that PostgreSQL's user writes to.
const open = os.FileMode(0o777)

var (
	ranLine = regexp.MustCompile(`^(?:test|    )\s*(\S+)\s+\.\.\. (ok|FAILED|failed \(ignored\))`)
)

var update = flag.Bool("update", false, "write the counts into docs/compatibility.md")

// TestRegress runs PostgreSQL's own regression tests directly and through
// pgpoold in transaction mode, where an adversary gives no session its last
// server, and compares. make test-regress brings what it needs.
func TestRegress(t *testing.T) {
	postgres.RequireFull(t)
	in, err := postgres.Find(t.Context(), postgres.TestOptions())
	if err != nil {
		t.Skip(err)
	}
	bin, err := filepath.EvalSymlinks(filepath.Join(in.Bin, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	src := folder(t, filepath.Dir(bin))
	driver, err := driverOf(filepath.Dir(bin))
	if err != nil {
		t.Skip(err)
	}
	out := os.Getenv("PGPOOLD_REGRESS_OUT")
	if out == "" {
		if out, err = os.MkdirTemp("", "pgpoold-regress"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if !t.Failed() {
				_ = os.RemoveAll(out)
			}
		})
	}
	// PostgreSQL reads and writes here, as another user.
	if err := os.MkdirAll(out, open); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(out, open); err != nil {
		t.Fatal(err)
	}
	tests := filepath.Join(out, "tests")
	_ = os.RemoveAll(tests)
	if err := os.CopyFS(tests, os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
	modes := strings.Fields(os.Getenv("PGPOOLD_REGRESS_MODES"))
	if len(modes) == 0 {
		modes = []string{"direct", "preserve", "strict"}
	}
	results := map[string]*result{}
	for _, mode := range modes {
		r := run(t, tests, driver, filepath.Join(out, mode), mode)
		results[mode] = r
		t.Logf("%s: %d passed, %d failed in %.0f s: %s; differences in %s", mode, len(r.passed), len(r.failed), r.took.Seconds(), strings.Join(r.failed, " "), r.diffs)
		if mode == "direct" || results["direct"] == nil {
			continue
		}
		for _, name := range r.failed {
			if !slices.Contains(results["direct"].failed, name) && (mode != "preserve" || differences[name] == "") {
				t.Errorf("%s: %s passes directly and fails through pgpoold", mode, name)
			}
		}
	}
	for mode, r := range results {
		if mode != "direct" {
			r.tests.judge(t, src, mode)
		}
	}
	if *update {
		writeCounts(t, results)
	}
}

// folder is where the tests of PostgreSQL's sources are, with regress.so.
func folder(t *testing.T, bin string) string {
	t.Helper()
	dir := os.Getenv("PGPOOLD_REGRESS")
	if dir == "" || dir == "bring" {
		cache := postgres.CacheDir()
		if cache == "" {
			t.Skip("PostgreSQL's regression tests are not there")
		}
		bring := dir == "bring"
		dir = filepath.Join(cache, "regress")
		if _, err := os.Stat(dir); err != nil && bring {
			if err := prepare(t.Context(), dir, bin); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "parallel_schedule")); err != nil {
		t.Skip("PostgreSQL's regression tests are not there: make test-regress brings them")
	}
	return dir
}

// driverOf finds pg_regress beside the server.
func driverOf(bin string) (string, error) {
	for _, dir := range []string{"lib/pgxs/src/test/regress", "lib/postgresql/pgxs/src/test/regress"} {
		p := filepath.Join(filepath.Dir(bin), dir, "pg_regress")
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("there is no pg_regress beside %s", bin)
}

// run runs the schedule against a cluster of its own.
func run(t *testing.T, src, driver, out, mode string) *result {
	t.Helper()
	cluster := postgres.StartForTest(t, postgres.Config{Settings: map[string]string{"max_prepared_transactions": "2", "autovacuum": "on"}})
	ctx := t.Context()
	const db = "regression"
	for _, sql := range []string{
		`create database regression template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'C'`,
		`alter database regression set lc_messages to 'C'`, `alter database regression set lc_monetary to 'C'`,
		`alter database regression set lc_numeric to 'C'`, `alter database regression set lc_time to 'C'`,
		`alter database regression set bytea_output to 'hex'`, `alter database regression set timezone_abbreviations to 'Default'`,
	} {
		if err := cluster.Exec(ctx, "postgres", sql); err != nil {
			t.Fatal(err)
		}
	}
	var pooled *harness.Pgpoold
	tests := &tally{tests: map[string]*counts{}}
	host, port := cluster.Host(), cluster.Port()
	if mode != "direct" {
		p := harness.Start(t, harness.Options{DSN: cluster.SuperDSN(""), Size: parallel + 4, Quiet: true, State: mode})
		h, ps, err := net.SplitHostPort(p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		p.Server().SetWatch(tests.take)
		host = h
		port, _ = strconv.Atoi(ps)
		pooled = p
	}
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{out, filepath.Join(out, "results"), filepath.Join(out, "testtablespace")} {
		if err := os.MkdirAll(dir, open); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, open); err != nil {
			t.Fatal(err)
		}
	}
	schedule := filepath.Join(src, "parallel_schedule")
	if s := os.Getenv("PGPOOLD_REGRESS_SCHEDULE"); s != "" {
		schedule = s
	}
	// psql of the same version, with nothing of the machine's configuration.
	cmd := exec.CommandContext(ctx, driver, "--use-existing", "--bindir="+filepath.Dir(psql(t)), "--host="+host, "--port="+strconv.Itoa(port),
		"--user="+postgres.Superuser, "--dbname="+db, "--inputdir="+src, "--outputdir="+out, "--dlpath="+src,
		"--max-connections="+strconv.Itoa(parallel), "--schedule="+schedule)
	cmd.Dir = out
	var text bytes.Buffer
	cmd.Stdout = io.MultiWriter(&text, progress{t})
	cmd.Stderr = cmd.Stdout
	cmd.Env = append(os.Environ(), "PGOPTIONS=")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	began := time.Now()
	err := cmd.Run()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	r := &result{diffs: filepath.Join(out, "regression.diffs"), took: time.Since(began)}
	for line := range strings.Lines(text.String()) {
		m := ranLine.FindStringSubmatch(line)
		switch {
		case m == nil:
		case m[2] == "ok":
			r.passed = append(r.passed, m[1])
		default:
			r.failed = append(r.failed, m[1])
		}
	}
	if pooled != nil {
		r.report(pooled)
		r.tests = tests
	}
	if len(r.passed)+len(r.failed) == 0 {
		t.Fatalf("%s: no test ran:\n%s", mode, text.String())
	}
	return r
}

// progress shows a run's lines as they come, where that is asked for.
type progress struct{ t *testing.T }

func (p progress) Write(b []byte) (int, error) {
	if testing.Verbose() {
		_, _ = os.Stderr.Write(b)
	}
	return len(b), nil
}

func psql(t *testing.T) string {
	t.Helper()
	in, err := postgres.Find(context.Background(), postgres.TestOptions())
	if err != nil {
		t.Skip(err)
	}
	path, err := in.Tool("psql")
	if err != nil {
		t.Skip(err)
	}
	return path
}

// report tells how sessions and servers met.
func (r *result) report(p *harness.Pgpoold) {
	snap := p.Server().Snapshot()
	for _, pool := range snap.Pools {
		r.xacts += pool.Stats.Xacts
		r.attaches += pool.Stats.ServerAssignments
		r.inspections += pool.Stats.Inspections
	}
	r.switched, _ = p.Switched()
	r.pins = snap.Totals.PinsTotal
}

// writeCounts writes what came out between the marks in docs/compatibility.md.
func writeCounts(t *testing.T, results map[string]*result) {
	t.Helper()
	const file, begin, end = "../../docs/compatibility.md", "<!-- generated by go test ./test/regress -update -->\n", "<!-- end of generated -->"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no marks", file)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s, %d connections at a time, %s:\n\n", version(t), parallel, time.Now().UTC().Format(time.DateOnly))
	s.WriteString("| | tests that pass | seconds | transactions | of them pinned | on another server than the one before | inspected |\n|---|---|---|---|---|---|---|\n")
	for _, mode := range []string{"direct", "preserve", "strict"} {
		r := results[mode]
		switch {
		case r == nil:
		case mode == "direct":
			fmt.Fprintf(&s, "| direct | %d of %d | %.0f | | | | |\n", len(r.passed), len(r.passed)+len(r.failed), r.took.Seconds())
		default:
			pinned := 0.0
			if r.xacts > r.attaches {
				pinned = float64(r.xacts-r.attaches) / float64(r.xacts)
			}
			fmt.Fprintf(&s, "| `%s` | %d of %d | %.0f | %d | %.1f %% | %.1f %% of the others | %.1f %% |\n", mode, len(r.passed), len(r.passed)+len(r.failed), r.took.Seconds(),
				r.xacts, 100*pinned, 100*r.switched, 100*float64(r.inspections)/float64(r.xacts))
		}
	}
	for _, mode := range []string{"preserve", "strict"} {
		r := results[mode]
		if r == nil || len(r.pins) == 0 {
			continue
		}
		s.WriteString(r.tests.summary(mode))
		var words []string
		for _, reason := range slices.Sorted(maps.Keys(r.pins)) {
			words = append(words, fmt.Sprintf("%s %d", reason, r.pins[reason]))
		}
		fmt.Fprintf(&s, "\nPins at `%s`: %s.\n", mode, strings.Join(words, ", "))
	}
	for _, mode := range []string{"preserve", "strict"} {
		r := results[mode]
		if r == nil {
			continue
		}
		for i, name := range slices.Sorted(slices.Values(r.failed)) {
			if i == 0 {
				fmt.Fprintf(&s, "\nWhat differs at `%s`:\n\n", mode)
			}
			fmt.Fprintf(&s, "- `%s`: %s\n", name, differences[name])
		}
	}
	if err := os.WriteFile(file, []byte(head+begin+s.String()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func version(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(filepath.Dir(psql(t)), "psql"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "psql ")
}
