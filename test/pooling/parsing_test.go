package pooling_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// readAtParse are settings that PostgreSQL reads when it parses a statement,
// each with two values and a text that means something else under each.
var readAtParse = []struct{ name, one, other, text string }{
	{"DateStyle", "ISO, MDY", "ISO, DMY", "select '01/02/2003'::date - '2003-01-01'::date"},
	{"TimeZone", "UTC", "Asia/Tokyo", "select extract(epoch from '2020-01-01'::timestamptz)"},
	{"IntervalStyle", "postgres", "sql_standard", "select extract(epoch from '-1 2:03:04'::interval)"},
	{"timezone_abbreviations", "Default", "Australia", "select extract(epoch from '2020-01-01 12:00 EST'::timestamptz)"},
	{"standard_conforming_strings", "on", "off", `select length('a\\b')`},
	{"backslash_quote", "on", "off", `select E'\''`},
	{"escape_string_warning", "on", "off", `select length('a\\b')`},
	{"transform_null_equals", "off", "on", "select count(*) from (values (null::int)) v(x) where x = null"},
	{"array_nulls", "on", "off", "select ('{NULL}'::text[])[1] is null"},
	{"xmloption", "content", "document", "select xmlserialize(content 'a<b/>'::xml as text)"},
	{"xmlbinary", "base64", "hex", `select xmlelement(name a, '\x00ff'::bytea)::text`},
	{"default_text_search_config", "pg_catalog.simple", "pg_catalog.english", "select to_tsvector('running')::text"},
	{"client_encoding", "UTF8", "LATIN1", "select octet_length('\u00e4')"},
	{"search_path", "here", "there", "select a from parsed"},
	{"role", "parsed_one", "parsed_other", "select current_user::text, (select count(*) from parsed_rows)"},
	{"row_security", "on", "off", "select count(*) from here.parsed"},
	{"bytea_output", "hex", "escape", `select '\x00ff'::bytea`},
	{"extra_float_digits", "1", "-3", "select 1::float8 / 3"},
	{"lc_monetary", "C", "C.UTF-8", "select '1,234.5'::money"},
	{"check_function_bodies", "on", "off", "select 1"},
	{"quote_all_identifiers", "on", "off", "select pg_get_viewdef('here.parsed_view'::regclass)"},
	{"app.tenant", "one", "other", "select current_setting('app.tenant')"},
}

// TestSettingsReadAtParse: the same text under two values of a setting, from
// two sessions on one server, by turns, means to each what it means on a
// connection of its own.
func TestSettingsReadAtParse(t *testing.T) {
	setup := []string{`
		create schema here; create schema there;
		create table here.parsed (a int); insert into here.parsed values (1);
		create table there.parsed (a text, b int); insert into there.parsed values ('there', 2);
		create view here.parsed_view as select a from here.parsed;
		do $$ begin create role parsed_one; exception when duplicate_object then null; end $$;
		do $$ begin create role parsed_other; exception when duplicate_object then null; end $$;
		create table parsed_rows (owner text); insert into parsed_rows values ('parsed_one'), ('parsed_other'), ('parsed_other');
		alter table parsed_rows enable row level security;
		create policy own on parsed_rows using (owner = current_user);
		grant select on parsed_rows to parsed_one, parsed_other;`}
	rvSame(t, 1, setup, func(t *testing.T, open rvOpen) (lines []string) {
		for _, s := range readAtParse {
			say := func(what string, r reply) { lines = append(lines, fmt.Sprintf("%s, %s: %s", s.name, what, rvGist(r))) }
			one, other := open(s.name, s.one), open(s.name, s.other)
			ask := func(who string, c *peer, msgs ...pgproto3.FrontendMessage) {
				c.send(append(msgs, &pgproto3.Sync{})...)
				say(who, c.read())
			}
			use := []pgproto3.FrontendMessage{bind("s"), &pgproto3.Execute{}}
			for round := range 2 {
				name := fmt.Sprint("s", round)
				ask("first one", one, append([]pgproto3.FrontendMessage{parse("s", s.text)}, use...)...)
				ask("then the other", other, append([]pgproto3.FrontendMessage{parse("s", s.text)}, use...)...)
				ask("one again", one, use...)
				ask("the other again", other, use...)
				ask("unnamed, one", one, batch(s.text)...)
				ask("unnamed, the other", other, batch(s.text)...)
				say("PREPARE, one", one.query("prepare "+name+" as "+s.text))
				say("PREPARE, the other", other.query("prepare "+name+" as "+s.text))
				say("EXECUTE, one", one.query("execute "+name))
				say("EXECUTE, the other", other.query("execute "+name))
				say("EXECUTE, one", one.query("execute "+name))
				one.send(rvClose("s"), &pgproto3.Sync{})
				one.read()
				other.send(rvClose("s"), &pgproto3.Sync{})
				other.read()
			}
		}
		return lines
	})
}
