package drivers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"pgpoold/test/drivers/toolchain"
)

// pgbenchScenarios are the initialization and, in each query mode, the
// select-only script and the one like TPC-B.
var pgbenchScenarios = []string{
	"initialize", "simple select", "simple tpcb", "extended select", "extended tpcb", "prepared select", "prepared tpcb",
}

var pgbenchCounts = regexp.MustCompile(`(?m)^number of (?:transactions actually processed|failed transactions): .*?(?: \(.*)?$`)

// Every run makes the same number of transactions, so that its sums can be
// checked; speed is the benchmark's business.
const (
	pgbenchClients = "20"
	// pgbench prepares its statements in the midst of a run with calls that
	// block the thread. A thread of several clients would wait for a server with
	// one while it holds the servers of the others, in transactions that only it
	// could end: so every client has a thread.
	pgbenchThreads      = pgbenchClients
	pgbenchTransactions = "50"
)

func runPgbench(ctx context.Context, t *testing.T, l *lane, args programArgs) ([]line, error) {
	install := l.cluster.Install()
	pgbench, err := install.Tool("pgbench")
	if err != nil {
		pgbench = toolchain.Program(t, "pgbench")
	}
	dsn, err := url.Parse(args.dsn)
	if err != nil {
		return nil, err
	}
	// pgbench's tables have no schema of their own: it comes as a startup parameter.
	query := dsn.Query()
	query.Set("options", "-csearch_path="+args.schema)
	dsn.RawQuery = query.Encode()

	var lines []line
	for _, scenario := range pgbenchScenarios {
		flags := []string{"--initialize", "--quiet"}
		if scenario != "initialize" {
			var mode, script string
			if _, err := fmt.Sscan(scenario, &mode, &script); err != nil {
				return nil, err
			}
			builtin := map[string]string{"select": "select-only", "tpcb": "tpcb-like"}[script]
			flags = []string{
				"--protocol", mode, "--builtin", builtin, "--client", pgbenchClients, "--jobs", pgbenchThreads,
				"--transactions", pgbenchTransactions,
			}
		}
		cmd := exec.CommandContext(ctx, pgbench, append(flags, dsn.String())...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		ran, err := output(cmd, cmd.Run)
		if err != nil {
			return nil, err
		}
		result := ran.(object)
		if result["status"] != 0 {
			t.Logf("pgbench %s:\n%s", scenario, result["output"])
		}
		result["counts"] = pgbenchCounts.FindAllString(result["output"].(string), -1)
		delete(result, "output") // it has times in it
		result["sums"], err = l.cluster.Query(ctx, l.database, fmt.Sprintf(`
			SELECT (SELECT count(*) FROM %[1]s.pgbench_accounts), (SELECT count(*) FROM %[1]s.pgbench_history),
				a = b AND b = t AND t = h
			FROM (SELECT (SELECT sum(abalance) FROM %[1]s.pgbench_accounts) AS a,
				(SELECT sum(bbalance) FROM %[1]s.pgbench_branches) AS b,
				(SELECT sum(tbalance) FROM %[1]s.pgbench_tellers) AS t,
				(SELECT coalesce(sum(delta), 0) FROM %[1]s.pgbench_history) AS h) AS sums`, args.schema))
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(result)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{Scenario: scenario, Result: text})
	}
	return lines, nil
}
