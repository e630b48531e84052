package drivers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// pgxConcurrent runs many connections at once; each knows what every one of its
// answers must be.
func pgxConcurrent(ctx context.Context, r *pgxRun) (any, error) {
	deadline := time.Now().Add(r.duration)
	errs := make([]error, r.tasks)
	var group sync.WaitGroup
	for number := range r.tasks {
		group.Go(func() { errs[number] = r.task(ctx, number, deadline) })
	}
	group.Wait()
	wrong := []string{}
	for _, err := range errs {
		if err != nil && len(wrong) < 10 {
			wrong = append(wrong, err.Error())
		}
	}
	return object{"tasks": r.tasks, "wrong": wrong}, nil
}

// errUnwanted rolls a task's transaction back.
var errUnwanted = errors.New("unwanted")

func (r *pgxRun) task(ctx context.Context, number int, deadline time.Time) error {
	zone := fmt.Sprintf("Etc/GMT+%d", number%12)
	conn, err := r.open(ctx, func(c *pgx.ConnConfig) {
		c.RuntimeParams["application_name"] = fmt.Sprintf("task %d", number)
		c.RuntimeParams["TimeZone"] = zone
	})
	if err != nil {
		return fmt.Errorf("task %d: %w", number, err)
	}
	defer conn.Close(ctx)
	ledger := r.schema + ".ledger"
	committed := 0
	expect := func(what string, err error, got, want any) error {
		if err != nil {
			return fmt.Errorf("task %d: %s: %w", number, what, err)
		}
		if got != want {
			return fmt.Errorf("task %d: %s: got %v, want %v", number, what, got, want)
		}
		return nil
	}
	counted := func(q interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}) error {
		var n int
		err := q.QueryRow(ctx, "SELECT count(*) FROM "+ledger+" WHERE task = $1", number).Scan(&n)
		return expect("own rows", err, n, committed)
	}
	for turn := 1; turn <= 30 || time.Now().Before(deadline); turn++ {
		switch (turn + number) % 6 {
		case 0:
			var double int
			var text string
			var pid uint32
			err = conn.QueryRow(ctx, "SELECT $1::int * 2, $2::text, pg_backend_pid()", number, fmt.Sprintf("t%d", turn)).Scan(&double, &text, &pid)
			r.saw(number, pid)
			err = expect("select", err, fmt.Sprint(double, text), fmt.Sprint(number*2, fmt.Sprintf("t%d", turn)))
		case 1:
			err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "INSERT INTO "+ledger+" VALUES ($1, $2)", number, turn); err != nil {
					return err
				}
				committed++
				return counted(tx)
			})
		case 2:
			err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "INSERT INTO "+ledger+" VALUES ($1, $2)", number, turn); err != nil {
					return err
				}
				return errUnwanted
			})
			if errors.Is(err, errUnwanted) {
				err = nil
			}
		case 3:
			got, _ := value(ctx, conn, "SELECT 1 / ($1::int - $1::int)", number).(object)
			err = expect("error", nil, got["sqlstate"], "22012")
		case 4:
			var gotZone, gotName string
			err = conn.QueryRow(ctx, "SELECT current_setting('TimeZone'), current_setting('application_name')").Scan(&gotZone, &gotName)
			err = expect("settings", err, gotZone+" "+gotName, fmt.Sprintf("%s task %d", zone, number))
		case 5:
			batch, sum := &pgx.Batch{}, 0
			for n := range 20 {
				batch.Queue("SELECT $1::int * $2::int", number, n).QueryRow(func(row pgx.Row) error {
					var product int
					err := row.Scan(&product)
					sum += product
					return err
				})
			}
			err = conn.SendBatch(ctx, batch).Close()
			err = expect("batch", err, sum, number*190)
		}
		if err != nil {
			return err
		}
	}
	return counted(conn)
}
