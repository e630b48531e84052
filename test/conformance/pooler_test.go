package conformance

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
	"pgpoold/test/wirescript"
)

// poolSize is more than any script has connections, so that a probe gets a
// server while a script holds its own.
const poolSize = 6

// stack is one PostgreSQL, a relay before it, and pgpoold before that. One
// goroutine uses it.
type stack struct {
	direct wirescript.Runner
	setup  *setup
	relay  *wirescript.Relay
	pooler *harness.Pgpoold
	audits bool   // every transaction is audited
	probe  string // what PostgreSQL answers to it

	// sleepers says that a query that sleeps may have been left behind: a
	// PostgreSQL that sleeps does not notice that nobody is there any more.
	sleepers bool
}

// newStack audits where the environment says so, for this too.
func newStack(t *testing.T, c *postgres.Cluster) *stack {
	t.Helper()
	return newStackAudited(t, c, os.Getenv(harness.EnvAudit) == harness.AuditAll)
}

func newStackAudited(t *testing.T, c *postgres.Cluster, audits bool) *stack {
	t.Helper()
	target := targetOf(c)
	relay, err := wirescript.NewRelay("tcp", target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(relay.Close)
	dsn := fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", target.User, relay.Addr(), target.Database)
	beside := newSetup(t, target)
	return &stack{
		direct: wirescript.Runner{Target: target, Setup: beside},
		setup:  beside,
		relay:  relay,
		pooler: harness.Start(t, harness.Options{DSN: dsn, Size: poolSize, Quiet: true, Audited: audits, Unaudited: !audits}),
		audits: audits,
	}
}

// eachScript runs f for every compared script, spread over stacks that work
// side by side, and checks each stack at its end.
func eachScript(t *testing.T, f func(t *testing.T, k *stack, s *wirescript.Script)) {
	t.Helper()
	stacks, scripts := 4, loadScripts(t, wirescript.OnlyBoth)
	if postgres.Brief() {
		stacks = 2
		scripts = slices.DeleteFunc(scripts, func(s *wirescript.Script) bool { return seed(s)%4 != 0 })
	}
	for i := range stacks {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			k := newStack(t, postgres.StartForTest(t, postgres.Config{}))
			for j := i; j < len(scripts); j += stacks {
				t.Run(scripts[j].Name, func(t *testing.T) { f(t, k, scripts[j]) })
			}
			k.clean(t, "at the end")
			k.pooler.RequireSwitched(t)
		})
	}
}

// through is a runner for pgpoold's address.
func (k *stack) through() *wirescript.Runner {
	t := k.direct.Target
	t.Name, t.Addr = "pgpoold", k.pooler.Addr()
	return &wirescript.Runner{Target: t, Setup: k.direct.Setup}
}

// undisturbed is what the script's client is told when nothing happens: what
// PostgreSQL says. Where pgpoold says something else there is nothing to hold a
// disturbed run against, and ok is false.
func (k *stack) undisturbed(t *testing.T, s *wirescript.Script) (want []wirescript.Entry, ok bool) {
	t.Helper()
	direct, err := k.direct.Run(t.Context(), s)
	if err != nil {
		t.Fatalf("direct: %v", err)
	}
	got, err := k.through().Run(t.Context(), s)
	k.settled(t, "the undisturbed run")
	switch {
	case s.Differs != "":
		return nil, false // what pgpoold says may hang on which server it has
	case err != nil || wirescript.Diff(direct.Transcript, got.Transcript) != "":
		t.Logf("not tried, because it differs undisturbed (%v)", err)
		return nil, false
	}
	return direct.Transcript, true
}

// probeSQL is one row of what a session could find that another one left.
const probeSQL = `select pg_catalog.concat_ws('|',
	current_setting('timezone'), current_setting('datestyle'), current_setting('intervalstyle'), current_setting('client_encoding'),
	current_setting('search_path'), current_setting('statement_timeout'), current_setting('work_mem'), current_setting('application_name'),
	current_setting('standard_conforming_strings'), current_setting('default_transaction_read_only'), current_setting('exit_on_error'),
	current_setting('extra_float_digits'), current_setting('transaction_isolation'), current_user, session_user,
	coalesce(current_setting('app.user_id', true), ''),
	(select count(*) from pg_catalog.pg_depend where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = pg_my_temp_schema()), pg_current_xact_id_if_assigned() is null,
	(select count(*) from pg_catalog.pg_cursors), (select count(*) from pg_catalog.pg_listening_channels()),
	(select count(*) from pg_catalog.pg_locks where locktype = 'advisory' and pid = pg_backend_pid()))`

// connect opens a plain session.
func connect(ctx context.Context, tb testing.TB, t wirescript.Target, addr string, params map[string]string) (*pgconn.PgConn, error) {
	tb.Helper()
	cfg, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port = splitAddr(tb, addr)
	cfg.User, cfg.Database, cfg.Fallbacks, cfg.RuntimeParams = t.User, t.Database, nil, params
	return pgconn.ConnectConfig(ctx, cfg)
}

// look logs in and runs the probe once per server of the pool.
func look(ctx context.Context, tb testing.TB, t wirescript.Target, addr string, times int) ([]string, error) {
	tb.Helper()
	c, err := connect(ctx, tb, t, addr, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	var rows []string
	for range times {
		res, err := c.Exec(ctx, probeSQL).ReadAll()
		if err != nil {
			return nil, err
		}
		rows = append(rows, string(res[0].Rows[0][0]))
		if c.TxStatus() != 'I' {
			return nil, fmt.Errorf("a fresh session's status is %c", c.TxStatus())
		}
	}
	return rows, nil
}

// clean fails the test unless a new client finds what it would find at
// PostgreSQL itself, whichever server it gets.
func (k *stack) clean(tb testing.TB, when string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	if k.probe == "" {
		rows, err := look(ctx, tb, k.direct.Target, k.direct.Target.Addr, 1)
		if err != nil {
			tb.Fatal(err)
		}
		k.probe = rows[0]
	}
	books := make(chan string, 1)
	late := time.AfterFunc(10*time.Second, func() { books <- k.books() })
	rows, err := look(ctx, tb, k.direct.Target, k.pooler.Addr(), 3)
	if !late.Stop() {
		tb.Logf("%s: another client still waits after 10 seconds:\n%s", when, <-books)
	}
	if err != nil {
		tb.Errorf("%s: another client: %v", when, err)
		return
	}
	for _, r := range rows {
		if r != k.probe {
			tb.Errorf("%s: another client finds\n  %s, directly it is\n  %s", when, r, k.probe)
		}
	}
}

// settled waits until no server is inside a transaction or busy with what a
// client left, and pgpoold knows which of its servers are gone; then it checks
// pgpoold's own books.
func (k *stack) settled(tb testing.TB, after string) {
	tb.Helper()
	const busy = ` from pg_catalog.pg_stat_activity
		where backend_type = 'client backend' and pid <> pg_catalog.pg_backend_pid() and state <> 'idle'`
	deadline := time.Now().Add(20 * time.Second)
	for {
		ok, err := k.direct.Setup.True(tb.Context(), "select count(*) = 0"+busy)
		if err == nil && ok {
			err = k.pooler.Check()
		} else if err == nil {
			err = errors.New("a server is still busy or in a transaction")
			if k.sleepers {
				if e := k.setup.Exec(tb.Context(), "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity where wait_event = 'PgSleep'"); e != nil {
					tb.Error(e)
				}
			}
		}
		snap := k.pooler.Server().Snapshot()
		for _, c := range snap.Clients {
			if err == nil && c.ApplicationName != bystanderName {
				err = fmt.Errorf("client %d of a script is still there", c.ID)
			}
		}
		// A backend that has lost its connection may not have read yet what was sent
		// to it, and would run that in the middle of the next script.
		if gone := k.relay.Gone(); err == nil && len(gone) > 0 {
			ok, err = k.direct.Setup.True(tb.Context(), fmt.Sprintf("select count(*) = 0 from pg_catalog.pg_stat_activity where client_port in (%s)", list(gone)))
			if ok {
				k.relay.Forget(gone)
			} else if err == nil {
				err = errors.New("a backend has not noticed that its connection is lost")
			}
		}
		live := k.relay.Ports()
		for _, v := range snap.Servers {
			if err == nil && !live[v.LocalPort] {
				err = fmt.Errorf("pgpoold does not know that server %d is gone", v.ID)
			}
			if err == nil && v.State == "active" && v.ClientID == 0 { // its backend may not have read yet what it was sent
				err = fmt.Errorf("server %d works for a client that has left", v.ID)
			}
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			rows, _ := k.setup.rows(tb.Context(), "select state, wait_event, query"+busy)
			tb.Errorf("after %s: %v\n    %s", after, err, strings.Join(rows, "\n    "))
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// changed lets pgpoold see a change of tables: a script that was cut short has
// left statements of its tables on the servers, and the next one's are made
// anew beside pgpoold.
func (k *stack) changed(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	c, err := connect(ctx, tb, k.direct.Target, k.pooler.Addr(), nil)
	if err != nil {
		tb.Error(err)
		return
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "drop table if exists conformance_changed").ReadAll(); err != nil {
		tb.Error(err)
	}
}

// books are pgpoold's clients and servers, for a failure's text.
func (k *stack) books() string {
	var s strings.Builder
	snap := k.pooler.Server().Snapshot()
	for _, c := range snap.Clients {
		fmt.Fprintf(&s, "    client %d %s server %d pin %q\n", c.ID, c.State, c.ServerID, c.Pin)
	}
	for _, v := range snap.Servers {
		fmt.Fprintf(&s, "    server %d %s\n", v.ID, v.State)
	}
	return s.String()
}

// compare runs the script and reports the first difference to what is wanted.
func compare(tb testing.TB, r *wirescript.Runner, s *wirescript.Script, want []wirescript.Entry, what string) {
	tb.Helper()
	got, err := r.Run(tb.Context(), s)
	d := wirescript.Diff(want, got.Transcript)
	switch {
	case d != "":
		tb.Errorf("%s: %s: wanted (-), got (+):\n%s", what, s.About, d)
	case err != nil:
		tb.Errorf("%s: %v", what, err)
	}
}

const bystanderName = "bystander"

// bystander is a client that works beside the others and must not notice
// them. Its loop ends with stop, which reports what it saw.
type bystander struct {
	stopping chan struct{}
	result   chan error
}

func startBystander(tb testing.TB, k *stack) *bystander {
	tb.Helper()
	c, err := connect(tb.Context(), tb, k.direct.Target, k.pooler.Addr(), map[string]string{"TimeZone": "Pacific/Tongatapu", "application_name": bystanderName})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := c.Prepare(tb.Context(), "mine", "select $1::text || current_setting('timezone') || current_setting('application_name')", nil); err != nil {
		tb.Fatal(err)
	}
	b := &bystander{stopping: make(chan struct{}), result: make(chan error, 1)}
	go b.loop(c)
	return b
}

func (b *bystander) loop(c *pgconn.PgConn) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer c.Close(ctx)
	for i := 0; ; i++ {
		select {
		case <-b.stopping:
			b.result <- nil
			return
		case <-time.After(5 * time.Millisecond):
		}
		tag := fmt.Sprintf("%d:", i)
		res := c.ExecPrepared(ctx, "mine", [][]byte{[]byte(tag)}, nil, nil).Read()
		if res.Err != nil {
			b.result <- fmt.Errorf("the bystander's query %d: %w", i, res.Err)
			return
		}
		if got, want := string(res.Rows[0][0]), tag+"Pacific/Tongatapubystander"; got != want {
			b.result <- fmt.Errorf("the bystander got %q, not %q", got, want)
			return
		}
	}
}

func (b *bystander) stop(tb testing.TB) {
	tb.Helper()
	close(b.stopping)
	if err := <-b.result; err != nil {
		tb.Error(err)
	}
}

// How much is tried: PGPOOLD_TEST=all is every kind of fault at every message
// of every script, and every split; otherwise it is a sample, of every script,
// four times as large with PGPOOLD_TEST=full.
func full() bool { return all() || os.Getenv("PGPOOLD_TEST") == "full" }
func all() bool  { return os.Getenv("PGPOOLD_TEST") == "all" }

// faultPlace is one fault to try: a message, what happens there, and how much
// of the message still passes (0 none, 0.5 half, 1 all).
type faultPlace struct {
	message int
	part    float64
	action  wirescript.Action
}

// places picks the faults to try over a number of messages.
func places(s *wirescript.Script, messages, few int) []faultPlace {
	const most = 48 // of the scripts with hundreds of alike messages
	actions := wirescript.Actions()
	var out []faultPlace
	for _, m := range sample(s, messages, few, most) {
		for a, action := range actions {
			if all() || (m+seed(s))%len(actions) == a {
				out = append(out, faultPlace{m, float64((m+a+seed(s))%3) / 2, action})
			}
		}
	}
	return out
}

func seed(s *wirescript.Script) int {
	h := fnv.New32a()
	h.Write([]byte(s.Name))
	return int(h.Sum32() & 0xffff)
}

// sample picks of n places, as many as most or as few, spread evenly from a
// start that differs from script to script.
func sample(s *wirescript.Script, n, few, most int) []int {
	switch {
	case all():
		few = most
	case full():
		few = min(4*few, most)
	}
	few = min(few, n)
	var out []int
	for i := range few {
		out = append(out, (seed(s)+i*n/few)%n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// list is a list of numbers in SQL.
func list(numbers []int) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(numbers)), ","), "[]")
}
