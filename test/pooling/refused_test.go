package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// TestSettingsRefusedLater: what a client said at login is refused when it is
// brought to a server. Its query does not run, the error is PostgreSQL's, the
// session goes on, and so do the others.
func TestSettingsRefusedLater(t *testing.T) {
	for _, test := range []struct {
		name, refuse, allow string
		params              func(role string) []string
	}{
		{"dropped", "drop role %[1]s", "create role %[1]s; grant %[1]s to %[1]s_login; grant insert on t to %[1]s",
			func(role string) []string { return []string{"role", role} }},
		{"revoked", "revoke %[1]s from %[1]s_login", "grant %[1]s to %[1]s_login",
			func(role string) []string { return []string{"role", role} }},
		{"revoked, by options", "revoke %[1]s from %[1]s_login", "grant %[1]s to %[1]s_login",
			func(role string) []string { return []string{"options", "-c role=" + role, "timezone", "Asia/Tokyo"} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := postgres.ForTest(t)
			role := fmt.Sprintf("refused_%d", databases.Add(1))
			do := func(format, db string) {
				t.Helper()
				if err := c.Exec(within(t), db, fmt.Sprintf(format, role)); err != nil {
					t.Fatal(err)
				}
			}
			db := newDB(t, c, "create table t (a int)")
			do("create role %[1]s; create role %[1]s_login login; grant %[1]s to %[1]s_login; grant insert on t to %[1]s; grant insert on t to %[1]s_login", db)
			p := harness.Start(t, harness.Options{DSN: c.DSN(role+"_login", db), Size: 2})
			a, other := login(t, p.Addr(), "app", db, test.params(role)...), login(t, p.Addr(), "app", db)
			a.send(parse("s", "insert into t values (7) returning 1"), &pgproto3.Sync{})
			a.read()
			for range 3 {
				if got := a.must("select current_user").cell(); got != role {
					t.Fatalf("the role is %s", got)
				}
				if got := other.must("select current_user").cell(); got != role+"_login" {
					t.Fatalf("another's role is %s", got)
				}
			}
			if test.name == "dropped" {
				do("drop owned by %[1]s", db)
			}
			do(test.refuse, db)
			direct := login(t, c.Addr(), role+"_login", db)
			want := direct.query("set role " + role).err
			if want == nil {
				t.Fatal("the role can still be set")
			}
			direct.vanish()
			check := func(what string, r reply, types string) {
				t.Helper()
				if r.types != types || r.err.Severity != "ERROR" || r.err.Code != want.Code || r.err.Message != want.Message || r.status != 'I' {
					t.Errorf("%s: got %s, want %s %s", what, r, want.Code, want.Message)
				}
			}
			insert, sync := sql("insert into t values (1)"), &pgproto3.Sync{}
			for range 2 {
				// The other's settings are in force on all servers.
				for range 2 {
					other.must("insert into t values (100)")
				}
				check("Query", a.query("insert into t values (1)"), "EZ")
				check("several in one", a.query("insert into t values (1); insert into t values (2)"), "EZ")
				a.send(insert, insert, insert)
				for range 3 {
					check("pipelined", a.read(), "EZ")
				}
				a.send(append(batch("insert into t values (1)"), sync)...)
				check("batch", a.read(), "EZ")
				a.send(bind("s"), &pgproto3.Execute{}, sync)
				check("prepared", a.read(), "EZ")
				check("PREPARE", a.query("prepare px as select 1"), "EZ")
				a.send(sync)
				if r := a.read(); r.types != "Z" {
					t.Errorf("Sync behind PREPARE: got %s", r)
				}
				check("BEGIN", a.query("begin"), "EZ")
				a.send(append(append(batch("insert into t values (1)"), &pgproto3.Flush{}), batch("insert into t values (1)")...)...)
				if r := a.until('E'); r.types != "E" || r.err.Code != want.Code {
					t.Errorf("Flush: got %s", r)
				}
				a.send(append(batch("insert into t values (1)"), sync)...)
				if r := a.read(); r.types != "Z" || r.status != 'I' {
					t.Errorf("Sync: got %s", r)
				}
				check("COPY", a.query("copy t from stdin"), "EZ")
				a.send(sync)
				if r := a.read(); r.types != "Z" {
					t.Errorf("Sync alone: got %s", r)
				}
			}
			if got := value(t, c, db, "select count(*) from t where a <> 100"); got != "0" {
				t.Errorf("%s rows of queries that must not run", got)
			}
			do(test.allow, db)
			if got := a.must("select current_user").cell(); got != role {
				t.Errorf("the role is %s again", got)
			}
			a.send(bind("s"), &pgproto3.Execute{}, sync)
			if r := a.read(); r.code() != "" || r.cell() != "1" {
				t.Errorf("the statement gives %s", r)
			}
			if got := other.must("select current_user").cell(); got != role+"_login" {
				t.Errorf("another's role is %s", got)
			}
		})
	}
}
