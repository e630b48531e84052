package console

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	dto "github.com/prometheus/client_model/go"
)

// watchedTables are the tables of which every column must have been seen to
// move, with those that only SHOW EXTENDED has.
var watchedTables = []string{"POOLS", "CLIENTS", "SERVERS", "STATS", "DATABASES", "USERS"}

// reading is what an operator sees of a scene at one moment, by name:
// POOLS.cl_active of the database search, CLIENTS[a].state of the client that
// calls itself a, SERVERS[1].state of the oldest server, USERS[app].name, and
// metrics without "pgpoold_": clients[waiting]. NULL is told from "".
type reading map[string]string

// effects are what something moves, by name; a name that ends in "*" stands
// for all that begin so. What is not named must stay as it is. How it moves:
//
//	+2, -1       by so much
//	+in, +out    by the bytes that the scene's clients wrote, and read
//	more, less   by any amount
//	differs      to another value
//	=x           to x, and it was something else
//	is x         to x, which it may have been before
//	later        to a later time
//	maybe        in any way, or not at all
//	new, gone    it comes, or goes
type effects map[string]string

// with is these effects and those, which win.
func (e effects) with(more effects) effects {
	all := maps.Clone(e)
	maps.Copy(all, more)
	return all
}

// ledger notes what has been seen to move, over all scenes.
type ledger struct {
	moved   map[string]bool            // by name without what is in brackets behind a table's name
	values  map[string]map[string]bool // of each column, all it ever was
	columns map[string][]string        // of each watched table, as the console gives them
	metrics map[string]bool            // families of a scrape
}

func newLedger() *ledger {
	return &ledger{moved: map[string]bool{}, values: map[string]map[string]bool{}, columns: map[string][]string{}, metrics: map[string]bool{}}
}

var rowName = regexp.MustCompile(`^([A-Z]+)\[[^\]]*\]`)

// general is a name without the row that it is of.
func general(name string) string { return rowName.ReplaceAllString(name, "$1") }

// watcher reads one scene, over one console that stays.
type watcher struct {
	*scene
	ledger  *ledger
	conn    *pgconn.PgConn
	user    string // on the server
	clients map[string]*countedClient
}

// countedClient is a client whose bytes are counted where it sends them.
type countedClient struct {
	*pgx.Conn
	wrote, read atomic.Int64
	tls         string // as the console names it
}

type countedConn struct {
	net.Conn
	c *countedClient
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.c.wrote.Add(int64(n))
	return n, err
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.c.read.Add(int64(n))
	return n, err
}

func watch(s *scene, l *ledger) *watcher {
	s.t.Helper()
	conn, err := pgconn.Connect(within(s.t), s.p.DSN("grafana:grafana", "pgbouncer"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &watcher{scene: s, ledger: l, conn: conn, user: superuser(s), clients: map[string]*countedClient{}}
}

// counted connects a client whose bytes count; its startup parameters are its
// application's name and no others.
func (w *watcher) counted(application string, more ...string) *countedClient {
	w.t.Helper()
	cfg, err := pgx.ParseConfig(w.p.DSN("app:app", "search") + "&application_name=" + application + strings.Join(more, ""))
	if err != nil {
		w.t.Fatal(err)
	}
	c := &countedClient{}
	var over *tls.Conn
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	cfg.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		over, _ = conn.(*tls.Conn)
		return countedConn{conn, c}, nil
	}
	if c.Conn, err = pgx.ConnectConfig(within(w.t), cfg); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close(context.Background()) })
	if over != nil {
		state := over.ConnectionState()
		c.tls = strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1) + "/" + tls.CipherSuiteName(state.CipherSuite)
	}
	w.clients[application] = c
	// It may use its session before the console lists it.
	until(w.t, "the client is listed", func() bool { return w.look()["CLIENTS["+application+"].id"] != "" })
	return c
}

// bytes are what all counted clients have written and read.
func (w *watcher) bytes() (wrote, read int64) {
	for _, c := range w.clients {
		wrote += c.wrote.Load()
		read += c.read.Load()
	}
	return wrote, read
}

// look takes a reading.
func (w *watcher) look() reading {
	w.t.Helper()
	r := reading{}
	for _, table := range watchedTables {
		res := w.conn.ExecParams(within(w.t), "SHOW EXTENDED "+table, nil, nil, nil, nil).Read()
		if res.Err != nil {
			w.t.Fatalf("SHOW EXTENDED %s: %v", table, res.Err)
		}
		var names []string
		for _, f := range res.FieldDescriptions {
			names = append(names, f.Name)
		}
		w.ledger.columns[table] = names
		at := func(row [][]byte, column string) string { return string(row[slices.Index(names, column)]) }
		n := 0
		for _, row := range res.Rows {
			of := table
			switch table {
			case "DATABASES":
				if at(row, "name") != "search" {
					continue
				}
			case "USERS":
				switch at(row, "name") {
				case "app":
					of += "[app]"
				case w.user:
					of += "[server]"
				default: // consoles come and go
					continue
				}
			case "CLIENTS":
				if at(row, "database") != "search" {
					continue
				}
				of += "[" + at(row, "application_name") + "]"
			case "SERVERS":
				n++
				of += "[" + strconv.Itoa(n) + "]"
			default:
				if at(row, "database") != "search" {
					continue
				}
			}
			for i, v := range row {
				cell := string(v)
				if v == nil {
					cell = "NULL"
				}
				r[of+"."+names[i]] = cell
				name := table + "." + names[i]
				if w.ledger.values[name] == nil {
					w.ledger.values[name] = map[string]bool{}
				}
				w.ledger.values[name][cell] = true
			}
		}
	}
	for name, f := range scrape(w.t, "http://"+w.p.AdminAddr()+"/metrics") {
		name, ours := strings.CutPrefix(name, "pgpoold_")
		if !ours {
			continue
		}
		w.ledger.metrics[name] = true
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if n := l.GetName(); n != "database" && n != "user" {
					labels = append(labels, l.GetValue())
				}
			}
			key := name
			if len(labels) > 0 {
				key += "[" + strings.Join(labels, " ") + "]"
			}
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				r[key] = strconv.FormatUint(m.GetHistogram().GetSampleCount(), 10)
				r[key+"_sum"] = strconv.FormatFloat(m.GetHistogram().GetSampleSum(), 'g', -1, 64)
				if n := len(m.GetHistogram().GetBucket()); n < 10 || m.GetHistogram().GetBucket()[n-1].GetCumulativeCount() > m.GetHistogram().GetSampleCount() {
					w.t.Errorf("%s: %d buckets", key, n)
				}
			case dto.MetricType_COUNTER:
				r[key] = strconv.FormatFloat(m.GetCounter().GetValue(), 'g', -1, 64)
			default:
				r[key] = strconv.FormatFloat(m.GetGauge().GetValue(), 'g', -1, 64)
			}
		}
	}
	return r
}

// does does something and waits until what it should move has moved, and
// nothing else has.
func (w *watcher) does(what string, do func(), want effects) {
	w.t.Helper()
	before := w.look()
	wrote, read := w.bytes()
	do()
	var least []string // what was wrong when least was
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		after := w.look()
		nowWrote, nowRead := w.bytes()
		seen, wrong := compare(before, after, want, nowWrote-wrote, nowRead-read)
		if len(wrong) == 0 {
			for _, name := range seen {
				w.ledger.moved[general(name)] = true
			}
			return
		}
		if least == nil || len(wrong) < len(least) {
			least = wrong
		}
		if time.Now().After(deadline) {
			slices.Sort(least)
			w.t.Fatalf("%s:\n  %s", what, strings.Join(least, "\n  "))
		}
	}
}

// effect finds what stands for a name: itself, or the longest beginning.
func (e effects) effect(name string) string {
	if v, ok := e[name]; ok {
		return v
	}
	best, found := "", ""
	for pattern, v := range e {
		if start, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, start) && len(pattern) > len(best) {
			best, found = pattern, v
		}
	}
	return found
}

// compare says which names moved as they should, and what is wrong.
func compare(before, after reading, want effects, wrote, read int64) (seen, wrong []string) {
	names := maps.Clone(after)
	maps.Copy(names, before)
	for name := range want {
		if !strings.HasSuffix(name, "*") {
			names[name] = ""
		}
	}
	for name := range names {
		was, had := before[name]
		is, has := after[name]
		effect := want.effect(name)
		if effect == "maybe" {
			continue
		}
		ok := false
		x, _ := strconv.ParseFloat(was, 64)
		y, err := strconv.ParseFloat(is, 64)
		switch {
		case effect == "":
			ok = was == is && had == has
		case effect == "new":
			ok = !had && has
		case effect == "gone":
			ok = had && !has
		case effect == "more":
			ok = has && err == nil && y > x
		case effect == "differs":
			ok = had && has && is != was
		case effect == "less":
			ok = had && err == nil && y < x
		case effect == "later":
			ok = has && had && is > was
		case effect == "+in":
			ok = has && err == nil && y-x == float64(wrote) && wrote > 0
		case effect == "+out":
			ok = has && err == nil && y-x == float64(read) && read > 0
		case effect[0] == '=':
			ok = has && is == effect[1:] && was != is
		case strings.HasPrefix(effect, "is "):
			ok = has && is == effect[3:]
		default:
			n, bad := strconv.ParseFloat(effect, 64)
			ok = has && bad == nil && err == nil && y-x == n && n != 0
		}
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s: from %q to %q, want %q", name, was, is, effect))
		case effect == "new" && want[name] == "", effect == "gone" && want[name] == "": // a whole row
		case effect != "" && was != is:
			seen = append(seen, name)
		}
	}
	return seen, wrong
}

// facts are values that are what they are while a row lives.
func (w *watcher) facts(want map[string]string) {
	w.t.Helper()
	r := w.look()
	for name, v := range want {
		if got, ok := r[name]; !ok || got != v {
			w.t.Errorf("%s is %q, want %q", name, got, v)
		}
		w.ledger.moved[general(name)] = true
	}
}

// complete fails for each column and each metric that nothing has moved, but
// for columns that docs/console.md says never do: those must never have.
func (l *ledger) complete(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	still := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z_, ]+) \| ([a-z_, ]+) \| (0|NULL|empty) \|`).FindAllStringSubmatch(string(text), -1) {
		for _, table := range strings.Split(m[1], ", ") {
			for _, column := range strings.Split(m[2], ", ") {
				still[table+"."+column] = strings.Replace(m[3], "empty", "", 1)
			}
		}
	}
	for _, table := range watchedTables {
		if len(l.columns[table]) == 0 {
			t.Errorf("SHOW %s has no columns", table)
		}
		for _, column := range l.columns[table] {
			name := table + "." + column
			value, never := still[name]
			switch {
			case never && l.moved[name]:
				t.Errorf("%s moves, and docs/console.md says that it does not", name)
			case name == "CLIENTS.close_needed": // 1 only in the moment in which a client is closed
			case never && (len(l.values[name]) != 1 || !l.values[name][value]):
				t.Errorf("%s was %q, and docs/console.md says that it is always %q", name, slices.Sorted(maps.Keys(l.values[name])), value)
			case !never && !l.moved[name]:
				t.Errorf("nothing moves %s", name)
			}
		}
	}
	families, states := map[string]bool{}, map[string]bool{}
	for name := range l.moved {
		family, state, _ := strings.Cut(strings.TrimSuffix(name, "]"), "[")
		families[family] = true
		states[family+" "+state] = true
	}
	if len(l.metrics) < 40 {
		t.Errorf("%d metrics", len(l.metrics))
	}
	for name := range l.metrics {
		if !families[name] {
			t.Errorf("nothing moves pgpoold_%s", name)
		}
	}
	for _, name := range strings.Fields("active waiting active_cancel_req waiting_cancel_req") {
		if !states["clients "+name] {
			t.Errorf("nothing moves pgpoold_clients, state %s", name)
		}
	}
	for _, name := range strings.Fields("active active_cancel being_canceled idle used tested login") {
		if !states["servers "+name] {
			t.Errorf("nothing moves pgpoold_servers, state %s", name)
		}
	}
}
