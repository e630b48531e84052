package pooling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/postgres"
)

// TestWaitingIsFair: servers go to those who have waited longest.
func TestWaitingIsFair(t *testing.T) {
	p, c, db := start(t, 1, "create table t (id serial, a int)")
	holder := login(t, p.Addr(), "holder", db)
	holder.must("begin")
	var queue []*peer
	for i := range 20 {
		w := login(t, p.Addr(), "app", db)
		w.send(sql(fmt.Sprintf("insert into t (a) values (%d)", i)))
		waiting(t, p, i+1)
		queue = append(queue, w)
	}
	holder.must("commit")
	holder.send(sql("insert into t (a) values (20)"))
	for _, w := range queue {
		if r := w.read(); r.code() != "" {
			t.Fatal(r)
		}
	}
	holder.read()
	rows, err := c.Query(within(t), db, "select a from t order by id")
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		if row[0] != fmt.Sprint(i) {
			t.Fatalf("the order was %v", rows)
		}
	}
}

// TestPipeliningIsFair: a client that sends thousands of queries at once gives
// its server up while others wait.
func TestPipeliningIsFair(t *testing.T) {
	postgres.SkipBrief(t)
	p, c, db := start(t, 1, "create table t (a int)")
	const n = 30_000
	greedy := login(t, p.Addr(), "greedy", db)
	var m []pgproto3.FrontendMessage
	for range n {
		m = append(m, sql("insert into t values (1)"))
	}
	all := encode(t, m...)
	go func() { _, _ = greedy.nc.Write(all) }()
	done := make(chan bool)
	go func() {
		defer close(done)
		for range n {
			if r := greedy.read(); r.code() != "" {
				t.Errorf("greedy: %s", r)
				return
			}
		}
	}()
	other := login(t, p.Addr(), "other", db)
	first := other.must("select count(*) from t").cell()
	second := other.must("select count(*) from t").cell()
	if len(second) >= len(fmt.Sprint(n)) && second >= fmt.Sprint(n) {
		t.Errorf("another client had to wait for all %d queries (%s, %s)", n, first, second)
	}
	<-done
	if got := value(t, c, db, "select count(*) from t"); got != fmt.Sprint(n) {
		t.Errorf("%s rows", got)
	}
}

// TestQueryWaitTimeout: 53300, which the session survives; the query does not
// run later.
func TestQueryWaitTimeout(t *testing.T) {
	postgres.SkipBrief(t)
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c, "create table t (a int)")
	p := startYAML(t, fmt.Sprintf("pool: {size: 1, query_wait_timeout: 1s}\ndatabases: {%q: {dsn: %q}}\n", db, c.SuperDSN(db)))
	holder := login(t, p.Addr(), "holder", db)
	holder.must("begin")
	for name, msgs := range map[string][]pgproto3.FrontendMessage{
		"Query": {sql("insert into t values (1)")},
		"batch": append(batch("insert into t values (1)"), &pgproto3.Sync{}),
	} {
		client := login(t, p.Addr(), "app", db)
		client.send(msgs...)
		r := client.read()
		if r.code() != "53300" || r.err.Severity != "ERROR" || r.status != 'I' || r.types != "EZ" || !strings.Contains(r.err.Message+r.err.Detail, "query_wait_timeout") {
			t.Errorf("%s: got %s", name, r)
		}
		client.send(sql("select 1"))
		waiting(t, p, 1)
		holder.must("commit")
		if r := client.read(); r.cell() != "1" {
			t.Errorf("%s: afterwards %s", name, r)
		}
		holder.must("begin")
	}
	if n := value(t, c, db, "select count(*) from t"); n != "0" {
		t.Errorf("%s refused queries ran", n)
	}
}

// TestWaitingClientLeaves: its place is given up and its query never runs.
func TestWaitingClientLeaves(t *testing.T) {
	for how, leave := range map[string]func(*peer){"FIN": (*peer).vanish, "RST": (*peer).reset} {
		for name, msgs := range map[string][]pgproto3.FrontendMessage{
			"Query": {sql("insert into t values (1)")},
			"batch": append(batch("insert into t values (1)"), &pgproto3.Sync{}),
			"big":   {sql("insert into t values (1) /* " + strings.Repeat("x", 100_000) + " */")},
			"two":   {sql("insert into t values (1)"), sql("insert into t values (2)")},
		} {
			t.Run(how+"/"+name, func(t *testing.T) {
				p, c, db := start(t, 1, "create table t (a int)")
				holder := login(t, p.Addr(), "holder", db)
				holder.must("begin")
				client := login(t, p.Addr(), "app", db)
				client.send(msgs...)
				waiting(t, p, 1)
				behind := login(t, p.Addr(), "app", db)
				behind.send(sql("select 1"))
				waiting(t, p, 2)
				leave(client)
				waiting(t, p, 1)
				clients(t, p, 2)
				holder.must("commit")
				if r := behind.read(); r.cell() != "1" {
					t.Errorf("the one behind: %s", r)
				}
				if n := value(t, c, db, "select count(*) from t"); n != "0" {
					t.Errorf("the query of a client that had left ran")
				}
			})
		}
	}
}

// TestBigMessagesWait: what a waiting client sends stays in its socket beyond
// a bound, and arrives whole when its turn comes.
func TestBigMessagesWait(t *testing.T) {
	p, _, db := start(t, 1)
	holder := login(t, p.Addr(), "holder", db)
	holder.must("begin")
	const size = 32 << 20
	client := login(t, p.Addr(), "app", db)
	sent := make(chan error, 1)
	go func() {
		_, err := client.nc.Write(encode(t, parse("", "select length($1)"), bind("", strings.Repeat("x", size)), &pgproto3.Execute{}, &pgproto3.Sync{}))
		sent <- err
	}()
	waiting(t, p, 1)
	select {
	case <-sent:
		t.Error("32 MiB were taken from a client that waits")
	default:
	}
	if cl, ok := clientOf(p, client.pid); !ok || cl.BytesIn > 1<<20 {
		t.Errorf("%d bytes were read of a client that waits", cl.BytesIn)
	}
	holder.must("commit")
	if r := client.read(); r.cell() != fmt.Sprint(size) {
		t.Errorf("got %s", r)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
