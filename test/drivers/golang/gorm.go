package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

var gormScenarios = []scenario{
	{"connect", gormConnect}, {"types", gormTypes}, {"prepared", gormPrepared}, {"ddl", gormDDL}, {"transaction", gormTransaction},
	{"cursor", gormCursor}, {"cancel", gormCancel}, {"timeout", gormTimeout}, {"pipeline", gormPipeline},
	{"settings", gormSettings}, {"concurrent", gormConcurrent},
}

// opened is GORM over pgx with so many connections. What was
// PreferSimpleProtocol: true is the default again, with prepared statements.
func opened(dsn string, connections int) (*gorm.DB, func(), error) {
	quiet := logger.Default.LogMode(logger.Silent)
	// apps: open
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: quiet, PrepareStmt: true})
	if err != nil {
		return nil, nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, err
	}
	pool.SetMaxOpenConns(connections)
	// apps: end
	return db, func() { _ = pool.Close() }, nil
}

type item struct {
	ID     int `gorm:"primaryKey;autoIncrement:false"`
	Note   string
	Parent *int
}

type entry struct{ Task, Number int }

// scan is what a query returned, or its error.
func scan(db *gorm.DB, text string, args ...any) any {
	var found []map[string]any
	if err := db.Raw(text, args...).Scan(&found).Error; err != nil {
		return failure(err)
	}
	return found
}

func gormConnect(ctx context.Context, s *smoke) (any, error) {
	ours, closeOurs, err := opened(s.with("application_name", "smoke gorm", "options", "-cTimeZone=Asia/Tokyo", "statement_timeout", "12345", "search_path", s.schema), 1)
	if err != nil {
		return nil, err
	}
	defer closeOurs()
	plain, closePlain, err := opened(s.dsn, 1)
	if err != nil {
		return nil, err
	}
	defer closePlain()
	var shown []any
	for range 4 {
		for _, db := range []*gorm.DB{ours, plain} {
			for _, name := range []string{"application_name", "TimeZone", "statement_timeout", "search_path"} {
				shown = append(shown, scan(db.WithContext(ctx), "SHOW "+name))
			}
		}
	}
	_, _, err = opened(s.with("options", "-cTimeZone=Nowhere/Land"), 1)
	return []any{shown, failure(err)}, nil
}

type everything struct {
	ID       int64 `gorm:"primaryKey"`
	Small    int16
	Big      int64
	Amount   string `gorm:"type:numeric(60,9)"`
	Real     float64
	Yes      bool
	Note     string
	Missing  *string
	Blob     []byte
	Key      string `gorm:"type:uuid"`
	At       time.Time
	Document map[string]any `gorm:"serializer:json;type:jsonb"`
}

func gormTypes(ctx context.Context, s *smoke) (any, error) {
	db, closeDB, err := opened(s.with("search_path", s.schema), 1)
	if err != nil {
		return nil, err
	}
	defer closeDB()
	db = db.WithContext(ctx)
	if err := db.AutoMigrate(&everything{}); err != nil {
		return nil, err
	}
	sent := everything{
		Small: -32768, Big: -1 << 63, Amount: "123456789012345678901234567890.123456789", Real: 1e-300, Yes: true, Note: `Größe 舵 ⚓ O'ring \ $1 ?`,
		Blob: []byte{0, 1, 254, 255}, Key: "00000000-0000-0000-0000-000000000007",
		At: time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC), Document: object{"a": []any{1, nil}},
	}
	if err := db.Create(&sent).Error; err != nil {
		return nil, err
	}
	var back everything
	if err := db.Where("yes AND small < ?", 0).First(&back, sent.ID).Error; err != nil {
		return nil, err
	}
	back.At = back.At.UTC()
	columns, err := db.Migrator().ColumnTypes(&everything{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range columns {
		names = append(names, c.Name()+" "+c.DatabaseTypeName())
	}
	return []any{back, names, scan(db, "SELECT ?::text::int4 AS n", "not a number"), failure(db.Migrator().DropTable(&everything{}))}, nil
}

func gormPrepared(ctx context.Context, s *smoke) (any, error) {
	// Two layers of prepared statements: GORM's own cache, and pgx's under it.
	var sides []*gorm.DB
	for range 2 {
		db, closeDB, err := opened(s.dsn, 1)
		if err != nil {
			return nil, err
		}
		defer closeDB()
		sides = append(sides, db.WithContext(ctx))
	}
	wrong, answers := []any{}, 0
	for turn := range 2 {
		for i := range s.statements {
			if i%7 == 0 { // clients that take turns in step would meet the same server each time
				scan(sides[0], "SELECT 1")
			}
			for side, db := range sides {
				var row struct {
					N, Pid int
					Tag    string
				}
				err := db.Raw(fmt.Sprintf("SELECT ?::int + %d AS n, '%d_%d' AS tag, pg_backend_pid() AS pid", i, side, i), turn).Scan(&row).Error
				if err != nil {
					return nil, err
				}
				s.saw(side, row.Pid)
				answers++
				if row.N != turn+i || row.Tag != fmt.Sprintf("%d_%d", side, i) {
					wrong = append(wrong, []any{side, i, turn, row})
				}
			}
		}
	}
	return []any{answers, wrong[:min(len(wrong), 5)], scan(sides[0], "SELECT nothing_like_this"), scan(sides[0], "SELECT 5 AS n")}, nil
}

func gormDDL(ctx context.Context, s *smoke) (any, error) {
	changes, closeChanges, err := opened(s.dsn, 1)
	if err != nil {
		return nil, err
	}
	defer closeChanges()
	reads, closeReads, err := opened(s.dsn, 1)
	if err != nil {
		return nil, err
	}
	defer closeReads()
	table := s.schema + ".changed"
	do := func(text string) any { return failure(changes.WithContext(ctx).Exec(text).Error) }
	read := func() any { return scan(reads.WithContext(ctx), "SELECT * FROM "+table) }
	result := object{"made": []any{do("CREATE TABLE " + table + " (a int)"), do("INSERT INTO " + table + " VALUES (1)")}}
	result["before"] = []any{read(), read()}
	result["changed"] = do("ALTER TABLE " + table + " ADD COLUMN b int DEFAULT 2")
	result["after"] = []any{read(), read()}
	result["dropped"] = []any{do("DROP TABLE " + table), read()}
	return result, nil
}

func gormTransaction(ctx context.Context, s *smoke) (any, error) {
	one, closeOne, err := opened(s.with("search_path", s.schema), 1)
	if err != nil {
		return nil, err
	}
	defer closeOne()
	other, closeOther, err := opened(s.with("search_path", s.schema), 1)
	if err != nil {
		return nil, err
	}
	defer closeOther()
	one, other = one.WithContext(ctx), other.WithContext(ctx)
	count := func(db *gorm.DB) int64 {
		var n int64
		db.Model(&item{}).Count(&n)
		return n
	}
	parent, nowhere := 1, 999
	result := object{}
	result["committed"] = failure(one.Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&item{ID: 1, Note: "one"}).Error; err != nil {
			return err
		}
		result["duplicate"] = failure(tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&item{ID: 2, Note: "one"}).Error }))
		if err := tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&item{ID: 3, Note: "three", Parent: &parent}).Error }); err != nil {
			return err
		}
		result["seen"] = []any{count(tx), count(other)}
		return nil
	}))
	result["division"] = failure(one.Transaction(func(tx *gorm.DB) error {
		return errors.Join(tx.Create(&item{ID: 4, Note: "four"}).Error, tx.Exec("SELECT 1 / 0").Error)
	}))
	result["deferred constraint"] = failure(one.Create(&item{ID: 5, Note: "five", Parent: &nowhere}).Error)
	result["upsert"] = failure(one.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, UpdateAll: true}).Create(&item{ID: 1, Note: "uno"}).Error)
	var locked []item
	result["locked"] = failure(one.Transaction(func(tx *gorm.DB) error {
		return tx.Clauses(clause.Locking{Strength: "UPDATE"}).Order("id").Find(&locked).Error
	}))
	result["end"] = locked
	return result, nil
}

func gormCursor(ctx context.Context, s *smoke) (any, error) {
	db, closeDB, err := opened(s.with("search_path", s.schema), 1)
	if err != nil {
		return nil, err
	}
	defer closeDB()
	db = db.WithContext(ctx)
	found, err := db.Raw("SELECT n FROM generate_series(1, ?::int) AS n", 5000).Rows()
	if err != nil {
		return nil, err
	}
	sum, n := 0, 0
	for found.Next() {
		if err := found.Scan(&n); err != nil {
			return nil, err
		}
		sum += n
		if n == 4000 {
			break
		}
	}
	result := object{"left early": []any{sum, failure(found.Close()), scan(db, "SELECT 1 AS n")}}
	var all []item
	for i := range 95 {
		all = append(all, item{ID: 100 + i, Note: fmt.Sprint("note ", i)})
	}
	if err := db.CreateInBatches(all, 10).Error; err != nil {
		return nil, err
	}
	var parts []int
	var batch []item
	err = db.FindInBatches(&batch, 20, func(*gorm.DB, int) error {
		parts = append(parts, len(batch))
		return nil
	}).Error
	result["batches"] = []any{parts, failure(err)}
	result["error inside"] = scan(db, "SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n")
	return result, nil
}

func gormCancel(ctx context.Context, s *smoke) (any, error) {
	db, closeDB, err := opened(s.dsn, 1)
	if err != nil {
		return nil, err
	}
	defer closeDB()
	watch, err := one(s.dsn)
	if err != nil {
		return nil, err
	}
	defer watch.Close()
	var result []any
	for turn := range 3 {
		marker := fmt.Sprintf("%s cancel %d", s.schema, turn)
		limited, cancel := context.WithCancel(ctx)
		slept := make(chan any, 1)
		go func() {
			_, failed := scan(db.WithContext(limited), "SELECT pg_sleep(600) /* "+marker+" */").(object)
			slept <- failed
		}()
		err := pqRunning(ctx, watch, marker)
		cancel()
		if err != nil {
			return nil, err
		}
		result = append(result, []any{<-slept, scan(db.WithContext(ctx), "SELECT 1 AS n")})
	}
	return result, nil
}

func gormTimeout(ctx context.Context, s *smoke) (any, error) {
	db, closeDB, err := opened(s.with("statement_timeout", "500"), 1)
	if err != nil {
		return nil, err
	}
	defer closeDB()
	db = db.WithContext(ctx)
	result := []any{scan(db, "SELECT pg_sleep(600)"), scan(db, "SELECT pg_sleep(600)")}
	err = db.Transaction(func(tx *gorm.DB) error {
		result = append(result, failure(tx.Exec("SET LOCAL statement_timeout = '5s'").Error), scan(tx, "SELECT 7 AS n FROM pg_sleep(0.1)"))
		return nil
	})
	return append(result, failure(err), scan(db, "SHOW statement_timeout")), nil
}

func gormPipeline(ctx context.Context, s *smoke) (any, error) {
	// GORM's batches are INSERTs of many rows.
	db, closeDB, err := opened(s.with("search_path", s.schema), 1)
	if err != nil {
		return nil, err
	}
	defer closeDB()
	db = db.WithContext(ctx)
	var all []entry
	for n := range 2000 {
		all = append(all, entry{-3, n})
	}
	ledger := db.Table("ledger")
	result := object{"in": failure(ledger.CreateInBatches(all, 150).Error)}
	result["again"] = failure(db.Table("ledger").CreateInBatches(append([]entry{{-3, 5000}}, all[:10]...), 4).Error)
	result["counted"] = scan(db, "SELECT count(*) AS n, sum(number) AS sum FROM ledger WHERE task = -3")
	return result, nil
}

func gormSettings(ctx context.Context, s *smoke) (any, error) {
	result := []any{}
	var dbs []*gorm.DB
	for n, zone := range []string{"Asia/Tokyo", "Europe/Berlin", "America/New_York"} {
		db, closeDB, err := opened(s.dsn, 1)
		if err != nil {
			return nil, err
		}
		defer closeDB()
		db = db.WithContext(ctx)
		for _, text := range []string{"SET TimeZone = '" + zone + "'", fmt.Sprintf("SET work_mem = '%dMB'", n+1)} {
			result = append(result, failure(db.Exec(text).Error))
		}
		dbs = append(dbs, db)
	}
	for turn := range 5 {
		for n, db := range dbs {
			if turn == n { // out of step, as above
				scan(db, "SELECT 1")
			}
			var row struct {
				At, Memory string
				Pid        int
			}
			err := db.Raw("SELECT timestamptz '2024-07-01 12:00:00+00'::text AS at, current_setting('work_mem') AS memory, pg_backend_pid() AS pid").Scan(&row).Error
			if err != nil {
				return nil, err
			}
			s.saw(n, row.Pid)
			result = append(result, []any{row.At, row.Memory})
		}
	}
	return result, nil
}

func gormConcurrent(ctx context.Context, s *smoke) (any, error) {
	return s.crowd(func(number int, deadline time.Time) error {
		db, closeDB, err := opened(s.with("options", fmt.Sprintf("-cTimeZone=Etc/GMT+%d", number%12), "search_path", s.schema), 1)
		if err != nil {
			return err
		}
		defer closeDB()
		db = db.WithContext(ctx)
		committed := int64(0)
		count := func(db *gorm.DB) (n int64, err error) {
			err = db.Table("ledger").Where("task = ?", number).Count(&n).Error
			return n, err
		}
		unwanted := errors.New("unwanted")
		for turn := 1; turn <= 30 || time.Now().Before(deadline); turn++ {
			kind := (turn + number) % 6
			switch kind {
			case 0:
				var row struct {
					N, Pid int
					T      string
				}
				if err := db.Raw("SELECT ?::int * 2 AS n, ?::text AS t, pg_backend_pid() AS pid", number, fmt.Sprint("t", turn)).Scan(&row).Error; err != nil {
					return err
				}
				s.saw(number, row.Pid)
				if row.N != number*2 || row.T != fmt.Sprint("t", turn) {
					return fmt.Errorf("select: %+v", row)
				}
			case 1, 2:
				err := db.Transaction(func(tx *gorm.DB) error {
					if err := tx.Table("ledger").Create(&entry{number, turn}).Error; err != nil {
						return err
					}
					if n, err := count(tx); err != nil || n != committed+1 {
						return fmt.Errorf("own rows: %d, %w", n, err)
					}
					if kind == 2 {
						return unwanted
					}
					return nil
				})
				if kind == 1 {
					committed++
				}
				if err != nil && !errors.Is(err, unwanted) {
					return err
				}
			case 3:
				failed, _ := scan(db, "SELECT 1 / (?::int - ?::int)", number, number).(object)
				if failed["sqlstate"] != "22012" {
					return fmt.Errorf("error: %v", failed)
				}
			default:
				if n, err := count(db); err != nil || n != committed {
					return fmt.Errorf("count: %d, want %d: %w", n, committed, err)
				}
			}
		}
		return nil
	}), nil
}
