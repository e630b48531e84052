package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// copyBytes is what one COPY carries, in lines of copyLine bytes; leastCopies of
// them are 1 GB.
const (
	copyBytes   = 64 << 20
	leastCopies = 16
	copyLine    = 1 << 10
)

// copy runs one COPY after the other for the run's length, at least so many that they carry 1 GB.
// Each is a transaction.
func (r *runner) copy(ctx context.Context, t *target, p point) ([]transaction, error) {
	conn, err := connect(ctx, t, p, r.user, r.database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if err := conn.Exec(ctx, "CREATE UNLOGGED TABLE IF NOT EXISTS bench_copy (a text)").Close(); err != nil {
		return nil, err
	}
	var txns []transaction
	for begin := time.Now(); len(txns) < leastCopies || time.Since(begin) < r.length(p); {
		began := time.Now()
		if p.What == whatCopyOut {
			_, err = conn.CopyTo(ctx, io.Discard, fmt.Sprintf("COPY (SELECT repeat('x', %d) FROM generate_series(1, %d)) TO STDOUT", copyLine-1, copyBytes/copyLine))
		} else {
			if err = conn.Exec(ctx, "TRUNCATE bench_copy").Close(); err != nil {
				return nil, err
			}
			_, err = conn.CopyFrom(ctx, &lines{left: copyBytes}, "COPY bench_copy FROM STDIN")
		}
		if err != nil {
			return nil, err
		}
		txns = append(txns, transaction{end: time.Now().UnixMicro(), latency: time.Since(began).Microseconds()})
	}
	return txns, conn.Exec(ctx, "DROP TABLE bench_copy").Close()
}

// lines reads as lines of copyLine bytes.
type lines struct{ left, at int }

func (l *lines) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), l.left)
	for i := range p[:n] {
		p[i] = 'x'
		if l.at++; l.at == copyLine {
			p[i], l.at = '\n', 0
		}
	}
	l.left -= n
	return n, nil
}

// connect opens one connection of this program's own.
func connect(ctx context.Context, t *target, p point, user, database string) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, dsnOf(t, p, user, database))
}

func dsnOf(t *target, p point, user, database string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=%s", user, benchPassword, t.addr, database, p.sslmode(t))
}
