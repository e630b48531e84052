package fanout_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgpoold/test/drivers/pooled"
	"pgpoold/test/postgres"
)

// TestMishaps lets executors raise, time out and die inside a transaction. The
// pool has one server, so whoever comes next gets the one that was left.
func TestMishaps(t *testing.T) {
	postgres.RequireFull(t)
	cluster := startCluster(t, 30)
	dsn := cluster.DSN(user+":"+password, database)
	pool := pooled.Start(t, pooled.Options{DSN: dsn, PoolSize: 1})
	few := load{requests: 24, processes: 2, connections: 5}
	_, direct, _ := runRequests(t, dsn, few)

	for _, c := range []struct {
		way   string
		state string // of the server when the executor is killed; "": it ends by itself
		ended string // what the executor saw
	}{
		{way: "raise", ended: "Mishap"},
		{way: "timeout", ended: "TimeoutError"},
		{way: "idle", state: "idle in transaction"},
		{way: "busy", state: "active"},
	} {
		t.Run(c.way, func(t *testing.T) {
			execute(t, cluster, database, "TRUNCATE search_history")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := python(ctx, t, pool.DSN(), "misbehave.py", c.way)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.state != "" {
				waitForState(t, cluster, c.state)
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			err := cmd.Wait()
			if c.state == "" {
				if err != nil {
					t.Fatalf("%v\n%s", err, stderr.Bytes())
				}
				expectMishap(t, stdout.Bytes(), c.ended)
			}
			expectIdle(t, cluster)
			if rows := query(t, cluster, "SELECT * FROM search_history WHERE request_id = -1"); len(rows) != 0 {
				t.Errorf("committed what the executor abandoned: %q", rows)
			}

			// The pool serves on, with the right rows, and nothing of the transaction before.
			s, after, status := runRequests(t, pool.DSN(), few)
			if status != 0 {
				t.Fatalf("status %d, %+v", status, s)
			}
			compareRows(t, few.requests, direct, after)
			if rows := query(t, cluster, "SELECT * FROM search_history WHERE request_id = -1"); len(rows) != 0 {
				t.Errorf("committed later what the executor abandoned: %q", rows)
			}
		})
	}
}

// expectMishap checks what an executor that went on reports.
func expectMishap(t *testing.T, out []byte, ended string) {
	t.Helper()
	var report struct {
		Ended    string         `json:"ended"`
		Answered []string       `json:"answered"`
		Errors   map[string]any `json:"errors"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	want := []string{"documents", "faults", "inventory", "parts", "work_orders"}
	if report.Ended != ended || !slices.Equal(report.Answered, want) || len(report.Errors) != 0 {
		t.Errorf("%s, want the transaction to end with %s and all capabilities answered after it", out, ended)
	}
}

// waitForState waits until a server is in this state within a transaction that
// has written something.
func waitForState(t *testing.T, cluster *postgres.Cluster, state string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		found := query(t, cluster, fmt.Sprintf(`SELECT pid FROM pg_stat_activity
			WHERE usename = '%s' AND state = '%s' AND backend_xid IS NOT NULL
			AND (state <> 'active' OR query LIKE '%%misbehave%%')`, user, state))
		if len(found) == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no server that is %s", state)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
