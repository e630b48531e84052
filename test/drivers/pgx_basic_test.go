package drivers

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

func pgxConnect(ctx context.Context, r *pgxRun) (any, error) {
	// Names that must be quoted, and a value of some length: a pooler that repeats settings from a small buffer, or without
	// quotes, loses them.
	path := fmt.Sprintf(`"it's odd", "a ""quoted"" name", "%s", %s`, strings.Repeat("long", 15), r.schema)
	settings := map[string]string{
		"application_name": "smoke pgx", "TimeZone": "Asia/Tokyo", "DateStyle": "German, DMY",
		"statement_timeout": "12345", "extra_float_digits": "0", "search_path": path + ", " + path,
	}
	ours, err := r.open(ctx, func(c *pgx.ConnConfig) {
		for name, value := range settings {
			c.RuntimeParams[name] = value
		}
	})
	if err != nil {
		return nil, err
	}
	defer ours.Close(ctx)
	plain, err := r.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer plain.Close(ctx)
	result := object{}
	var shown []object
	for range 4 {
		for _, conn := range []*pgx.Conn{ours, plain} {
			one := object{}
			for name := range settings {
				one[name] = value(ctx, conn, "SHOW "+name)
			}
			shown = append(shown, one)
		}
	}
	result["shown"] = shown
	reported := object{}
	for _, name := range []string{
		"server_version", "server_encoding", "client_encoding", "TimeZone", "DateStyle", "IntervalStyle",
		"application_name", "is_superuser", "session_authorization", "integer_datetimes",
		"standard_conforming_strings", "in_hot_standby", "default_transaction_read_only",
	} {
		reported[name] = ours.PgConn().ParameterStatus(name)
	}
	result["reported"] = reported
	for what, change := range map[string]func(*pgx.ConnConfig){
		"wrong password":   func(c *pgx.ConnConfig) { c.Password = "not the password" },
		"unknown user":     func(c *pgx.ConnConfig) { c.User = "nobody_of_that_name" },
		"unknown database": func(c *pgx.ConnConfig) { c.Database = "no_database_of_that_name" },
		"bad setting":      func(c *pgx.ConnConfig) { c.RuntimeParams["TimeZone"] = "Nowhere/Land" },
	} {
		conn, err := r.open(ctx, change)
		if err == nil {
			conn.Close(ctx)
			result[what] = "connected"
			continue
		}
		refused, _ := failure(err).(object)
		result[what] = []any{refused["sqlstate"], refused["severity"]}
	}
	return result, nil
}

func pgxTypes(ctx context.Context, r *pgxRun) (any, error) {
	conn, err := r.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	custom, err := conn.LoadTypes(ctx, []string{r.schema + ".mood", r.schema + ".position"})
	if err != nil {
		return nil, err
	}
	conn.TypeMap().RegisterTypes(custom)
	moment := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	sent := []struct {
		name  string
		value any
	}{
		{"int2", -32768}, {"int4", math.MaxInt32}, {"int8", int64(math.MinInt64)},
		{"numeric", "123456789012345678901234567890.123456789"}, {"float4", 1.5}, {"float8", math.Inf(1)},
		{"float8", 1e-300}, {"bool", true}, {"text", `Größe 舵 ⚓ O'ring \`}, {"text", strings.Repeat("x", 100_000)},
		{"text", ""}, {"text", nil}, {"bytea", bytes.Repeat([]byte{0, 1, 254, 255}, 2560)},
		{"uuid", "00000000-0000-0000-0000-000000000007"}, {"date", moment}, {"timestamptz", moment}, {"timestamp", moment},
		{"interval", 76 * time.Hour}, {"json", object{"a": []any{1, nil}}}, {"jsonb", object{"a": []any{1, nil}}},
		{"int4[]", [][]int32{{1, 2}, {3, 4}}}, {"text[]", []any{"a", nil, `q"`}}, {"point", "(1,2)"},
		{"int4range", pgtype.Range[int32]{Lower: 1, Upper: 10, LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}},
		{r.schema + ".mood", "stormy"}, {r.schema + ".position", pgtype.CompositeFields{54.3, 10.1}},
	}
	var result []any
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	} {
		for _, s := range sent {
			text := fmt.Sprintf("%v", value(ctx, conn, "SELECT $1::"+s.name, mode, s.value))
			result = append(result, []any{s.name, mode.String(), len(text), text[:min(len(text), 200)]})
		}
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		result = append(result, rows(ctx, conn, "SELECT $1::int4, $2::text, $3::timestamptz, $4::bool", mode, 7, "x'y\\", moment, true))
	}
	result = append(result,
		value(ctx, conn, "SELECT $1::int4", pgx.QueryExecModeExec, "not a number"),
		value(ctx, conn, "SELECT 'not a number'::text::int4"))
	return result, nil
}

func pgxPrepared(ctx context.Context, r *pgxRun) (any, error) {
	// Two connections give their statements the same names and different texts.
	conns, closeAll, err := r.several(ctx, 2)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	sides := []string{"left", "right"}
	for i := range r.statements {
		for side, conn := range conns {
			sql := fmt.Sprintf("SELECT $1::int + %d, '%s%d', pg_backend_pid()", i, sides[side], i)
			if _, err := conn.Prepare(ctx, fmt.Sprintf("s%d", i), sql); err != nil {
				return nil, err
			}
		}
	}
	var answers int
	wrong := []any{}
	for turn := range 2 {
		for i := range r.statements {
			if i%7 == 0 { // clients that take turns in step would meet the same server each time
				tag(ctx, conns[0], "SELECT 1")
			}
			for side, conn := range conns {
				var (
					n   int
					tag string
					pid uint32
				)
				ask := func(tx pgx.Tx) error {
					return tx.QueryRow(ctx, fmt.Sprintf("s%d", i), turn).Scan(&n, &tag, &pid)
				}
				if turn%2 == 1 {
					err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
						if err := ask(tx); err != nil {
							return err
						}
						return ask(tx)
					})
				} else {
					err = conn.QueryRow(ctx, fmt.Sprintf("s%d", i), turn).Scan(&n, &tag, &pid)
				}
				if err != nil {
					return nil, err
				}
				r.saw(side, pid)
				answers++
				if n != turn+i || tag != fmt.Sprintf("%s%d", sides[side], i) {
					wrong = append(wrong, []any{sides[side], i, turn, n, tag})
				}
			}
		}
	}
	result := object{"answers": answers, "wrong": wrong[:min(len(wrong), 5)]}

	// More texts than the statement cache holds: it deallocates and prepares again.
	few, err := r.open(ctx, func(c *pgx.ConnConfig) { c.StatementCacheCapacity = 10 })
	if err != nil {
		return nil, err
	}
	defer few.Close(ctx)
	sum := 0
	for turn := range 3 {
		for i := range 50 {
			var n int
			if err := few.QueryRow(ctx, fmt.Sprintf("SELECT $1::int * %d", i), turn).Scan(&n); err != nil {
				return nil, err
			}
			sum += n
		}
	}
	result["few"] = sum

	// The names are the connection's own: closed on one, alive on the other.
	if err := conns[0].Deallocate(ctx, "s1"); err != nil {
		return nil, err
	}
	read := conns[0].PgConn().ExecPrepared(ctx, "s1", [][]byte{[]byte("1")}, nil, nil).Read()
	result["closed"] = failure(read.Err)
	read = conns[1].PgConn().ExecPrepared(ctx, "s1", [][]byte{[]byte("1")}, nil, nil).Read()
	result["alive"] = []any{len(read.Rows), failure(read.Err)}
	_, err = conns[1].PgConn().Prepare(ctx, "s2", "SELECT 'again'", nil)
	result["duplicate"] = failure(err)
	_, err = conns[1].PgConn().Prepare(ctx, "bad", "SELECT nothing_like_this", nil)
	result["bad"] = failure(err)
	_, err = conns[1].PgConn().Prepare(ctx, "bad", "SELECT 1", nil)
	result["good under the same name"] = failure(err)
	if err := conns[1].DeallocateAll(ctx); err != nil {
		return nil, err
	}
	read = conns[1].PgConn().ExecPrepared(ctx, "s3", [][]byte{[]byte("1")}, nil, nil).Read()
	result["after DEALLOCATE ALL"] = failure(read.Err)
	return result, nil
}

func pgxDDL(ctx context.Context, r *pgxRun) (any, error) {
	// Statements whose table has changed since they were prepared.
	conns, closeAll, err := r.several(ctx, 3)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	changes, reads, fresh := conns[0], conns[1], conns[2]
	table := r.schema + ".changed"
	query := "SELECT * FROM " + table
	result := object{"made": []any{
		tag(ctx, changes, "CREATE TABLE "+table+" (a int)"),
		tag(ctx, changes, "INSERT INTO "+table+" VALUES (1)"),
	}}
	result["before"] = []any{rows(ctx, reads, query), rows(ctx, reads, query)}
	result["changed"] = tag(ctx, changes, "ALTER TABLE "+table+" ADD COLUMN b int DEFAULT 2")
	// PostgreSQL refuses the old plan, and pgx prepares anew after that.
	result["after"] = rows(ctx, reads, query)
	result["once more"] = rows(ctx, reads, query)
	err = pgx.BeginFunc(ctx, fresh, func(tx pgx.Tx) error {
		result["fresh"] = rows(ctx, tx, query)
		return nil
	})
	result["committed"] = failure(err)
	result["dropped"] = []any{tag(ctx, changes, "DROP TABLE "+table), rows(ctx, fresh, query)}
	return result, nil
}

func pgxTransaction(ctx context.Context, r *pgxRun) (any, error) {
	conns, closeAll, err := r.several(ctx, 2)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	one, other := conns[0], conns[1]
	items := r.schema + ".items"
	insert := "INSERT INTO " + items + " VALUES ($1, $2, $3)"
	count := "SELECT count(*) FROM " + items
	all := "SELECT * FROM " + items + " ORDER BY id"
	result := object{}
	err = pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error {
		result["one"] = tag(ctx, tx, insert, 1, "one", nil)
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		result["duplicate"] = tag(ctx, savepoint, insert, 2, "one", nil)
		result["failed"] = value(ctx, savepoint, "SELECT 1")
		if err := savepoint.Rollback(ctx); err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			result["three"] = tag(ctx, tx, insert, 3, "three", 1)
			return nil
		})
		result["seen inside"] = value(ctx, tx, count)
		result["seen outside"] = value(ctx, other, count)
		return err
	})
	result["committed"] = failure(err)
	result["after commit"] = rows(ctx, other, all)
	err = pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error {
		result["four"] = tag(ctx, tx, insert, 4, "four", nil)
		result["division"] = value(ctx, tx, "SELECT 1 / 0")
		return nil
	})
	result["commit of a failed one"] = failure(err)
	result["after rollback"] = value(ctx, other, count)
	err = pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error {
		result["five"] = tag(ctx, tx, insert, 5, "five", 999)
		return nil
	})
	result["deferred constraint"] = failure(err)
	options := pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly, DeferrableMode: pgx.Deferrable}
	err = pgx.BeginTxFunc(ctx, one, options, func(tx pgx.Tx) error {
		result["isolation"] = value(ctx, tx, "SHOW transaction_isolation")
		result["read only"] = tag(ctx, tx, insert, 6, "six", nil)
		return pgx.ErrTxCommitRollback
	})
	result["read only ended"] = failure(err)
	result["isolation after"] = value(ctx, one, "SHOW transaction_isolation")
	several, err := one.PgConn().Exec(ctx, "BEGIN; SELECT 1; COMMIT; SELECT 2; SELECT 1/0; SELECT 3").ReadAll()
	var tags []string
	for _, part := range several {
		tags = append(tags, part.CommandTag.String())
	}
	result["many statements"] = []any{tags, failure(err)}
	result["end"] = rows(ctx, other, all)
	return result, nil
}
