package pooling_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// forgetFunction deallocates what servers hold under the names that pgpoold gives;
// directly there is nothing of that kind.
const forgetFunction = `create function forget() returns int language plpgsql as $$ declare s text; begin
	for s in select name from pg_prepared_statements where name ~ '^pgpoold_[0-9]+$' loop execute 'deallocate ' || s; end loop; return 1; end $$`

// TestForgettingInPipelines: what is parsed in a pipeline with a function that
// deallocates, and used in it, does what it does directly.
func TestForgettingInPipelines(t *testing.T) {
	const literal = "select $$dollars$$ as d"
	use := func(name string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{bind(name), &pgproto3.Execute{}}
	}
	join := func(parts ...[]pgproto3.FrontendMessage) (all []pgproto3.FrontendMessage) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return append(all, &pgproto3.Sync{})
	}
	one := func(m ...pgproto3.FrontendMessage) []pgproto3.FrontendMessage { return m }
	for name, turns := range map[string][][]pgproto3.FrontendMessage{
		"a literal behind its transaction": {
			join(one(sql("select forget()"), sql("begin"), parse("s", literal), sql("commit"), parse("", "select 7")), use("s")),
		},
		"a literal in a transaction that sets": {
			join(one(sql("begin"), sql("set local work_mem = '5MB'"), parse("s", literal), sql("begin; select forget()")), use("s")),
		},
		"a portal": {
			one(sql("begin")),
			join(one(parse("f", "select forget()"), parse("s", "select 3"), &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "f"})),
			join(one(parse("t", "select 4")), use("s"), use("t")),
			join(one(&pgproto3.Execute{Portal: "p"})),
			join(use("s"), use("t")),
		},
		"EXECUTE": {
			one(parse("f", "select forget()"), parse("s", "select 3"), sql("prepare q as select forget()"), sql("begin")),
			join(one(sql("execute f")), use("s"), one(sql("execute q")), use("s")),
			join(batch("execute f"), use("s")),
			join(use("s")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, c, db := start(t, 2, forgetFunction)
			b := loginBoth(t, c, p.Addr(), db)
			for _, turn := range turns {
				b.direct.send(turn...)
				b.pooled.send(turn...)
				for _, m := range turn {
					switch m.(type) {
					case *pgproto3.Query, *pgproto3.Sync:
						if want, got := b.direct.read().String(), b.pooled.read().String(); got != want {
							t.Errorf("got %s, directly %s", got, want)
						}
					}
				}
			}
		})
	}
}
