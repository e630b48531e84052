package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"
)

var pqScenarios = []scenario{
	{"connect", pqConnect}, {"types", pqTypes}, {"prepared", pqPrepared}, {"ddl", pqDDL}, {"transaction", pqTransaction},
	{"cursor", pqCursor}, {"copy", pqCopy}, {"cancel", pqCancel}, {"timeout", pqTimeout}, {"notices", pqNotices},
	{"settings", pqSettings}, {"concurrent", pqConcurrent},
}

func pqConnect(ctx context.Context, s *smoke) (any, error) {
	// lib/pq sends every parameter that it does not know itself in the startup message, and extra_float_digits and
	// DateStyle always: a pooler that refuses or drops unknown ones breaks here.
	names := []string{"application_name", "TimeZone", "statement_timeout", "search_path", "extra_float_digits", "DateStyle", "work_mem"}
	ours, err := one(s.with("application_name", "smoke pq", "TimeZone", "Asia/Tokyo", "statement_timeout", "12345",
		"search_path", s.schema, "options", "-c work_mem=3MB"))
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	plain, err := one(s.dsn)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var shown []any
	for range 4 {
		for _, db := range []*sql.DB{ours, plain} {
			for _, name := range names {
				shown = append(shown, value(ctx, db, "SHOW "+name))
			}
		}
	}
	result := object{"shown": shown}
	for what, dsn := range map[string]string{
		"wrong password":   s.as(func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "not the password") }),
		"unknown user":     s.as(func(u *url.URL) { u.User = url.UserPassword("nobody_of_that_name", "x") }),
		"unknown database": s.as(func(u *url.URL) { u.Path = "/no_database_of_that_name" }),
		"bad setting":      s.with("TimeZone", "Nowhere/Land"),
	} {
		db, err := one(dsn)
		if err != nil {
			return nil, err
		}
		refused, _ := failure(db.PingContext(ctx)).(object)
		result[what] = []any{refused["sqlstate"], refused["severity"]}
		db.Close()
	}
	return result, nil
}

func pqTypes(ctx context.Context, s *smoke) (any, error) {
	moment := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	sent := []struct {
		name  string
		value any
	}{
		{"int2", -32768}, {"int8", int64(-1 << 63)}, {"numeric", "123456789012345678901234567890.123456789"}, {"float8", 1e-300},
		{"bool", true}, {"text", `Größe 舵 ⚓ O'ring \ $1`}, {"text", strings.Repeat("x", 100_000)}, {"text", ""}, {"text", nil},
		{"bytea", []byte{0, 1, 254, 255}}, {"uuid", "00000000-0000-0000-0000-000000000007"}, {"date", "0001-01-01"},
		{"timestamptz", moment}, {"timestamp", moment}, {"interval", "3 days 00:00:04"}, {"jsonb", `{"a": [1, null]}`},
		{"int4[]", pq.Array([]int64{1, 2})}, {"text[]", pq.Array([]string{"a", `q"`})}, {"int4range", "[1,10)"},
		{s.schema + ".mood", "stormy"}, {s.schema + ".position", "(54.3,10.1)"},
	}
	var result []any
	// binary_parameters=yes, which spares lib/pq a round trip, was what poolers asked for; both ways are the same now.
	for _, binary := range []string{"no", "yes"} {
		db, err := one(s.with("binary_parameters", binary))
		if err != nil {
			return nil, err
		}
		for _, v := range sent {
			if v.name == "bytea" && binary == "yes" {
				continue // binary: lib/pq sends it as it is, and reads it as text
			}
			text := fmt.Sprint(value(ctx, db, "SELECT $1::"+v.name, v.value))
			result = append(result, []any{v.name, len(text), text[:min(len(text), 100)]})
		}
		result = append(result, value(ctx, db, "SELECT $1::int4", "not a number"), value(ctx, db, "SELECT 'not a number'::text::int4"))
		db.Close()
	}
	return result, nil
}

func pqPrepared(ctx context.Context, s *smoke) (any, error) {
	// lib/pq numbers its statements on each connection: any two connections have the same names.
	dbs, closeAll, err := several(s.dsn, 2)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	sides := []string{"left", "right"}
	statements := make([][]*sql.Stmt, 2)
	for i := range s.statements {
		for side, db := range dbs {
			st, err := db.PrepareContext(ctx, fmt.Sprintf("SELECT $1::int + %d, '%s%d', pg_backend_pid()", i, sides[side], i))
			if err != nil {
				return nil, err
			}
			statements[side] = append(statements[side], st)
		}
	}
	wrong, answers := []any{}, 0
	for turn := range 2 {
		for i := range s.statements {
			if i%7 == 0 { // clients that take turns in step would meet the same server each time
				value(ctx, dbs[0], "SELECT 1")
			}
			for side, db := range dbs {
				var n, pid int
				var tag string
				ask := func(st *sql.Stmt) error { return st.QueryRowContext(ctx, turn).Scan(&n, &tag, &pid) }
				if turn == 1 {
					tx, err := db.BeginTx(ctx, nil)
					if err != nil {
						return nil, err
					}
					err = errors.Join(ask(tx.StmtContext(ctx, statements[side][i])), tx.Commit())
					if err != nil {
						return nil, err
					}
				} else if err := ask(statements[side][i]); err != nil {
					return nil, err
				}
				s.saw(side, pid)
				answers++
				if n != turn+i || tag != fmt.Sprintf("%s%d", sides[side], i) {
					wrong = append(wrong, []any{sides[side], i, turn, n, tag})
				}
			}
		}
	}
	result := object{"answers": answers, "wrong": wrong[:min(len(wrong), 5)]}
	if err := statements[0][1].Close(); err != nil {
		return nil, err
	}
	_, result["bad"] = dbs[0].PrepareContext(ctx, "SELECT nothing_like_this")
	result["bad"] = failure(result["bad"].(error))
	// A query with arguments is the unnamed statement: described after one Sync and bound behind it.
	sum := int64(0)
	for i := range 200 {
		n, _ := value(ctx, dbs[0], "SELECT $1::bigint * 2", i).(int64)
		sum += n
	}
	result["unnamed"] = sum
	return result, nil
}

func pqDDL(ctx context.Context, s *smoke) (any, error) {
	dbs, closeAll, err := several(s.dsn, 2)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	changes, reads := dbs[0], dbs[1]
	table := s.schema + ".changed"
	result := object{"made": []any{done(ctx, changes, "CREATE TABLE "+table+" (a int)"), done(ctx, changes, "INSERT INTO "+table+" VALUES (1)")}}
	st, err := reads.PrepareContext(ctx, "SELECT * FROM "+table)
	if err != nil {
		return nil, err
	}
	ask := func() any {
		found, err := st.QueryContext(ctx)
		if err != nil {
			return failure(err)
		}
		return collect(found)
	}
	result["before"] = []any{ask(), ask()}
	result["changed"] = done(ctx, changes, "ALTER TABLE "+table+" ADD COLUMN b int DEFAULT 2")
	result["after"] = []any{ask(), ask(), rows(ctx, reads, "SELECT * FROM "+table)}
	result["dropped"] = []any{done(ctx, changes, "DROP TABLE "+table), ask()}
	return result, nil
}

func pqTransaction(ctx context.Context, s *smoke) (any, error) {
	dbs, closeAll, err := several(s.dsn, 2)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	db, other := dbs[0], dbs[1]
	items := s.schema + ".items"
	insert, count, all := "INSERT INTO "+items+" VALUES ($1, $2, $3)", "SELECT count(*) FROM "+items, "SELECT * FROM "+items+" ORDER BY id"
	result := object{}
	in := func(options *sql.TxOptions, work func(tx *sql.Tx)) any {
		tx, err := db.BeginTx(ctx, options)
		if err != nil {
			return failure(err)
		}
		work(tx)
		if err := tx.Commit(); err != nil {
			_ = tx.Rollback()
			return failure(err)
		}
		return "committed"
	}
	result["ended"] = in(nil, func(tx *sql.Tx) {
		result["work"] = []any{
			done(ctx, tx, insert, 1, "one", nil), done(ctx, tx, "SAVEPOINT a"), done(ctx, tx, insert, 2, "one", nil), value(ctx, tx, "SELECT 1"),
			done(ctx, tx, "ROLLBACK TO SAVEPOINT a"), done(ctx, tx, insert, 3, "three", 1), value(ctx, tx, count), value(ctx, other, count),
		}
	})
	result["after commit"] = rows(ctx, other, all)
	result["failed"] = in(nil, func(tx *sql.Tx) {
		result["division"] = []any{done(ctx, tx, insert, 4, "four", nil), value(ctx, tx, "SELECT 1 / 0")}
	})
	result["deferred constraint"] = in(nil, func(tx *sql.Tx) { done(ctx, tx, insert, 5, "five", 999) })
	result["serializable"] = in(&sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true}, func(tx *sql.Tx) {
		result["isolation"] = []any{value(ctx, tx, "SHOW transaction_isolation"), done(ctx, tx, insert, 6, "six", nil)}
	})
	result["isolation after"] = value(ctx, db, "SHOW transaction_isolation")
	result["many statements"] = done(ctx, db, "INSERT INTO "+items+" VALUES (7, 'seven', NULL); SELECT 1/0; SELECT 3")
	result["results"] = rows(ctx, db, "SELECT 1; SELECT 2")
	result["end"] = rows(ctx, other, all)
	return result, nil
}

func pqCursor(ctx context.Context, s *smoke) (any, error) {
	// lib/pq has no cursors of its own: SQL's are used, and rows that are left early.
	db, err := one(s.dsn)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	result := object{}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	result["declared"] = done(ctx, tx, "DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 5000) AS n")
	fetched := 0
	for {
		part, ok := rows(ctx, tx, "FETCH 100 FROM c").([][]any)
		if !ok || len(part) == 0 {
			break
		}
		fetched += len(part)
	}
	result["fetched"] = []any{fetched, rows(ctx, tx, "FETCH ABSOLUTE 7 FROM c"), done(ctx, tx, "CLOSE c"), rows(ctx, tx, "FETCH 1 FROM c")}
	result["ended"] = failure(tx.Commit())
	found, err := db.QueryContext(ctx, "SELECT n, repeat('x', 1000) FROM generate_series(1, $1) AS n", 20000)
	if err != nil {
		return nil, err
	}
	for n := 0; n < 10 && found.Next(); n++ {
	}
	result["left early"] = []any{failure(found.Close()), value(ctx, db, "SELECT 1")}
	result["error inside"] = rows(ctx, db, "SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n")
	return result, nil
}

func pqCopy(ctx context.Context, s *smoke) (any, error) {
	db, err := one(s.dsn)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	digest := "SELECT count(*), sum(id), sum(amount)::text, count(note), md5(string_agg(note, '' ORDER BY id)) FROM " + s.schema + ".copied"
	result := object{}
	into := func(records int, row func(i int) []any, end func(*sql.Tx) error) any {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return failure(err)
		}
		defer tx.Rollback()
		st, err := tx.PrepareContext(ctx, "COPY "+s.schema+".copied (id, note, amount) FROM STDIN")
		if err != nil {
			return failure(err)
		}
		for i := range records {
			if _, err := st.ExecContext(ctx, row(i)...); err != nil {
				return failure(err)
			}
		}
		if _, err := st.ExecContext(ctx); err != nil {
			return failure(err)
		}
		if err := st.Close(); err != nil {
			return failure(err)
		}
		return failure(end(tx))
	}
	record := func(i int) []any {
		if i%10 == 0 {
			return []any{i, nil, float64(i) / 4}
		}
		return []any{i, fmt.Sprintf("note\t%d\n\\", i), float64(i) / 4}
	}
	result["in"] = []any{into(20_000, record, (*sql.Tx).Commit), rows(ctx, db, digest)}
	result["duplicate"] = into(1, record, (*sql.Tx).Commit)
	result["bad"] = into(2, func(i int) []any { return []any{"not a number", "x", nil} }, (*sql.Tx).Commit)
	result["rolled back"] = into(1, func(int) []any { return []any{100_004, "x", nil} }, (*sql.Tx).Rollback)
	result["end"] = rows(ctx, db, digest)
	return result, nil
}

func pqRunning(ctx context.Context, watch *sql.DB, marker string) error {
	for {
		var n int
		err := watch.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE $1`, "%"+marker+"%").Scan(&n)
		if err != nil || n > 0 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func pqCancel(ctx context.Context, s *smoke) (any, error) {
	dbs, closeAll, err := several(s.dsn, 3)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	db, neighbour, watch := dbs[0], dbs[1], dbs[2]
	var result []any
	for turn := range 5 {
		marker := fmt.Sprintf("%s cancel %d", s.schema, turn)
		limited, cancel := context.WithCancel(ctx)
		slept, beside := make(chan any, 1), make(chan any, 1)
		go func() {
			answer := rows(limited, db, "SELECT pg_sleep(600) /* "+marker+" */")
			if o, ok := answer.(object); ok && (o["sqlstate"] == "57014" || o["error"] == context.Canceled.Error()) {
				answer = "cancelled" // by PostgreSQL or by the context, whichever lib/pq hears of first
			}
			slept <- answer
		}()
		go func() { beside <- value(ctx, neighbour, "SELECT 7 FROM pg_sleep(0.5)") }()
		err := pqRunning(ctx, watch, marker)
		cancel()
		if err != nil {
			return nil, err
		}
		result = append(result, []any{<-slept, <-beside, value(ctx, db, "SELECT 1")})
	}
	return result, nil
}

func pqTimeout(ctx context.Context, s *smoke) (any, error) {
	dbs, closeAll, err := several(s.dsn, 1)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	db := dbs[0]
	hurried, err := one(s.with("statement_timeout", "500"))
	if err != nil {
		return nil, err
	}
	defer hurried.Close()
	ledger := s.schema + ".ledger"
	result := object{"configured": []any{rows(ctx, hurried, "SELECT pg_sleep(600)"), rows(ctx, hurried, "SELECT pg_sleep(600)")}}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	result["local"] = []any{
		done(ctx, tx, "INSERT INTO "+ledger+" VALUES (-2, 1)"), done(ctx, tx, "SET LOCAL statement_timeout = '50ms'"), rows(ctx, tx, "SELECT pg_sleep(600)"),
		failure(tx.Rollback()),
	}
	result["setting afterwards"] = value(ctx, db, "SHOW statement_timeout")
	limited, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, isError := rows(limited, db, "SELECT pg_sleep(600)").(object)
	result["context"] = []any{isError, value(ctx, db, "SELECT 1")}
	result["committed"] = value(ctx, db, "SELECT count(*) FROM "+ledger+" WHERE task = -2")
	return result, nil
}

func pqNotices(ctx context.Context, s *smoke) (any, error) {
	heard := map[string][]any{}
	var dbs []*sql.DB
	for _, who := range []string{"one", "other"} {
		base, err := pq.NewConnector(s.dsn)
		if err != nil {
			return nil, err
		}
		db := sql.OpenDB(pq.ConnectorWithNoticeHandler(base, func(n *pq.Error) {
			heard[who] = append(heard[who], []any{n.Severity, string(n.Code), n.Message, n.Detail, n.Hint})
		}))
		db.SetMaxOpenConns(1)
		defer db.Close()
		dbs = append(dbs, db)
	}
	done(ctx, dbs[1], "SET client_min_messages = warning")
	for turn := range 5 {
		for _, db := range dbs {
			done(ctx, db, raises(turn))
		}
	}
	result := object{"heard": heard}
	channel := s.schema + "_channel"
	listener := pq.NewListener(s.dsn, time.Second, time.Minute, nil)
	defer listener.Close()
	if err := listener.Listen(channel); err != nil {
		return nil, err
	}
	told := []any{}
	for turn := range 3 {
		done(ctx, dbs[turn%2], "SELECT pg_notify($1, $2)", channel, fmt.Sprintf("turn %d", turn))
		select {
		case n := <-listener.Notify:
			told = append(told, []any{n.Channel, n.Extra})
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	result["told"] = told
	result["ping"] = failure(listener.Ping())
	return result, nil
}

func pqSettings(ctx context.Context, s *smoke) (any, error) {
	dbs, closeAll, err := several(s.dsn, 3)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	result := []any{}
	for n, db := range dbs {
		result = append(result, done(ctx, db, "SET TimeZone = '"+[]string{"Asia/Tokyo", "Europe/Berlin", "America/New_York"}[n]+"'"),
			done(ctx, db, fmt.Sprintf("SET work_mem = '%dMB'", n+1)), value(ctx, db, "SELECT set_config('app.tenant', $1, false)", fmt.Sprintf("tenant %d", n)))
	}
	for turn := range 5 {
		for n, db := range dbs {
			if turn == n { // out of step, as above
				value(ctx, db, "SELECT 1")
			}
			var at, memory, tenant string
			var pid int
			err := db.QueryRowContext(ctx, `SELECT timestamptz '2024-07-01 12:00:00+00'::text, current_setting('work_mem'),
				current_setting('app.tenant'), pg_backend_pid()`).Scan(&at, &memory, &tenant, &pid)
			if err != nil {
				return nil, err
			}
			s.saw(n, pid)
			result = append(result, []any{at, memory, tenant})
		}
	}
	for _, db := range dbs {
		result = append(result, done(ctx, db, "RESET ALL"), value(ctx, db, "SHOW TimeZone"), value(ctx, db, "SHOW work_mem"))
	}
	return result, nil
}

func pqConcurrent(ctx context.Context, s *smoke) (any, error) {
	ledger := s.schema + ".ledger"
	return s.crowd(func(number int, deadline time.Time) error {
		zone := fmt.Sprintf("Etc/GMT+%d", number%12)
		db, err := one(s.with("application_name", fmt.Sprintf("task %d", number), "TimeZone", zone))
		if err != nil {
			return err
		}
		defer db.Close()
		committed := int64(0)
		count := func(q queryer) any { return value(ctx, q, "SELECT count(*) FROM "+ledger+" WHERE task = $1", number) }
		for turn := 1; turn <= 30 || time.Now().Before(deadline); turn++ {
			var got, want any
			switch (turn + number) % 6 {
			case 0:
				var double, pid int
				var text string
				if err := db.QueryRowContext(ctx, "SELECT $1::int * 2, $2::text, pg_backend_pid()", number, fmt.Sprintf("t%d", turn)).Scan(&double, &text, &pid); err != nil {
					return err
				}
				s.saw(number, pid)
				got, want = fmt.Sprint(double, text), fmt.Sprint(number*2, fmt.Sprintf("t%d", turn))
			case 1, 2:
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, "INSERT INTO "+ledger+" VALUES ($1, $2)", number, turn); err != nil {
					return err
				}
				got, want = count(tx), committed+1
				if (turn+number)%6 == 1 {
					committed++
					err = tx.Commit()
				} else {
					err = tx.Rollback()
				}
				if err != nil {
					return err
				}
			case 3:
				failed, _ := value(ctx, db, "SELECT 1 / ($1::int - $1::int)", number).(object)
				got, want = failed["sqlstate"], "22012"
			case 4:
				got, want = value(ctx, db, "SELECT current_setting('TimeZone')"), zone
			default:
				got, want = count(db), committed
			}
			if got != want {
				return fmt.Errorf("kind %d: got %v, want %v", (turn+number)%6, got, want)
			}
		}
		if got := count(db); got != committed {
			return fmt.Errorf("at the end: got %v, want %v", got, committed)
		}
		return nil
	}), nil
}
