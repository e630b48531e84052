package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pgpoold/test/measure/process"
)

// result is what one run of pgbench showed between the end of its warm-up and
// its last transaction.
type result struct {
	Transactions   int
	TPS            float64
	P50, P99, P999 float64 // microseconds
	CPU            float64 // the proxy's user+system microseconds per transaction; 0 for a direct run
	UserShare      float64 // of CPU, 0..1, as the kernel's ticks have it
	RSS            float64 // the proxy's resident bytes at the end of the run
}

// runner runs pgbench against one address after the other.
type runner struct {
	pgbench  string
	dir      string // for pgbench's logs
	user     string
	database string
	duration time.Duration
	warmup   time.Duration // the part of duration that is not counted
	quick    bool          // no run is longer than duration
	sampling float64       // pgbench's --sampling-rate, 1 logs every transaction
}

// length is that of a run at p, in whole seconds: a p99.9 that is judged needs
// tailTransactions, and a COPY takes seconds.
func (r *runner) length(p point) time.Duration {
	if !r.quick && (p.aims().p999 > 0 || p.copies()) {
		return (5 * r.duration / 2).Round(time.Second)
	}
	return r.duration
}

// args are pgbench's, but for the address.
func (r *runner) args(p point) []string {
	jobs := "2"
	if p.Clients == 1 {
		jobs = "1"
	}
	what := []string{"-S"}
	if p.What == whatWrite {
		what = []string{"-N"}
	}
	if p.script() != "" {
		what = []string{"-f", p.scriptName(), "-D", "first=1"}
	}
	if p.What == whatConnect {
		what = append(what, "-C")
	}
	return append(append([]string{"-n"}, what...), "-M", p.Protocol, "-c", strconv.Itoa(p.Clients), "-j", jobs)
}

// warm opens the proxy's servers and fills its caches. Of what it shows only
// the time that connecting took is kept: pgbench's -T begins before it
// connects, so the runs that count are made longer by that.
func (r *runner) warm(ctx context.Context, t *target, p point) error {
	if p.copies() {
		return nil
	}
	if text := p.script(); text != "" {
		if err := os.WriteFile(filepath.Join(r.dir, p.scriptName()), []byte(text), 0o644); err != nil {
			return err
		}
	}
	out, err := r.exec(ctx, t, p, append(r.args(p), "-t", strconv.Itoa(p.warming())))
	if err != nil || p.What == whatConnect {
		return err
	}
	t.connecting, err = connectionTime(out)
	return err
}

var connectionPattern = regexp.MustCompile(`initial connection time = ([0-9.]+) ms`)

func connectionTime(out string) (time.Duration, error) {
	m := connectionPattern.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench tells no connection time:\n%s", tail(out, 2000))
	}
	return time.ParseDuration(m[1] + "ms")
}

// errTooShort: pgbench spent its time on connecting.
var errTooShort = errors.New("less than half of the run was left after connecting")

// measure runs pgbench and takes the numbers of its steady part. A run that
// connected for longer than was allowed for is repeated with more time.
func (r *runner) measure(ctx context.Context, t *target, p point) (result, error) {
	for attempt := 1; ; attempt++ {
		res, err := r.measureOnce(ctx, t, p)
		if !errors.Is(err, errTooShort) || attempt == 4 {
			return res, err
		}
		t.connecting = 2*t.connecting + time.Second
	}
}

func (r *runner) exec(ctx context.Context, t *target, p point, args []string) (string, error) {
	host, port, _ := strings.Cut(t.addr, ":")
	args = append(args, "-h", host, "-p", port, "-U", r.user, r.database)
	cmd := exec.CommandContext(ctx, r.pgbench, args...)
	cmd.Dir = r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "PGSSLMODE="+p.sslmode(t), "PGPASSWORD="+benchPassword, "PGGSSENCMODE=disable")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("pgbench %s against %s: %w\n%s", strings.Join(args, " "), t.name, err, tail(out.String(), 2000))
	}
	if strings.Contains(out.String(), "aborted") {
		return "", fmt.Errorf("pgbench against %s lost clients:\n%s", t.name, tail(out.String(), 2000))
	}
	return out.String(), nil
}

func tail(s string, n int) string {
	if len(s) > n {
		return "... " + s[len(s)-n:]
	}
	return s
}

func (r *runner) measureOnce(ctx context.Context, t *target, p point) (result, error) {
	prefix := filepath.Join(r.dir, "log")
	length := r.length(p) + (t.connecting + t.connecting/4).Round(time.Second)
	args := append(r.args(p), "-T", strconv.Itoa(int(length/time.Second)), "-l", "--log-prefix="+prefix)
	if r.sampling < 1 {
		args = append(args, "--sampling-rate="+strconv.FormatFloat(r.sampling, 'f', -1, 64))
	}
	s := newSampler(t.pid)
	s.start()
	var scrapes *scraper
	if t.admin != "" {
		scrapes = newScraper(t.admin)
		scrapes.start()
	}
	var txns []transaction
	var runErr error
	if p.copies() {
		txns, runErr = r.copy(ctx, t, p)
	} else {
		_, runErr = r.exec(ctx, t, p, args)
	}
	if scrapes != nil {
		runErr = errors.Join(runErr, scrapes.stop())
	}
	samples, sampleErr := s.stop()
	logs, err := filepath.Glob(prefix + ".*")
	if err != nil {
		return result{}, err
	}
	defer func() {
		for _, name := range logs {
			os.Remove(name)
		}
	}()
	if err := errors.Join(runErr, sampleErr); err != nil {
		return result{}, err
	}
	for _, name := range logs {
		if txns, err = readLog(name, txns); err != nil {
			return result{}, err
		}
	}
	res, err := evaluate(txns, samples, r.warmup, r.length(p), r.sampling)
	if err != nil {
		return result{}, fmt.Errorf("%s, %s: %w", t.name, p, err)
	}
	if t.pid != 0 {
		rss, err := process.RSS(t.pid)
		if err != nil {
			return result{}, err
		}
		res.RSS = float64(rss)
	}
	return res, nil
}

// transaction is one line of pgbench's log, in microseconds.
type transaction struct {
	end     int64 // since the epoch
	latency int64
}

func readLog(name string, txns []transaction) ([]transaction, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		t, err := parseLogLine(sc.Text())
		if err != nil {
			return nil, err
		}
		txns = append(txns, t)
	}
	return txns, sc.Err()
}

// parseLogLine reads "client transaction latency script seconds microseconds".
func parseLogLine(line string) (transaction, error) {
	f := strings.Fields(line)
	if len(f) < 6 {
		return transaction{}, fmt.Errorf("pgbench's log has a line of %d fields: %q", len(f), line)
	}
	var n [3]int64
	for i, s := range []string{f[2], f[4], f[5]} {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return transaction{}, fmt.Errorf("pgbench's log has %q where a number belongs", s)
		}
		n[i] = v
	}
	return transaction{end: n[1]*1e6 + n[2], latency: n[0]}, nil
}

// evaluate counts the transactions between two samples of the proxy's
// processor time: the first after the warm-up, and the last within the
// duration, both counted from the first transaction. Without samples (a direct
// run) the warm-up and the duration alone are the bounds.
func evaluate(txns []transaction, samples []sample, warmup, duration time.Duration, sampling float64) (result, error) {
	if len(txns) == 0 {
		return result{}, errTooShort
	}
	slices.SortFunc(txns, func(a, b transaction) int { return int(a.end - b.end) })
	first, last := txns[0].end, txns[len(txns)-1].end
	begin, end := first+warmup.Microseconds(), min(last, first+duration.Microseconds())
	if end-begin < (duration-warmup).Microseconds()/2 {
		return result{}, errTooShort
	}
	var cpu process.CPU
	if samples != nil {
		var inside []sample
		for _, s := range samples {
			if s.at >= begin && s.at <= end {
				inside = append(inside, s)
			}
		}
		if len(inside) < 2 {
			return result{}, fmt.Errorf("%d samples of the proxy's processor time during the run", len(inside))
		}
		first, last := inside[0], inside[len(inside)-1]
		begin, end = first.at, last.at
		cpu = last.cpu.Sub(first.cpu)
	}
	var lat []int64
	for _, t := range txns {
		if t.end > begin && t.end <= end {
			lat = append(lat, t.latency)
		}
	}
	if len(lat) == 0 {
		return result{}, errors.New("no transaction ended after the warm-up")
	}
	slices.Sort(lat)
	n := float64(len(lat)) / sampling
	res := result{
		Transactions: int(n),
		TPS:          n / (float64(end-begin) / 1e6),
		P50:          float64(percentile(lat, 50)),
		P99:          float64(percentile(lat, 99)),
		P999:         float64(percentile(lat, 99.9)),
		CPU:          float64(cpu.Total) / 1e3 / n,
	}
	if ticks := cpu.User + cpu.System; ticks > 0 {
		res.UserShare = float64(cpu.User) / float64(ticks)
	}
	return res, nil
}
