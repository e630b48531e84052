package operate

import (
	"bytes"
	"encoding/json"
	"os/exec"
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
