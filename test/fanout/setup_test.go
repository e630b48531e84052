// Package fanout runs the executor of examples/fanout, directly and through
// pgpoold, and compares what it got.
package fanout_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"pgpoold/test/drivers/toolchain"
	"pgpoold/test/postgres"
)

const (
	user     = "app"
	password = "app-secret"
	database = "fanout"
	// patience guards against hanging; nothing is asserted about time.
	patience = 5 * time.Minute
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// startCluster starts PostgreSQL with the example's tables and rows. Passwords
// are checked.
func startCluster(t *testing.T, maxConnections int) *postgres.Cluster {
	t.Helper()
	cluster := postgres.StartForTest(t, postgres.Config{MaxConnections: maxConnections, Password: "super-secret"})
	execute(t, cluster, postgres.Superuser, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", user, password))
	execute(t, cluster, postgres.Superuser, fmt.Sprintf("CREATE DATABASE %s OWNER %s", database, user))
	sql := "SET client_min_messages = warning; SET ROLE " + user + "; SET search_path = public;"
	execute(t, cluster, database, "ALTER SCHEMA public OWNER TO "+user)
	for _, file := range []string{"schema.sql", "seed.sql"} {
		text, err := os.ReadFile(filepath.Join(example(t), file))
		if err != nil {
			t.Fatal(err)
		}
		sql += string(text)
	}
	execute(t, cluster, database, sql)
	return cluster
}

func example(t *testing.T) string {
	t.Helper()
	return filepath.Join(toolchain.Root(t), "examples", "fanout")
}

func execute(t *testing.T, cluster *postgres.Cluster, db, sql string) {
	t.Helper()
	if err := cluster.Exec(t.Context(), db, sql); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, cluster *postgres.Cluster, sql string) [][]string {
	t.Helper()
	found, err := cluster.Query(t.Context(), database, sql)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// python is a program of the example's or of this test's, with the DSN in the
// environment that the example reads.
func python(ctx context.Context, t *testing.T, dsn, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, toolchain.Python(t), append([]string{program}, args...)...)
	cmd.Env = append(os.Environ(), "SUPABASE_POSTGRES_DSN="+dsn, "PYTHONPATH="+example(t), "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// load is how a run of requests is spread.
type load struct {
	requests, processes, connections int // connections per process
}

// summary is the last line that run_requests.py prints.
type summary struct {
	Processes   int            `json:"processes"`
	Connections int            `json:"connections"`
	Requests    int            `json:"requests"`
	Rows        int            `json:"rows"`
	Errors      map[string]int `json:"errors"`
	Refused     []struct {
		SQLState string `json:"sqlstate"`
		Message  string `json:"message"`
	} `json:"refused"`
	Failed []string `json:"failed"`
}

// runRequests runs the example's requests and returns its summary, the file
// with the rows, and the exit status.
func runRequests(t *testing.T, dsn string, l load) (s summary, output string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	output = filepath.Join(t.TempDir(), "rows.jsonl")
	size := strconv.Itoa(l.connections)
	cmd := python(ctx, t, dsn, filepath.Join(example(t), "run_requests.py"),
		"--requests", strconv.Itoa(l.requests), "--processes", strconv.Itoa(l.processes),
		"--min-size", size, "--max-size", size, "--timeout", "240", "--connect-timeout", "240", "--output", output)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("run_requests.py: %v\n%s%s", err, out, stderr.Bytes())
	}
	if stderr.Len() > 0 {
		t.Logf("run_requests.py:\n%s", stderr.Bytes())
	}
	return s, output, cmd.ProcessState.ExitCode()
}

// expectIdle waits until PostgreSQL has no transaction and no query of the
// executors' left.
func expectIdle(t *testing.T, cluster *postgres.Cluster) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		busy := query(t, cluster, `SELECT pid, state, query FROM pg_stat_activity WHERE usename = '`+user+`' AND state <> 'idle'`)
		if len(busy) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %q", busy)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
