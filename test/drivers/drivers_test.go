package drivers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"pgpoold/test/drivers/pooled"
	"pgpoold/test/drivers/toolchain"
	"pgpoold/test/postgres"
)

const (
	user     = "app"
	password = "app-secret"
	database = "smoke"
	// servers is how many PostgreSQL connections pgpoold has for the drivers.
	servers = 5
	// patience guards against hanging; nothing is asserted about time.
	patience = 5 * time.Minute
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// programArgs are what every driver's program is told.
type programArgs struct {
	dsn        string
	schema     string
	tasks      int
	duration   time.Duration // of the concurrent scenario
	statements int
	limit      time.Duration // after which a scenario that hangs is given up
}

func (a programArgs) flags() []string {
	return []string{
		"--dsn", a.dsn, "--schema", a.schema, "--tasks", strconv.Itoa(a.tasks),
		"--seconds", strconv.FormatFloat(a.duration.Seconds(), 'f', -1, 64), "--statements", strconv.Itoa(a.statements),
		"--limit", strconv.FormatFloat(a.limit.Seconds(), 'f', -1, 64),
	}
}

// A driver can run all the scenarios it lists.
type driver struct {
	name      string
	scenarios []string
	// run is called once directly and once through pgpoold. It skips the test
	// where the driver is not installed.
	run func(ctx context.Context, t *testing.T, c *postgres.Cluster, args programArgs) ([]line, error)
}

var drivers = []driver{
	{"pgx", scenarios, func(ctx context.Context, _ *testing.T, _ *postgres.Cluster, args programArgs) ([]line, error) {
		return runPgx(ctx, args)
	}},
	{"asyncpg", scenarios, func(ctx context.Context, t *testing.T, _ *postgres.Cluster, args programArgs) ([]line, error) {
		return runProgram(ctx, t, toolchain.Python(t), "smoke_asyncpg.py", "python", args)
	}},
	{"psycopg", scenarios, func(ctx context.Context, t *testing.T, _ *postgres.Cluster, args programArgs) ([]line, error) {
		return runProgram(ctx, t, toolchain.Python(t), "smoke_psycopg.py", "python", args)
	}},
	{"node-postgres", scenarios, func(ctx context.Context, t *testing.T, _ *postgres.Cluster, args programArgs) ([]line, error) {
		return runProgram(ctx, t, toolchain.Node(t), "smoke.js", "node", args)
	}},
	{"psql", psqlScenarios, runPsql},
	{"pgbench", pgbenchScenarios, runPgbench},
}

// TestDrivers runs every driver's scenarios directly and through pgpoold and
// compares the results.
func TestDrivers(t *testing.T) {
	postgres.RequireFull(t)
	cluster := startCluster(t)
	pool := pooled.Start(t, pooled.Options{
		DSN:      cluster.DSN(user+":"+password, database),
		PoolSize: servers, MinPoolSize: servers, RoundRobin: true,
	})
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			args := programArgs{schema: "smoke", tasks: 50, duration: 3 * time.Second, statements: 300, limit: time.Minute}
			run := func(dsn string) []line {
				prepareSchema(t, cluster, args.schema)
				args.dsn = dsn
				lines, err := d.run(ctx, t, cluster, args)
				if err != nil {
					t.Fatalf("%s: %v", d.name, err)
				}
				return lines
			}
			direct := run(cluster.DSN(user+":"+password, database))
			for _, difference := range compare(d.scenarios, direct, run(pool.DSN())) {
				if why := unhealed[difference.scenario]; why != "" && difference.inResult {
					t.Logf("%s\n known: %s", difference.text, why)
					continue
				}
				t.Error(difference.text)
			}
			expectIdle(t, cluster)
		})
	}
}

// startCluster starts PostgreSQL with the role and the database that the
// drivers use. Passwords are checked.
func startCluster(t *testing.T) *postgres.Cluster {
	t.Helper()
	cluster := postgres.StartForTest(t, postgres.Config{
		MaxConnections: 100,
		Password:       "super-secret",
		Settings:       map[string]string{"max_prepared_transactions": "10"},
	})
	for _, sql := range []string{
		fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`, user, password),
		fmt.Sprintf(`CREATE DATABASE %s OWNER %s`, database, user),
	} {
		if err := cluster.Exec(t.Context(), postgres.Superuser, sql); err != nil {
			t.Fatal(err)
		}
	}
	return cluster
}

// prepareSchema makes the tables of setup.sql anew.
func prepareSchema(t *testing.T, cluster *postgres.Cluster, schema string) {
	t.Helper()
	setup, err := os.ReadFile("setup.sql")
	if err != nil {
		t.Fatal(err)
	}
	err = cluster.Exec(t.Context(), database, fmt.Sprintf(
		`SET client_min_messages = warning; DROP SCHEMA IF EXISTS %[1]s CASCADE; SET ROLE %[2]s;
		CREATE SCHEMA %[1]s; SET search_path = %[1]s; %[3]s`, schema, user, setup))
	if err != nil {
		t.Fatal(err)
	}
}

// runProgram runs a driver's program. What it writes on standard error is shown
// when it fails.
func runProgram(ctx context.Context, t *testing.T, interpreter, program, dir string, args programArgs) ([]line, error) {
	t.Helper()
	cmd := exec.CommandContext(ctx, interpreter, append([]string{program}, args.flags()...)...)
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
func expectIdle(t *testing.T, cluster *postgres.Cluster) {
	t.Helper()
	const left = ` FROM pg_stat_activity WHERE usename = '` + user + `' AND state <> 'idle'`
	deadline := time.Now().Add(time.Minute)
	for {
		busy, err := cluster.Query(t.Context(), database, "SELECT pid, state, query"+left)
		if err != nil {
			t.Fatal(err)
		}
		if len(busy) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind: %q", busy)
			if err := cluster.Exec(t.Context(), database, "SELECT pg_terminate_backend(pid)"+left); err != nil {
				t.Fatal(err)
			}
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
