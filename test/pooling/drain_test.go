package pooling_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/guard"
	"pgpoold/test/postgres"
)

// TestDrain: idle clients are told to go at once, transactions end first,
// those who wait get their turn, nobody new comes in.
func TestDrain(t *testing.T) {
	p, c, db := start(t, 1, "create table t (a int)")
	idle := login(t, p.Addr(), "app", db)
	idle.must("select 1")
	fresh := login(t, p.Addr(), "app", db)
	busy := login(t, p.Addr(), "app", db)
	busy.must("begin; insert into t values (1)")
	queued := login(t, p.Addr(), "app", db)
	queued.send(sql("insert into t values (2)"))
	waiting(t, p, 1)
	if ok, why := p.Server().Ready(); !ok {
		t.Fatalf("not ready before: %s", why)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Server().Shutdown(within(t)) }()
	for _, s := range []*peer{idle, fresh} {
		if r := s.read(); r.code() != "57P01" || r.err.Severity != "FATAL" || r.status != 0 {
			t.Errorf("an idle client got %s", r)
		}
	}
	if ok, why := p.Server().Ready(); ok || why != "draining" {
		t.Errorf("ready: %v, %s", ok, why)
	}
	if nc, err := net.Dial("tcp", p.Addr()); err == nil {
		_ = nc.SetDeadline(time.Now().Add(patience))
		if b, _ := io.ReadAll(nc); len(b) > 0 {
			t.Errorf("a new client got %q", b)
		}
		_ = nc.Close()
	}
	busy.must("insert into t values (3)") // its transaction goes on
	select {
	case err := <-ended:
		t.Fatalf("the drain ended with a transaction open: %v", err)
	default:
	}
	busy.must("commit")
	if r := busy.read(); r.code() != "57P01" {
		t.Errorf("after its transaction: %s", r)
	}
	if r := queued.read(); r.code() != "" {
		t.Errorf("who had waited got %s", r)
	}
	if r := queued.read(); r.code() != "57P01" {
		t.Errorf("and then %s", r)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := value(t, c, db, "select count(*) from t"); got != "3" {
		t.Errorf("%s rows", got)
	}
}

// TestDrainCutShort: what is left when the time is up ends with 57P01, and
// its transaction with it.
func TestDrainCutShort(t *testing.T) {
	p, c, db := start(t, 1, "create table t (a int)")
	busy := login(t, p.Addr(), "app", db)
	busy.must("begin; insert into t values (1)")
	busy.send(sql("select pg_sleep(300)"))
	running(t, c, db, "pg_sleep")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Server().Shutdown(ctx) }()
	eventually(t, func() string {
		if ok, _ := p.Server().Ready(); ok {
			return "still ready"
		}
		return ""
	})
	cancel()
	if r := busy.read(); r.code() != "57P01" || r.err.Severity != "FATAL" {
		t.Errorf("got %s", r)
	}
	if err := <-ended; err != context.Canceled {
		t.Errorf("Shutdown: %v", err)
	}
	value(t, c, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+db+"' and query like '%pg_sleep(300)%'")
	eventually(t, func() string {
		return value(t, c, "postgres", "select query from pg_stat_activity where datname = '"+db+"' and backend_type = 'client backend'")
	})
	if got := value(t, c, db, "select count(*) from t"); got != "0" {
		t.Errorf("%s rows", got)
	}
}

// program is the built binary, for tests of the whole process.
var program struct {
	once sync.Once
	dir  *guard.Guard
	bin  string
	err  error
}

// daemonProcess is a pgpoold of its own.
type daemonProcess struct {
	t    testing.TB
	proc *guard.Process
	log  string // file
	port int
	http int
}

// run starts the built binary with a configuration; environment variables are
// added. It does not wait.
func run(t testing.TB, config string, env ...string) *daemonProcess {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = guard.New(); program.err != nil {
			return
		}
		program.bin = filepath.Join(program.dir.Dir(), "pgpoold")
		if out, err := exec.Command("go", "build", "-o", program.bin, "pgpoold/cmd/pgpoold").CombinedOutput(); err != nil {
			program.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	d := &daemonProcess{t: t, log: filepath.Join(t.TempDir(), "log"), port: freePort(t), http: freePort(t)}
	cmd := exec.Command(program.bin)
	if config != "" {
		file := filepath.Join(t.TempDir(), "config.yaml")
		config = strings.NewReplacer("PORT", fmt.Sprint(d.port), "HTTP", fmt.Sprint(d.http)).Replace(config)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(cmd.Args, "--config", file)
	}
	for _, v := range env {
		cmd.Env = append(cmd.Env, strings.NewReplacer("PORT", fmt.Sprint(d.port), "HTTP", fmt.Sprint(d.http)).Replace(v))
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	log, err := os.Create(d.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if d.proc, err = program.dir.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.proc.End(syscall.SIGTERM, patience)
		if t.Failed() {
			t.Logf("log of the process:\n%s", d.output())
		}
	})
	return d
}

func (d *daemonProcess) output() string {
	b, _ := os.ReadFile(d.log)
	return string(bytes.ToValidUTF8(b, nil))
}

// ready waits for the ready line and for /readyz.
func (d *daemonProcess) ready() {
	d.t.Helper()
	eventually(d.t, func() string {
		select {
		case <-d.proc.Done():
			d.t.Fatalf("it ended: %v\n%s", d.proc.Err(), d.output())
		default:
		}
		if !strings.Contains(d.output(), "pgpoold ready") {
			return "no ready line"
		}
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", d.http))
		if err != nil {
			return err.Error()
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 {
			return res.Status
		}
		return ""
	})
}

// exit waits for the process's end and returns its code.
func (d *daemonProcess) exit() int {
	d.t.Helper()
	select {
	case <-d.proc.Done():
	case <-time.After(patience):
		d.t.Fatalf("it still runs:\n%s", d.output())
	}
	if d.proc.Err() == nil {
		return 0
	}
	if e, ok := d.proc.Err().(*exec.ExitError); ok {
		return e.ExitCode()
	}
	d.t.Fatal(d.proc.Err())
	return -1
}

func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// processYAML is a configuration for run.
func processYAML(c *postgres.Cluster, db string) string {
	return fmt.Sprintf("listen: {addr: 127.0.0.1:PORT}\nadmin: {addr: 127.0.0.1:HTTP}\nauth: {type: any}\npool: {size: 2}\ndatabases: {%q: {dsn: %q}}\n", db, c.SuperDSN(db))
}

// TestSignals: SIGTERM and SIGINT drain and exit with 0, a second one ends
// the drain, SIGQUIT ends at once.
func TestSignals(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	for _, test := range []struct {
		name    string
		signals []syscall.Signal
		open    bool // a transaction is open, and stays so
	}{
		{"SIGTERM", []syscall.Signal{syscall.SIGTERM}, false},
		{"SIGINT", []syscall.Signal{syscall.SIGINT}, false},
		{"SIGTERM twice", []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, true},
		{"SIGTERM and SIGINT", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, true},
		{"SIGQUIT", []syscall.Signal{syscall.SIGQUIT}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := run(t, processYAML(c, db))
			d.ready()
			addr := fmt.Sprintf("127.0.0.1:%d", d.port)
			idle, busy := login(t, addr, "app", db), login(t, addr, "app", db)
			idle.must("select 1")
			busy.must("begin")
			for i, sig := range test.signals {
				if err := d.proc.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if i > 0 {
					continue
				}
				if r := idle.read(); r.code() != "57P01" {
					t.Errorf("an idle client got %s", r)
				}
				if !test.open {
					busy.must("select 1")
					busy.must("commit")
				}
			}
			if r := busy.read(); r.code() != "57P01" {
				t.Errorf("a client in a transaction got %s", r)
			}
			if got := d.exit(); got != 0 {
				t.Errorf("exit code %d", got)
			}
			if strings.Contains(d.output(), "panic") {
				t.Errorf("%s", d.output())
			}
			eventually(t, func() string {
				return value(t, c, "postgres", "select query from pg_stat_activity where datname = '"+db+"'")
			})
		})
	}
}

// TestCannotStart: what keeps pgpoold from starting is named, with exit code 1.
func TestCannotStart(t *testing.T) {
	c := postgres.ForTest(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	self := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	for name, test := range map[string]struct {
		config string
		env    []string
		says   []string
	}{
		"port taken": {config: strings.Replace(processYAML(c, "postgres"), "127.0.0.1:PORT", taken.Addr().String(), 1), says: []string{taken.Addr().String(), "is taken"}},
		"admin port": {config: strings.Replace(processYAML(c, "postgres"), "127.0.0.1:HTTP", taken.Addr().String(), 1), says: []string{taken.Addr().String(), "is taken"}},
		"itself": {config: strings.Replace(processYAML(c, "postgres"), c.Addr(), "127.0.0.1:PORT", 1),
			says: []string{"leads back to pgpoold's own listener", "databases.postgres.dsn"}},
		"itself by name": {config: strings.Replace(processYAML(c, "postgres"), c.Addr(), "localhost:PORT", 1), says: []string{"own listener"}},
		"itself, environment": {env: []string{"SUPABASE_POSTGRES_DSN=postgres://app:a@" + self + "/postgres", "PGPOOLD_LISTEN_ADDR=" + self, "PGPOOLD_ADMIN_ADDR=127.0.0.1:HTTP"},
			says: []string{"own listener", "SUPABASE_POSTGRES_DSN"}},
		"no database": {config: "listen: {addr: 127.0.0.1:PORT}\n", says: []string{"SUPABASE_POSTGRES_DSN"}},
		"unknown key": {config: processYAML(c, "postgres") + "pol: 1\n", says: []string{"pol", "did you mean pool"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := run(t, test.config, test.env...)
			if got := d.exit(); got != 1 {
				t.Errorf("exit code %d", got)
			}
			for _, s := range test.says {
				if !strings.Contains(d.output(), s) {
					t.Errorf("it does not say %q:\n%s", s, d.output())
				}
			}
		})
	}
}

// TestUnixSocket: clients come in by a Unix socket as well, and the socket
// goes with the process.
func TestUnixSocket(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	dir, err := os.MkdirTemp("", "pgp") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	yaml := strings.Replace(processYAML(c, db), "{addr: 127.0.0.1:PORT}", "{addr: [\"127.0.0.1:PORT\", \"unix:"+dir+"\"]}", 1)
	yaml = strings.Replace(yaml, c.SuperDSN(db), c.SocketDSN(postgres.Superuser, db), 1) // and servers by one, too
	d := run(t, yaml)
	d.ready()
	socket := fmt.Sprintf("%s/.s.PGSQL.%d", dir, d.port)
	s := login(t, socket, "app", db)
	if got := s.must("select coalesce(inet_client_addr()::text, 'unix')").cell(); got != "unix" {
		t.Errorf("the server connection comes from %s", got)
	}
	s.send(sql("select pg_sleep(300)"))
	running(t, c, db, "pg_sleep")
	nc, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := cancelOver(nc, s.pid, s.key); err != nil {
		t.Fatal(err)
	}
	if r := s.read(); r.code() != "57014" {
		t.Errorf("cancel: %s", r)
	}
	s.must("begin")
	s.vanish()
	next := login(t, socket, "app", db)
	next.must("select 1")
	next.send(&pgproto3.Terminate{})
	if err := d.proc.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := d.exit(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}
