package drivers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func pgxNotices(ctx context.Context, r *pgxRun) (any, error) {
	heard := map[string][]any{}
	listen := func(name string) (*pgx.Conn, error) {
		return r.open(ctx, func(c *pgx.ConnConfig) {
			c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
				heard[name] = append(heard[name], []any{n.Severity, n.Code, n.Message, n.Detail, n.Hint})
			}
		})
	}
	one, err := listen("one")
	if err != nil {
		return nil, err
	}
	defer one.Close(ctx)
	other, err := listen("other")
	if err != nil {
		return nil, err
	}
	defer other.Close(ctx)
	result := object{"quiet": tag(ctx, other, "SET client_min_messages = warning")}
	for turn := range 5 {
		for _, conn := range []*pgx.Conn{one, other} {
			tag(ctx, conn, fmt.Sprintf(`DO $$ BEGIN RAISE NOTICE 'first %[1]d';
				RAISE WARNING 'second %[1]d' USING DETAIL = 'detail', HINT = 'hint', ERRCODE = '01P99'; END $$`, turn))
		}
	}
	tag(ctx, one, "CREATE TABLE IF NOT EXISTS "+r.schema+".items (id int)")
	tag(ctx, one, "COMMIT")
	result["heard"] = heard

	channel := r.schema + "_channel"
	result["listen"] = tag(ctx, one, "LISTEN "+channel)
	told := []any{}
	for turn := range 3 {
		for _, conn := range []*pgx.Conn{one, other} {
			tag(ctx, conn, "SELECT pg_notify($1, $2)", channel, fmt.Sprintf("turn %d", turn))
			n, err := one.WaitForNotification(ctx)
			if err != nil {
				return nil, err
			}
			told = append(told, []any{n.Channel, n.Payload, n.PID == one.PgConn().PID()})
		}
	}
	result["told"] = told
	err = pgx.BeginFunc(ctx, other, func(tx pgx.Tx) error {
		tag(ctx, tx, "NOTIFY "+channel+", 'never sent'")
		return context.Canceled
	})
	result["unlisten"] = []any{failure(err), tag(ctx, one, "UNLISTEN *"), tag(ctx, other, "NOTIFY "+channel+", 'nobody hears'")}
	result["afterwards"] = value(ctx, one, "SELECT 1")
	return result, nil
}
