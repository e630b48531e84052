package drivers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A pgxRun is one run of pgx's scenarios.
type pgxRun struct {
	programArgs
	mode     pgx.QueryExecMode
	mu       sync.Mutex
	backends map[any]map[uint32]bool // by client; mu
}

type object = map[string]any

// runPgx runs every scenario with this query exec mode as the default.
func runPgx(ctx context.Context, mode pgx.QueryExecMode, args programArgs) ([]line, error) {
	var lines []line
	for _, scenario := range []struct {
		name string
		run  func(context.Context, *pgxRun) (any, error)
	}{
		{"connect", pgxConnect}, {"types", pgxTypes}, {"prepared", pgxPrepared}, {"ddl", pgxDDL},
		{"transaction", pgxTransaction}, {"cursor", pgxCursor}, {"copy", pgxCopy}, {"cancel", pgxCancel},
		{"timeout", pgxTimeout}, {"notices", pgxNotices}, {"pipeline", pgxPipeline}, {"settings", pgxSettings}, {"concurrent", pgxConcurrent},
	} {
		r := &pgxRun{programArgs: args, mode: mode, backends: make(map[any]map[uint32]bool)}
		limited, cancel := context.WithTimeout(ctx, args.limit)
		result, err := scenario.run(limited, r)
		cancel()
		if err != nil {
			result = object{"exception": fmt.Sprintf("%T", err), "message": err.Error()}
		}
		text, err := json.Marshal(result)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", scenario.name, err)
		}
		l := line{Scenario: scenario.name, Result: text, Clients: len(r.backends)}
		for _, pids := range r.backends {
			if len(pids) > 1 {
				l.Moved++
			}
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// saw notes the backend that answered this client.
func (r *pgxRun) saw(client any, pid uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.backends[client] == nil {
		r.backends[client] = make(map[uint32]bool)
	}
	r.backends[client][pid] = true
}

// open connects, with what change makes of the configuration.
func (r *pgxRun) open(ctx context.Context, change func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	// apps: connect
	config, err := pgx.ParseConfig(r.dsn)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = r.mode // unless told otherwise, pgx.QueryExecModeCacheStatement
	// apps: end
	if change != nil {
		change(config)
	}
	return pgx.ConnectConfig(ctx, config)
}

// several opens n connections and returns a function that closes them.
func (r *pgxRun) several(ctx context.Context, n int) (conns []*pgx.Conn, closeAll func(), err error) {
	closeAll = func() {
		for _, conn := range conns {
			conn.Close(ctx)
		}
	}
	for range n {
		conn, err := r.open(ctx, nil)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, conn)
	}
	return conns, closeAll, nil
}

// queryer is a connection or a transaction.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// rows are what a query returned, or its error.
func rows(ctx context.Context, q queryer, sql string, args ...any) any {
	found, err := q.Query(ctx, sql, args...)
	if err != nil {
		return failure(err)
	}
	all, err := pgx.CollectRows(found, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		return failure(err)
	}
	return all
}

// value is the first column of the first row, or the error.
func value(ctx context.Context, q queryer, sql string, args ...any) any {
	answer := rows(ctx, q, sql, args...)
	if all, ok := answer.([][]any); ok && len(all) > 0 {
		return all[0][0]
	}
	return answer
}

// tag is the command tag, or the error.
func tag(ctx context.Context, q queryer, sql string, args ...any) any {
	done, err := q.Exec(ctx, sql, args...)
	if err != nil {
		return failure(err)
	}
	return done.String()
}

// failure is the part of an error that does not depend on the connection.
func failure(err error) any {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &pgErr):
		return object{"sqlstate": pgErr.Code, "message": pgErr.Message, "severity": pgErr.Severity}
	case errors.Is(err, context.DeadlineExceeded):
		return object{"error": "deadline exceeded"}
	default:
		return object{"error": err.Error()}
	}
}

// running waits until a query with this marker sleeps on a server: while it is
// parsed a cancel would find nothing to cancel.
func running(ctx context.Context, watch *pgx.Conn, marker string) error {
	for {
		var n int
		err := watch.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE $1`, "%"+marker+"%").Scan(&n)
		if err != nil || n > 0 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
