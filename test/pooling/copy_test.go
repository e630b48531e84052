package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// TestCopyInWhileOthersWait: the data of a COPY belongs to its query, however
// many wait for the server.
func TestCopyInWhileOthersWait(t *testing.T) {
	c := postgres.ForTest(t)
	for name, options := range map[string]string{"": "", "towards a pooler": ", upstream_pooler: true"} {
		t.Run(name, func(t *testing.T) {
			db := newDB(t, c, "create table t (a int)")
			var p *harness.Pgpoold
			if options == "" {
				p = harness.Start(t, harness.Options{DSN: c.SuperDSN(db), Size: 1, Lucky: true})
			} else {
				p = startYAML(t, fmt.Sprintf("databases: {%q: {dsn: %q, size: 1%s}}\n", db, c.SuperDSN(db), options))
			}
			a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
			a.send(sql("select 'in front'"), sql("copy t from stdin"))
			a.read()
			if r := a.until('G'); r.types[len(r.types)-1] != 'G' {
				t.Fatalf("got %s", r)
			}
			b.send(sql("select count(*) from t"))
			waiting(t, p, 1)
			a.send(&pgproto3.CopyData{Data: []byte("1\n2\n")})
			a.send(&pgproto3.CopyData{Data: []byte("3\n")}, &pgproto3.CopyDone{}, sql("select 'behind'"))
			if r := a.read(); r.types != "CZ" || r.tags[0] != "COPY 3" {
				t.Errorf("the COPY got %s", r)
			}
			if r := b.read(); r.cell() != "3" {
				t.Errorf("who waited got %s", r)
			}
			if r := a.read(); r.cell() != "behind" {
				t.Errorf("the query behind the COPY got %s", r)
			}
		})
	}
}
