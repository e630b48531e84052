package main

import (
	"context"
	"database/sql"
)

// one is a pool of a single connection, so that what is asked of it is asked of
// one session.
func one(dsn string) (*sql.DB, error) {
	// apps: open
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	// apps: end
	return db, nil
}

func several(dsn string, n int) (all []*sql.DB, closeAll func(), err error) {
	closeAll = func() {
		for _, db := range all {
			_ = db.Close()
		}
	}
	for range n {
		db, err := one(dsn)
		if err != nil {
			return nil, closeAll, err
		}
		all = append(all, db)
	}
	return all, closeAll, nil
}

type queryer interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

// rows are what a query returned, as text, or its error.
func rows(ctx context.Context, q queryer, text string, args ...any) any {
	found, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return failure(err)
	}
	return collect(found)
}

func collect(found *sql.Rows) any {
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		return failure(err)
	}
	all := [][]any{}
	for found.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := found.Scan(into...); err != nil {
			return failure(err)
		}
		for i, v := range row {
			if raw, ok := v.([]byte); ok {
				row[i] = string(raw)
			}
		}
		all = append(all, row)
	}
	if err := found.Err(); err != nil {
		return failure(err)
	}
	return all
}

func value(ctx context.Context, q queryer, text string, args ...any) any {
	answer := rows(ctx, q, text, args...)
	if all, ok := answer.([][]any); ok && len(all) > 0 {
		return all[0][0]
	}
	return answer
}

// done is the number of rows that a statement touched, or its error.
func done(ctx context.Context, q queryer, text string, args ...any) any {
	result, err := q.ExecContext(ctx, text, args...)
	if err != nil {
		return failure(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return failure(err)
	}
	return n
}
