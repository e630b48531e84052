package operate

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgpoold/test/postgres"
)

// looking is a configuration with an administrator, a user who may only look,
// and one who may neither.
func looking(t *testing.T, cluster *postgres.Cluster) *pgpoold {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := `
auth: {users: {app: app-pw, ops: ops-pw, grafana: grafana-pw}}
admin: {users: [ops], stats_users: [grafana]}
pool: {size: 3, min_size: 2}
databases:
  search: {dsn: '` + cluster.DSN("postgres", "postgres") + `'}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := run(t, nil, "--config", file)
	p.waitReady(t)
	return p
}

func TestTheConsoleShowsWhatHappens(t *testing.T) {
	cluster := postgres.ForTest(t)
	p := looking(t, cluster)
	busy, idle := p.mustDial(t, "app:app-pw", "search"), p.mustDial(t, "app:app-pw", "search")
	ask(t, idle, "set application_name = 'resting'")
	pid := ask(t, busy, "begin; set local application_name = 'working'; select pg_backend_pid()")[0]

	install := cluster.Install()
	psql, err := install.Tool("psql")
	if err != nil {
		t.Fatal(err)
	}
	show := func(user, what string) [][]string {
		t.Helper()
		cmd := exec.Command(psql, "-XAt", "-d", "postgres://"+user+":"+user+"-pw@"+p.addr+"/pgbouncer", "-c", what)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v %s", what, err, out)
		}
		var rows [][]string
		for line := range strings.Lines(string(out)) {
			rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "|"))
		}
		return rows
	}
	pool := show("grafana", "SHOW POOLS;")[0]
	if pool[0] != "search" || pool[1] != "postgres" || pool[2] != "2" || pool[6] != "1" || pool[15] != "transaction" {
		t.Errorf("SHOW POOLS %q", pool)
	}
	var active, server []string
	for _, c := range show("ops", "SHOW CLIENTS") {
		if c[1] == "app" && c[4] == "active" {
			active = c
		}
	}
	for _, s := range show("ops", "SHOW SERVERS") {
		if s[16] == pid {
			server = s
		}
	}
	if active == nil || server == nil {
		t.Fatalf("active client %q, server %q of backend %s", active, server, pid)
	}
	if active[15] != server[14] || server[15] != active[14] || server[4] != "active" {
		t.Errorf("client %q and server %q are not linked", active, server)
	}
	if got := show("ops", "SHOW VERSION")[0][0]; !strings.HasPrefix(got, "PgBouncer ") || !strings.Contains(got, "pgpoold") {
		t.Errorf("SHOW VERSION %q", got)
	}

	if _, err := p.dial(t, "app:app-pw", "pgbouncer", ""); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("a user of neither list: %v", err)
	}
	if _, err := p.dial(t, "ops:wrong", "pgbouncer", ""); code(err) != "28P01" {
		t.Errorf("a wrong password: %v", err)
	}
	ask(t, busy, "commit")
	// What the first one looks at comes from the console, not from the pool.
	ops, err := p.dial(t, "ops:ops-pw", "pgpoold", "sslmode=require")
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, ops, "SHOW POOLS"); len(got) != 2 {
		t.Errorf("pools %q", got)
	}
	if _, err := ops.Exec(within(t), "SELECT 1").ReadAll(); code(err) != "08P01" {
		t.Errorf("SELECT 1: %v", err)
	}
	if code, body := p.get(t, "/metrics"); code != 200 || !strings.Contains(body, `pgpoold_transactions_total{database="search",user="postgres"} 2`) {
		t.Errorf("metrics: %d, transactions are not 2", code)
	}
	if code, body := p.get(t, "/"); code != 200 || !strings.Contains(body, "/api/v1/live") {
		t.Errorf("page: %d", code)
	}
	if code, body := p.get(t, "/api/v1/live"); code != 200 || !strings.Contains(body, "resting") {
		t.Errorf("what the page draws: %d", code)
	}
}

func TestTheAdminPortKnowsItsUsers(t *testing.T) {
	p := looking(t, postgres.ForTest(t))
	post := func(user, password string) int {
		t.Helper()
		req, err := http.NewRequest("POST", "http://"+p.admin+"/api/v1/log_level", strings.NewReader(`{"level":"debug"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Pgpoold", "1")
		req.SetBasicAuth(user, password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, tt := range []struct {
		user, password string
		want           int
	}{
		{"ops", "ops-pw", 200}, {"ops", "wrong", 401}, {"grafana", "grafana-pw", 403}, {"app", "app-pw", 401},
	} {
		if got := post(tt.user, tt.password); got != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.user, tt.password, got, tt.want)
		}
	}
	health := exec.Command(program(t), "health")
	health.Env = []string{"PGPOOLD_ADMIN_ADDR=" + p.admin}
	if out, err := health.CombinedOutput(); err != nil {
		t.Errorf("health: %v %s", err, out)
	}
}
