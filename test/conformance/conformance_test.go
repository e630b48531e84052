// Package conformance runs the wire scripts of test/scripts against PostgreSQL
// and through pgpoold, and compares.
package conformance

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
	"pgpoold/test/wirescript"
)

var update = flag.Bool("update", false, "write the table of cells into docs/protocol.md")

// setup is the connection beside the scripts: setup, cleanup and await, always
// at PostgreSQL itself.
type setup struct {
	mu   sync.Mutex
	conn *pgconn.PgConn // guarded by mu
}

func newSetup(tb testing.TB, t wirescript.Target) *setup {
	tb.Helper()
	cfg, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		tb.Fatal(err)
	}
	host, port := splitAddr(tb, t.Addr)
	cfg.Host, cfg.Port, cfg.User, cfg.Database = host, port, t.User, t.Database
	cfg.Fallbacks = nil
	cfg.RuntimeParams = map[string]string{"application_name": "wirescript setup"}
	conn, err := pgconn.ConnectConfig(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close(context.Background()) })
	return &setup{conn: conn}
}

// patience bounds one statement of the setup connection. A script's own
// deadline must not end it, because pgconn would close the connection.
const patience = 30 * time.Second

func (s *setup) Exec(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.conn.Exec(ctx, sql).ReadAll()
	return err
}

func (s *setup) True(ctx context.Context, sql string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	res, err := s.conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(res) == 0 {
		return false, err
	}
	last := res[len(res)-1]
	return len(last.Rows) == 1 && string(last.Rows[0][0]) == "t", nil
}

// rows of a query, their columns joined.
func (s *setup) rows(ctx context.Context, sql string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res, err := s.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range res[len(res)-1].Rows {
		out = append(out, string(bytes.Join(r, []byte(" | "))))
	}
	return out, nil
}

// loadScripts gives the scripts that are compared, and those meant for one
// side only.
func loadScripts(tb testing.TB, side wirescript.Only) []*wirescript.Script {
	tb.Helper()
	all, err := wirescript.Load(os.DirFS(".."), "scripts")
	if err != nil {
		tb.Fatal(err)
	}
	scripts := slices.DeleteFunc(all, func(s *wirescript.Script) bool {
		return s.Only != wirescript.OnlyBoth && s.Only != side
	})
	if len(scripts) == 0 {
		tb.Fatal("no scripts")
	}
	return scripts
}

// TestDirect runs every script twice against PostgreSQL. The two must agree:
// what differs here is an accident of the script, or belongs on the list of
// normalisations. It also proves each script's own assertions against the
// oracle, and that no cell of the table is empty.
func TestDirect(t *testing.T) {
	target := targetOf(postgres.ForTest(t))
	r := &wirescript.Runner{Target: target, Setup: newSetup(t, target)}
	cells := wirescript.Cells{}
	ran, scripts := 0, loadScripts(t, wirescript.OnlyDirect)
	for _, s := range scripts {
		t.Run(s.Name, func(t *testing.T) {
			ran++
			first, err := r.Run(t.Context(), s)
			if err != nil {
				t.Fatalf("%v\n%s", err, tail(first.Transcript))
			}
			if *show {
				t.Logf("%s\n%s", s.About, transcript(first.Transcript))
			}
			if *fill {
				fillIn(t, s.Name, first.Transcript)
			}
			second, err := r.Run(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if d := wirescript.Diff(first.Transcript, second.Transcript); d != "" {
				t.Fatalf("two direct runs differ:\n%s", d)
			}
			cells.Add(s.Name, first.Cells)
		})
	}
	if t.Failed() || ran < len(scripts) { // -run selected some
		return
	}
	for _, r := range wirescript.Rows() {
		for _, col := range wirescript.Columns() {
			c := wirescript.Cell{Row: r, Col: col}
			if !slices.Contains(cells[c], c.Script()) {
				t.Errorf("%s.wire does not send %s in the state %q", c.Script(), r, col)
			}
		}
	}
	for _, c := range cells.Empty() {
		t.Errorf("no script sends %s in the state %q", c.Row, c.Col)
	}
	checkTable(t, cells)
}

func transcript(entries []wirescript.Entry) string {
	var s strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&s, "    %3d  %s\n", e.Line, e)
	}
	return s.String()
}

// tail shows the end of a transcript.
func tail(entries []wirescript.Entry) string {
	return transcript(entries[max(0, len(entries)-12):])
}
