package drivers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func pgxCursor(ctx context.Context, r *pgxRun) (any, error) {
	// pgx has no cursors of its own: SQL's are used, and rows that are left early.
	conn, err := r.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	result := object{}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		result["declared"] = []any{
			tag(ctx, tx, "DECLARE c1 SCROLL CURSOR FOR SELECT n FROM generate_series(1, 5000) AS n"),
			tag(ctx, tx, `DECLARE "odd ""name" CURSOR FOR SELECT n FROM generate_series(1, 20) AS n`),
		}
		var total, fetched int
		for {
			part, ok := rows(ctx, tx, "FETCH 100 FROM c1").([][]any)
			if !ok || len(part) == 0 {
				break
			}
			for _, row := range part {
				total += int(row[0].(int32))
			}
			fetched += len(part)
		}
		result["iterated"] = []any{fetched, total}
		result["interleaved"] = []any{
			rows(ctx, tx, "FETCH ABSOLUTE 7 FROM c1"), rows(ctx, tx, `FETCH 3 FROM "odd ""name"`),
			rows(ctx, tx, "FETCH BACKWARD 2 FROM c1"), rows(ctx, tx, `FETCH 3 FROM "odd ""name"`),
		}
		result["moved"] = tag(ctx, tx, "MOVE 10 FROM c1")
		result["closed"] = tag(ctx, tx, "CLOSE c1")
		result["gone"] = rows(ctx, tx, "FETCH 1 FROM c1")
		return nil
	})
	result["ended"] = failure(err)
	result["afterwards"] = rows(ctx, conn, "FETCH 1 FROM c1")
	found, err := conn.Query(ctx, "SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) AS n")
	if err != nil {
		return nil, err
	}
	for n := 0; n < 10 && found.Next(); n++ {
	}
	found.Close()
	result["left early"] = []any{found.CommandTag().String(), value(ctx, conn, "SELECT 1")}
	result["error inside"] = rows(ctx, conn, "SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n")
	return result, nil
}

func pgxCopy(ctx context.Context, r *pgxRun) (any, error) {
	conn, err := r.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	table := r.schema + ".copied"
	digest := "SELECT count(*), sum(id), sum(amount)::text, count(note), md5(string_agg(note, '' ORDER BY id)) FROM " + table
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	record := func(i int) ([]any, error) {
		var note any = fmt.Sprintf("note\t%d\n\\", i)
		if i%10 == 0 {
			note = nil
		}
		return []any{i, note, float64(i) / 4, start.Add(time.Duration(i) * time.Minute)}, nil
	}
	into := func(source pgx.CopyFromSource) any {
		n, err := conn.CopyFrom(ctx, pgx.Identifier{r.schema, "copied"}, []string{"id", "note", "amount", "at"}, source)
		return []any{n, failure(err)}
	}
	text := "COPY " + table + " FROM STDIN"
	from := func(source io.Reader) any {
		done, err := conn.PgConn().CopyFrom(ctx, source, text)
		return []any{done.String(), failure(err)}
	}
	result := object{"binary in": into(pgx.CopyFromSlice(20_000, record)), "digest": rows(ctx, conn, digest)}
	var out bytes.Buffer
	done, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM "+table+" ORDER BY id) TO STDOUT")
	result["text out"] = []any{done.String(), out.Len(), failure(err)}
	result["emptied"] = tag(ctx, conn, "TRUNCATE "+table)
	result["text in"] = from(&out)
	result["digest again"] = rows(ctx, conn, digest)
	result["bad line"] = from(strings.NewReader("100002\tx\tnot a number\t2024-01-01\n" + strings.Repeat("100003\tx\t1\t2024-01-01\n", 20_000)))
	result["source fails"] = from(io.MultiReader(strings.NewReader("100001\tx\t1\t2024-01-01\n"), failingReader{}))
	result["duplicate"] = into(pgx.CopyFromSlice(1, record))
	result["refused"] = from2(ctx, conn, "COPY no_such_table FROM STDIN")
	_, err = conn.PgConn().CopyTo(ctx, io.Discard, "COPY (SELECT 10 / (20000 - n) FROM generate_series(1, 30000) AS n) TO STDOUT")
	result["out fails"] = failure(err)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{r.schema, "copied"}, []string{"id"}, pgx.CopyFromRows([][]any{{100_004}}))
		result["inside"] = []any{failure(err), value(ctx, tx, "SELECT count(*) FROM "+table+" WHERE id = 100004")}
		return errors.New("rolled back")
	})
	result["end"] = []any{failure(err), rows(ctx, conn, digest)}
	return result, nil
}

func from2(ctx context.Context, conn *pgx.Conn, sql string) any {
	_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader("1\n"), sql)
	return failure(err)
}

// failingReader is a source that gives up.
type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("no more") }

func pgxCancel(ctx context.Context, r *pgxRun) (any, error) {
	conns, closeAll, err := r.several(ctx, 3)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	one, neighbour, watch := conns[0], conns[1], conns[2]
	var result []any
	sleeps := func(conn *pgx.Conn, q queryer, turn int, args ...any) error {
		marker := fmt.Sprintf("%s cancel %d", r.schema, turn)
		var group sync.WaitGroup
		var slept, beside any
		group.Go(func() { slept = value(ctx, q, "SELECT pg_sleep(600) /* "+marker+" */", args...) })
		group.Go(func() { beside = value(ctx, neighbour, "SELECT 7 FROM pg_sleep(0.5)") })
		err := running(ctx, watch, marker)
		if err == nil {
			err = conn.PgConn().CancelRequest(ctx)
		}
		group.Wait()
		result = append(result, []any{slept, beside, value(ctx, q, "SELECT 1")})
		return err
	}
	for turn := range 5 {
		if err := sleeps(one, one, turn, pgx.QueryExecModeExec); err != nil {
			return nil, err
		}
	}
	// Statements that are prepared on one server and run, and cancelled, on whichever is next.
	for turn := 10; turn < 15; turn++ {
		sql := fmt.Sprintf("SELECT pg_sleep(600) /* %s cancel %d */", r.schema, turn)
		if _, err := one.Prepare(ctx, sql, sql); err != nil {
			return nil, err
		}
		if err := sleeps(one, one, turn); err != nil {
			return nil, err
		}
	}
	ledger := r.schema + ".ledger"
	err = pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error {
		result = append(result, tag(ctx, tx, "INSERT INTO "+ledger+" VALUES (-1, 1)"))
		return sleeps(one, tx, 5, pgx.QueryExecModeExec)
	})
	result = append(result, failure(err), value(ctx, watch, "SELECT count(*) FROM "+ledger+" WHERE task = -1"))
	if err := one.PgConn().CancelRequest(ctx); err != nil {
		return nil, err
	}
	return append(result, value(ctx, one, "SELECT 'idle cancel does nothing'")), nil
}

func pgxTimeout(ctx context.Context, r *pgxRun) (any, error) {
	conn, err := r.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	insert := "INSERT INTO " + r.schema + ".ledger VALUES (-2, $1)"
	result := object{}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		result["inserted"] = []any{tag(ctx, tx, insert, 1), tag(ctx, tx, "SET LOCAL statement_timeout = '50ms'")}
		result["statement_timeout"] = tag(ctx, tx, "SELECT pg_sleep(600)")
		return nil
	})
	result["ended"] = failure(err)
	result["setting afterwards"] = value(ctx, conn, "SHOW statement_timeout")

	// A context that ends closes pgx's connection and sends a cancel request.
	short, err := r.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer short.Close(ctx)
	marker := r.schema + " timeout"
	err = pgx.BeginFunc(ctx, short, func(tx pgx.Tx) error {
		result["inserted again"] = tag(ctx, tx, insert, 2)
		limited, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		result["context"] = tag(limited, tx, "SELECT pg_sleep(600) /* "+marker+" */")
		return nil
	})
	result["context's end"] = []any{err != nil, short.IsClosed()}
	// Its transaction is over, and its lock gone, when this gets its own.
	result["committed"] = []any{
		tag(ctx, conn, "LOCK TABLE "+r.schema+".ledger"), // outside of a transaction: refused
		value(ctx, conn, "SELECT count(*) FROM "+r.schema+".ledger WHERE task = -2"),
	}
	for {
		var n int
		err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle'
			AND pid <> pg_backend_pid() AND query LIKE $1`, "%"+marker+"%").Scan(&n)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return result, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func pgxPipeline(ctx context.Context, r *pgxRun) (any, error) {
	conn, err := r.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	ledger := r.schema + ".ledger"
	insert := "INSERT INTO " + ledger + " VALUES (-3, $1)"
	count := "SELECT count(*), sum(number) FROM " + ledger + " WHERE task = -3"
	result := object{}

	batch := &pgx.Batch{}
	sum := 0
	for n := range 200 {
		batch.Queue("SELECT $1::int * 2", n).QueryRow(func(row pgx.Row) error {
			var double int
			err := row.Scan(&double)
			sum += double
			return err
		})
		batch.Queue(insert, n)
	}
	result["batch"] = []any{failure(conn.SendBatch(ctx, batch).Close()), sum, rows(ctx, conn, count)}

	failing := &pgx.Batch{}
	failing.Queue(insert, 1000)
	failing.Queue(insert, 1)
	failing.Queue(insert, 1001)
	results := conn.SendBatch(ctx, failing)
	var each []any
	for range 3 {
		done, err := results.Exec()
		each = append(each, []any{done.String(), failure(err)})
	}
	result["failing"] = []any{each, failure(results.Close()), rows(ctx, conn, count)}

	// libpq's pipeline mode: syncs anywhere, answers read later.
	line := conn.PgConn().StartPipeline(ctx)
	line.SendPrepare("p1", "SELECT $1::int + 1", nil)
	line.SendQueryPrepared("p1", [][]byte{[]byte("41")}, nil, nil)
	line.SendFlushRequest()
	if err := line.Flush(); err != nil {
		return nil, err
	}
	var steps []any
	steps = append(steps, step(line), step(line))
	line.SendQueryParams("SELECT 1 / 0", nil, nil, nil, nil)
	line.SendQueryPrepared("p1", [][]byte{[]byte("1")}, nil, nil)
	if err := line.Sync(); err != nil {
		return nil, err
	}
	line.SendQueryPrepared("p1", [][]byte{[]byte("2")}, nil, nil)
	line.SendDeallocate("p1")
	line.SendQueryPrepared("p1", [][]byte{[]byte("3")}, nil, nil)
	if err := line.Sync(); err != nil {
		return nil, err
	}
	line.SendPrepare("p1", "SELECT $1::int + 2", nil)
	line.SendQueryPrepared("p1", [][]byte{[]byte("40")}, nil, nil)
	if err := line.Sync(); err != nil {
		return nil, err
	}
	for syncs := 0; syncs < 3 && len(steps) < 30; {
		s := step(line)
		if s == "sync" {
			syncs++
		}
		steps = append(steps, s)
	}
	result["steps"] = []any{steps, failure(line.Close())}
	result["end"] = rows(ctx, conn, count)
	return result, nil
}

// step reads a pipeline's next answer.
func step(line *pgconn.Pipeline) any {
	answer, err := line.GetResults()
	if err != nil {
		return failure(err)
	}
	switch answer := answer.(type) {
	case *pgconn.ResultReader:
		read := answer.Read()
		var values []string
		for _, row := range read.Rows {
			values = append(values, string(row[0]))
		}
		return []any{values, read.CommandTag.String(), failure(read.Err)}
	case *pgconn.StatementDescription:
		return []any{answer.Name, answer.ParamOIDs, len(answer.Fields)}
	case *pgconn.PipelineSync:
		return "sync"
	default:
		return fmt.Sprintf("%T", answer)
	}
}

func pgxSettings(ctx context.Context, r *pgxRun) (any, error) {
	conns, closeAll, err := r.several(ctx, 3)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	var result []any
	for n, conn := range conns {
		zone := []string{"Asia/Tokyo", "Europe/Berlin", "America/New_York"}[n]
		style := []string{"iso_8601", "sql_standard", "postgres"}[n]
		result = append(result,
			tag(ctx, conn, "SET TimeZone = '"+zone+"'"), tag(ctx, conn, "SET IntervalStyle = "+style),
			tag(ctx, conn, fmt.Sprintf("SET application_name = 'smoke %d'", n)))
	}
	for turn := range 5 {
		for n, conn := range conns {
			if turn == n { // out of step, as in pgxPrepared
				tag(ctx, conn, "SELECT 1")
			}
			var at, span, name string
			var pid uint32
			err := conn.QueryRow(ctx, `SELECT timestamptz '2024-07-01 12:00:00+00'::text, interval '1 day 2 hours'::text,
				current_setting('application_name'), pg_backend_pid()`).Scan(&at, &span, &name, &pid)
			if err != nil {
				return nil, err
			}
			r.saw(n, pid)
			result = append(result, []any{at, span, name, conn.PgConn().ParameterStatus("TimeZone"), conn.PgConn().ParameterStatus("IntervalStyle")})
		}
	}
	one := conns[0]
	zone := func() any { return []any{value(ctx, one, "SHOW TimeZone"), one.PgConn().ParameterStatus("TimeZone")} }
	err = pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error {
		result = append(result, tag(ctx, tx, "SET TimeZone = 'Asia/Kolkata'"), zone())
		return errors.New("rolled back")
	})
	result = append(result, failure(err), zone())
	err = pgx.BeginFunc(ctx, one, func(tx pgx.Tx) error {
		result = append(result, tag(ctx, tx, "SET LOCAL TimeZone = 'Asia/Kolkata'"), zone())
		return nil
	})
	result = append(result, failure(err), zone())
	for _, conn := range conns {
		result = append(result, tag(ctx, conn, "RESET TimeZone"), tag(ctx, conn, "RESET ALL"),
			value(ctx, conn, "SHOW TimeZone"), value(ctx, conn, "SHOW IntervalStyle"), value(ctx, conn, "SHOW application_name"))
	}
	return result, nil
}
