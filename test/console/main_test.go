package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// patience bounds what would otherwise hang.
const patience = 30 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

var databases atomic.Int64

// scene is pgpoold in front of a database of the test's own.
type scene struct {
	t       testing.TB
	p       *harness.Pgpoold
	cluster *postgres.Cluster
	db      string
	dsn     string // of the server
}

// set makes a scene; pool is what stands under pool:, more are further
// databases, or sections, and admin under admin: beside the users.
func set(t testing.TB, pool, more string, admin ...string) *scene {
	t.Helper()
	c := postgres.ForTest(t)
	db := fmt.Sprintf("%s_%d", strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "_")), databases.Add(1))
	db = db[max(0, len(db)-50):]
	if err := c.Exec(within(t), "postgres", `create database "`+db+`"`); err != nil {
		t.Fatal(err)
	}
	s := on(t, c, c.SuperDSN(db), pool, more, admin...)
	s.db = db
	return s
}

// on makes a scene in front of a server of any kind.
func on(t testing.TB, c *postgres.Cluster, dsn, pool, more string, admin ...string) *scene {
	t.Helper()
	s := &scene{t: t, cluster: c, dsn: dsn}
	s.p = harness.Start(t, harness.Options{YAML: fmt.Sprintf(`
auth: {users: {app: app, report: report, ops: ops, grafana: grafana}}
admin: {%s}
log: {level: debug}
drain_timeout: 5s
pool: {%s}
databases:
  search: {dsn: %q}
%s`, strings.Join(append([]string{"users: [ops], stats_users: [grafana]"}, admin...), ", "), pool, s.dsn, more)})
	return s
}

// client connects to the database through pgpoold.
func (s *scene) client(application string) *pgx.Conn {
	s.t.Helper()
	return s.as("app", application)
}

func (s *scene) as(user, application string) *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(within(s.t), s.p.DSN(user+":"+user, "search")+"&application_name="+application)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// console connects to it as a driver does by itself: with the extended
// protocol.
func (s *scene) console(user string) *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(within(s.t), s.p.DSN(user+":"+user, "pgbouncer"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(within(t), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// record is a row of a table, by column.
type record map[string]string

func (r record) int(t testing.TB, column string) int {
	t.Helper()
	n, err := strconv.Atoi(r[column])
	if err != nil {
		t.Fatalf("%s: %v", column, err)
	}
	return n
}

// show asks the console for a table.
func (s *scene) show(what string) []record {
	s.t.Helper()
	conn, err := pgconn.Connect(within(s.t), s.p.DSN("grafana:grafana", "pgbouncer"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(within(s.t))
	r := conn.ExecParams(within(s.t), "SHOW "+what, nil, nil, nil, nil).Read()
	if r.Err != nil {
		s.t.Fatalf("SHOW %s: %v", what, r.Err)
	}
	var rows []record
	for _, values := range r.Rows {
		row := record{}
		for i, f := range r.FieldDescriptions {
			row[f.Name] = string(values[i])
		}
		rows = append(rows, row)
	}
	return rows
}

// one is the row of a table in which a column has a value.
func (s *scene) one(what, column, value string) record {
	s.t.Helper()
	for _, r := range s.show(what) {
		if r[column] == value {
			return r
		}
	}
	return record{}
}

func (s *scene) pool() record { s.t.Helper(); return s.one("EXTENDED POOLS", "database", "search") }

// until waits for something to become true.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}

// later runs SQL on a goroutine of its own; the channel gives its error.
func later(t testing.TB, conn *pgx.Conn, sql string) <-chan error {
	done := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := conn.Exec(ctx, sql)
		done <- err
	}()
	return done
}

func ended(t testing.TB, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatalf("%s: it does not end", what)
		return nil
	}
}

// sleeps waits until so many backends of the scene's database are in pg_sleep.
func (s *scene) sleeps(n int) {
	s.t.Helper()
	until(s.t, fmt.Sprint(n, " in pg_sleep"), func() bool {
		rows, err := s.cluster.Query(within(s.t), "postgres", "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = '"+s.db+"'")
		if err != nil {
			s.t.Fatal(err)
		}
		return rows[0][0] == strconv.Itoa(n)
	})
}

func pending(done <-chan error) bool {
	select {
	case <-done:
		return false
	default:
		return true
	}
}

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// get asks the HTTP port.
func (s *scene) get(path string) (int, string) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.p.AdminAddr() + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// superuserInfo is the user, and the "@" behind it, of a DSN.
func superuserInfo(dsn string) string {
	rest := dsn[strings.Index(dsn, "://")+3:]
	return rest[:strings.LastIndex(rest, "@")+1]
}
