package fuzzdiff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/backend"
	"pgpoold/test/harness"
	"pgpoold/test/postgres"
	"pgpoold/test/wirescript"
)

// patience guards one client's script against hanging.
const patience = 2 * time.Minute

// beside is the connection for the scripts' setups, to PostgreSQL itself.
type beside struct {
	dsn  string
	mu   sync.Mutex
	conn *pgconn.PgConn // guarded by mu; nil: not yet
}

func (b *beside) Exec(ctx context.Context, sql string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn == nil || b.conn.IsClosed() {
		conn, err := pgconn.Connect(context.WithoutCancel(ctx), b.dsn)
		if err != nil {
			return err
		}
		b.conn = conn
	}
	_, err := b.conn.Exec(context.WithoutCancel(ctx), sql).ReadAll()
	return err
}

func (b *beside) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		b.conn.Close(context.Background())
	}
}

func (b *beside) True(context.Context, string) (bool, error) {
	return false, errors.New("a random program waits for nothing")
}

// oracle is PostgreSQL itself.
type oracle struct {
	target wirescript.Target
	setup  *beside
}

// newOracle makes a database and what the programs need in it.
func newOracle(t *testing.T) *oracle {
	t.Helper()
	c := postgres.ForTest(t)
	ctx := context.Background()
	// From its sixth use on a statement may be planned without the values of its
	// parameters, and then an error of theirs comes at Execute instead of Bind. Each
	// server counts for itself.
	for _, s := range []string{"create database fuzz", "alter database fuzz set plan_cache_mode = force_custom_plan"} {
		if err := c.Exec(ctx, "postgres", s); err != nil {
			t.Fatal(err)
		}
	}
	o := &oracle{
		target: wirescript.Target{Name: "direct", Network: "tcp", Addr: c.Addr(), User: postgres.Superuser, Database: "fuzz"},
		setup:  &beside{dsn: c.SuperDSN("fuzz") + "&client_min_messages=error"},
	}
	t.Cleanup(o.setup.close)
	sql := []string{functions}
	for i := range maxClients {
		sql = append(sql, (&script{name: string(rune('a' + i))}).create())
	}
	for _, s := range sql {
		if err := o.setup.Exec(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	o.giveSchemas(t)
	return o
}

// giveSchemas gives each of PostgreSQL's processes its schema for temporary objects.
// Where one is made later all sessions' statements are analyzed again, and their
// literals read under the settings of then: also those of the session that the others
// are compared with.
func (o *oracle) giveSchemas(t *testing.T) {
	t.Helper()
	const processes = 6 * maxClients // more than there are at once
	var all [processes]beside
	for i := range all {
		all[i].dsn = o.setup.dsn
		defer all[i].close()
		if err := all[i].Exec(t.Context(), "create temp table gives (a int); drop table gives"); err != nil {
			t.Fatal(err)
		}
	}
}

// pooler is pgpoold on a pool of so many servers.
type pooler struct {
	size int
	p    *harness.Pgpoold
	o    *oracle
}

// newPooler starts one. Of two servers a session gets the one that it had not
// last, if that is there.
func newPooler(t *testing.T, o *oracle, size int) *pooler {
	t.Helper()
	dsn := fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", o.target.User, o.target.Addr, o.target.Database)
	k := &pooler{size: size, o: o, p: harness.Start(t, harness.Options{DSN: dsn, Size: size, Lucky: true, Quiet: true,
		Pinned: 2 * maxClients})} // a client waits until another one's state is gone, and is not refused
	k.p.Server().SetPicker(func(idle []*backend.Server, last *backend.Server) int {
		return max(0, slices.IndexFunc(idle, func(s *backend.Server) bool { return s != last }))
	})
	return k
}

// heard is what one client was told.
type heard struct {
	entries []wirescript.Entry
	cells   []wirescript.Cell
	err     error
}

// play runs all clients of a program at once against a target.
func (o *oracle) play(p *program, target wirescript.Target, patience time.Duration) []heard {
	all := make([]heard, len(p.clients))
	var wg sync.WaitGroup
	for i := range p.clients {
		wg.Go(func() {
			s, err := p.clients[i].parse()
			if err != nil {
				all[i].err = err
				return
			}
			r := wirescript.Runner{Target: target, Setup: o.setup, Timeout: patience}
			if p.split > 0 {
				r.Write = wirescript.SplitAt(p.split)
			}
			res, err := r.Run(context.Background(), s)
			all[i] = heard{res.Transcript, res.Cells, err}
		})
	}
	wg.Wait()
	return all
}

// direct is what the program's clients hear from PostgreSQL. An error is the
// generator's mistake, as is the end of a connection that the script does not
// wait for.
func (o *oracle) direct(p *program, patience time.Duration) ([]heard, error) {
	all := o.play(p, o.target, patience)
	for i, h := range all {
		for _, e := range h.entries {
			if e.Msg.IsClose() && e.Line > 0 && !p.clients[i].closes() {
				return nil, fmt.Errorf("client %s directly: PostgreSQL ended the connection\n%s", p.clients[i].name, last(h.entries))
			}
		}
		if h.err != nil && !ends(h.err) {
			return nil, fmt.Errorf("client %s directly: %w\n%s", p.clients[i].name, h.err, last(h.entries))
		}
	}
	return all, nil
}

// ends tells an error that is the end of a connection: what the client heard
// before it is compared, and no more is to come.
func ends(err error) bool {
	var mm *wirescript.MismatchError
	return errors.As(err, &mm) && mm.Got.IsClose()
}

func last(entries []wirescript.Entry) string {
	var b strings.Builder
	for _, e := range entries[max(0, len(entries)-8):] {
		fmt.Fprintf(&b, "    %s (line %d)\n", e, e.Line)
	}
	return b.String()
}

// tolerate lets two things pass, which are known. A Bind that PostgreSQL refuses,
// because a table has changed, leaves an empty portal behind in the failed
// transaction; one that pgpoold refuses leaves none. And where a message has two faults
// another one may be named. In a failed transaction a statement that the server
// lacks cannot be brought to it, and then the error is that the transaction has
// failed; a Bind, or an EXECUTE, of a statement whose table has changed fails
// because of that before anybody looks at its parameters, or at its portal's name.
func tolerate(want, got []wirescript.Entry) []wirescript.Entry {
	got = slices.Clone(got)
	failed := false
	for i := 0; i < min(len(want), len(got)); i++ {
		w := want[i].Msg
		if w.Type == 'Z' {
			failed = w.Brief() == "E"
		}
		if failed && w.Type == 'I' && got[i].Msg.SQLState() == "34000" {
			end := func(entries []wirescript.Entry) int {
				n := slices.IndexFunc(entries[i:], func(e wirescript.Entry) bool { return e.Msg.Type == 'Z' })
				if n < 0 {
					return len(entries)
				}
				return i + n
			}
			got = slices.Concat(got[:i], want[i:end(want)], got[end(got):])
			continue
		}
		if failed && w.Type == 'E' && got[i].Msg.SQLState() == "25P02" {
			got[i].Msg = w
		}
		if w.Type == 'E' && (ofParameters(w.SQLState()) || w.SQLState() == "42P03") {
			switch got[i].Msg.SQLState() {
			case "0A000", "42703", "42P01": // of its plan, or of its Parse on another server
				got[i].Msg = w
			}
		}
	}
	return got
}

// reportsInOrder sorts the ParameterStatus that follow each other. PostgreSQL sends
// them in the order of a table of its own. What returns to a startup parameter at
// DISCARD ALL in a session that keeps its server is told by pgpoold, behind the others.
func reportsInOrder(entries []wirescript.Entry) []wirescript.Entry {
	entries = slices.Clone(entries)
	for from := 0; from < len(entries); from++ {
		to := from
		for to < len(entries) && entries[to].Msg.Type == 'S' {
			to++
		}
		slices.SortFunc(entries[from:to], func(a, b wirescript.Entry) int { return strings.Compare(a.Msg.Brief(), b.Msg.Brief()) })
		from = max(from, to)
	}
	return entries
}

// ofParameters tells the errors that parameters have: their number, their types,
// their values.
func ofParameters(code string) bool {
	return code == "08P01" || code == "42601" || code == "42804" || strings.HasPrefix(code, "22")
}

// difference is where a client hears something else than PostgreSQL's words.
type difference struct {
	kind string // so that two can be told apart; "": there is none
	text string
}

// differs runs the program through pgpoold.
func (k *pooler) differs(p *program, want []heard, patience time.Duration) (d difference) {
	target := k.o.target
	target.Name, target.Addr = "pgpoold", k.p.Addr()
	got := k.o.play(p, target, patience)
	note := func(kind, format string, args ...any) {
		if d.kind == "" {
			d.kind = kind
		}
		d.text += fmt.Sprintf(format, args...)
	}
	for i := range want {
		w := reportsInOrder(want[i].entries)
		g := tolerate(w, reportsInOrder(got[i].entries))
		if at := wirescript.Divergence(w, g); at >= 0 {
			note(kindAt(w, at)+" "+kindAt(g, at), "client %s, PostgreSQL (-) and pgpoold (+), pool of %d:\n%s", p.clients[i].name, k.size, wirescript.Diff(w, g))
		}
		if err := got[i].err; err != nil && !ends(err) {
			note("error", "client %s: %v\n", p.clients[i].name, err)
		}
	}
	if err := k.p.Settled(patience); err != nil {
		note("books", "pool of %d, afterwards: %v\n", k.size, err)
	}
	return d
}

// kindAt is a message's type and SQLSTATE.
func kindAt(entries []wirescript.Entry, at int) string {
	if at >= len(entries) {
		return "nothing"
	}
	m := entries[at].Msg
	return string(m.Type) + m.SQLState()
}
