package drivers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pgpoold/test/drivers/toolchain"
)

// psqlScenarios are the scripts of test/drivers/sql, whose whole output is the
// result, and what psql does at an interrupt.
var psqlScenarios = []string{"query", "transaction", "cursor", "copy", "set", "state", "cancel"}

func runPsql(ctx context.Context, t *testing.T, l *lane, args programArgs) ([]line, error) {
	install := l.cluster.Install()
	psql, err := install.Tool("psql")
	if err != nil {
		psql = toolchain.Program(t, "psql")
	}
	var lines []line
	for _, scenario := range psqlScenarios {
		var result any
		if scenario == "cancel" {
			result, err = psqlCancel(ctx, t, l, psql, args)
		} else {
			var script *os.File
			script, err = os.Open(filepath.Join("sql", scenario+".sql"))
			if err != nil {
				return nil, err
			}
			cmd := psqlCommand(ctx, psql, args)
			cmd.Stdin = script
			result, err = output(cmd, cmd.Run)
			script.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", scenario, err)
		}
		text, err := json.Marshal(result)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{Scenario: scenario, Result: text})
	}
	return lines, nil
}

// psqlCommand reads its script from standard input.
func psqlCommand(ctx context.Context, psql string, args programArgs) *exec.Cmd {
	cmd := exec.CommandContext(ctx, psql, "--no-psqlrc", "--echo-all", "--no-align", "--set", "schema="+args.schema, args.dsn)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PGCLIENTENCODING=UTF8")
	return cmd
}

// output is what a program printed, on both streams, and its exit status.
func output(cmd *exec.Cmd, run func() error) (any, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	return object{"output": out.String(), "status": cmd.ProcessState.ExitCode()}, nil
}

// psqlCancel interrupts psql in a long query, as Ctrl-C does.
func psqlCancel(ctx context.Context, t *testing.T, l *lane, psql string, args programArgs) (any, error) {
	t.Helper()
	cmd := psqlCommand(ctx, psql, args)
	cmd.Stdin = bytes.NewBufferString("SELECT 1;\nSELECT pg_sleep(600) /* psql cancel */;\nSELECT 2;\n")
	return output(cmd, func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		err := waitFor(ctx, l, "psql cancel")
		if err == nil {
			err = cmd.Process.Signal(syscall.SIGINT)
		}
		return errors.Join(err, cmd.Wait())
	})
}

// waitFor waits until a query with this marker runs.
func waitFor(ctx context.Context, l *lane, marker string) error {
	for {
		found, err := l.cluster.Query(ctx, l.database, `SELECT pid FROM pg_stat_activity
			WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE '%`+marker+`%'`)
		if err != nil || len(found) > 0 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
