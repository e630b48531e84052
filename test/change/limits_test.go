package change

import (
	"fmt"
	"testing"

	"pgpoold/test/postgres"
)

// TestServerLimits: each limit on servers holds, a query that waits for it in
// vain is told its name, and an idle server of another pool makes room.
func TestServerLimits(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	one, two := newDB(t, c), newDB(t, c)
	for _, l := range []struct {
		setting, path, pool, one string
		first, second            string // databases of the pools that compete
	}{
		{"default_pool_size", "pool.size", "size: 1", "", one, one},
		{"reserve_pool_size", "pool.reserve_size", "size: 1, reserve_size: 1, reserve_timeout: 0", "", one, one},
		{"max_db_connections", "pool.max_db_connections", "max_db_connections: 1", "", one, one},
		{"max_db_connections", "pool.max_db_connections", "size: 5", ", max_db_connections: 1", one, one},
		{"max_user_connections", "pool.max_user_connections", "max_user_connections: 1", "", one, two},
		{"max_host_connections", "pool.max_host_connections", "max_host_connections: 1", "", one, two},
	} {
		t.Run(l.setting+" "+l.pool, func(t *testing.T) {
			t.Parallel()
			p := start(t, fmt.Sprintf("pool: {query_wait_timeout: 1s, %s}\ndatabases:\n  %s: {dsn: %q%s}\n  %s: {dsn: %q}\n",
				l.pool, one, c.SuperDSN(one), l.one, two, c.SuperDSN(two)))
			a, b := connect(t, p, "app", l.first), connect(t, p, "report", l.second)
			exec(t, a, "select 1")
			exec(t, b, "select 1") // in turn all is well
			exec(t, a, "begin")
			_, err := b.Exec(within(t), "select 1")
			refused(t, err, "ERROR", "53300", l.setting, l.path)
			refused(t, err, "ERROR", "53300", "query_wait_timeout", "pool.query_wait_timeout")
			n := servers(p, l.first)
			if l.second != l.first {
				n += servers(p, l.second)
			}
			if n != 1 {
				t.Errorf("%d servers", n)
			}
			exec(t, a, "commit")
			exec(t, b, "select 1") // the session lives on
		})
	}
}

// TestReservePool: the reserve opens for those who wait for too long.
func TestReservePool(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	p := start(t, fmt.Sprintf("pool: {size: 1, reserve_size: 1, reserve_timeout: 1s, query_wait_timeout: 20s}\ndatabases: {%s: {dsn: %q}}\n", db, c.SuperDSN(db)))
	a, b := connect(t, p, "app", db), connect(t, p, "app", db)
	exec(t, a, "begin")
	exec(t, b, "begin")
	if n := servers(p, db); n != 2 {
		t.Errorf("%d servers", n)
	}
	third := connect(t, p, "app", db)
	done := later(t, third, "select 1")
	until(t, "the third client waits", func() bool { return waiting(p) == 1 })
	exec(t, b, "commit")
	if err := ended(t, "the third client's query", done); err != nil {
		t.Error(err)
	}
}

// TestClientLimits: the client that is one too many is told which limit it
// met, and comes in when another has left.
func TestClientLimits(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	db, other := newDB(t, c), newDB(t, c)
	for _, l := range []struct {
		name, setting, path, pool, db, users string
		second, elsewhere                    [2]string // refused, admitted
	}{
		{"database", "max_db_client_connections", "pool.max_db_client_connections", "max_db_client_connections: 1", "", "", [2]string{"report", db}, [2]string{"app", other}},
		{"one database", "max_db_client_connections", "databases.X.max_db_client_connections", "size: 5", ", max_db_client_connections: 1", "", [2]string{"report", db}, [2]string{"app", other}},
		{"user", "max_user_client_connections", "pool.max_user_client_connections", "max_user_client_connections: 1", "", "", [2]string{"app", other}, [2]string{"report", db}},
		{"one user", "max_user_client_connections", "users.X.max_user_client_connections", "size: 5", "", "users: {app: {max_user_client_connections: 1}}", [2]string{"app", other}, [2]string{"report", db}},
		{"all", "max_client_conn", "listen.max_client_conn", "size: 5", "", "listen: {max_client_conn: 1}", [2]string{"report", other}, [2]string{}},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, fmt.Sprintf("pool: {%s}\n%s\ndatabases:\n  %s: {dsn: %q%s}\n  %s: {dsn: %q}\n",
				l.pool, l.users, db, c.SuperDSN(db), l.db, other, c.SuperDSN(other)))
			first := connect(t, p, "app", db)
			_, err := open(t, p, l.second[0], l.second[1])
			refused(t, err, "FATAL", "53300", l.setting, l.path)
			if l.elsewhere[0] != "" {
				exec(t, connect(t, p, l.elsewhere[0], l.elsewhere[1]), "select 1")
			}
			exec(t, first, "select 1")
			if err := first.Close(within(t)); err != nil {
				t.Fatal(err)
			}
			until(t, "the place is free", func() bool {
				_, err := open(t, p, l.second[0], l.second[1])
				return err == nil
			})
		})
	}
}

// TestMaxPools: the names that clients make up do not make pools without end;
// a pool that nobody uses makes room.
func TestMaxPools(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	named := newDB(t, c)
	var auto []string
	for range 3 {
		auto = append(auto, newDB(t, c))
	}
	p := start(t, fmt.Sprintf("pool: {max_pools: 2}\ndatabases:\n  %s: {dsn: %q}\n  \"*\": {dsn: %q}\n", named, c.SuperDSN(named), c.SuperDSN("")))
	exec(t, connect(t, p, "app", named), "select 1")
	first, second := connect(t, p, "app", auto[0]), connect(t, p, "app", auto[1])
	exec(t, first, "select 1")
	exec(t, second, "select 1")
	_, err := open(t, p, "app", auto[2])
	refused(t, err, "FATAL", "53300", "max_pools", "pool.max_pools")
	if err := first.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	until(t, "there is room", func() bool {
		third, err := open(t, p, "app", auto[2])
		if err == nil {
			exec(t, third, "select 1")
		}
		return err == nil
	})
	for _, pool := range p.Server().Snapshot().Pools {
		if pool.Database == auto[0] {
			t.Error("the pool that made room is still there")
		}
	}
	exec(t, second, "select 1")
}
