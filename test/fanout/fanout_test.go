package fanout_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"testing"

	"pgpoold/test/drivers/pooled"
	"pgpoold/test/postgres"
)

const (
	maxConnections = 100
	// reserved is PostgreSQL's default of superuser_reserved_connections.
	reserved = 3
	// servers is the size of pgpoold's pool.
	servers = 20
	// requests per run; each makes capabilities rows in search_history.
	requests     = 600
	capabilities = 5
)

// TestFanout runs the same requests on as many direct connections as
// PostgreSQL admits and on 1,000 connections to pgpoold, and compares every row.
func TestFanout(t *testing.T) {
	postgres.RequireFull(t)
	cluster := startCluster(t, maxConnections)
	dsn := cluster.DSN(user+":"+password, database)
	thousand := load{requests: requests, processes: 10, connections: 100}

	// asks runs requests that must all be answered and recorded.
	asks := func(t *testing.T, dsn string, l load) (output string) {
		t.Helper()
		execute(t, cluster, database, "TRUNCATE search_history")
		s, output, status := runRequests(t, dsn, l)
		if status != 0 || s.Requests != l.requests || len(s.Errors) != 0 || len(s.Refused) != 0 || len(s.Failed) != 0 {
			t.Fatalf("status %d, %+v", status, s)
		}
		if want := l.processes * l.connections; s.Connections != want {
			t.Fatalf("%d connections, want %d", s.Connections, want)
		}
		recorded := query(t, cluster, `SELECT count(*), count(DISTINCT (request_id, capability)), sum(hits) FROM search_history`)
		want := []string{strconv.Itoa(l.requests * capabilities), strconv.Itoa(l.requests * capabilities), strconv.Itoa(s.Rows)}
		if got := recorded[0]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("recorded searches and their hits: %v, want %v", got, want)
		}
		expectIdle(t, cluster)
		return output
	}

	processes := 8
	direct := asks(t, dsn, load{requests: requests, processes: processes, connections: (maxConnections - reserved) / processes})

	t.Run("through pgpoold", func(t *testing.T) {
		// PostgreSQL itself sees to it that there are no more servers than the pool may have.
		execute(t, cluster, database, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", user, servers))
		defer execute(t, cluster, database, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT -1", user))
		pool := pooled.Start(t, pooled.Options{DSN: dsn, PoolSize: servers, RoundRobin: true})
		compareRows(t, requests, direct, asks(t, pool.DSN(), thousand))
	})

	t.Run("directly", func(t *testing.T) {
		s, _, status := runRequests(t, dsn, thousand)
		if status != 1 || len(s.Refused) == 0 {
			t.Fatalf("a thousand direct connections: status %d, %+v", status, s)
		}
		for _, refused := range s.Refused {
			if refused.SQLState != "53300" {
				t.Errorf("refused with %s: %s", refused.SQLState, refused.Message)
			}
		}
	})
}

// compareRows compares two outputs line by line.
func compareRows(t *testing.T, requests int, direct, pooled string) {
	t.Helper()
	var scanners [2]*bufio.Scanner
	for i, path := range []string{direct, pooled} {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		scanners[i] = bufio.NewScanner(file)
		scanners[i].Buffer(nil, 1<<20)
	}
	lines, different := 0, 0
	for {
		a, b := scanners[0].Scan(), scanners[1].Scan()
		if !a && !b {
			break
		}
		lines++
		if one, other := scanners[0].Text(), scanners[1].Text(); a != b || one != other {
			if different++; different <= 3 {
				t.Errorf("line %d:\n directly:        %s\n through pgpoold: %s", lines, one, other)
			}
		}
	}
	for _, scanner := range scanners {
		if err := scanner.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if different > 0 {
		t.Errorf("%d of %d lines differ", different, lines)
	}
	// Every capability of every request has a line of its own, and most have rows.
	if lines < 2*requests*capabilities {
		t.Errorf("only %d lines to compare", lines)
	}
}
