package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/wirescript"
)

// pooler is what the tests need of a running pgpoold. Its pool has at least
// poolSize servers, handed out in turn, in transaction mode; clients log in
// by trust, and TLS is refused.
type pooler interface {
	// Addr is where clients connect.
	Addr() string
	// Check is ConsistencyCheck: counters against maps against pools.
	Check() error
}

// poolSize is more than any script has connections, so that a probe gets a
// server while a script holds its own.
const poolSize = 6

// oracle is PostgreSQL, with what it said to each script and to the probe.
type oracle struct {
	direct wirescript.Runner

	mu     sync.Mutex // guards what follows
	golden map[string][]wirescript.Entry
	probe  string
}

func newOracle(tb testing.TB) *oracle {
	tb.Helper()
	target := direct(tb)
	return &oracle{
		direct: wirescript.Runner{Target: target, Setup: newSetup(tb, target)},
		golden: map[string][]wirescript.Entry{},
	}
}

// says is PostgreSQL's transcript of the script.
func (o *oracle) says(tb testing.TB, s *wirescript.Script) []wirescript.Entry {
	tb.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if g, ok := o.golden[s.Name]; ok {
		return g
	}
	res, err := o.direct.Run(tb.Context(), s)
	if err != nil {
		tb.Fatalf("direct: %v", err)
	}
	o.golden[s.Name] = res.Transcript
	return res.Transcript
}

// through is a runner for the pooler's address.
func (o *oracle) through(p pooler) *wirescript.Runner {
	t := o.direct.Target
	t.Name, t.Addr = "pgpoold", p.Addr()
	return &wirescript.Runner{Target: t, Setup: o.direct.Setup}
}

// probeSQL is one row of what a session could find that another one left.
const probeSQL = `select pg_catalog.concat_ws('|',
	current_setting('timezone'), current_setting('datestyle'), current_setting('intervalstyle'), current_setting('client_encoding'),
	current_setting('search_path'), current_setting('statement_timeout'), current_setting('work_mem'), current_setting('application_name'),
	current_setting('standard_conforming_strings'), current_setting('default_transaction_read_only'), current_setting('exit_on_error'),
	current_setting('extra_float_digits'), current_setting('transaction_isolation'), current_user, session_user,
	coalesce(current_setting('app.user_id', true), ''), pg_my_temp_schema(), pg_current_xact_id_if_assigned() is null,
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
func (o *oracle) clean(tb testing.TB, p pooler) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	o.mu.Lock()
	if o.probe == "" {
		rows, err := look(ctx, tb, o.direct.Target, o.direct.Target.Addr, 1)
		if err != nil {
			tb.Fatal(err)
		}
		o.probe = rows[0]
	}
	want := o.probe
	o.mu.Unlock()
	rows, err := look(ctx, tb, o.direct.Target, p.Addr(), 3)
	if err != nil {
		tb.Errorf("another client: %v", err)
		return
	}
	for _, r := range rows {
		if r != want {
			tb.Errorf("another client finds\n  %s, directly it is\n  %s", r, want)
		}
	}
}

// settled waits until no server is inside a transaction or busy with what a
// client left, then checks the pooler's own books.
func (o *oracle) settled(tb testing.TB, p pooler) {
	tb.Helper()
	const busy = `select count(*) = 0 from pg_catalog.pg_stat_activity
		where backend_type = 'client backend' and pid <> pg_catalog.pg_backend_pid() and state <> 'idle'`
	deadline := time.Now().Add(20 * time.Second)
	for {
		ok, err := o.direct.Setup.True(tb.Context(), busy)
		if err == nil && ok {
			err = p.Check()
		} else if err == nil {
			err = errors.New("a server is still busy or in a transaction")
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Errorf("after the script: %v", err)
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// compare runs the script and reports the first difference to the oracle.
func (o *oracle) compare(tb testing.TB, r *wirescript.Runner, s *wirescript.Script) {
	tb.Helper()
	want := o.says(tb, s)
	got, err := r.Run(tb.Context(), s)
	if d := wirescript.Diff(want, got.Transcript); d != "" {
		tb.Errorf("%s: PostgreSQL (-) and %s (+) differ:\n%s", s.About, r.Target.Name, d)
	}
	if err != nil {
		tb.Error(err)
	}
}

// bystander is a client that works beside the others and must not notice
// them. Its loop ends with stop, which reports what it saw.
type bystander struct {
	stopping chan struct{}
	result   chan error
}

func startBystander(tb testing.TB, t wirescript.Target, addr string) *bystander {
	tb.Helper()
	c, err := connect(tb.Context(), tb, t, addr, map[string]string{"TimeZone": "Pacific/Tongatapu", "application_name": "bystander"})
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
		case <-time.After(time.Millisecond):
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

// sample picks places to try: all n in full mode, else a few that differ from
// script to script, always at most most.
func sample(s *wirescript.Script, n, few, most int) []int {
	if full() {
		few = most
	}
	var out []int
	if n <= few {
		for i := range n {
			out = append(out, i)
		}
		return out
	}
	seed := 0
	for _, c := range s.Name {
		seed = seed*31 + int(c)
	}
	for i := range few {
		out = append(out, ((seed&0xffff)%n+i*n/few)%n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
