package operate

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// upgradeBy runs `pgpoold upgrade` and returns what it says.
func (p *pgpoold) upgradeBy(t *testing.T, args ...string) (said string, code int) {
	t.Helper()
	cmd := exec.Command(program(t), append([]string{"upgrade"}, args...)...)
	cmd.Env = []string{"PGPOOLD_ADMIN_ADDR=" + p.admin}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// successor is the process that the running one has started last. It is ended
// with the test.
func (p *pgpoold) successor(t *testing.T) *heir {
	t.Helper()
	p.until(t, "a successor", func() bool { return len(p.lines(t, "upgrade: this process takes over")) > 0 })
	var l struct{ PID int }
	for _, text := range strings.Split(p.log(), "\n") {
		if strings.Contains(text, "upgrade: this process takes over") {
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.guard.Adopt(l.PID); err != nil {
		t.Fatal(err)
	}
	return &heir{p, l.PID}
}

// heir is a process that pgpoold has started itself.
type heir struct {
	of  *pgpoold
	pid int
}

func (h *heir) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(h.pid, sig); err != nil {
		t.Fatal(err)
	}
}

func (h *heir) exit(t *testing.T) {
	t.Helper()
	h.of.until(t, "the end of "+strconv.Itoa(h.pid), func() bool { return !h.of.guard.Alive(h.pid) })
}

// TestUpgrade: a new process takes over. Sessions between transactions move
// with all that they have; one in a transaction stays until it has ended.
func TestUpgrade(t *testing.T) {
	dsn, cluster := table(t, "upgraded")
	p := serve(t, dsn, nil)
	idle, busy := p.mustDial(t, "postgres:secret", "postgres"), p.mustDial(t, "postgres:secret", "postgres")
	ask(t, idle, "set work_mem to '7MB'; set application_name to 'mover'; select 1")
	if _, err := idle.Prepare(within(t), "s", "select 41 + $1::int", nil); err != nil {
		t.Fatal(err)
	}
	ask(t, idle, "prepare p as select 'by SQL'")
	ask(t, busy, "begin; insert into upgraded values (1)")
	said, code := p.upgradeBy(t)
	if code != 0 || !strings.Contains(said, "has taken over from process "+strconv.Itoa(p.process.PID())) {
		t.Fatalf("exit %d: %s", code, said)
	}
	h := p.successor(t)
	if got := ask(t, idle, "select current_setting('work_mem') || ' ' || current_setting('application_name')"); got[0] != "7MB mover" {
		t.Errorf("its settings are %s", got)
	}
	result := idle.ExecPrepared(within(t), "s", [][]byte{[]byte("1")}, nil, nil).Read()
	if result.Err != nil || string(result.Rows[0][0]) != "42" {
		t.Errorf("its statement gives %q, %v", result.Rows, result.Err)
	}
	if got := ask(t, idle, "execute p"); got[0] != "by SQL" {
		t.Errorf("its statement made by SQL gives %s", got)
	}
	ask(t, p.mustDial(t, "postgres:secret", "postgres"), "select 1")
	if status, body := p.get(t, "/readyz"); status != 200 {
		t.Errorf("readiness: %d %s", status, body)
	}
	ask(t, busy, "insert into upgraded values (2)")
	ask(t, busy, "commit")
	p.exit(t, 0) // it had nobody else
	ask(t, busy, "insert into upgraded values (3)")
	if n := count(t, cluster, "upgraded"); n != "3" {
		t.Errorf("%s rows", n)
	}
	for _, c := range []*pgconn.PgConn{idle, busy} {
		if c.IsClosed() {
			t.Error("a client lost its connection")
		}
	}
	h.signal(t, syscall.SIGTERM)
	h.exit(t)
}

// copied is the program at a path of its own, where another can take its place.
func copied(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pgpoold")
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// replace puts another program in the place of one that runs.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestUpgradeFails: whatever is wrong with the successor, the running process
// stays as it was, and says so. Then one that is right takes over.
func TestUpgradeFails(t *testing.T) {
	dsn, _ := table(t, "unmoved")
	path := copied(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("upgrade_timeout: 1s\n")
	p := launch(t, map[string]string{"SUPABASE_POSTGRES_DSN": dsn}, path, "--config", config)
	p.waitReady(t)
	c := p.mustDial(t, "postgres:secret", "postgres")
	ask(t, c, "set work_mem to '7MB'")
	for _, tt := range []struct {
		name, program, config, says string
	}{
		{"it cannot be started", "no program", "", "exec format error"},
		{"it dies", "#!/bin/sh\nexit 3\n", "", "ended before it was ready"},
		{"it hangs", "#!/bin/sh\nexec sleep 1000\n", "", "not ready within upgrade_timeout"},
		{"its configuration has mistakes", string(good), "pool: {size: many}\n", "the configuration has mistakes"},
	} {
		replace(t, path, tt.program)
		if tt.config != "" {
			write(tt.config)
		}
		said, code := p.upgradeBy(t)
		write("upgrade_timeout: 1s\n")
		if code != 1 || !strings.Contains(said, tt.says) {
			t.Errorf("%s: exit %d: %s", tt.name, code, said)
		}
		if got := ask(t, c, "show work_mem"); got[0] != "7MB" {
			t.Errorf("%s: work_mem is %s", tt.name, got)
		}
		ask(t, p.mustDial(t, "postgres:secret", "postgres"), "select 1")
		if status, body := p.get(t, "/readyz"); status != 200 {
			t.Errorf("%s: readiness: %d %s", tt.name, status, body)
		}
	}
	replace(t, path, string(good))
	if said, code := p.upgradeBy(t, strconv.Itoa(p.process.PID())); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	h := p.successor(t)
	p.exit(t, 0)
	if got := ask(t, c, "show work_mem"); got[0] != "7MB" {
		t.Errorf("work_mem is %s", got)
	}
	h.signal(t, syscall.SIGTERM)
	h.exit(t)
}

// TestUpgradeWhileBusy: a query that runs in the process that leaves is
// cancelled through the one that has taken over; counters go on; a second
// upgrade waits for the first; the end of the successor gives everything back.
func TestUpgradeWhileBusy(t *testing.T) {
	dsn, cluster := table(t, "busied")
	p := serve(t, dsn, map[string]string{"PGPOOLD_DRAIN_TIMEOUT": "0"})
	idle, busy := p.mustDial(t, "postgres:secret", "postgres"), p.mustDial(t, "postgres:secret", "postgres")
	for range 10 {
		ask(t, idle, "select 1")
	}
	ask(t, busy, "begin")
	if said, code := p.upgradeBy(t); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	h := p.successor(t)
	ask(t, idle, "select 1")
	if n := p.transactions(t); n < 11 {
		t.Errorf("%d transactions are counted, it were 11", n)
	}
	asleep := make(chan error, 1)
	go func() { asleep <- busy.Exec(within(t), "select pg_sleep(1000)").Close() }()
	p.until(t, "the query runs", func() bool {
		rows, err := cluster.Query(within(t), "postgres", "select 1 from pg_stat_activity where query = 'select pg_sleep(1000)' and state = 'active'")
		return err == nil && len(rows) == 1
	})
	if err := busy.CancelRequest(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-asleep; code(err) != "57014" {
		t.Fatalf("the cancelled query ended with %v", err)
	}
	ask(t, busy, "rollback")
	ask(t, busy, "select 1") // in the successor
	p.exit(t, 0)
	h.signal(t, syscall.SIGTERM)
	h.exit(t)
}

// transactions is how many the admin port counts.
func (p *pgpoold) transactions(t *testing.T) (n int) {
	t.Helper()
	_, body := p.get(t, "/metrics")
	for _, line := range strings.Split(body, "\n") {
		if name, value, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "pgpoold_transactions_total{") {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			n += int(f)
		}
	}
	return n
}

// TestUpgradeIsLost: a successor that ends while the process before it drains
// gives everything back but the sessions that had moved.
func TestUpgradeIsLost(t *testing.T) {
	dsn, _ := table(t, "lost")
	p := serve(t, dsn, map[string]string{"PGPOOLD_DRAIN_TIMEOUT": "0"})
	busy := p.mustDial(t, "postgres:secret", "postgres")
	ask(t, busy, "begin; insert into lost values (1)")
	if said, code := p.upgradeBy(t); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	h := p.successor(t)
	ask(t, p.mustDial(t, "postgres:secret", "postgres"), "select 1")
	if said, code := p.upgradeBy(t); code != 1 || !strings.Contains(said, "still draining") {
		t.Errorf("a second upgrade: exit %d: %s", code, said)
	}
	h.signal(t, syscall.SIGKILL)
	p.waitLine(t, "upgrade: it has failed")
	p.until(t, "it serves again", func() bool {
		c, err := p.dial(t, "postgres:secret", "postgres", "")
		if err != nil {
			return false
		}
		ask(t, c, "select 1")
		return true
	})
	ask(t, busy, "commit")
	ask(t, busy, "select 1")
	if status, body := p.get(t, "/readyz"); status != 200 {
		t.Errorf("readiness: %d %s", status, body)
	}
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
}

// TestUpgradeIsStopped: SIGTERM to all processes, as systemd sends it, lets a
// transaction end also in the one that drains already; while a successor
// starts it gives the upgrade up.
func TestUpgradeIsStopped(t *testing.T) {
	dsn, cluster := table(t, "stoppedon")
	path := copied(t)
	p := launch(t, map[string]string{"SUPABASE_POSTGRES_DSN": dsn}, path)
	p.waitReady(t)
	busy := p.mustDial(t, "postgres:secret", "postgres")
	ask(t, busy, "begin; insert into stoppedon values (1)")
	if said, code := p.upgradeBy(t); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	h := p.successor(t)
	p.signal(t, syscall.SIGTERM)
	h.signal(t, syscall.SIGTERM)
	h.exit(t)
	if c, err := p.dial(t, "postgres:secret", "postgres", "sslmode=disable&connect_timeout=5"); err == nil || code(err) != "" {
		t.Errorf("a client came to %v, %v", c, err)
	}
	ask(t, busy, "insert into stoppedon values (2)")
	ask(t, busy, "commit")
	if got := lastWord(t, busy); got != "57P01" {
		t.Errorf("the client was told %q", got)
	}
	p.exit(t, 0)
	if n := count(t, cluster, "stoppedon"); n != "2" {
		t.Errorf("%s rows", n)
	}

	p = launch(t, map[string]string{"SUPABASE_POSTGRES_DSN": dsn}, path)
	p.waitReady(t)
	replace(t, path, "#!/bin/sh\nexec sleep 1000\n")
	p.signal(t, syscall.SIGUSR2)
	p.waitLine(t, "upgrade: a successor was started")
	p.signal(t, syscall.SIGUSR2)
	p.waitLine(t, "upgrade: none is begun")
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
	p.waitLine(t, "pgpoold ended")
}
