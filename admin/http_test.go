package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"pgpoold/proxy"
)

// call makes a request and returns its answer; peer is where it comes from.
type call struct {
	method, path, peer, host, body string
	header                         map[string]string
}

func (c call) do(t *testing.T, h *HTTP) (int, string) {
	t.Helper()
	if c.method == "" {
		c.method = "GET"
	}
	r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
	r.RemoteAddr, r.Host = c.peer, c.host
	if c.peer == "" {
		r.RemoteAddr = "127.0.0.1:40000"
	}
	if c.host == "" {
		r.Host = "127.0.0.1:6433"
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.server.Handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func port(opts Options) *HTTP { return NewHTTP(opts, NewConsole(opts)) }

func basic(user, password string) map[string]string {
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(user, password)
	return map[string]string{"Authorization": r.Header.Get("Authorization")}
}

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token}
}

func TestWhoMayDoWhat(t *testing.T) {
	open := options(&source{snap: state()})
	withToken := open
	withToken.Token = "s3cret"
	noPasswords := open
	noPasswords.CheckPassword = nil
	const far = "203.0.113.5:1234"
	level := func(c call) call {
		c.method, c.path, c.body = "POST", "/api/v1/log_level", `{"level":"debug"}`
		if c.header == nil {
			c.header = map[string]string{}
		}
		c.header["Content-Type"], c.header[guardHeader] = "application/json", "1"
		return c
	}
	for _, tt := range []struct {
		name string
		opts Options
		call call
		want int
	}{
		{"health from afar", open, call{path: "/healthz", peer: far}, 200},
		{"readiness from afar", withToken, call{path: "/readyz", peer: far}, 200},
		{"loopback looks", open, call{path: "/metrics"}, 200},
		{"loopback, IPv6", open, call{path: "/", peer: "[::1]:5", host: "[::1]:6433"}, 200},
		{"loopback by name", open, call{path: "/", host: "localhost"}, 200},
		{"another site's name for loopback", open, call{path: "/", host: "evil.example:6433"}, 401},
		{"loopback through another server", open, call{path: "/", header: map[string]string{"X-Forwarded-For": "203.0.113.5"}}, 401},
		{"loopback with a token configured", withToken, call{path: "/metrics"}, 401},
		{"afar", open, call{path: "/metrics", peer: far}, 401},
		{"afar, the page", open, call{path: "/", peer: far}, 401},
		{"afar, the API", open, call{path: "/api/v1/snapshot", peer: far}, 401},
		{"token", withToken, call{path: "/metrics", peer: far, header: bearer("s3cret")}, 200},
		{"wrong token", withToken, call{path: "/metrics", peer: far, header: bearer("s3cre")}, 401},
		{"an empty token opens nothing", open, call{path: "/metrics", peer: far, header: bearer("")}, 401},
		{"wrong token on loopback", open, call{path: "/metrics", header: bearer("x")}, 401},
		{"stats user", open, call{path: "/metrics", peer: far, header: basic("grafana", "grafana-secret")}, 200},
		{"admin user", open, call{path: "/", peer: far, header: basic("ops", "ops-secret")}, 200},
		{"wrong password", open, call{path: "/", peer: far, header: basic("ops", "x")}, 401},
		{"a user of neither list", open, call{path: "/", peer: far, header: basic("app", "app-secret")}, 401},
		{"no passwords to check", noPasswords, call{path: "/", peer: far, header: basic("ops", "ops-secret")}, 401},
		{"change on loopback without login", open, level(call{}), 401},
		{"change as stats user", open, level(call{header: basic("grafana", "grafana-secret")}), 403},
		{"change as admin", open, level(call{header: basic("ops", "ops-secret")}), 200},
		{"change by token", withToken, level(call{peer: far, header: bearer("s3cret")}), 200},
		{"no such page", open, call{path: "/nothing"}, 404},
		{"wrong method", open, call{method: "DELETE", path: "/metrics"}, 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, body := tt.call.do(t, port(tt.opts)); got != tt.want {
				t.Fatalf("%d %s, want %d", got, body, tt.want)
			}
		})
	}
}

func TestLogLevelOverHTTP(t *testing.T) {
	opts := options(&source{})
	h := port(opts)
	post := func(kind, body string) (int, string) {
		header := basic("ops", "ops-secret")
		header["Content-Type"], header[guardHeader] = kind, "1"
		return call{method: "POST", path: "/api/v1/log_level", body: body, header: header}.do(t, h)
	}
	for _, tt := range []struct {
		kind, body string
		want       int
	}{
		{"text/plain", `{"level":"debug"}`, 415},
		{"application/json", `level=debug`, 400},
		{"application/json", `{"level":"loud"}`, 400},
		{"application/json", `{"level":"` + strings.Repeat("x", 2000) + `"}`, 400},
	} {
		if got, body := post(tt.kind, tt.body); got != tt.want || opts.Level.Level() != "info" {
			t.Errorf("%s %.30s: %d %s, level %s", tt.kind, tt.body, got, body, opts.Level.Level())
		}
	}
	if got, body := post("application/json; charset=utf-8", `{"level":"debug"}`); got != 200 || strings.TrimSpace(body) != `{"level":"debug"}` {
		t.Errorf("%d %s", got, body)
	}
	if _, body := (call{path: "/api/v1/log_level"}).do(t, h); strings.TrimSpace(body) != `{"level":"debug"}` {
		t.Errorf("level %s", body)
	}
}

func TestReadiness(t *testing.T) {
	src := &source{why: "database search: connection refused"}
	h := port(options(src))
	if code, body := (call{path: "/readyz"}).do(t, h); code != 503 || body != "not ready: database search: connection refused\n" {
		t.Fatalf("%d %q", code, body)
	}
	if code, _ := (call{path: "/healthz"}).do(t, h); code != 200 {
		t.Fatalf("health %d", code)
	}
	src.set(func(s *source) { s.why = "" })
	if code, body := (call{path: "/readyz"}).do(t, h); code != 200 || body != "ready\n" {
		t.Fatalf("%d %q", code, body)
	}
}

// The page is one file that brings nothing from elsewhere, and what it draws
// comes as text.
func TestThePageStandsAlone(t *testing.T) {
	_, body := call{path: "/"}.do(t, port(options(&source{snap: state()})))
	for _, bad := range []string{"http://", "https://", "<link", "src=", "@import", "innerHTML", "eval("} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
}

func TestTheTablesAsJSON(t *testing.T) {
	h := port(options(&source{snap: state()}))
	for _, sh := range shows {
		code, body := call{path: "/api/v1/" + sh.name}.do(t, h)
		var rows []map[string]any
		if err := json.Unmarshal([]byte(body), &rows); code != 200 || err != nil {
			t.Errorf("%s: %d %v", sh.name, code, err)
		}
	}
	_, body := call{path: "/api/v1/pools?extended"}.do(t, h)
	var pools []struct {
		Database string
		Waiting  int     `json:"cl_waiting"`
		Balance  *string `json:"load_balance_hosts"`
		Size     int     `json:"pool_size"`
	}
	if err := json.Unmarshal([]byte(body), &pools); err != nil || pools[0].Database != "search" || pools[0].Waiting != 2 || pools[0].Balance != nil || pools[0].Size != 20 {
		t.Errorf("%v %+v", err, pools)
	}
}

// The description has every route and no other, and every table has the
// columns and types that it says.
func TestOpenAPIIsTrue(t *testing.T) {
	h := port(options(&source{snap: state()}))
	_, body := call{path: "/api/v1/openapi.json"}.do(t, h)
	type schema struct {
		Items struct {
			Properties map[string]struct{ Type []string }
			Required   []string
		}
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct{ Schema schema }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			route := strings.ToUpper(method) + " " + path
			described[route] = true
			if h.apiRoutes()[route] == nil {
				t.Errorf("there is no %s", route)
			}
			if code, _ := (call{method: strings.ToUpper(method), path: path}).do(t, h); code == 404 || code == 405 {
				t.Errorf("%s: %d", route, code)
			}
		}
	}
	for route := range h.apiRoutes() {
		if !described[route] {
			t.Errorf("%s is not described", route)
		}
	}
	rows := 0
	for _, sh := range shows {
		is := doc.Paths["/api/v1/"+sh.name]["get"].Responses["200"].Content["application/json"].Schema.Items
		for _, more := range []string{"", "?extended"} {
			_, body := call{path: "/api/v1/" + sh.name + more}.do(t, h)
			var got []map[string]any
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			want := is.Required
			if more != "" {
				want = slices.Collect(maps.Keys(is.Properties))
			}
			for _, row := range got {
				rows++
				if names := slices.Collect(maps.Keys(row)); !sameNames(names, want) {
					t.Errorf("%s%s has %q, described are %q", sh.name, more, names, want)
				}
				for name, v := range row {
					kind := map[bool]string{true: "string", false: "integer"}[fmt.Sprintf("%T", v) == "string"]
					if v == nil {
						kind = "null"
					}
					if !slices.Contains(is.Properties[name].Type, kind) {
						t.Errorf("%s%s: %s is %v, described as %q", sh.name, more, name, v, is.Properties[name].Type)
					}
				}
			}
		}
	}
	if rows < 40 {
		t.Errorf("%d rows were compared", rows)
	}
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// What changes something is the operator's alone: a page of another site that
// the operator's browser shows cannot send it.
func TestHostileOrigins(t *testing.T) {
	opts := options(&source{snap: state()})
	h := port(opts)
	for _, tt := range []struct {
		name, host string
		header     map[string]string
		want       int
	}{
		{"no browser", "", map[string]string{guardHeader: "1"}, 200},
		{"the page itself", "127.0.0.1:6433", map[string]string{guardHeader: "1", "Origin": "http://127.0.0.1:6433", "Sec-Fetch-Site": "same-origin"}, 200},
		{"another site", "127.0.0.1:6433", map[string]string{guardHeader: "1", "Origin": "https://evil.example"}, 403},
		{"another port", "127.0.0.1:6433", map[string]string{guardHeader: "1", "Origin": "http://127.0.0.1:8080"}, 403},
		{"a sandboxed frame", "127.0.0.1:6433", map[string]string{guardHeader: "1", "Origin": "null"}, 403},
		{"a name that points here", "evil.example:6433", map[string]string{guardHeader: "1", "Origin": "http://evil.example:6433"}, 403},
		{"by the browser's word", "127.0.0.1:6433", map[string]string{guardHeader: "1", "Sec-Fetch-Site": "cross-site"}, 403},
		{"a form, which has no header", "127.0.0.1:6433", map[string]string{"Origin": "http://127.0.0.1:6433"}, 403},
	} {
		for k, v := range basic("ops", "ops-secret") {
			tt.header[k] = v
		}
		tt.header["Content-Type"] = "application/json"
		code, body := call{method: "POST", path: "/api/v1/pause", body: `{"database":"search"}`, host: tt.host, header: tt.header}.do(t, h)
		if code != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, code, body, tt.want)
		}
	}
	if got := opts.Operator.(*operator).asked; len(got) != 2 {
		t.Errorf("asked %q", got)
	}
	// The browser's question whether the header may be sent is not answered.
	code, _ := call{method: "OPTIONS", path: "/api/v1/pause", header: map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Headers": guardHeader}}.do(t, h)
	if code == 200 || code == 204 {
		t.Errorf("preflight: %d", code)
	}
}

func TestCommandsOverHTTP(t *testing.T) {
	opts := options(&source{snap: state()})
	h := port(opts)
	for _, tt := range []struct {
		user, path, body string
		want             int
	}{
		{"ops", "pause", `{}`, 200}, {"ops", "resume", `{"database":"search"}`, 200}, {"ops", "reconnect", `{"database":"search"}`, 200},
		{"ops", "kill", `{"database":"fish"}`, 404}, {"ops", "kill_client", `{"id":"7"}`, 409}, {"ops", "kill_client", `{"id":"x"}`, 409},
		{"ops", "disable", `{}`, 400}, {"ops", "disable", `{"database":"search"}`, 200}, {"ops", "pause", `{"db":"search"}`, 400},
		{"ops", "pause", `[]`, 400}, {"ops", "reload", `{}`, 200}, {"grafana", "pause", `{}`, 403}, {"app", "pause", `{}`, 401},
	} {
		header := basic(tt.user, tt.user+"-secret")
		header["Content-Type"], header[guardHeader] = "application/json", "1"
		if code, body := (call{method: "POST", path: "/api/v1/" + tt.path, body: tt.body, header: header}).do(t, h); code != tt.want {
			t.Errorf("%s %s %s: %d %s, want %d", tt.user, tt.path, tt.body, code, body, tt.want)
		}
	}
	want := []string{"pause ", "resume search", "reconnect search", "disable search"}
	if got := opts.Operator.(*operator).asked; !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func TestReadinessSaysWhyToThoseWhoMayLook(t *testing.T) {
	h := port(options(&source{why: "search: connection refused"}))
	if _, body := (call{path: "/readyz", peer: "203.0.113.5:1234"}).do(t, h); body != "not ready\n" {
		t.Errorf("from afar: %q", body)
	}
	if _, body := (call{path: "/readyz", peer: "203.0.113.5:1234", header: basic("grafana", "grafana-secret")}).do(t, h); body != "not ready: search: connection refused\n" {
		t.Errorf("logged in: %q", body)
	}
}

func TestPprofIsClosedUnlessOpened(t *testing.T) {
	opts := options(&source{})
	if code, _ := (call{path: "/debug/pprof/"}).do(t, port(opts)); code != 404 {
		t.Errorf("closed: %d", code)
	}
	opts.Pprof = true
	if code, _ := (call{path: "/debug/pprof/goroutine"}).do(t, port(opts)); code != 200 {
		t.Errorf("open: %d", code)
	}
	if code, _ := (call{path: "/debug/pprof/", peer: "203.0.113.5:1"}).do(t, port(opts)); code != 401 {
		t.Errorf("open, from afar: %d", code)
	}
}

func TestSnapshotJSON(t *testing.T) {
	_, body := call{path: "/api/v1/snapshot"}.do(t, port(options(&source{snap: state()})))
	var got struct {
		Version string
		Ready   bool
		Totals  map[string]any
		Pools   []map[string]any
		Clients []map[string]any
		Servers []map[string]any
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]any{
		"version":     {got.Version, "9.8.7"},
		"ready":       {got.Ready, true},
		"closes":      {fmt.Sprint(got.Totals["server_closes"]), "map[idle:4]"},
		"pool wait":   {got.Pools[0]["max_wait_seconds"], 2.000345},
		"pool time":   {got.Pools[0]["transaction_seconds"], 4.0},
		"client":      {got.Clients[0]["server_id"], 3.0},
		"client pin":  {got.Clients[0]["pin"], "untracked"},
		"never asked": {got.Clients[1]["request_time"], nil},
		"server":      {got.Servers[0]["pid"], 991.0},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %v, want %v", name, pair[0], pair[1])
		}
	}
}

func TestMetrics(t *testing.T) {
	src := &source{snap: state()}
	h := port(options(src))
	code, body := call{path: "/metrics"}.do(t, h)
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, want := range []string{
		`pgpoold_build_info{goversion="go`,
		`pgpoold_ready 1`,
		`pgpoold_clients{database="search",state="waiting",user="owner"} 2`,
		`pgpoold_servers{database="search",state="login",user="owner"} 11`,
		`pgpoold_pool_max_wait_seconds{database="search",user="owner"} 2.000345`,
		`pgpoold_transactions_total{database="search",user="owner"} 4`,
		`pgpoold_server_wait_seconds_sum{database="search",user="owner"} 6`,
		`pgpoold_server_closes_total{reason="idle"} 4`,
		`pgpoold_pins{reason="untracked"} 1`,
		`pgpoold_errors_total{side="pgpoold",sqlstate="57014"} 3`,
		`pgpoold_statements_bytes 2222`,
		"go_goroutines ",
		"process_open_fds ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(newCollector(port(options(src)).opts))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricLabelsAreBounded(t *testing.T) {
	var snap proxy.Snapshot
	add := func(n int) {
		for range n {
			snap.Pools = append(snap.Pools, proxy.PoolSnapshot{
				Database: fmt.Sprint("db", len(snap.Pools)), User: "u", Stats: proxy.PoolStats{Xacts: 1},
			})
		}
	}
	add(maxPoolLabels)
	src := &source{snap: snap}
	c := newCollector(port(options(src)).opts)
	if n := len(c.pools(src.Snapshot())); n != maxPoolLabels {
		t.Fatalf("%d pools", n)
	}
	add(50)
	pools := c.pools(snap)
	if len(pools) != maxPoolLabels+1 {
		t.Fatalf("%d pools", len(pools))
	}
	if n := pools[[2]string{otherLabel, otherLabel}].Stats.Xacts; n != 50 {
		t.Fatalf("%d transactions of the rest", n)
	}
}

func TestShutdownJoinsServe(t *testing.T) {
	h := port(options(&source{}))
	l := httptest.NewUnstartedServer(nil).Listener
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := h.Shutdown(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}
