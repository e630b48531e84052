package operate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/guard"
	"pgpoold/test/postgres"
)

// hang guards what should take a moment.
const hang = 60 * time.Second

func TestMain(m *testing.M) {
	os.Exit(func() int {
		defer os.RemoveAll(programDir)
		return postgres.Main(m)
	}())
}

// The program is built once for all tests, by whichever comes first.
var (
	programDir, _ = os.MkdirTemp("", "pgpoold-operate-")
	buildOnce     sync.Once
	buildErr      error
)

func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(programDir, "pgpoold")
	buildOnce.Do(func() {
		out, err := exec.Command("go", "build", "-o", path, "pgpoold/cmd/pgpoold").CombinedOutput()
		if err != nil {
			buildErr = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return path
}

// pgpoold is one running process. Its log is JSON; the addresses are those of
// the ready line.
type pgpoold struct {
	cmd     *exec.Cmd
	process *guard.Process
	guard   *guard.Guard
	logFile string

	addr, admin, socket string
}

// run starts pgpoold with an environment of nothing but env.
func run(t *testing.T, env map[string]string, args ...string) *pgpoold {
	t.Helper()
	return launch(t, env, append([]string{program(t)}, args...)...)
}

// launch starts pgpoold by a command line of which it is a part.
func launch(t *testing.T, env map[string]string, argv ...string) *pgpoold {
	t.Helper()
	return launchWith(t, env, nil, argv...)
}

// launchWith passes files on, as descriptors from 3.
func launchWith(t *testing.T, env map[string]string, files []*os.File, argv ...string) *pgpoold {
	t.Helper()
	p := &pgpoold{logFile: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	full := map[string]string{
		"PGPOOLD_LISTEN_ADDR": "127.0.0.1:0", "PGPOOLD_ADMIN_ADDR": "127.0.0.1:0", "PGPOOLD_LOG_FORMAT": "json",
	}
	for k, v := range env {
		full[k] = v
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = []string{}
	for k, v := range full {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.ExtraFiles = files
	g, err := guard.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if strings.Contains(p.log(), "DATA RACE") || strings.Contains(p.log(), "goroutine ") {
			t.Error("the log has a race or a panic")
		}
		if t.Failed() {
			t.Logf("log of pgpoold:\n%s", p.log())
		}
	})
	p.guard = g
	if p.process, err = g.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	return p
}

// serve starts pgpoold on a DSN and waits until it is ready.
func serve(t *testing.T, dsn string, env map[string]string, args ...string) *pgpoold {
	t.Helper()
	full := map[string]string{"SUPABASE_POSTGRES_DSN": dsn}
	for k, v := range env {
		full[k] = v
	}
	p := run(t, full, args...)
	p.waitReady(t)
	return p
}

func (p *pgpoold) log() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// line is one line of the log.
type line struct {
	Level     string
	Msg       string
	Listen    []string
	Admin     string
	Databases []string
	Mode      string
	Size      int
	Reason    string
	Effective int    `json:"effective_max_client_conn"`
	Limit     uint64 `json:"open_files_limit"`
	Needed    int    `json:"open_files_needed"`
	Wanted    int    `json:"max_client_conn"`
}

// lines are the log's lines whose message begins with a text.
func (p *pgpoold) lines(t *testing.T, begins string) []line {
	t.Helper()
	var found []line
	in := bufio.NewScanner(strings.NewReader(p.log()))
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err == nil && strings.HasPrefix(l.Msg, begins) {
			found = append(found, l)
		}
	}
	return found
}

// until polls for what comes in a moment.
func (p *pgpoold) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(hang)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not come", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// waitLine waits for a line of the log.
func (p *pgpoold) waitLine(t *testing.T, begins string) line {
	t.Helper()
	p.until(t, "line "+begins, func() bool {
		select {
		case <-p.process.Done():
			if len(p.lines(t, begins)) == 0 {
				t.Fatalf("pgpoold ended without the line %q", begins)
			}
		default:
		}
		return len(p.lines(t, begins)) > 0
	})
	return p.lines(t, begins)[0]
}

func (p *pgpoold) waitReady(t *testing.T) line {
	t.Helper()
	l := p.waitLine(t, "pgpoold ready")
	p.take(l)
	return l
}

// take notes where pgpoold listens.
func (p *pgpoold) take(l line) {
	p.admin = l.Admin
	for _, a := range l.Listen {
		if strings.HasPrefix(a, "/") {
			p.socket = a
		} else {
			p.addr = a
		}
	}
}

// get asks the admin port.
func (p *pgpoold) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + p.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// dial connects a client; user may be name:password.
func (p *pgpoold) dial(t *testing.T, user, database, query string) (*pgconn.PgConn, error) {
	t.Helper()
	if query == "" {
		query = "sslmode=disable"
	}
	c, err := pgconn.Connect(within(t), fmt.Sprintf("postgres://%s@%s/%s?%s", user, p.addr, database, query))
	if err == nil {
		t.Cleanup(func() { c.Close(within(t)) })
	}
	return c, err
}

func (p *pgpoold) mustDial(t *testing.T, user, database string) *pgconn.PgConn {
	t.Helper()
	c, err := p.dial(t, user, database, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	t.Cleanup(cancel)
	return ctx
}

// ask runs SQL and returns the first column of its last result.
func ask(t *testing.T, c *pgconn.PgConn, sql string) []string {
	t.Helper()
	results, err := c.Exec(within(t), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var column []string
	for _, row := range results[len(results)-1].Rows {
		column = append(column, string(row[0]))
	}
	return column
}

// code is the SQLSTATE of an error, "" for none.
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func (p *pgpoold) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the end and checks its code.
func (p *pgpoold) exit(t *testing.T, want int) {
	t.Helper()
	select {
	case <-p.process.Done():
	case <-time.After(hang):
		t.Fatal("pgpoold did not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("exit %d, want %d", got, want)
	}
}
