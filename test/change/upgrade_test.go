package change

import (
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// patient is common for a machine that is slow: nobody is ended by a drain.
var patient = strings.Replace(common, "drain_timeout: 5s", "drain_timeout: 0", 1)

// TestUpgradeUnderLoad: while pgbench and clients that keep books work over
// connections that they keep, one process takes over from another again and
// again. Nothing fails, no connection is lost, and both processes together
// never have more servers than the pool may have.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	c := postgres.StartForTest(t, postgres.Config{})
	db := newDB(t, c)
	const size = 4
	p := harness.StartProcess(t, patient+fmt.Sprintf("pool: {size: %d}\ndatabases: {%s: {dsn: '%s'}}\n", size, db, pooledDSN(t, c, db)))
	bench := pgbench(t, c, db)
	b := keep(t, p, c, db, 8)
	worked := bench(p.DSN("app:app", db), 6*time.Second)
	most := watchServers(t, c)
	for range 4 {
		b.goOn(200)
		before := p.Upgrade(t)
		b.goOn(200)
		p.Ended(t, before)
	}
	b.goOn(100)
	worked()
	if n := most(); n > size {
		t.Errorf("there were %d servers, the pool may have %d", n, size)
	}
	b.clean()
	if n := strings.Count(p.Log(), "could not move"); n > 0 {
		t.Errorf("%d sessions could not move", n)
	}
}

// pgbench makes its tables, and returns what runs it on a DSN for a time, and
// then what fails the test where a transaction or a connection has failed.
func pgbench(t *testing.T, c *postgres.Cluster, db string) func(dsn string, length time.Duration) (worked func()) {
	t.Helper()
	in := c.Install()
	tool, err := in.Tool("pgbench")
	if err != nil {
		t.Log("pgbench is missing: the clients that keep books work alone")
		return func(string, time.Duration) func() { return func() {} }
	}
	if out, err := osexec.Command(tool, "--initialize", "--quiet", c.SuperDSN(db)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return func(dsn string, length time.Duration) func() {
		cmd := osexec.CommandContext(lasting(t, length), tool, "--no-vacuum", "--protocol", "prepared", "--client", "8", "--jobs", "8", // a thread waits while it prepares
			"--rate", "300", "--time", fmt.Sprint(int(length.Seconds())), dsn)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		done := make(chan string, 1)
		go func() {
			out, err := cmd.CombinedOutput()
			done <- fmt.Sprintf("%s\n%v", out, err)
		}()
		return func() {
			t.Helper()
			out := <-done
			if !strings.HasSuffix(out, "\n<nil>") || !regexp.MustCompile(`(?m)^number of failed transactions: 0 `).MatchString(out) || strings.Contains(out, "aborted") {
				t.Errorf("pgbench:\n%s", out)
			}
			t.Log(regexp.MustCompile(`number of transactions actually processed: \d+`).FindString(out))
		}
	}
}

// pooledDSN is for a user on the server that only pgpoold logs in as.
func pooledDSN(t *testing.T, c *postgres.Cluster, db string) string {
	t.Helper()
	if err := c.Exec(within(t), "postgres", "create role pooled superuser login"); err != nil {
		t.Fatal(err)
	}
	return c.DSN("pooled", db)
}

// watchServers counts again and again how many connections that user has, as
// PostgreSQL sees it; most ends that.
func watchServers(t *testing.T, c *postgres.Cluster) (most func() int) {
	t.Helper()
	conn, err := pgx.Connect(within(t), c.SuperDSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	stop, result := make(chan struct{}), make(chan int, 1)
	go func() {
		defer conn.Close(context.Background())
		n, top := 0, 0
		for {
			if err := conn.QueryRow(context.Background(), "select count(*) from pg_stat_activity where usename = 'pooled'").Scan(&n); err == nil {
				top = max(top, n)
			}
			select {
			case <-stop:
				result <- top
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() int {
		close(stop)
		return <-result
	}
}

// encrypted is a pooler whose clients ask for TLS.
type encrypted struct{ *harness.Process }

func (e encrypted) DSN(user, db string) string {
	return strings.Replace(e.Process.DSN(user, db), "sslmode=disable", "sslmode=require", 1)
}

// TestUpgradeUnderTLS: sessions behind TLS cannot move. They go on in the
// process that leaves, are told 57P01 between two transactions before
// drain_timeout is over, and connect again: none is refused, and no transaction
// is lost or done twice.
func TestUpgradeUnderTLS(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.StartForTest(t, postgres.Config{})
	db := newDB(t, c)
	const size, clients = 3, 4
	p := harness.StartProcess(t, common+fmt.Sprintf("pool: {size: %d}\ndatabases: {%s: {dsn: '%s'}}\n", size, db, pooledDSN(t, c, db)))
	b := keep(t, encrypted{p}, c, db, clients)
	most := watchServers(t, c)
	b.goOn(100)
	p.Ended(t, p.Upgrade(t))
	b.goOn(100)
	if n := most(); n > size {
		t.Errorf("there were %d servers, the pool may have %d", n, size)
	}
	errors := b.close()
	for _, err := range errors {
		if told(err).Code != "57P01" {
			t.Error(err)
		}
	}
	if len(errors) != clients {
		t.Errorf("%d errors, each of %d clients was to be told once", len(errors), clients)
	}
}

// TestUpgradeSharesPlaces: while sessions that cannot move work in the process
// that leaves, the clients of the new one are served as well, and the other way
// round, also by a pool of one.
func TestUpgradeSharesPlaces(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			c := postgres.StartForTest(t, postgres.Config{})
			db := newDB(t, c)
			p := harness.StartProcess(t, patient+fmt.Sprintf("pool: {size: %d}\ndatabases: {%s: {dsn: '%s'}}\n", size, db, pooledDSN(t, c, db)))
			stay := keep(t, encrypted{p}, c, db, 3)
			stay.goOn(50)
			most := watchServers(t, c)
			before := p.Upgrade(t)
			plain := connect(t, p, "app", db)
			for range 10 {
				exec(t, plain, "select 1")
				stay.goOn(1)
			}
			if p.HasEnded(before) {
				t.Error("the process that leaves has not waited for its clients")
			}
			stay.clean() // they leave
			p.Ended(t, before)
			for range 10 {
				exec(t, plain, "select 1")
			}
			if n := most(); n > size {
				t.Errorf("there were %d servers, the pool may have %d", n, size)
			}
		})
	}
}

// TestUpgradeUnderPause: PAUSE stands in the new process, and those who wait
// wait there.
func TestUpgradeUnderPause(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.StartForTest(t, postgres.Config{})
	db := newDB(t, c)
	p := harness.StartProcess(t, common+fmt.Sprintf("pool: {size: 2}\ndatabases: {%s: {dsn: '%s'}}\n", db, pooledDSN(t, c, db)))
	b := keep(t, p, c, db, 6)
	b.goOn(50)
	command(t, p, "PAUSE")
	p.Ended(t, p.Upgrade(t))
	at := b.done.Load()
	if err := c.Restart(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := b.done.Load(); n != at {
		t.Errorf("%d transactions were done under PAUSE", n-at)
	}
	command(t, p, "RESUME")
	b.goOn(50)
	b.clean()
}

// TestUpgradeUnderACap: both processes together also keep a limit that several
// pools share.
func TestUpgradeUnderACap(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.StartForTest(t, postgres.Config{})
	first, second := newDB(t, c), newDB(t, c)
	const most = 3
	p := harness.StartProcess(t, common+fmt.Sprintf("pool: {size: %d, max_host_connections: %d}\ndatabases: {%s: {dsn: '%s'}, %s: {dsn: '%s'}}\n",
		most, most, first, pooledDSN(t, c, first), second, c.DSN("pooled", second)))
	a, b := keep(t, p, c, first, 4), keep(t, encrypted{p}, c, second, 4)
	a.goOn(50)
	b.goOn(50)
	had := watchServers(t, c)
	p.Ended(t, p.Upgrade(t))
	a.goOn(50)
	b.goOn(50)
	if n := had(); n > most {
		t.Errorf("there were %d servers, the host may have %d", n, most)
	}
	a.clean()
	for _, err := range b.close() {
		if told(err).Code != "57P01" {
			t.Error(err)
		}
	}
}
