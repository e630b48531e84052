package proxy

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

// PostgreSQL takes DISCARD SEQUENCES in front of every replay.
func TestForgetSequences(t *testing.T) {
	c := postgres.ForTest(t)
	conn, err := pgconn.Connect(t.Context(), c.SuperDSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	p := &pool{}
	p.usesLast.Store(true)
	l := &link{pool: p}
	for _, sql := range []string{"", replay(noSettings, set("work_mem", "5MB"), false, true), replay(noSettings, set("work_mem", "5MB"), true, true),
		replay(set("default_transaction_deferrable", "on"), noSettings, false, true)} {
		l.foreign = true
		if got, err := run(t, conn, l.ownSequences(sql)); err != nil {
			t.Errorf("%s: %s, %v", sql, got, err)
		}
		if l.foreign {
			t.Errorf("%s: nothing is done", sql)
		}
	}
}
