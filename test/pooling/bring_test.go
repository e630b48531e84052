package pooling_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// A statement that is brought to a server may wait for a lock. A cancel is for
// that, too.
func TestCancelWhileStatementIsBrought(t *testing.T) {
	postgres.SkipBrief(t)
	p, c, db := start(t, 2, "create table locked (a int)")
	client := login(t, p.Addr(), "app", db)
	other := login(t, p.Addr(), "other", db)
	client.ask(parse("s1", "select a from locked"), &pgproto3.Sync{})
	client.must("prepare s2 as select a from locked")
	for name, msgs := range map[string][]pgproto3.FrontendMessage{
		"Bind":                execute("s1"),
		"EXECUTE":             {sql("execute s2")},
		"EXECUTE, of a Parse": {sql("execute s1")},
	} {
		other.must("begin") // it gets the server that the client had
		other.must("lock table locked")
		client.send(msgs...)
		eventually(t, func() string {
			if n := value(t, c, db, "select count(*) from pg_locks where not granted"); n != "1" {
				return n + " wait for a lock"
			}
			return ""
		})
		if err := cancelRequest(p.Addr(), client.pid, client.key); err != nil {
			t.Fatal(err)
		}
		if r := client.read(); r.code() != "57014" {
			t.Errorf("%s: got %s", name, r)
		}
		if r := client.query("select 1"); r.cell() != "1" {
			t.Errorf("%s: afterwards %s", name, r)
		}
		other.must("rollback")
	}
}

// What pgpoold asks for its own ends waits for a lock, too, and the client's
// query stands behind it: a cancel is for that.
func TestCancelBehindWhatNobodyWaitsFor(t *testing.T) {
	for _, audit := range []string{"0", "1"} {
		t.Run("audit "+audit, func(t *testing.T) {
			c := postgres.ForTest(t)
			db := newDB(t, c, "create table locked (a int)", "create table gate (a int)")
			p := startYAML(t, poolYAML(c, db, "size: 1, session_state_audit: "+audit, ""))
			cancelBehind(t, p, c, db)
		})
	}
}

func cancelBehind(t *testing.T, p *harness.Pgpoold, c *postgres.Cluster, db string) {
	gate, locker := connect(t, c.SuperDSN(db)), connect(t, c.SuperDSN(db))
	run := func(conn *pgx.Conn, text string) {
		t.Helper()
		if _, err := conn.Exec(within(t), text); err != nil {
			t.Fatal(err)
		}
	}
	one := func(what string) {
		t.Helper()
		eventually(t, func() string {
			if n := value(t, c, db, "select count(*) from pg_locks where not granted"); n != "1" {
				return what + ": " + n + " wait for a lock"
			}
			return ""
		})
	}
	client := login(t, p.Addr(), "app", db)
	for name, msgs := range map[string][]pgproto3.FrontendMessage{
		"Query":           {sql("select a from locked")},
		"EXECUTE":         {sql("execute s")},
		"batch":           append(batch("select a from locked"), &pgproto3.Sync{}),
		"batch, unlocked": append(batch("select pg_sleep(300)"), &pgproto3.Sync{}),
	} {
		run(gate, "begin; lock table gate")
		client.send(sql("prepare s as select a from locked; select 1"), sql("select from gate")) // of several commands, it is described at the end
		one("select from gate")
		run(locker, "begin; lock table locked")
		run(gate, "commit")
		one("the description of what was prepared")
		client.send(msgs...)
		if err := cancelRequest(p.Addr(), client.pid, client.key); err != nil {
			t.Fatal(err)
		}
		for _, first := range []string{"prepare", "select from gate"} {
			if r := client.read(); r.code() != "" {
				t.Errorf("%s: %s: %s", name, first, r)
			}
		}
		if r := client.read(); r.code() != "57014" {
			t.Errorf("%s: got %s", name, r)
		}
		run(locker, "rollback")
		client.must("deallocate s")
	}
}

// What stands behind a batch that is to be run again may leave no room for that.
func TestRunAgainWithoutRoom(t *testing.T) {
	p, _, db := start(t, 1, "create function forget() returns int language plpgsql as $$ begin execute 'deallocate all'; return 1; end $$")
	client := login(t, p.Addr(), "app", db)
	other := login(t, p.Addr(), "other", db)
	client.ask(parse("s1", "select 7"), &pgproto3.Sync{})
	other.must("select forget()")
	text := make([]byte, 300<<10)
	for i := range text {
		text[i] = ' '
	}
	copy(text, "select 8")
	b := encode(t, append(execute("s1"), sql(string(text)))...)
	if _, err := client.nc.Write(b[:100<<10]); err != nil {
		t.Fatal(err)
	}
	r := client.read()
	if r.cell() != "7" && r.code() != "26000" {
		t.Errorf("the batch: %s", r)
	}
	if _, err := client.nc.Write(b[100<<10:]); err != nil {
		t.Fatal(err)
	}
	if r := client.read(); r.cell() != "8" {
		t.Errorf("what stands behind it: %s", r)
	}
	if r := client.ask(execute("s1")...); r.cell() != "7" {
		t.Errorf("afterwards: %s", r)
	}
}

// A name of SQL's that another session has taken away by a function is brought
// again.
func TestExecuteBehindForeignDeallocate(t *testing.T) {
	p, _, db := start(t, 1, "create function forget() returns int language plpgsql as $$ begin execute 'deallocate all'; return 1; end $$")
	client := login(t, p.Addr(), "app", db)
	other := login(t, p.Addr(), "other", db)
	client.must("prepare x as select 7")
	client.ask(parse("w", "select 8"), &pgproto3.Sync{})
	for name, ask := range map[string]func() reply{
		"EXECUTE":            func() reply { return client.query("execute x") },
		"EXECUTE of a Parse": func() reply { return client.query("execute w") },
		"Bind":               func() reply { return client.ask(execute("w")...) },
		"Bind of a PREPARE":  func() reply { return client.ask(execute("x")...) },
		"EXECUTE by Parse":   func() reply { return client.ask(append(batch("execute x"), &pgproto3.Sync{})...) },
	} {
		ask()
		other.must("select forget()")
		r := ask()
		if r.code() == "26000" && r.types[0] != 'E' {
			r = ask() // part of the batch had been answered: it could not be run again
		}
		if r.code() != "" {
			t.Errorf("%s: %s", name, r)
		}
	}
}

// Texts of unnamed statements that are on their way take bounded memory, and the
// session goes on.
func TestManyLargeUnnamed(t *testing.T) {
	p, _, db := start(t, 1)
	client := login(t, p.Addr(), "app", db)
	text := string(append([]byte("select 1 --"), make300k()...))
	var msgs []pgproto3.FrontendMessage
	for range 40 {
		msgs = append(msgs, parse("", text))
	}
	go client.send(append(msgs, &pgproto3.Sync{})...)
	if r := client.read(); r.code() != "" || len(r.types) != 41 {
		t.Errorf("one batch: %s", r)
	}
}

func make300k() []byte {
	b := make([]byte, 300<<10)
	for i := range b {
		b[i] = 'x'
	}
	return b
}

// A name that is parsed twice, where the server has lost it unseen: the second
// text must not get the name of the first, which others use.
func TestNameTakenOnServerThatLostIt(t *testing.T) {
	p, _, db := start(t, 1, "create function forget() returns int language plpgsql as $$ begin execute 'deallocate all'; return 1; end $$")
	client := login(t, p.Addr(), "app", db)
	other := login(t, p.Addr(), "other", db)
	other.ask(parse("x", "select 'A'"), &pgproto3.Sync{})
	client.ask(parse("s1", "select 'A'"), &pgproto3.Sync{})
	client.must("select forget()")
	client.ask(parse("s1", "select 'B'"), &pgproto3.Sync{})
	if r := other.ask(execute("x")...); r.cell() != "A" {
		t.Errorf("got %s", r)
	}
}

// lockQueue is a table that a PREPARE waits for, and another session behind it.
type lockQueue struct {
	t      *testing.T
	c      *postgres.Cluster
	db     string
	first  *pgx.Conn
	second *peer
}

// begin has the first session lock the table.
func (q *lockQueue) begin() {
	q.t.Helper()
	q.first, q.second = connect(q.t, q.c.SuperDSN(q.db)), login(q.t, q.c.Addr(), postgres.Superuser, q.db)
	if _, err := q.first.Exec(within(q.t), "begin; lock table locked"); err != nil {
		q.t.Fatal(err)
	}
}

// waits waits until these locks are waited for, in this order.
func (q *lockQueue) waits(modes string) {
	q.t.Helper()
	eventually(q.t, func() string {
		n := value(q.t, q.c, q.db, "select coalesce(string_agg(mode, ' ' order by waitstart), '') from pg_locks join pg_database d on d.oid = database where not granted and datname = current_database()")
		if n != modes {
			return n + " are waited for"
		}
		return ""
	})
}

// pass gives the lock to who waits for it, a PREPARE, and then to the second
// session, while what the PREPARE has made is described.
func (q *lockQueue) pass() {
	q.t.Helper()
	q.waits("AccessShareLock")
	q.second.send(sql("begin; lock table locked"))
	q.waits("AccessShareLock AccessExclusiveLock")
	if _, err := q.first.Exec(within(q.t), "commit"); err != nil {
		q.t.Fatal(err)
	}
	q.second.read()
}

// What a PREPARE has made is described behind it, and may wait for a lock there, if
// somebody else stands in the queue for the same: a cancel and query_timeout are
// for that, and the client hears that its PREPARE has ended. Where nothing of the
// client's stands behind, it hears that after a while without either.
func TestDescriptionBehindPrepareWaits(t *testing.T) {
	for _, test := range []struct {
		name, timeout, text, types string
		cancel, behind             bool
	}{
		{"cancel", "0", "prepare px as select a from locked", "CZ", true, false},
		{"query_timeout", "6s", "prepare px as select a from locked", "CZ", false, true},
		{"neither", "0", "prepare px as select a from locked", "CZ", false, false},
		{"at the end of the transaction", "0", "select 1; prepare px as select a from locked", "TDCCZ", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := postgres.ForTest(t)
			db := newDB(t, c, "create table locked (a int)")
			p := startYAML(t, poolYAML(c, db, "size: 1, query_timeout: "+test.timeout, ""))
			client := login(t, p.Addr(), "app", db)
			_ = client.nc.SetDeadline(time.Now().Add(patience))
			q := lockQueue{t: t, c: c, db: db}
			q.begin()
			client.send(sql(test.text))
			q.waits("AccessShareLock")
			if test.behind {
				client.send(sql("select 2"))
			}
			q.pass()
			if test.cancel {
				q.waits("AccessShareLock")
				if err := cancelRequest(p.Addr(), client.pid, client.key); err != nil {
					t.Fatal(err)
				}
			}
			if r := client.read(); r.types != test.types || r.status != 'I' {
				t.Errorf("PREPARE: got %s", r)
			}
			if test.behind {
				if r := client.read(); r.types != "TDCZ" {
					t.Errorf("what stands behind it: got %s", r)
				}
			}
			q.second.query("rollback")
			if r := client.query("execute px"); r.code() != "" {
				t.Errorf("EXECUTE: got %s", r)
			}
		})
	}
}

// A client leaves while what its PREPARE has made is described, and that waits for a
// lock: its server is not kept from others, and not closed.
func TestDescriptionOfTheGone(t *testing.T) {
	for _, test := range []struct {
		name, text string
		terminate  bool
	}{
		{"vanishes", "prepare px as select a from locked", false},
		{"says goodbye", "prepare px as select a from locked", true},
		{"vanishes at the end of the transaction", "select 1; prepare px as select a from locked", false},
		{"says goodbye at the end of the transaction", "select 1; prepare px as select a from locked", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := postgres.ForTest(t)
			db := newDB(t, c, "create table locked (a int)")
			p := startYAML(t, poolYAML(c, db, "size: 1", ""))
			client, other := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
			_ = other.nc.SetDeadline(time.Now().Add(patience))
			pid := other.must("select pg_backend_pid()").cell()
			q := lockQueue{t: t, c: c, db: db}
			q.begin()
			client.send(sql(test.text))
			q.pass()
			q.waits("AccessShareLock")
			if test.terminate {
				client.send(&pgproto3.Terminate{})
			}
			client.vanish()
			if now := other.must("select pg_backend_pid()").cell(); now != pid {
				t.Errorf("server %s, and then %s", pid, now)
			}
			q.second.query("rollback")
		})
	}
}

// Where the description behind a PREPARE fails in a transaction block, the transaction has failed,
// and the client hears why: this column's name is not to be said in its encoding.
func TestDescriptionBehindPrepareFails(t *testing.T) {
	p, _, db := start(t, 1)
	client := login(t, p.Addr(), "app", db, "client_encoding", "LATIN1")
	for _, test := range []struct{ begin, types, code, status string }{
		{"select 1", "CZ", "", "I"},
		{"begin", "CEZ", "22P05", "E"},
	} {
		client.must(test.begin)
		r := client.query(`prepare px as select 1 as U&"\65E5"`)
		if r.types != test.types || r.code() != test.code || string(r.status) != test.status {
			t.Errorf("behind %s: got %s", test.begin, r)
		}
		client.query("rollback")
		client.must("deallocate px")
	}
}

// A walsender knows no Describe.
func TestPrepareInReplication(t *testing.T) {
	_, c, _ := rvSame(t, 1, nil, func(_ *testing.T, open rvOpen) (lines []string) {
		a := open("replication", "database")
		for _, text := range []string{"begin", "prepare px as select 1", "execute px", "select 1; prepare py as select 1", "execute py", "commit", "deallocate all"} {
			lines = append(lines, rvGist(a.query(text)))
		}
		return lines
	})
	log, err := os.ReadFile(c.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(log, []byte("extended query protocol not supported")) {
		t.Error("PostgreSQL was asked for a description")
	}
}
