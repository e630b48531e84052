package console

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5"

	"pgpoold/test/postgres"
)

var update = flag.Bool("update", false, "write the page's screenshot and the documents that the code makes")

// chromium finds a browser, and with INSTALL=1 installs one.
func chromium(t *testing.T) string {
	t.Helper()
	postgres.RequireFull(t)
	names := []string{"chromium", "chromium-browser", "google-chrome", "chromium-headless-shell"}
	find := func() string {
		for _, n := range names {
			if path, err := osexec.LookPath(n); err == nil {
				return path
			}
		}
		return ""
	}
	if path := find(); path != "" {
		return path
	}
	if os.Getenv(postgres.EnvInstall) == "1" && os.Getuid() == 0 {
		if _, err := osexec.LookPath("apt-get"); err == nil {
			for _, args := range [][]string{{"-qq", "update"}, {"-qq", "install", "-y", "--no-install-recommends", "chromium"}} {
				cmd := osexec.Command("apt-get", args...)
				cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Logf("apt-get %v: %v %s", args, err, out)
				}
			}
		}
		if path := find(); path != "" {
			return path
		}
	}
	t.Skip("there is no Chromium (INSTALL=1 installs it where apt-get is)")
	return ""
}

// browser is a headless Chromium.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := chromium(t)
	opts := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless,
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("no-proxy-server", true), chromedp.WindowSize(1280, 860), chromedp.WSURLReadTimeout(patience),
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		cancel() // waits for its end
		stop()
	})
	b := &browser{t: t, ctx: ctx}
	// The first one starts the browser, whose life no deadline may end.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// asks is the value of a script on the page.
func asks[T any](b *browser, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.run(chromedp.Click(chromedp.CSS(selector)))
}

// open shows a scene's page; user may be "" for nobody.
func (b *browser) open(s *scene, user string) {
	b.t.Helper()
	headers := network.Headers{}
	if user != "" {
		headers["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+user))
	}
	if _, err := chromedp.Call(b.ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: headers}); err != nil {
		b.t.Fatal(err)
	}
	b.run(chromedp.Navigate("http://" + s.p.AdminAddr() + "/"))
}

func (b *browser) text(selector string) string {
	b.t.Helper()
	return asks[string](b, fmt.Sprintf("(document.querySelector(%q) || {}).textContent || ''", selector))
}

func (b *browser) attribute(selector, name string) string {
	b.t.Helper()
	return asks[string](b, fmt.Sprintf("(e => e ? e.getAttribute(%q) || '' : '')(document.querySelector(%q))", name, selector))
}

// reads waits until the page's first line matches.
func (b *browser) reads(pattern string) string {
	b.t.Helper()
	re := regexp.MustCompile(pattern)
	text := ""
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if text = b.text("#cause"); re.MatchString(text) {
			return text
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the first line is %q, want %s", text, pattern)
		}
	}
}

// dress gives the page a size and a colour scheme.
func (b *browser) dress(width, height int, dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.run(chromedp.EmulateViewport(int64(width), int64(height)))
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
		b.t.Fatal(err)
	}
}

// fits checks that nothing sticks out of the page at a size and in a colour
// scheme, and that all text can be read.
func (b *browser) fits(width, height int, dark bool) {
	b.t.Helper()
	b.dress(width, height, dark)
	out := ""
	until(b.t, "the page is dressed", func() bool {
		out = asks[string](b, `(() => {
  const rgb = s => (s.match(/[\d.]+/g) || []).map(Number), light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c.slice(0, 3) } return [255, 255, 255] };
  const bad = [];
  if (innerWidth !== `+fmt.Sprint(width)+`) return 'wait';
  if ((light(ground(document.body)) < .2) !== `+fmt.Sprint(dark)+`) return 'wait';
  if (document.documentElement.scrollWidth > innerWidth) bad.push('the page is ' + document.documentElement.scrollWidth + ' wide');
  for (const e of document.querySelectorAll('h1, h2, #cause, #state, .fig span, .fig b, .tag, .legend, button, th, td, a')) {
    if (!e.offsetParent || !e.textContent.trim()) continue;
    const r = e.getBoundingClientRect(), scrolls = e.closest('.scroll');
    if (!scrolls && (r.left < 0 || r.right > innerWidth + 1)) bad.push(e.tagName + ' "' + e.textContent.slice(0, 30) + '" ends at ' + Math.round(r.right));
    const a = light(rgb(getComputedStyle(e).color).slice(0, 3)), g = light(ground(e)), ratio = (Math.max(a, g) + .05) / (Math.min(a, g) + .05);
    if (ratio < 4.5) bad.push(e.tagName + ' "' + e.textContent.slice(0, 30) + '" has a contrast of ' + ratio.toFixed(1));
  }
  return [...new Set(bad)].join('; ');
})()`)
		return out != "wait"
	})
	if out != "" {
		b.t.Errorf("%d x %d, dark %v: %s", width, height, dark, out)
	}
}

func (b *browser) shot(width, height int, dark bool, file string) {
	b.t.Helper()
	b.dress(width, height, dark)
	b.run(chromedp.Sleep(1500 * time.Millisecond))
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func TestThePage(t *testing.T) {
	b := openBrowser(t)
	s := set(t, "size: 2, min_size: 2", "")
	pool := fmt.Sprintf("[data-pool='search/%s']", superuser(s))

	b.open(s, "")
	b.reads(`^Nobody waits: 0 clients, 2 server connections\.$`)

	// Values drawn are those of SHOW POOLS.
	one, two, three := s.client("api"), s.client("api"), s.client("web")
	slow := [2]<-chan error{later(t, one, "select pg_sleep(60)"), later(t, two, "select pg_sleep(60)")}
	s.sleeps(2)
	waiter := later(t, three, "select 1")
	text := b.reads(`^search/\w+: 1 waiting, longest [\d.]+ m?s: both servers busy with queries: the pool is too small for this load \(size 2\)\.$`)
	t.Log(text)
	same := false
	for range 20 { // both sides at one moment
		row := s.pool()
		drawn := record{"cl_active": b.text(pool + " [data-col=clients_active]"), "cl_waiting": b.text(pool + " [data-col=clients_waiting]"),
			"sv_active": b.text(pool + " [data-col=servers_active]"), "sv_idle": b.text(pool + " [data-col=servers_idle]"), "sv_login": b.text(pool + " [data-col=servers_login]")}
		same = true
		for col, v := range drawn {
			same = same && row[col] == v
		}
		if same && row["cl_waiting"] == "1" && row["sv_active"] == "2" {
			break
		}
		t.Logf("drawn %v, the console says %v", drawn, row)
		same = false
		time.Sleep(200 * time.Millisecond)
	}
	if !same {
		t.Error("the page draws other values than SHOW POOLS has")
	}
	b.click("[data-tab=waiting]")
	if rows := b.text("#rows tbody"); !strings.Contains(rows, "web") {
		t.Errorf("the table of those who wait: %q", rows)
	}
	b.reads(`both servers busy, 2 running one query for over 5 s, application api`)
	for _, conn := range []*pgx.Conn{one, two} {
		if err := conn.PgConn().CancelRequest(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	for _, done := range slow {
		if err := ended(t, "a query", done); code(err) != "57014" {
			t.Fatal(err)
		}
	}
	if err := ended(t, "the waiter", waiter); err != nil {
		t.Fatal(err)
	}

	// The chart moves under load.
	before := b.attribute(pool+" .chart .a", "d")
	l := s.load(4)
	until(t, "the chart moves", func() bool {
		d := b.attribute(pool+" .chart .a", "d")
		return d != before && b.text(pool+" [data-col=xacts]") != "0" && b.attribute(pool+" .spark .q", "d") != ""
	})
	b.click("[data-tab=frequent]")
	until(t, "fingerprints", func() bool { return strings.Contains(b.text("#rows tbody"), "select ?") })

	// Somebody who may: pause, and resume. Others have no buttons.
	if d := b.attribute(pool+" .top > span:last-child", "style"); !strings.Contains(d, "none") {
		t.Errorf("buttons for nobody: %q", d)
	}
	b.open(s, "ops")
	press := func(label string) {
		t.Helper()
		until(t, "the button "+label, func() bool {
			return asks[bool](b, fmt.Sprintf(`(() => { for (const x of document.querySelectorAll("%s button")) if (x.textContent === %q && x.offsetParent) { x.click(); return true } return false })()`, pool, label))
		})
	}
	press("Pause")
	b.reads(`^search/\w+: 4 waiting, longest .*: paused\. RESUME lets clients go on\.$`)
	if s.pool()["paused"] != "1" {
		t.Error("it is not paused")
	}
	press("Resume")
	l.moved(t)
	// A client can be killed, by somebody who presses twice.
	victim := s.client("victim")
	b.click("[data-tab=clients]")
	var id string
	until(t, "the victim's row", func() bool {
		id = asks[string](b, `(() => { for (const r of document.querySelectorAll("#rows tbody tr")) if (r.textContent.includes("victim")) { r.querySelector("button").click(); return r.cells[0].textContent } return "" })()`)
		return id != ""
	})
	until(t, "it is asked again", func() bool {
		return asks[bool](b, `(() => { const x = document.querySelector("#rows button.sure"); if (x) x.click(); return !!x })()`)
	})
	until(t, "the victim is gone", func() bool { return s.one("CLIENTS", "application_name", "victim")["id"] == "" })
	if err := victim.Ping(within(t)); err == nil {
		t.Error("the victim lives")
	}
	press("Reconnect")
	until(t, "closed by reconnect", func() bool {
		_, m := s.get("/metrics")
		return regexp.MustCompile(`pgpoold_server_closes_total{reason="reconnect"} [1-9]`).MatchString(m)
	})
	l.moved(t)
	for _, tab := range []string{"frequent", "clients"} {
		b.click("[data-tab=" + tab + "]")
		for _, dark := range []bool{false, true} {
			b.fits(1280, 860, dark)
			b.fits(390, 844, dark)
		}
	}
	b.dress(1280, 860, false)

	// A page of another site, in the browser of somebody who is logged in.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<form id="f" method="post" target="frame"><input name="database" value="search"></form><iframe name="frame"></iframe>`)
	}))
	defer other.Close()
	b.run(chromedp.Navigate(other.URL))
	asks[bool](b, fmt.Sprintf(`(() => { window.out = []; const url = "http://%s/api/v1/kill", body = '{"database":"search"}';
  for (const init of [{ mode: "no-cors" }, { mode: "no-cors", headers: { "X-Pgpoold": "1" } }, { headers: { "X-Pgpoold": "1", "Content-Type": "application/json" } }])
    fetch(url, { method: "POST", credentials: "include", body, ...init }).then(r => out.push("answer " + r.status), e => out.push("none"));
  const f = document.getElementById("f"); f.action = url; f.submit(); return true })()`, s.p.AdminAddr()))
	until(t, "what became of it", func() bool { return asks[int](b, "out.length") == 3 })
	if out := asks[string](b, `out.join()`); strings.Contains(out, "answer 2") {
		t.Errorf("another site's page is answered: %s", out)
	}
	if s.pool()["paused"] != "0" {
		t.Error("another site's page has killed the pool")
	}
	l.moved(t)
	b.open(s, "ops")
	if *update {
		busy := later(t, one, "select pg_sleep(1.5)")
		b.click("[data-tab=frequent]")
		b.run(chromedp.Sleep(4 * time.Second))
		b.shot(1280, 760, false, filepath.Join("..", "..", "docs", "page.png"))
		if dir := os.Getenv("PGPOOLD_SHOTS"); dir != "" {
			b.shot(1280, 760, true, filepath.Join(dir, "dark.png"))
			b.shot(390, 844, false, filepath.Join(dir, "phone.png"))
			b.shot(390, 844, true, filepath.Join(dir, "phone-dark.png"))
		}
		if err := ended(t, "a query", busy); err != nil {
			t.Fatal(err)
		}
	}
	l.end(t)
}

func superuser(s *scene) string {
	return s.pool()["user"]
}

// The page says in words what keeps clients waiting.
func TestThePageNamesTheCause(t *testing.T) {
	b := openBrowser(t)
	s := set(t, "size: 2, max_pinned: 2", "")
	b.open(s, "")

	// Idle in transaction.
	one, two := s.client("api"), s.client("api")
	exec(t, one, "begin")
	exec(t, two, "begin")
	waiter := later(t, s.client("web"), "select 1")
	t.Log(b.reads(`^search/\w+: 1 waiting, longest [\d.]+ s: both servers busy, 2 of them idle in transaction for over 5 s, application api\.$`))
	exec(t, one, "commit")
	exec(t, two, "commit")
	if err := ended(t, "the waiter", waiter); err != nil {
		t.Fatal(err)
	}
	b.reads(`^Nobody waits`)

	// Pins.
	exec(t, one, "listen here")
	exec(t, two, "listen here")
	waiter = later(t, s.client("web"), "select 1")
	t.Log(b.reads(`^search/\w+: 1 waiting, longest .*: both servers busy, 2 pinned \(\w+\), application api\.$`))
	b.click("[data-tab=pinned]")
	if rows := b.text("#rows tbody"); !strings.Contains(rows, "api") {
		t.Errorf("the table of pins: %q", rows)
	}
	_ = one.Close(within(t))
	_ = two.Close(within(t))
	if err := ended(t, "the waiter", waiter); err != nil {
		t.Fatal(err)
	}

	// Clients that do not read their results.
	for range 2 {
		c := s.client("lazy")
		raw, err := c.PgConn().Hijack()
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Conn.Close()
		sql := "select repeat('x', 8000) from generate_series(1, 20000)\x00"
		msg := append([]byte{'Q', 0, 0, byte((len(sql) + 4) >> 8), byte(len(sql) + 4)}, sql...)
		if _, err := raw.Conn.Write(msg); err != nil {
			t.Fatal(err)
		}
	}
	waiter = later(t, s.client("web"), "select 1")
	t.Log(b.reads(`^search/\w+: 1 waiting, longest .*: both servers busy, 2 held by clients that do not read their results, application lazy\.$`))
	exec(t, s.console("ops"), "KILL search")
	if err := ended(t, "the waiter", waiter); code(err) != "57P01" {
		t.Fatal(err)
	}

	// A server that is away, and one that refuses the login.
	if err := s.cluster.Exec(within(t), "postgres", "drop role if exists page_nologin; create role page_nologin nologin"); err != nil {
		t.Fatal(err)
	}
	refuses := strings.Replace(s.dsn, superuserInfo(s.dsn), "page_nologin@", 1)
	for _, tt := range []struct{ dsn, want string }{
		{"postgres://gone@127.0.0.1:1/x", `^search/gone: PostgreSQL cannot be reached: cannot connect to server 127\.0\.0\.1:1: .*refused\.$`},
		{refuses, `^search/page_nologin: PostgreSQL refuses the login of page_nologin: .*not permitted to log in.*\.$`},
	} {
		away := on(t, s.cluster, tt.dsn, "size: 2", "")
		b.open(away, "")
		t.Log(b.reads(tt.want))
		if code, body := away.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "not ready: search") {
			t.Errorf("/readyz: %d %s", code, body)
		}
	}
}
