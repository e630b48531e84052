package proxy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

func set(pairs ...string) settings {
	var list []setting
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, setting{pairs[i], pairs[i+1]})
	}
	return newSettings(list)
}

// Sets are equal exactly if they mean the same.
func TestSettingsEqual(t *testing.T) {
	for _, r := range []struct {
		name string
		a, b settings
		want bool
	}{
		{"empty", set(), settings{}, true},
		{"order", set("a", "1", "b", "2"), set("b", "2", "a", "1"), true},
		{"the later counts", set("a", "1", "a", "2"), set("a", "2"), true},
		{"names without case", set("a", "1", "A", "2"), set("A", "2"), true},
		{"value", set("a", "1"), set("a", "2"), false},
		{"value with case", set("a", "x"), set("a", "X"), false},
		{"empty value", set("a", ""), set(), false},
		{"no confusion of name and value", set("a", "b"), set("b", "a"), false},
		{"taken away again", set("a", "1", "b", "2").with("B", "", false), set("a", "1"), true},
		{"the last taken away", set("a", "1").with("a", "", false), settings{}, true},
		{"changed", set("a", "1").with("A", "2", true).with("a", "1", true), set("a", "1"), true},
	} {
		if got := r.a == r.b; got != r.want {
			t.Errorf("%s: %v and %v are equal: %v", r.name, r.a.list(), r.b.list(), got)
		}
	}
	if v, ok := set("TimeZone", "UTC").get("timezone"); !ok || v != "UTC" {
		t.Errorf("%q, %v", v, ok)
	}
	if _, ok := (settings{}).get("timezone"); ok {
		t.Error("the empty set has a time zone")
	}
}

// What decides over the meaning of a statement's text.
func TestSettingsParsing(t *testing.T) {
	full := set("application_name", "x", "TimeZone", "UTC", "statement_timeout", "1s", "app.tenant", "7", "Lock_Timeout", "1s", "work_mem", "5MB", "enable_seqscan", "off", "seq_page_cost", "2", "app.log_cost", "1")
	if got := full.parsing(); got != set("TimeZone", "UTC", "app.tenant", "7", "app.log_cost", "1") {
		t.Errorf("%v", got.list())
	}
	if got := set("application_name", "x").parsing(); got != noSettings {
		t.Errorf("%v", got.list())
	}
}

func TestReplay(t *testing.T) {
	for _, r := range []struct {
		name         string
		from, to     settings
		reset, fatal bool
		want         string
	}{
		{"nothing", set("a", "1"), set("a", "1"), false, true, "SET exit_on_error=on;SET exit_on_error=off"},
		{"one", set(), set("a", "1"), false, true, "SET exit_on_error=on;SELECT pg_catalog.set_config('a','1',false);SET exit_on_error=off"},
		{"trial", set(), set("a", "1"), false, false, "SELECT pg_catalog.set_config('a','1',false);"},
		{"back", set("TimeZone", "UTC"), set(), false, false, `RESET "timezone";`},
		{"back, of two parts", set(`app.x"y`, "UTC"), set(), false, false, `RESET "app"."x""y";`},
		{"changed", set("a", "1"), set("a", "2"), false, false, "SELECT pg_catalog.set_config('a','2',false);"},
		{"unknown before", set("a", "1"), set("a", "1"), true, true, "SET exit_on_error=on;SET TRANSACTION NOT DEFERRABLE;RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;SET exit_on_error=on;" +
			"SELECT pg_catalog.set_config('a','1',false);SET exit_on_error=off"},
		{"quotes", set(), set("a", `it's \ "x"`), false, false, `SELECT pg_catalog.set_config('a', E'it''s \\ "x"',false);`},
		{"what hinders goes first", set("a", "1", "role", "r", "statement_timeout", "1"), set("a", "2"), false, false,
			`RESET "role";RESET "statement_timeout";SELECT pg_catalog.set_config('a','2',false);`},
		{"and comes last", set(), set("role", "r", "statement_timeout", "1", "z", "2"), false, false,
			"SELECT pg_catalog.set_config('z','2',false),pg_catalog.set_config('statement_timeout','1',false),pg_catalog.set_config('role','r',false);"},
		{"also where it changes", set("statement_timeout", "1"), set("a", "1", "statement_timeout", "2"), false, false,
			`RESET "statement_timeout";SELECT pg_catalog.set_config('a','1',false),pg_catalog.set_config('statement_timeout','2',false);`},
		{"and where it stays", set("role", "r", "a", "1"), set("role", "r", "a", "2"), false, false,
			`RESET "role";SELECT pg_catalog.set_config('a','2',false),pg_catalog.set_config('role','r',false);`},
		{"none of these where nothing else changes", set("role", "r"), set("role", "r"), false, false, ""},
		{"the session's own exit_on_error", set("exit_on_error", "on", "a", "1"), set("exit_on_error", "on"), false, true,
			`SET exit_on_error=on;RESET "a";SET exit_on_error=on`},
		{"no value was wished for", set("app.x", ""), set(), false, false, ""},
		{"nor is", set(), set("app.x", ""), false, false, "SELECT pg_catalog.set_config('app.x','',false);"},
		{"bytes of any encoding", set(), set("a", "\xe4"), false, false,
			"SELECT pg_catalog.set_config('a',pg_catalog.convert_from(pg_catalog.decode('e4','hex'),pg_catalog.getdatabaseencoding()),false);"},
	} {
		t.Run(r.name, func(t *testing.T) {
			if got := replay(r.from, r.to, r.reset, r.fatal); got != r.want {
				t.Errorf("%s", got)
			}
		})
	}
}

func run(t *testing.T, conn *pgconn.PgConn, sql string) (string, error) {
	t.Helper()
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		return "", err
	}
	var words []string
	for _, row := range results[len(results)-1].Rows {
		for _, v := range row {
			words = append(words, string(v))
		}
	}
	return strings.Join(words, " "), nil
}

// PostgreSQL takes what replay says, from every set to every other.
func TestReplayOnPostgreSQL(t *testing.T) {
	c := postgres.ForTest(t)
	if err := c.Exec(t.Context(), "postgres", "CREATE ROLE replayed; CREATE ROLE replayed2"); err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.Connect(t.Context(), c.SuperDSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	names := []string{"TimeZone", "application_name", "role", "statement_timeout", "search_path", "log_statement", "app.x", "standard_conforming_strings", "backslash_quote"}
	base := map[string]string{}
	for _, name := range names {
		v, err := run(t, conn, "SELECT coalesce(current_setting('"+name+"', true), '')")
		if err != nil {
			t.Fatal(err)
		}
		base[name] = v
	}
	sets := []settings{
		set(), set("TimeZone", "Asia/Tokyo"), set("timezone", "UTC", "application_name", `it's \ odd`), set("role", "replayed", "log_statement", "none"),
		set("role", "replayed2", "search_path", `"a b", public`), set("statement_timeout", "7s", "app.x", `\'; SELECT 1/0; --`),
		set("standard_conforming_strings", "off", "application_name", `\\`), set("standard_conforming_strings", "off", "backslash_quote", "off", "app.x", `'\`),
	}
	for i, from := range sets {
		for j, to := range sets {
			for _, unknown := range []bool{false, true} {
				for _, s := range []struct {
					sql  string
					want settings
				}{{replay(noSettings, from, true, true), from}, {replay(from, to, unknown, true), to}} {
					if _, err := run(t, conn, s.sql); err != nil {
						t.Fatalf("from %d to %d: %s: %v", i, j, s.sql, err)
					}
					for _, name := range names {
						want, ok := s.want.get(name)
						if !ok {
							want = base[name]
						}
						got, err := run(t, conn, "SELECT coalesce(current_setting('"+name+"', true), '')")
						if err != nil || got != want {
							t.Fatalf("from %d to %d: %s is %q, want %q; %v", i, j, name, got, want, err)
						}
					}
				}
			}
		}
	}
}

// A1: where a part fails, what stands behind is not read.
func TestReplayFails(t *testing.T) {
	c := postgres.ForTest(t)
	for name, bad := range map[string]settings{
		"unknown role": set("role", "gone"), "bad value": set("TimeZone", "UTC", "work_mem", "many"), "no such setting": set("nonesuch", "1"),
		"timeout that ends it": set("log_disconnections", "on"),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := pgconn.Connect(t.Context(), c.SuperDSN("postgres"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if _, err := run(t, conn, replay(noSettings, bad, false, true)); err == nil {
				t.Fatal("accepted")
			}
			if got, err := run(t, conn, "SELECT 1"); err == nil {
				t.Errorf("the next query was answered: %s", got)
			}
		})
	}
}

func TestReported(t *testing.T) {
	r := newReported(map[string]string{"TimeZone": "UTC", "DateStyle": "ISO, MDY"})
	told := r
	r = r.with("TimeZone", "Asia/Tokyo").with("application_name", "x").with("AAA", "first")
	var seen []string
	r.diff(told, func(name, value string) { seen = append(seen, name+"="+value) })
	if got := fmt.Sprint(seen); got != "[AAA=first TimeZone=Asia/Tokyo application_name=x]" {
		t.Error(got)
	}
	if v, ok := told.get("TimeZone"); !ok || v != "UTC" {
		t.Error("the older one has changed")
	}
	if v, ok := r.get("DateStyle"); !ok || v != "ISO, MDY" {
		t.Errorf("%q, %v", v, ok)
	}
	if _, ok := r.get("gone"); ok {
		t.Error("a parameter that was never reported")
	}
	seen = nil
	r.diff(r, func(name, _ string) { seen = append(seen, name) })
	if len(seen) > 0 {
		t.Errorf("%v differ from themselves", seen)
	}
}
