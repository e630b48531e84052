package drivers

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgpoold/test/drivers/pooled"
	"pgpoold/test/drivers/toolchain"
	"pgpoold/test/postgres"
)

const (
	user     = "app"
	password = "app-secret"
	// patience guards against hanging; nothing is asserted about time.
	patience = 5 * time.Minute
	// lanes is how many drivers run at the same time.
	lanes = 2
)

// A scale says how much the drivers do.
type scale struct {
	servers  int // PostgreSQL connections that pgpoold has for a driver
	tasks    int // of the concurrent scenario
	duration time.Duration
}

var (
	short = scale{servers: 5, tasks: 50, duration: time.Second}
	long  = scale{servers: 20, tasks: 200, duration: 20 * time.Second}
)

// scaleOf is the long form where PGPOOLD_DRIVERS=long asks for it.
func scaleOf() scale {
	if os.Getenv("PGPOOLD_DRIVERS") == "long" {
		return long
	}
	return short
}

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// programArgs are what every driver's program is told.
type programArgs struct {
	driver     string // where a program has several
	dsn        string
	schema     string
	tasks      int
	duration   time.Duration // of the concurrent scenario
	statements int
	limit      time.Duration // after which a scenario that hangs is given up
}

func (a programArgs) flags() []string {
	return []string{
		"--driver", a.driver, "--dsn", a.dsn, "--schema", a.schema, "--tasks", strconv.Itoa(a.tasks),
		"--seconds", strconv.FormatFloat(a.duration.Seconds(), 'f', -1, 64), "--statements", strconv.Itoa(a.statements),
		"--limit", strconv.FormatFloat(a.limit.Seconds(), 'f', -1, 64),
	}
}

// A driver can run the scenarios it lists.
type driver struct {
	name      string // of its test
	title     string // in docs/drivers.md
	manifest  string
	packages  []string // of the manifest, whose versions the table shows
	scenarios []string
	// lacks are scenarios that the driver's programs cannot have, differs those
	// that are not the same through pgpoold, each with the reason.
	lacks, differs map[string]string
	// run is called once directly and once through pgpoold. It skips the test
	// where the driver is not installed.
	run func(ctx context.Context, t *testing.T, l *lane, args programArgs) ([]line, error)
}

// ownScenarios tells whether the driver has a list of its own.
func (d driver) ownScenarios() bool { return !slices.Equal(d.scenarios, scenarios) }

// reason is why a scenario's cell of the table is not "equal", or "".
func (d driver) reason(scenario string) string {
	return cmp.Or(d.lacks[scenario], d.differs[scenario])
}

// version is what the table says of the driver's packages.
func (d driver) version(t *testing.T) string {
	if d.manifest == machinesManifest {
		return "PostgreSQL's"
	}
	var versions []string
	for _, pkg := range d.packages {
		versions = append(versions, version(t, d.manifest, pkg))
	}
	return strings.Join(versions, ", ")
}

// A lane has a database, and a pgpoold in front of it, for one driver at a
// time.
type lane struct {
	cluster          *postgres.Cluster
	database, schema string
	pool             *pooled.Pgpoold
}

func (l *lane) direct() string { return l.cluster.DSN(user+":"+password, l.database) }

// TestDrivers runs every driver's scenarios directly and through pgpoold and
// compares the results.
func TestDrivers(t *testing.T) {
	postgres.RequireFull(t)
	size := scaleOf()
	cluster := startCluster(t, lanes*(size.tasks+2*size.servers)+50)
	free := make(chan *lane, lanes)
	for n := range lanes {
		free <- startLane(t, cluster, n+1, size.servers)
	}
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			l := <-free
			defer func() { free <- l }()
			l.compare(t, d, programArgs{
				driver: d.name, schema: l.schema, tasks: size.tasks, duration: size.duration, statements: 1000, limit: time.Minute,
			})
		})
	}
}

// startLane makes the n-th lane.
func startLane(t *testing.T, cluster *postgres.Cluster, n, servers int) *lane {
	t.Helper()
	l := &lane{cluster: cluster, database: fmt.Sprintf("smoke%d", n), schema: fmt.Sprintf("smoke%d", n)}
	err := cluster.Exec(t.Context(), postgres.Superuser, fmt.Sprintf(`CREATE DATABASE %s OWNER %s`, l.database, user))
	if err != nil {
		t.Fatal(err)
	}
	l.pool = pooled.Start(t, pooled.Options{DSN: l.direct(), PoolSize: servers, MinPoolSize: servers, RoundRobin: true})
	return l
}

// compare runs a driver both ways.
func (l *lane) compare(t *testing.T, d driver, args programArgs) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run := func(dsn string) []line {
		l.prepareSchema(t)
		args.dsn = dsn
		began := time.Now()
		lines, err := d.run(ctx, t, l, args)
		if err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		t.Logf("%d scenarios in %s", len(lines), time.Since(began).Round(time.Millisecond))
		return lines
	}
	direct := run(l.direct())
	pooled := run(l.pool.DSN())
	wanted := slices.DeleteFunc(slices.Clone(d.scenarios), func(s string) bool { return d.lacks[s] != "" })
	for s := range byScenario(pooled) {
		if !slices.Contains(wanted, s) {
			t.Errorf("%s: shown, but the table says: %s", s, d.lacks[s])
		}
	}
	unequal := make(map[string]bool)
	for _, difference := range compare(wanted, direct, pooled) {
		if why := d.differs[difference.scenario]; why != "" && difference.known {
			unequal[difference.scenario] = true
			t.Logf("%s\n known: %s", difference.text, why)
			continue
		}
		t.Error(difference.text)
	}
	for s, why := range d.differs {
		if !unequal[s] {
			t.Errorf("%s is equal: the table says %q", s, why)
		}
	}
	l.expectIdle(t)
}

// startCluster starts PostgreSQL with the role that the drivers use. Passwords are checked.
func startCluster(t *testing.T, connections int) *postgres.Cluster {
	t.Helper()
	cluster := postgres.StartForTest(t, postgres.Config{
		MaxConnections: connections,
		Password:       "super-secret",
		Settings:       map[string]string{"max_prepared_transactions": "10"},
	})
	if err := cluster.Exec(t.Context(), postgres.Superuser, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`, user, password)); err != nil {
		t.Fatal(err)
	}
	return cluster
}

// prepareSchema makes the tables of setup.sql anew.
func (l *lane) prepareSchema(t *testing.T) {
	t.Helper()
	setup, err := os.ReadFile("setup.sql")
	if err != nil {
		t.Fatal(err)
	}
	err = l.cluster.Exec(t.Context(), l.database, fmt.Sprintf(
		`SET client_min_messages = warning; DROP SCHEMA IF EXISTS %[1]s CASCADE; SET ROLE %[2]s;
		CREATE SCHEMA %[1]s; SET search_path = %[1]s; %[3]s`, l.schema, user, setup))
	if err != nil {
		t.Fatal(err)
	}
}

// runProgram runs a driver's program. What it writes on standard error is shown
// when it fails.
func runProgram(ctx context.Context, t *testing.T, dir string, args programArgs, command ...string) ([]line, error) {
	t.Helper()
	program := command[len(command)-1]
	cmd := exec.CommandContext(ctx, command[0], append(command[1:], args.flags()...)...)
	cmd.Dir = filepath.Join(toolchain.Root(t), "test", "drivers", dir)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "NODE_NO_WARNINGS=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if stderr.Len() > 0 {
		t.Logf("%s:\n%s", program, stderr.Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("%w after the scenarios\n%s", err, out)
	}
	return readLines(out)
}

// expectIdle waits until PostgreSQL has nothing left of what a driver did: no
// open transaction and no running query. What is left is ended, so that the
// next driver is not blamed for it.
func (l *lane) expectIdle(t *testing.T) {
	t.Helper()
	const left = ` FROM pg_stat_activity WHERE datname = current_database() AND usename = '` + user + `' AND state <> 'idle'`
	deadline := time.Now().Add(time.Minute)
	for {
		busy, err := l.cluster.Query(t.Context(), l.database, "SELECT pid, state, query"+left)
		if err != nil {
			t.Fatal(err)
		}
		if len(busy) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind: %q", busy)
			if err := l.cluster.Exec(t.Context(), l.database, "SELECT pg_terminate_backend(pid)"+left); err != nil {
				t.Fatal(err)
			}
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
