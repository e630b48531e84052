// Command bench runs the same pgbench workload directly against PostgreSQL,
// through pgpoold and through PgBouncer, interleaved, and writes what it cost
// into docs/benchmarks.md. It starts a PostgreSQL and the proxies itself, on
// loopback, and ends them by their process ids.
//
//	go run ./test/bench                     the whole table
//	QUICK=1 go run ./test/bench             a subset within three minutes
//	go run ./test/bench -levels             what each level of session state costs
//	go run ./test/bench -profile -protocols simple -clients 200
//	go run ./test/bench -pgo                what the compiler optimises pgpoold for
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pgpoold/test/measure/process"
)

// options are the command line.
type options struct {
	protocols, clients string
	targets            string
	rounds             int
	duration           time.Duration
	sampling           float64
	out                string
	verbose            bool
	levels             bool
	profile            bool
	profileOut         string
	pgo                bool
}

func main() {
	var o options
	flag.StringVar(&o.protocols, "protocols", "", "comma-separated workloads: simple, extended, prepared, rows, value, connect, write, copy-out, copy-in; prepared/10 sends pipelines of 10 queries; +tls=client, +tls=server, +tls=both, +scram, +rsa, +idle=N, +cores=N, +state=LEVEL and +audit=SHARE stand behind any of them")
	flag.StringVar(&o.clients, "clients", "", "comma-separated numbers of clients (default 1,8,32,200,1000)")
	flag.StringVar(&o.targets, "targets", strings.Join([]string{nameDirect, namePgpoold, nameDefault, namePgbouncer, namePgbouncerB, nameFloor}, ","), "what to measure")
	flag.IntVar(&o.rounds, "rounds", 0, "rounds per point (default 5; 3 with QUICK=1, a profile or a choice of points)")
	flag.DurationVar(&o.duration, "duration", 0, "length of one run of pgbench, whole seconds (default 2s); without QUICK=1 two and a half times that where the p99.9 is judged or COPY runs")
	flag.Float64Var(&o.sampling, "sampling", 1, "fraction of transactions whose latency pgbench logs; lower it for very long runs")
	flag.StringVar(&o.out, "out", "", "file to write the section into (default docs/benchmarks.md; with -protocols, -clients or -targets none)")
	flag.BoolVar(&o.verbose, "v", false, "show what the proxies print")
	flag.BoolVar(&o.profile, "profile", false, "profile pgpoold's processor time at one point instead of comparing")
	flag.StringVar(&o.profileOut, "profile-out", "", "the profile's file (default cpu.prof or perf.prof in the current directory)")
	flag.BoolVar(&o.levels, "levels", false, "measure what each level of session state costs instead of the whole table")
	flag.BoolVar(&o.pgo, "pgo", false, "record the profile that the compiler optimises pgpoold for, into "+pgoFile)
	holds := flag.Bool(holdFlag, false, "hold idle clients: for the program itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if *holds {
		err = hold(ctx, flag.Args())
	} else {
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	quick := os.Getenv("QUICK") != "" && os.Getenv("QUICK") != "0"
	if o.pgo {
		o.protocols, o.clients = orElse(o.protocols, pgoProtocols), orElse(o.clients, pgoClients)
	}
	points, err := plan(o.protocols, o.clients, quick, o.levels)
	if err != nil {
		return err
	}
	custom := o.protocols != "" || o.clients != ""
	if o.rounds == 0 {
		o.rounds = 5
		if quick || custom {
			o.rounds = 3
		}
	}
	if o.duration == 0 {
		o.duration = 2 * time.Second
	}
	if o.duration < 2*time.Second || o.duration%time.Second != 0 {
		return errors.New("-duration takes whole seconds, two or more")
	}
	if o.sampling <= 0 || o.sampling > 1 {
		return errors.New("-sampling lies above 0 and at most at 1")
	}
	b, err := prepare(ctx, o, points, quick)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if o.pgo {
		return b.profileAll(ctx, points)
	}
	if o.profile {
		return b.profile(ctx, points[0], o.profileOut)
	}
	rep := &report{Title: "Whole table", Rounds: o.rounds, Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), Machine: describeMachine()}
	section := "full"
	switch {
	case o.levels:
		rep.Title, section = "Cost of each level of session state", "levels"
	case quick:
		rep.Title, section = "Quick subset", "quick"
	}
	for i, p := range points {
		m, err := b.point(ctx, p, o.rounds, func(round int, name string, r result) {
			fmt.Printf("[%d/%d] %-22s round %d %-12s %8.0f tps  p50 %6.0f  p99 %7.0f us  CPU %6.1f us\n", i+1, len(points), p, round+1, name, r.TPS, r.P50, r.P99, r.CPU)
		})
		if err != nil {
			return err
		}
		rep.Points = append(rep.Points, m)
	}
	b.describe(ctx, rep)
	text := rep.markdown()
	fmt.Println("\n" + text)
	if o.out == "" {
		if custom || len(b.targets) < 4 {
			return nil
		}
		o.out = filepath.Join(b.root, "docs", "benchmarks.md")
	}
	old, err := os.ReadFile(o.out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(o.out, []byte(replaceSection(string(old), section, text)), 0o644)
}

// plan lists the points in the order in which they run.
func plan(protocols, clients string, quick, levels bool) ([]point, error) {
	if protocols != "" || clients != "" {
		return cross(orElse(protocols, "simple,extended,prepared"), orElse(clients, "1,8,32,200,1000"))
	}
	all := [][2]string{
		{"simple,extended,prepared", "1,8,32,200,1000"},
		{"extended/10,prepared/10,extended/100,prepared/100", "1,32"},
		{"simple+tls=client", "1,32,200"}, {"simple+tls=server,simple+tls=both,prepared+tls=client", "32"},
		{"rows", "8"}, {"value", "2"}, {"copy-out,copy-in", "1"},
		{"connect,connect+scram,connect+scram+tls=client,connect+scram+tls=client+rsa", "8"},
		{"simple,simple+idle=9900", "100"},
		{"simple+cores=1,simple+cores=2", "200"},
	}
	switch {
	case levels:
		// At strict who writes keeps its server, so there are fewer than max_pinned.
		all = [][2]string{{eachLevel("simple", "extended", "prepared"), "8,200"}, {eachLevel(whatWrite), "8"}}
	case quick:
		all = [][2]string{{"simple", "1,32,200"}, {"prepared,prepared/10", "32"}}
	}
	var points []point
	for _, some := range all {
		more, err := cross(some[0], some[1])
		if err != nil {
			return nil, err
		}
		points = append(points, more...)
	}
	return points, nil
}

// eachLevel names what -levels measures. The row of the default level is two
// equal programs: what it differs by is the machine's.
func eachLevel(whats ...string) string {
	var workloads []string
	for _, what := range whats {
		for _, level := range []string{"+state=" + defaultState, "+state=strict", "+state=reject", "+state=ignore", "+audit=0.01", "+audit=1"} {
			workloads = append(workloads, what+level)
		}
	}
	return strings.Join(workloads, ",")
}

// cross is every workload with every number of clients.
func cross(workloads, clients string) (points []point, err error) {
	for _, workload := range strings.Split(workloads, ",") {
		p, err := parsePoint(workload)
		if err != nil {
			return nil, err
		}
		for _, c := range strings.Split(clients, ",") {
			if p.Clients, err = strconv.Atoi(c); err != nil || p.Clients < 1 {
				return nil, fmt.Errorf("-clients: %q is no number of clients", c)
			}
			points = append(points, p)
		}
	}
	return points, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// bench is a prepared benchmark: PostgreSQL runs and is filled, the binaries
// are there. One goroutine uses it.
type bench struct {
	root     string
	targets  []string
	programs programs
	runner   runner
	pg       *database
}

// prepare starts PostgreSQL and finds the binaries.
func prepare(ctx context.Context, o options, points []point, quick bool) (_ *bench, err error) {
	b := &bench{targets: strings.Split(o.targets, ",")}
	if o.profile || o.pgo {
		b.targets = []string{namePgpoold}
	}
	most, direct := 0, 0
	for _, p := range points {
		most = max(most, p.Clients+p.Idle)
		direct = max(direct, p.Clients)
	}
	if b.root, err = process.ModuleRoot(ctx); err != nil {
		return nil, err
	}
	// Every proxy's pool and a few to spare, beside the direct clients.
	if b.pg, err = startDatabase(ctx, direct+4*poolSize+20); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	b.programs = programs{guard: b.pg.server.Guard(), upstream: b.pg.upstream, clients: most}
	if o.verbose {
		b.programs.log = os.Stderr
	}
	if b.programs.credential, err = process.Unprivileged(); err != nil {
		return nil, err
	}
	b.programs.dir = filepath.Join(b.programs.guard.Dir(), "bench")
	if err := os.Mkdir(b.programs.dir, 0o755); err != nil {
		return nil, err
	}
	if b.programs.certificates, err = b.pg.writeCertificates(b.programs.dir); err != nil {
		return nil, err
	}
	for _, name := range b.targets {
		switch name {
		case nameDirect:
		case nameDefault:
		case namePgpoold:
			b.programs.pgpoold, err = process.BuildPgpoold(ctx, b.programs.dir)
		case namePgbouncer, namePgbouncerB:
			b.programs.pgbouncer, b.programs.version, err = findPgbouncer(ctx)
		case nameFloor:
			if runtime.GOOS != "linux" {
				continue
			}
			b.programs.floor, err = process.Build(ctx, b.programs.dir, "./test/bench/floor")
		default:
			err = fmt.Errorf("-targets: %q is none of %s, %s, %s, %s, %s, %s", name, nameDirect, namePgpoold, nameDefault, namePgbouncer, namePgbouncerB, nameFloor)
		}
		if err != nil {
			return nil, err
		}
	}
	b.runner = runner{
		pgbench: b.pg.pgbench, dir: b.programs.dir, user: b.pg.upstream.User, database: b.pg.upstream.Database,
		duration: o.duration, warmup: min(time.Second, o.duration/4), quick: quick, sampling: o.sampling,
	}
	return b, b.pg.fill(ctx)
}

// close ends PostgreSQL and removes every file.
func (b *bench) close() error { return b.pg.server.Close() }

// point measures all targets at one point, round by round.
func (b *bench) point(ctx context.Context, p point, rounds int, progress func(round int, name string, r result)) (measurements, error) {
	m := measurements{Point: p, Rounds: make(map[string][]result)}
	var targets []*target
	defer func() {
		for _, t := range targets {
			t.stop()
		}
	}()
	for _, name := range b.targets {
		if p.Protocol == "prepared" && strings.HasPrefix(name, namePgbouncer) && !b.programs.version.preparesStatements() {
			m.Note = fmt.Sprintf("PgBouncer %s knows no prepared statements in transaction mode (1.21 does)", b.programs.version)
			continue
		}
		if p.without(name) || name == nameDefault && b.programs.pgpoold == "" || name == nameFloor && b.programs.floor == "" {
			continue
		}
		t, err := b.programs.start(ctx, name, p)
		if err != nil {
			return m, err
		}
		targets = append(targets, t)
		if err := b.runner.warm(ctx, t, p); err != nil {
			return m, err
		}
		if p.Idle > 0 {
			more, note, err := b.runner.besideIdle(ctx, t, p)
			if err != nil {
				return m, err
			}
			defer more.leave()
			m.Note = strings.TrimPrefix(m.Note+"; "+note, "; ")
		}
	}
	for round := range rounds {
		for i := range targets {
			t := targets[(i+round)%len(targets)]
			if round > 1 && (t.name == nameDirect || t.name == nameFloor) {
				continue // no aim hangs on them
			}
			r, err := b.runner.measure(ctx, t, p)
			if err != nil {
				return m, err
			}
			m.Rounds[t.name] = append(m.Rounds[t.name], r)
			progress(round, t.name, r)
		}
	}
	return m, nil
}

// describe adds to the report what was run.
func (b *bench) describe(ctx context.Context, rep *report) {
	rep.Configs = make(map[string]string)
	rep.Versions = append(rep.Versions, "PostgreSQL: "+b.pg.version+fmt.Sprintf(", max_connections %d, pgbench scale %d, everything in shared buffers", b.pg.maxConnections, pgbenchScale))
	if b.programs.pgpoold != "" {
		rep.Versions = append(rep.Versions, "pgpoold: "+versionLine(ctx, b.programs.pgpoold, "version"))
		up := b.programs.pgpooldConfig(6432, 6433, point{})
		up.Upstream.Port, up.MaxClientConn = 5432, b.programs.clients+100
		rep.Configs[namePgpoold] = up.YAML()
	}
	if b.programs.pgbouncer != "" {
		rep.Versions = append(rep.Versions, "PgBouncer: "+b.programs.version.String())
		doc := b.programs
		doc.upstream.Port = 5432
		rep.Configs[namePgbouncer] = doc.pgbouncerIni(6432, "userlist.txt", point{})
	}
	for _, m := range rep.Points {
		if m.Point.copies() {
			continue
		}
		args := append(b.runner.args(m.Point), "-T", strconv.Itoa(int(b.runner.length(m.Point)/time.Second)), "-l")
		command := "pgbench " + strings.Join(args, " ") + " -h 127.0.0.1 -p PORT -U " + b.runner.user + " " + b.runner.database
		if !slices.Contains(rep.Commands, command) {
			rep.Commands = append(rep.Commands, command)
		}
	}
}
