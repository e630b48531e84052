package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/measure/process"
)

// idlers are clients that have run a query and do nothing.
type idlers []*pgconn.PgConn

// idle connects n of them.
func (r *runner) idle(ctx context.Context, t *target, p point) (idlers, error) {
	var all idlers
	for range p.Idle {
		conn, err := connect(ctx, t, p, r.user, r.database)
		if err != nil {
			all.leave(ctx)
			return nil, err
		}
		all = append(all, conn)
		if err := conn.Exec(ctx, "SELECT 1").Close(); err != nil {
			all.leave(ctx)
			return nil, err
		}
	}
	return all, nil
}

func (all idlers) leave(ctx context.Context) {
	for _, c := range all {
		_ = c.Close(ctx)
	}
}

// besideIdle connects the point's idle clients and tells what memory each takes.
func (r *runner) besideIdle(ctx context.Context, t *target, p point) (idlers, string, error) {
	before, err := process.RSS(t.pid)
	if err != nil {
		return nil, "", err
	}
	all, err := r.idle(ctx, t, p)
	if err != nil {
		return nil, "", err
	}
	after, err := process.RSS(t.pid)
	return all, fmt.Sprintf("%s: %.1f KiB of resident memory for each idle client", t.name, float64(after-before)/1024/float64(p.Idle)), err
}
