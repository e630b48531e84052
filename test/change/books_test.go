package change

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgpoold/test/postgres"
)

// books are clients that work in the background and write down what they did:
// a row for each transaction, with the client's own number. What PostgreSQL
// has is compared with what each client was told.
type books struct {
	t       testing.TB
	cluster *postgres.Cluster
	db      string
	stop    atomic.Bool
	clients sync.WaitGroup
	done    atomic.Int64 // transactions that were committed

	mu     sync.Mutex
	told   map[entry]outcome
	errors []error // what clients were told, connections that they lost included
}

type entry struct{ client, n int }

type outcome uint8

const (
	committed outcome = iota
	failed            // for certain
	unknown           // the answer to COMMIT did not come
)

// pooler is a running pgpoold: one in this process, or one of its own.
type pooler interface{ DSN(user, db string) string }

// keep starts clients that keep books in a table of the database's. cluster is
// where the table is made; it must reach it when the books are closed, too.
func keep(t testing.TB, p pooler, c *postgres.Cluster, db string, clients int) *books {
	t.Helper()
	if err := c.Exec(within(t), db, "create table if not exists books (client int, n int)"); err != nil {
		t.Fatal(err)
	}
	b := &books{t: t, cluster: c, db: db, told: map[entry]outcome{}}
	dsn := p.DSN("app:app", db)
	for client := range clients {
		b.clients.Add(1)
		go b.work(client, dsn)
	}
	return b
}

func (b *books) work(client int, dsn string) {
	defer b.clients.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
	defer cancel()
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}()
	for n := 0; !b.stop.Load(); n++ {
		if conn == nil {
			c, err := pgx.Connect(ctx, dsn)
			if err != nil {
				b.note(entry{client, n}, failed, fmt.Errorf("connecting: %w", err))
				time.Sleep(20 * time.Millisecond)
				continue
			}
			conn = c
		}
		what, err := transaction(ctx, conn, client, n)
		b.note(entry{client, n}, what, err)
		if conn.IsClosed() {
			conn = nil
		} else if err != nil {
			_, _ = conn.Exec(ctx, "rollback")
		}
		time.Sleep(time.Millisecond)
	}
}

// transaction is one in three of a single statement, and else a block.
func transaction(ctx context.Context, conn *pgx.Conn, client, n int) (outcome, error) {
	const insert = "insert into books values ($1, $2)"
	if n%3 == 0 {
		if _, err := conn.Exec(ctx, insert, client, n); err != nil {
			if conn.IsClosed() {
				return unknown, err
			}
			return failed, err
		}
		return committed, nil
	}
	if _, err := conn.Exec(ctx, "begin"); err != nil {
		return failed, err
	}
	if _, err := conn.Exec(ctx, insert, client, n); err != nil {
		return failed, err
	}
	var got int
	if err := conn.QueryRow(ctx, "select count(*) from books where client = $1 and n = $2", client, n).Scan(&got); err != nil {
		return failed, err
	}
	if got != 1 {
		return failed, errors.New("its own row is not there")
	}
	if _, err := conn.Exec(ctx, "commit"); err != nil {
		return unknown, err
	}
	return committed, nil
}

func (b *books) note(e entry, what outcome, err error) {
	if what == committed {
		b.done.Add(1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told[e] = what
	if err != nil {
		b.errors = append(b.errors, fmt.Errorf("client %d, transaction %d: %w", e.client, e.n, err))
	}
}

// goOn waits until so many transactions more have been committed.
func (b *books) goOn(transactions int64) {
	b.t.Helper()
	from := b.done.Load()
	until(b.t, fmt.Sprintf("%d transactions more", transactions), func() bool { return b.done.Load() >= from+transactions })
}

// close stops the clients, fails the test where PostgreSQL has something else
// than they were told, and returns what they were told of failures.
func (b *books) close() []error {
	b.t.Helper()
	b.stop.Store(true)
	b.clients.Wait()
	rows, err := b.cluster.Query(within(b.t), b.db, "select client, n, count(*) from books group by 1, 2")
	if err != nil {
		b.t.Fatal(err)
	}
	has := map[entry]string{}
	for _, r := range rows {
		var e entry
		if _, err := fmt.Sscan(r[0]+" "+r[1], &e.client, &e.n); err != nil {
			b.t.Fatal(err)
		}
		has[e] = r[2]
	}
	for e, n := range has {
		what, known := b.told[e]
		switch {
		case n != "1":
			b.t.Errorf("client %d, transaction %d was done %s times", e.client, e.n, n)
		case !known:
			b.t.Errorf("client %d never did transaction %d", e.client, e.n)
		case what == failed:
			b.t.Errorf("client %d was told that transaction %d failed, but it was done", e.client, e.n)
		}
	}
	for e, what := range b.told {
		if what == committed && has[e] == "" {
			b.t.Errorf("client %d was told that transaction %d was done, but it is lost", e.client, e.n)
		}
	}
	b.t.Logf("%d transactions, %d errors", b.done.Load(), len(b.errors))
	return b.errors
}

// clean closes the books and fails the test if any client was told anything
// of a failure.
func (b *books) clean() {
	b.t.Helper()
	for i, err := range b.close() {
		if i == 5 {
			b.t.Error("...")
			break
		}
		b.t.Error(err)
	}
}
