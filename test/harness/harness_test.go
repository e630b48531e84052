package harness_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

func TestEveryTransactionChangesServers(t *testing.T) {
	c := postgres.ForTest(t)
	p := harness.Start(t, harness.Options{DSN: c.SuperDSN("postgres")})
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.DSN("app", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	last := 0
	for i := range 50 {
		var pid, n int
		if err := conn.QueryRow(ctx, "select pg_backend_pid(), $1::int", i).Scan(&pid, &n); err != nil {
			t.Fatal(err)
		}
		if n != i {
			t.Fatalf("asked for %d, got %d", i, n)
		}
		if pid == last {
			t.Fatalf("query %d ran on the same server as the one before", i)
		}
		last = pid
	}
	p.RequireSwitched(t)
}
