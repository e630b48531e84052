package change

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgpoold/config"
	"pgpoold/proxy"
	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

// reload reads another configuration, which must be taken as a whole.
func reload(t testing.TB, p *harness.Pgpoold, yaml string) {
	t.Helper()
	notes, err := p.Reload(common + yaml)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range notes {
		t.Errorf("not taken: %s", n)
	}
}

// TestReloadUnderLoad: pools are resized, and servers replaced by others with
// other parameters and another user, and no client notices.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	one, other := db+"_one", db+"_other"
	for _, role := range []string{one, other} {
		if err := c.Exec(within(t), "postgres", "create role "+role+" superuser login"); err != nil {
			t.Fatal(err)
		}
	}
	yaml := func(size int, user, params string) string {
		return fmt.Sprintf("pool: {size: %d}\ndatabases: {%s: {dsn: %q, user: %s, password: unused}}\n", size, db, c.SuperDSN(db)+params, user)
	}
	p := start(t, yaml(5, one, ""))
	b := keep(t, p, c, db, 8)
	b.goOn(100)
	for _, size := range []int{1, 8, 3, 5} {
		reload(t, p, yaml(size, one, ""))
		until(t, fmt.Sprintf("no more than %d servers", size), func() bool { return servers(p, db) <= size })
		b.goOn(100)
	}
	sep := "?"
	if strings.Contains(c.SuperDSN(db), "?") {
		sep = "&"
	}
	for _, want := range []struct{ user, params, memory string }{{one, sep + "work_mem=7MB", "7MB"}, {other, "", "4MB"}} {
		reload(t, p, yaml(5, want.user, want.params))
		b.goOn(100)
		until(t, "all servers are the new ones", func() bool {
			rows, err := c.Query(within(t), "postgres", fmt.Sprintf("select usename from pg_stat_activity where datname = '%s' and usename like '%s%%'", db, db))
			if err != nil {
				t.Fatal(err)
			}
			return len(rows) > 0 && !slices.ContainsFunc(rows, func(r []string) bool { return r[0] != want.user })
		})
		conn := connect(t, p, "app", db)
		var memory, user string
		if err := conn.QueryRow(within(t), "select current_setting('work_mem'), current_user").Scan(&memory, &user); err != nil || memory != want.memory || user != want.user {
			t.Errorf("%s, %s, %v", memory, user, err)
		}
		for _, pool := range p.Server().Snapshot().Pools {
			if pool.User != want.user {
				t.Errorf("a pool of %s", pool.User)
			}
		}
	}
	b.clean()
}

// TestReloadOfDatabases: a database that comes can be used, and the clients of
// one that goes end between transactions.
func TestReloadOfDatabases(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	stays, goes, comes := newDB(t, c), newDB(t, c), newDB(t, c)
	yaml := func(names ...string) string {
		s := "databases:\n"
		for _, n := range names {
			s += fmt.Sprintf("  %s: {dsn: %q}\n", n, c.SuperDSN(n))
		}
		return s
	}
	p := start(t, yaml(stays, goes))
	b := keep(t, p, c, stays, 2)
	idle, busy, other := connect(t, p, "app", goes), connect(t, p, "app", goes), connect(t, p, "app", stays)
	exec(t, idle, "select 1")
	exec(t, other, "select 1")
	exec(t, busy, "begin")
	if _, err := open(t, p, "app", comes); told(err).Code != "3D000" {
		t.Errorf("before: %v", err)
	}
	reload(t, p, yaml(stays, comes))
	exec(t, connect(t, p, "app", comes), "select 1")
	if _, err := open(t, p, "app", goes); told(err).Code != "3D000" {
		t.Errorf("after: %v", err)
	}
	until(t, "the idle client is ended", func() bool {
		_, err := idle.Exec(within(t), "select 1")
		return err != nil
	})
	exec(t, busy, "select 1")
	exec(t, busy, "commit")
	until(t, "the busy client is ended", func() bool {
		_, err := busy.Exec(within(t), "select 1")
		if err != nil && told(err).Code != "57P01" {
			t.Fatalf("the busy client: %v", err)
		}
		return err != nil
	})
	until(t, "the pool is gone", func() bool {
		return !slices.ContainsFunc(p.Server().Pools(), func(s proxy.PoolSnapshot) bool { return s.Database == goes })
	})
	exec(t, other, "select 1")
	b.clean()
}

// TestReloadReadsTLSFilesAgain: new clients see the new certificate, those who
// are in stay, and a broken file changes nothing.
func TestReloadReadsTLSFilesAgain(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	serial := func(p *harness.Pgpoold) string {
		t.Helper()
		nc, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
			t.Fatal(err)
		}
		var yes [1]byte
		if _, err := nc.Read(yes[:]); err != nil || yes[0] != 'S' {
			t.Fatalf("%q, %v", yes, err)
		}
		over := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		return over.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	writeCert(t, cert, key, 1001)
	yaml := fmt.Sprintf("listen: {tls: {mode: allow, cert_file: %q, key_file: %q}}\ndatabases: {%s: {dsn: %q}}\n", cert, key, db, c.SuperDSN(db))
	p := start(t, yaml)
	conn, err := pgx.Connect(within(t), strings.Replace(p.DSN("app:app", db), "sslmode=disable", "sslmode=require", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(within(t))
	if s := serial(p); s != "1001" {
		t.Fatalf("certificate %s", s)
	}
	writeCert(t, cert, key, 1002)
	if s := serial(p); s != "1001" {
		t.Errorf("certificate %s before the reload", s)
	}
	reload(t, p, yaml)
	if s := serial(p); s != "1002" {
		t.Errorf("certificate %s after the reload", s)
	}
	exec(t, conn, "select 1")
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Reload(common + yaml); err == nil || !strings.Contains(err.Error(), "listen.tls.cert_file") {
		t.Errorf("a broken certificate: %v", err)
	}
	if s := serial(p); s != "1002" {
		t.Errorf("certificate %s after a broken one", s)
	}
}

// wrongValues are mistakes that a setting's value can have, with the kind of
// answer that each must get.
func wrongValues(s *config.Setting) map[string]string {
	wrong := map[string]string{"variable": "${NO_SUCH_VARIABLE}", "file": "${file:/nonexistent/secret}"}
	switch s.Kind {
	case config.KindInt:
		wrong["type"], wrong["range"] = "many", fmt.Sprint(s.Max+1)
	case config.KindSize:
		wrong["type"], wrong["range"] = "many", "99999999TiB"
	case config.KindDuration:
		wrong["type"], wrong["range"] = "soon", "9999999h"
	case config.KindBool:
		wrong["type"] = "perhaps"
	case config.KindWord:
		wrong["type"] = "fish"
	case config.KindOctal:
		wrong["type"], wrong["range"] = "rwx", "7777777"
	default:
		wrong["type"] = "{a: b}"
	}
	return wrong
}

// misconfigure is a configuration in which one setting is wrong, and the line
// of the mistake. Each section stands on lines of its own.
func misconfigure(s *config.Setting, database string, values ...string) (text string, line int) {
	path := strings.Split(s.Path, ".")
	if s.Scope == config.ScopeDatabase {
		path = append([]string{"databases", "mistaken"}, path...)
	}
	text = common
	if path[0] == "auth" || path[0] == "admin" || path[0] == "log" || path[0] == "drain_timeout" {
		text = regexp.MustCompile(`(?m)^`+path[0]+`:.*\n`).ReplaceAllString(text, "")
	}
	if path[0] != "databases" {
		text += database
	}
	for i, key := range path[:len(path)-1] {
		text += strings.Repeat("  ", i) + key + ":\n"
	}
	for _, value := range values {
		text += strings.Repeat("  ", len(path)-1) + path[len(path)-1] + ": " + value + "\n"
	}
	return text, strings.Count(text, "\n")
}

// TestReloadMistakes: whatever is wrong with whatever setting, the answer has
// the file and the line, and everything stays as it was.
func TestReloadMistakes(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	database := fmt.Sprintf("databases: {%s: {dsn: %q}}\n", db, c.SuperDSN(db))
	p := start(t, database)
	console, err := pgx.Connect(within(t), p.DSN("ops:ops", "pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close(within(t))
	show := func() string {
		t.Helper()
		rows, err := console.Query(within(t), "show config")
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) { v, err := r.Values(); return fmt.Sprint(v), err })
		if err != nil || len(all) < 50 {
			t.Fatalf("%d settings, %v", len(all), err)
		}
		return strings.Join(all, "\n")
	}
	before, tried := show(), 0
	mistaken := func(name, text string, line int, want ...string) {
		t.Helper()
		tried++
		_, err := p.Reload(text)
		if err == nil {
			t.Errorf("%s: taken:\n%s", name, text)
			return
		}
		if !strings.Contains(err.Error(), fmt.Sprintf("%s:%d: ", filepath.Base(p.File()), line)) {
			t.Errorf("%s: no word of line %d: %v", name, line, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: no word of %s: %v", name, w, err)
			}
		}
		if strings.Contains(err.Error(), c.SuperDSN(db)) {
			t.Errorf("%s: the answer has the DSN: %v", name, err)
		}
	}
	for _, s := range config.Settings() {
		for kind, value := range wrongValues(&s) {
			text, line := misconfigure(&s, database, value)
			want := s.Path
			if kind == "variable" {
				want = "NO_SUCH_VARIABLE"
			}
			mistaken(s.Name+", wrong "+kind, text, line, want)
		}
		value := s.Default
		if value == "" {
			value = "x"
		}
		text, line := misconfigure(&s, database, value, value)
		mistaken(s.Name+", twice", text, line, "duplicate")
		// A letter too many is answered with the key that is meant.
		wrong := s
		wrong.Path += "x"
		text, line = misconfigure(&wrong, database, value)
		key := s.Path[strings.LastIndexByte(s.Path, '.')+1:]
		mistaken(s.Name+", misspelt", text, line, "did you mean "+key+"?")
		if after := show(); after != before {
			t.Fatalf("%s: SHOW CONFIG has changed:\n%s\n%s", s.Name, before, after)
		}
	}
	if err := os.Remove(p.File()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ReloadFile(); !errors.Is(err, os.ErrNotExist) && (err == nil || !strings.Contains(err.Error(), p.File())) {
		t.Errorf("without its file: %v", err)
	}
	if after := show(); after != before {
		t.Error("SHOW CONFIG has changed without a file")
	}
	exec(t, connect(t, p, "app", db), "select 1")
	t.Logf("%d mistakes", tried)
}

// TestReloadMovesMaxPinned: how many servers sessions may keep follows the
// size of the pool.
func TestReloadMovesMaxPinned(t *testing.T) {
	t.Parallel()
	c := postgres.ForTest(t)
	db := newDB(t, c)
	yaml := func(size int) string {
		return fmt.Sprintf("pool: {size: %d}\ndatabases: {%s: {dsn: %q}}\n", size, db, c.SuperDSN(db))
	}
	p := start(t, yaml(2))
	first, second := connect(t, p, "app", db), connect(t, p, "app", db)
	exec(t, first, "listen news")
	_, err := second.Exec(within(t), "listen news")
	refused(t, err, "ERROR", "53300", "max_pinned", "pool.max_pinned")
	reload(t, p, yaml(4))
	exec(t, second, "listen news")
}
