package sqlscan

import (
	"bytes"
	"strings"
	"testing"
)

func (f Finding) String() string {
	var words []string
	for i, name := range []string{"untracked", "resets", "moment"} {
		if f&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, "+")
}

// check compares what is found in texts with the name of a finding.
func check(t *testing.T, standard bool, rows [][2]string) {
	t.Helper()
	for _, r := range rows {
		if got := Scan([]byte(r[0]), standard).String(); got != r[1] {
			t.Errorf("%s\n\tis %q, want %q", r[0], got, r[1])
		}
	}
}

// What an application sends all day is nothing.
func TestPlain(t *testing.T) {
	var rows [][2]string
	for _, sql := range []string{
		"", " ", ";", ";;", "\x00", "SELECT 1", "select 1;\x00",
		"SELECT * FROM parts WHERE yacht_id = $1 AND name ILIKE $2",
		"INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING *",
		"UPDATE t SET x = DEFAULT, y = 'it''s' WHERE id = 1",
		"DELETE FROM t USING u WHERE t.id = u.id",
		"BEGIN", "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "COMMIT", "ROLLBACK TO SAVEPOINT s",
		"WITH x AS (SELECT 1) SELECT * FROM x", "WITH hold AS (SELECT 1) SELECT * FROM hold",
		"COPY t FROM STDIN WITH (FORMAT csv, HEADER)", "TRUNCATE t", "VACUUM (ANALYZE) t", "EXPLAIN ANALYZE SELECT 1",
		"SELECT temp FROM weather", "SELECT w.temp, temporary FROM weather w WHERE temp > 30", "INSERT INTO temp VALUES (1)",
		"CREATE TABLE weather (temp int)", "CREATE INDEX ON temp (a)", "MERGE INTO temp USING x ON true WHEN MATCHED THEN DELETE",
		"SELECT \"temp\" FROM t", "CREATE TABLE \"temp\" (a int)",
		"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE x (); END $$",
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a AS 'SELECT 1'",
		"ALTER ROLE r SET work_mem = '1MB'", "ALTER TABLE t ALTER c SET DEFAULT 1", "ALTER SYSTEM SET work_mem = '1MB'",
		"DECLARE c CURSOR FOR SELECT 1", "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", "FETCH 10 FROM c", "CLOSE c", "CLOSE ALL", "MOVE c",
		"NOTIFY ch, 'x'", "UNLISTEN *", "UNLISTEN ch", "EXECUTE s(1)", "DEALLOCATE s", "DEALLOCATE ALL",
		"PREPARE TRANSACTION 'x'", "prepare\n transaction 'x'", "COMMIT PREPARED 'x'",
		"SET LOCAL work_mem = '1GB'", "SET LOCAL ROLE other", "set local app.tenant = '7'", "SET LOCAL search_path TO a, b",
		"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET CONSTRAINTS ALL DEFERRED", "SET TRANSACTION SNAPSHOT '1-1'",
		"SET timezone = 'Asia/Tokyo'", "SET TimeZone TO UTC", "SET TIME ZONE 'Europe/Berlin'", "SET TIME ZONE -7", "SET TIME ZONE -7.5",
		"SET SESSION TIME ZONE 'UTC'", "SET NAMES 'utf8'", "SET SESSION timezone = 'UTC'", "SET client_encoding TO 'UTF8'",
		"SET DateStyle = ISO, DMY", "SET application_name = 'x.y'", "SET \"TimeZone\" = 'UTC'", "SET standard_conforming_strings = on",
		"SELECT set_config('a.b', $1, true)", "SELECT pg_catalog.set_config('a.b', 'x', TRUE)", "SELECT set_config('a', f(1, (2)), true)",
		"SELECT set_config('a', 'x,y)', true), set_config('b', 'it''s', true)", "SELECT set_config ( 'a' , $q$,false$q$ , true )",
		"SELECT set_config('a', /* ), false */ 'b', -- no, false)\n true)",
		"SELECT pg_advisory_xact_lock(1)", "SELECT pg_try_advisory_xact_lock(1, 2)", "SELECT pg_advisory_xact_lock_shared(1)",
		"SELECT pg_advisory_unlock(1)", "SELECT pg_advisory_unlock_all()",
		"SELECT 'SET ROLE x; CREATE TEMP TABLE t()'", "SELECT '; LISTEN x'", "SELECT $$; LISTEN x; $$", "SELECT $a$ $b$ '; LISTEN x $b$ $a$",
		"-- LISTEN x", "/* LISTEN x; */ SELECT 1", "/* /* */ LISTEN x; */ SELECT 1", "SELECT 1 -- ; LISTEN x\n + 1",
		"SELECT \"; LISTEN x\"", "SELECT \"a\"\"; LISTEN x\"", "SELECT 1 AS listen", "SELECT load, prepare FROM t",
		"SELECT 'unknown', 'knowledge', 'snowing', 'todays', 'nowhere', 'yesterdays'", "SELECT now()", "SELECT today FROM t",
		"SELECT b'01', x'ff', n'x'", "SELECT a - -1, a / 2, a->>'x', a#>'{y}', @ -1, $1::int[], a[1:2]",
		"SELECT 1 FROM pg_temperature", "SELECT e'a', u & 1, U & 'x'",
		"DO $$ BEGIN RAISE NOTICE 'temp'; PERFORM f(); END $$", "DO LANGUAGE plpgsql $$ BEGIN NULL; END $$",
		"DO $x$ BEGIN INSERT INTO t VALUES (1); IF true THEN NULL; END IF; END $x$ LANGUAGE plpgsql",
		"SELECT pg_catalog.set_config('search_path', 'a', true)",
	} {
		rows = append(rows, [2]string{sql, ""})
	}
	check(t, true, rows)
}

func TestUntracked(t *testing.T) {
	var rows [][2]string
	for _, sql := range []string{
		"SET work_mem = '1MB'", "set search_path to x", "SET ROLE other", "SET SESSION ROLE x", "SET SESSION AUTHORIZATION x",
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET SESSION work_mem = 1", "SET/**/work_mem = 1", "SET --\n work_mem = 1",
		"SET app.tenant = '7'", "SET session.tenant = '7'", "SET local.tenant = '7'", "SET time.zone = 1", "SET timezone.x = 1",
		"SET transaction.x = 1", "SET SESSION timezone.x = 1", "SET local /* */ . x = 1", "SET \"work_mem\" = 1", "SET \"time\" = 1", "SET \"local\" = 1",
		"SET U&\"timez\\006fne\" = 1",
		"SELECT 1; SET work_mem = 1", "BEGIN; SET LOCAL x = 1; COMMIT; SET x = 1", "/* a */ SET x = 1", "-- a\nSET x = 1", "-- a\rSET x = 1",
		"SELECT '\\'; SET x = 1", "SELECT \"a\"; SET x = 1", "SELECT $a$ $$ $a$; SET x = 1", "SELECT $$a$$; SET x = 1", "SELECT $1; SET x = 1",
		"SELECT a$b$; SET x = 1; SELECT $b$", "SELECT E'\\\\'; SET x = 1", "SELECT ab'\\'; SET x = 1", "SELECT 'it''s'; SET x = 1",
		"/* /* */ */ SET x = 1", "/**/SET x = 1", "/*/*/ */*/ SET x = 1", "SELECT 1--1\n; SET x = 1", "SELECT 1 /*-- */; SET x = 1",
		"RESET ROLE", "RESET SESSION AUTHORIZATION",
		"SELECT set_config('a', 'b', false)", "SELECT set_config($1, $2, $3)", "SELECT set_config('a', 'b', 'true')", "SELECT set_config('a', 'b', NOT true)",
		"SELECT set_config('a', 'b', true AND false)", "SELECT set_config('a', 'b')", "SELECT set_config /* x */ ('a', 'b', false)",
		"SELECT \"set_config\"('a', 'b', false)", "SELECT set_config('a', '''', false), ('x', true)", "SELECT set_config(E'a\\'', false, f('x', true))",
		"SELECT set_config('a', $$'$$, false) --', true)", "SELECT set_config('a', 'b', true", "SELECT set_config", "SELECT set_config; SELECT (1, 2, true)",
		"SELECT set_config('a', set_config('b', 'c', true), true)", "SELECT set_config(setting_name => 'a', is_local => false, new_value => true)",
		"SELECT set_config('search_path', 'PG_TEMP', true)", "SET LOCAL search_path = 'pg_temp'",
		"DECLARE c CURSOR WITH HOLD FOR SELECT 1", "declare \"c\" scroll cursor with\n hold for select 1", "BEGIN; DECLARE c BINARY CURSOR WITH HOLD FOR TABLE t",
		"CREATE TEMP TABLE t ()", "create temporary table t ()", "CREATE /* */ TEMP VIEW v AS SELECT 1", "CREATE LOCAL TEMP TABLE t()",
		"CREATE GLOBAL TEMPORARY TABLE t()", "CREATE OR REPLACE TEMP VIEW v AS SELECT 1", "CREATE TEMP SEQUENCE s", "SELECT 1 INTO TEMP t",
		"SELECT 1 INTO LOCAL TEMPORARY TABLE t", "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", "CREATE TABLE pg_temp.t ()", "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS ''",
		"CREATE TABLE \"pg_temp\".t ()", "SELECT * FROM pg_temp_3.t",
		"LISTEN ch", "listen \"ch\"", "SELECT 1;LISTEN ch", "LOAD 'x'",
		"SELECT pg_advisory_lock(1)", "SELECT pg_catalog.pg_advisory_lock_shared(1)", "SELECT pg_try_advisory_lock(1, 2)", "SELECT PG_TRY_ADVISORY_LOCK_SHARED(1)",
		"SELECT \"pg_advisory_lock\"(1)", "SELECT setseed(0.5)", "SELECT dblink_connect('x')", "SELECT pg_backup_start('x')", "SELECT set_limit(0.1)",
		"SELECT pg_create_logical_replication_slot('s', 'p', true)",
		"DO $$ BEGIN CREATE TEMP TABLE t (); END $$", "DO $$ BEGIN EXECUTE 'x'; END $$", "DO $$ BEGIN SET x = 1; END $$", "DO 'BEGIN LISTEN x; END'",
		"DO 'BEGIN PERFORM pg_advisory_lock(1); END'", "DO $$ BEGIN PERFORM set_config('a', 'b', false); END $$", "DO $$ x $$ LANGUAGE plpython3u",
		"DO LANGUAGE plperl $$ x $$", "DO $$ x $$ LANGUAGE 'plpython3u'", "DO $a$ $$ $a$; DO $$ begin load 'x'; end $$", "DO E'BEGIN \\x4cISTEN x; END'",
		"DO 'BEGIN '\n'LISTEN x; END'", "DO $$ BEGIN CREATE TEMP", "do 'begin create temp",
		"SELECT E'a'\n'b\\'c'; SET x = 1; --'", "SELECT $foo; SET x = 1",
		"SELECT $" + strings.Repeat("t", 64) + "$ $" + strings.Repeat("t", 64) + "$; SET x = 1",
	} {
		rows = append(rows, [2]string{sql, "untracked"})
	}
	for _, r := range rows {
		if got := Scan([]byte(r[0]), true); got&Untracked == 0 {
			t.Errorf("%s\n\tis %q", r[0], got)
		}
	}
}

func TestResets(t *testing.T) {
	check(t, true, [][2]string{
		{"RESET ALL", "resets"}, {"reset timezone", "resets"}, {"RESET work_mem", "resets"}, {"RESET app.tenant", "resets"},
		{"DISCARD ALL", "resets"}, {"discard /* */ all", "resets"}, {"SELECT 1; DISCARD ALL", "resets"},
		{"SET timezone TO DEFAULT", "resets"}, {"SET TIME ZONE DEFAULT", "resets"}, {"SET TIME ZONE LOCAL", "resets"},
		{"SET work_mem = DEFAULT", "untracked+resets"}, {"SET SESSION AUTHORIZATION DEFAULT", "untracked+resets"},
		{"UPDATE t SET a = DEFAULT", ""}, {"CREATE TABLE t (a int DEFAULT 1)", ""},
		// What asyncpg sends when a connection goes back to its pool.
		{"SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;", "resets"},
	})
}

func TestMoment(t *testing.T) {
	check(t, true, [][2]string{
		{"SELECT 'now'::timestamptz", "moment"}, {"SELECT timestamp 'NOW'", "moment"}, {"SELECT date 'today'", "moment"},
		{"SELECT 'tomorrow 12:00'", "moment"}, {"SELECT '{yesterday,2020-01-01}'", "moment"}, {"SELECT '12:00today'", "moment"},
		{"SELECT $$now$$::date", "moment"}, {"SELECT $x$ today $x$", "moment"}, {"SELECT E'\\x6eow'::date", "moment"}, {"SELECT U&'\\006eow'::date", "moment"},
		{"SELECT '" + strings.Repeat(" ", 200) + "now'", "moment"}, {"SELECT 'no'\n'w'", "moment"}, {"SELECT 'a''now'", "moment"},
		{"SELECT E'\\'; LISTEN x; --'", "moment"}, {"SELECT 'know'", ""}, {"SELECT 'unknown'", ""}, {"SELECT 'nowadays'", ""}, {"SELECT 'yesterdayx'", ""}, {"SELECT 'x', 'w'", ""},
	})
}

// Without standard_conforming_strings a backslash escapes everywhere.
func TestEscapes(t *testing.T) {
	check(t, false, [][2]string{
		{"SELECT '\\'; LISTEN x; --'", "moment"},
		{"SELECT 'a'; LISTEN x", "untracked"},
		{"SELECT '\\\\'; LISTEN x", "untracked+moment"},
		{"SELECT $$\\$$; LISTEN x", "untracked"},
		{"SELECT \"\\\"; LISTEN x", "untracked"},
	})
}

// A text that comes in pieces is read like one that comes whole.
func TestPieces(t *testing.T) {
	for _, sql := range []string{
		"SELECT set_config('a', E'\\'', false); /* /* x */ */ SET TIME ZONE LOCAL -- x\n; DO $ab$ BEGIN $a $ab $abc LISTEN x; END $ab$",
		"SELECT U&'x', U&\"y\", $1, $$ now $$, 'it''s', \"a\"\"b\", 1-1, 2/2; DECLARE c CURSOR WITH HOLD FOR SELECT 1",
		"INSERT INTO temp VALUES ('SET x')", "SET app.tenant = 1", "SELECT e'a', x",
	} {
		want := Scan([]byte(sql), true)
		for size := 1; size < len(sql); size++ {
			var s Scanner
			s.Reset(true)
			for b := []byte(sql); len(b) > 0; {
				n := min(size, len(b))
				s.Feed(b[:n])
				b = b[n:]
			}
			if got := s.End(); got != want {
				t.Fatalf("%s\n\tin pieces of %d is %q, whole %q", sql, size, got, want)
			}
		}
	}
}

// Each statement is judged for itself.
func TestReuse(t *testing.T) {
	var s Scanner
	for _, r := range [][2]string{{"SELECT 'LISTEN", ""}, {"LISTEN x", "untracked"}, {"DO $$ EXECUTE", "untracked"}, {"SELECT 1", ""}, {"SELECT set_config(", "untracked"}, {"x", ""}} {
		s.Reset(true)
		s.Feed([]byte(r[0]))
		if got := s.End().String(); got != r[1] {
			t.Errorf("%s is %q", r[0], got)
		}
	}
}

func TestAllocations(t *testing.T) {
	sql := []byte("SELECT a, 'it''s', set_config('x', 'y', true) FROM \"t\" WHERE b = $1 AND c ILIKE $2 -- x")
	if n := testing.AllocsPerRun(100, func() { Scan(sql, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzScan(f *testing.F) {
	for _, sql := range []string{"", "SET x = 1", "DO $a$ $b$", "SELECT set_config(a,'b',true)", "E'\\", "U&\"", "/* /* */", "$a$$", "'now'"} {
		f.Add([]byte(sql), true, uint8(3))
	}
	f.Fuzz(func(t *testing.T, sql []byte, standard bool, size uint8) {
		want := Scan(sql, standard)
		var s Scanner
		s.Reset(standard)
		for b := sql; len(b) > 0; {
			n := min(int(size)+1, len(b))
			s.Feed(b[:n])
			b = b[n:]
		}
		if got := s.End(); got != want {
			t.Fatalf("%q in pieces of %d is %q, whole %q", sql, size+1, got, want)
		}
		if Scan(append([]byte("SELECT 1; LISTEN x;"), sql...), standard)&Untracked == 0 {
			t.Fatalf("LISTEN in front of %q was not seen", sql)
		}
		if isASCII(sql) && !bytes.ContainsRune(sql, '$') && Scan(bytes.ToUpper(sql), standard) != Scan(bytes.ToLower(sql), standard) {
			t.Fatalf("%q depends on its case", sql)
		}
	})
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func BenchmarkScan(b *testing.B) {
	oltp := "SELECT * FROM parts WHERE yacht_id = $1 AND name ILIKE $2 ORDER BY id LIMIT 20 -- a comment to make it 100"
	const suspicious = "'SET work_mem = 1; LISTEN x; CREATE TEMP TABLE pg_temp.t (); pg_advisory_lock(1) set_config LOAD', "
	lit := "SELECT a FROM t WHERE note = 'SET ROLE x; LISTEN y; CREATE TEMP TABLE z; set_config; pg_advisory_lock lock lock lock lock'"
	row := "(1, 'some text of a row, it''s long', now(), $$x$$), "
	for _, r := range []struct {
		name string
		sql  string
	}{
		{"100B", oltp[:100]},
		{"10KiB", "INSERT INTO t VALUES " + strings.Repeat(row, 10<<10/len(row))},
		{"1MiB", "INSERT INTO t VALUES " + strings.Repeat(row, 1<<20/len(row))},
		{"100B, suspicious literals", lit[:99] + "'"},
		{"10KiB, suspicious literals", "SELECT " + strings.Repeat(suspicious, 10<<10/len(suspicious)) + "''"},
		{"1MiB, suspicious literals", "SELECT " + strings.Repeat(suspicious, 1<<20/len(suspicious)) + "''"},
		{"1MiB of openings", strings.Repeat("$a$'/*\"", 1<<20/7)},
		{"1MiB of set_config", strings.Repeat("set_config('", 1<<20/12)},
		{"1MiB of DO", "DO $$" + strings.Repeat("x := 'a' ", 1<<20/9)},
	} {
		b.Run(r.name, func(b *testing.B) {
			sql := []byte(r.sql)
			b.SetBytes(int64(len(sql)))
			b.ReportAllocs()
			for b.Loop() {
				Scan(sql, true)
			}
		})
	}
}

// What could notice what has been done on a server before.
func TestNotices(t *testing.T) {
	const all = Schemas | Counts | Runs
	for sql, want := range map[string]Finding{
		"select pg_my_temp_schema()": Schemas, `select "current_schemas"(true)`: Schemas, "set temp_buffers = 100": Schemas, "show /**/ TEMP_BUFFERS": Schemas,
		"select current_schema()": 0, "select 'pg_my_temp_schema()'": 0, "select 1 -- temp_buffers": 0, "select pg_temp_schema()": 0,
		"select * from pg_stat_user_tables": Counts, "select pg_stat_force_next_flush()": Counts, "select * from pg_catalog.pg_statio_user_tables": Counts,
		"select * from pg_stat_activity": 0, "select * from pg_stats": 0, "select * from pg_statistic": 0, "select 'pg_stat_user_tables'": 0,
		"do $$ begin execute 'execute q'; end $$": Runs, "do $$ begin perform 1; end $$": 0, "execute q": 0,
	} {
		if got := Scan([]byte(sql), true) & all; got != want {
			t.Errorf("%s: %b, want %b", sql, got, want)
		}
	}
}

func TestHasWord(t *testing.T) {
	for _, r := range []struct {
		sql, name string
		want      bool
	}{
		{"select run('execute q1(7)')", "q1", true}, {`select run('execute "Q two"')`, "Q two", true}, {"q1", "q1", true}, {"select q11, aq1, q1_", "q1", false},
		{"select q11, q1", "q1", true}, {"", "q1", false}, {"select 1", "", false},
	} {
		if got := HasWord([]byte(r.sql), r.name); got != r.want {
			t.Errorf("%q in %q: %v", r.name, r.sql, got)
		}
	}
}
