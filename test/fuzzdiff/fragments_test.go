package fuzzdiff

import (
	"fmt"
	"strings"
)

// simple is one Query.
func (g *generator) simple() {
	if g.oneIn(12) {
		g.send("Query %s", pick(g, `""`, `";"`, `"  "`, `";;"`))
	} else {
		g.send("Query %s", g.query())
	}
	g.statements[0] = nil
}

// transaction is a whole one, of anything.
func (g *generator) transaction() {
	g.send("Query begin")
	g.inTx = true
	for range 1 + g.r.IntN(4) {
		g.endOfBatch()
		if g.oneIn(4) {
			g.send("Query %s", pick(g, "savepoint sp", "rollback to sp", "release sp", "select 1/0"))
			continue
		}
		pick(g, (*generator).simple, (*generator).batch, (*generator).known, (*generator).cursor, (*generator).copyIn)(g)
	}
	g.endOfBatch()
	g.send("Query %s", pick(g, "commit", "rollback", "commit; select 1", "rollback; select 1"))
	g.inTx = false
}

// statementName is the name of a number. One of them may look like those that
// pgpoold gives.
func (g *generator) statementName(i int) string {
	switch {
	case i == 0:
		return "-"
	case i == len(g.statements)-1 && g.imitation != "":
		return g.imitation
	}
	return fmt.Sprintf("s%d", i)
}

func portalName(i int) string {
	if i == 0 {
		return "-"
	}
	return fmt.Sprintf("p%d", i)
}

// someStatement is a name, often the unnamed one, often one that exists.
func (g *generator) someStatement() int {
	if g.oneIn(3) {
		return 0
	}
	i := g.r.IntN(len(g.statements))
	if g.statements[i] == nil {
		i = g.r.IntN(len(g.statements))
	}
	return i
}

func (g *generator) somePortal() int {
	if g.oneIn(2) {
		return 0
	}
	return g.r.IntN(len(g.portals))
}

func (g *generator) parse(i int, t *text) {
	declared := ""
	switch {
	case len(t.params) == 1 && t.params[0] == "n" && g.oneIn(4):
		declared = "[23] "
	case len(t.params) > 0 && g.oneIn(15):
		declared = pick(g, "[25] ", "[0] ", "[999999] ", "[23,25] ")
	}
	g.send("Parse %s %s%s", g.statementName(i), declared, t.sql)
	g.statements[i] = t
	g.rowless[i] = g.rowless[i] || t.rowless()
}

// parseUnnamed sends a text that may have no result as the unnamed statement.
func (g *generator) parseUnnamed(text string) {
	g.send("Parse - %s", text)
	g.rowless[0] = true
}

// describe asks for a statement that was not parsed just before. One without a
// result can be described in a failed transaction, where pgpoold cannot bring it
// to a server that lacks it: that is left out.
func (g *generator) describe(i int) {
	if !g.rowless[i] {
		g.send("Describe S %s", g.statementName(i))
	}
}

func (g *generator) bind(portal, i int) {
	t := g.statements[i]
	var args []string
	if t != nil {
		for _, kind := range t.params {
			args = append(args, g.value(kind))
		}
	} else {
		args = append(args, g.value("n"))
	}
	if g.oneIn(25) {
		args = append(args, "1") // one too many
	}
	switch {
	case g.oneIn(8):
		args = append(args, "res=1")
	case g.oneIn(30):
		args = append(args, "fmt=1")
	case g.oneIn(40):
		args = append(args, "res=0,1,0")
	}
	g.send("%s", strings.TrimSpace(fmt.Sprintf("Bind %s %s %s", portalName(portal), g.statementName(i), strings.Join(args, " "))))
	g.portals[portal] = t
}

func (g *generator) execute(portal int) {
	limit := 0
	if g.oneIn(4) {
		limit = 1 + g.r.IntN(3)
	}
	g.send("Execute %s %d", portalName(portal), limit)
}

// sync mostly ends the batch.
func (g *generator) sync() {
	switch {
	case g.oneIn(10): // the next fragment is of the same batch
	case g.oneIn(20):
		g.send("Query select 'in place of Sync'")
	default:
		g.send("Sync")
		if g.oneIn(30) {
			g.send("Sync")
		}
	}
}

// batch is what drivers send, with its steps in their order.
func (g *generator) batch() {
	for range 1 + g.r.IntN(3) {
		i, portal := g.someStatement(), g.somePortal()
		if i > 0 && g.statements[i] != nil && !g.oneIn(8) {
			g.send("Close S %s", g.statementName(i))
			g.pause()
		}
		g.parse(i, g.preparable())
		g.pause()
		if g.oneIn(3) {
			g.send("Describe S %s", g.statementName(i))
			g.pause()
			if g.oneIn(3) { // as asyncpg does: it looks before it binds
				g.send("%s", pick(g, "Flush", "Sync"))
				g.endOfBatch()
			}
		}
		g.bind(portal, i)
		g.pause()
		if g.oneIn(3) {
			g.send("Describe P %s", portalName(portal))
			g.pause()
		}
		g.execute(portal)
		g.pause()
		if g.oneIn(5) {
			g.execute(portal)
		}
		if portal > 0 && g.oneIn(2) {
			g.send("Close P %s", portalName(portal))
		}
		if g.oneIn(2) {
			break
		}
	}
	g.sync()
}

// known runs statements that were prepared before, or were not.
func (g *generator) known() {
	for range 1 + g.r.IntN(4) {
		i, portal := g.someStatement(), g.somePortal()
		g.bind(portal, i)
		g.pause()
		if g.oneIn(4) {
			g.send("Describe P %s", portalName(portal))
		}
		g.execute(portal)
		if g.oneIn(2) {
			g.sync()
			g.endOfBatch()
		}
	}
	g.sync()
}

// cursor reads a portal in pieces.
func (g *generator) cursor() {
	block := g.oneIn(2)
	if block {
		g.send("Query begin")
		g.statements[0] = nil
		g.inTx = true
	}
	i, portal := g.someStatement(), g.somePortal()
	if g.statements[i] == nil || i == 0 {
		g.parse(i, &text{"select g, repeat($1::text, g) from generate_series(1, 6) g", []string{"t"}})
	}
	g.bind(portal, i)
	for range 1 + g.r.IntN(4) {
		g.send("Execute %s %d", portalName(portal), 1+g.r.IntN(3))
		switch {
		case block && g.oneIn(3):
			g.send("Sync")
			g.endOfBatch()
		case g.oneIn(3):
			g.send("Flush")
			g.endOfBatch()
		case g.oneIn(8):
			g.bind(g.somePortal(), g.someStatement())
		}
	}
	if g.oneIn(2) {
		g.send("Close P %s", portalName(portal))
	}
	g.send("Sync")
	if block && !g.oneIn(8) {
		g.endOfBatch()
		g.send("Query %s", pick(g, "commit", "rollback"))
		g.inTx = false
	}
}

// copyData is the data of a COPY that has been asked for, up to its end.
func (g *generator) copyData() {
	for range g.r.IntN(4) {
		switch {
		case g.oneIn(16):
			g.send("Flush")
		case g.oneIn(16):
			g.send("Sync")
		case g.oneIn(12): // the COPY has failed, and does not eat it
			g.send(`CopyData "bad\n"`)
			g.send("Sync")
		case g.oneIn(6):
			g.send("CopyData %s", pick(g, `"bad\n"`, `"1\tx\ty\n"`, `"5\tforbidden\n"`, `"9"`))
		case g.oneIn(12):
			g.send(`CopyData "%d\t${repeat:long:6000}\n"`, g.r.IntN(100))
		default:
			g.send(`CopyData "%d\tcopied\n"`, g.r.IntN(100))
		}
		if g.oneIn(6) {
			g.line("push")
		}
	}
	if g.oneIn(5) {
		g.send(`CopyFail "enough"`)
	} else {
		g.send("CopyDone")
	}
}

// copyIn is a COPY FROM STDIN, of a Query or of an Execute, with or without a
// look at whether it has begun.
func (g *generator) copyIn() {
	t := g.table()
	wait := g.oneIn(2)
	if wait {
		g.settle() // what is owed of before
	}
	defer func() { g.copied = true }()
	if g.oneIn(2) {
		n := 1
		text := "copy " + t + " from stdin"
		switch {
		case g.oneIn(6):
			text = "select 1; " + text + "; select 2"
		case g.oneIn(6):
			text, n = text+"; "+text, 2
		case g.oneIn(8):
			text = pick(g, "copy nowhere from stdin", "select 1/0; "+text, "copy "+t+" (k) from stdin")
		}
		g.send("Query %s", text)
		g.statements[0] = nil
		for range n {
			if wait {
				g.settle()
			}
			g.copyData()
		}
		return
	}
	// Under a name that nothing else uses: who executes it must bring data.
	if !g.copying || g.oneIn(3) {
		g.send("Close S copying")
		g.send("Parse copying copy %s from stdin", t)
		g.copying = true
	}
	g.send("Bind - copying")
	g.send("Execute - 0")
	switch {
	case g.oneIn(2):
		g.send("Sync") // as libpq does: the COPY eats it
	case wait || g.oneIn(2):
		g.send("Flush")
	}
	if wait {
		g.settle()
	}
	g.copyData()
	g.bound = false
	switch {
	case g.oneIn(4): // it runs if the COPY has failed in front of a Sync, and else it may be skipped
		g.send("Query select 'in place of Sync'")
	case g.oneIn(10):
	default:
		g.send("Sync")
	}
}

func (g *generator) copyOut() {
	text := pick(g, "copy (select g, 'row' from generate_series(1, 3) g) to stdout", "copy (select k, v from "+g.table()+" order by k) to stdout",
		"copy (select 6 / (3 - g) from generate_series(1, 5) g) to stdout", "copy (select repeat('o', 9000) from generate_series(1, 4)) to stdout")
	if g.oneIn(2) {
		g.send("Query %s%s", text, pick(g, "", "; select 1"))
		g.statements[0] = nil
		return
	}
	g.parseUnnamed(text)
	g.send("Bind - -")
	g.send("Execute - 0")
	g.send("Sync")
	g.statements[0] = nil
}

// setting changes what PostgreSQL reports, and looks at it.
func (g *generator) setting() {
	text := pick(g, "set application_name = 'other'", "set application_name = 'fuzz'", "set application_name = ''", "set default_transaction_read_only = off",
		"set extra_float_digits = 1", "set statement_timeout = '1min'", "set local application_name = 'for now'")
	if g.sets {
		text = pick(g, text, "set timezone = 'Europe/Berlin'", "set timezone = 'Asia/Tokyo'", "set timezone = 'nowhere'", "set datestyle = 'German'",
			"set datestyle = 'ISO, DMY'", "set intervalstyle = 'sql_standard'", "set client_encoding = 'LATIN1'", "set client_encoding = 'UTF8'",
			"set local timezone = 'Europe/Berlin'", "select set_config('TimeZone', 'Asia/Tokyo', false)", "set timezone = 'Asia/Tokyo'; set datestyle = 'SQL, MDY'; select 1/0")
	}
	if g.params == "" && g.oneIn(8) {
		// With startup parameters it goes to the server's own start value, until
		// the transaction has ended and the next one has not been sent yet.
		text = pick(g, "set application_name to default", "reset all", "reset timezone")
	}
	if g.oneIn(3) {
		text = "begin; " + text + "; " + pick(g, "commit", "rollback", "savepoint sp; set application_name = 'inner'; rollback to sp; commit")
	}
	g.statements[0] = nil
	if g.oneIn(4) && !strings.Contains(text, ";") {
		g.parseUnnamed(text)
		g.send("Bind - -")
		g.send("Execute - 0")
		g.send("Sync")
	} else {
		g.send("Query %s", text)
	}
	g.endOfBatch()
	g.send("Query select current_setting('timezone'), current_setting('datestyle'), current_setting('application_name'), current_setting('client_encoding')")
}

func (g *generator) functionCall() {
	switch g.r.IntN(4) {
	case 0:
		g.send("FunctionCall 154 x'00000008' x'00000000' fmt=1 res=1") // 8 / 0
	case 1:
		g.send("FunctionCall 177 7 35")
	case 2:
		g.send("FunctionCall 177 NULL x'00000002' fmt=1 res=1")
	default:
		g.send("FunctionCall 177 x'00000001' x'00000002' fmt=1 res=1")
	}
}

// stray is a message where none is expected, or one that asks for nothing.
func (g *generator) stray() {
	for range 1 + g.r.IntN(3) {
		switch g.r.IntN(12) {
		case 0:
			g.send("Sync")
		case 1:
			g.send("Flush")
		case 2:
			g.send(`CopyData "1\n"`)
		case 3:
			g.send("CopyDone")
		case 4:
			g.send(`CopyFail "no"`)
		case 5:
			i := g.r.IntN(len(g.statements))
			g.send("Close S %s", g.statementName(i))
			g.statements[i] = nil
		case 6:
			g.send("Close P %s", portalName(g.somePortal()))
		case 7:
			g.describe(g.someStatement())
		case 8:
			g.send("Describe P %s", portalName(g.somePortal()))
		case 9:
			g.send("Execute %s", portalName(g.somePortal()))
		case 10:
			g.send("Bind - missing")
		default:
			g.send("Describe S missing")
		}
	}
	if !g.oneIn(4) {
		g.send("Sync")
	}
}

// forget drops all statements, in one way or another.
func (g *generator) forget() {
	text := pick(g, "deallocate all", "deallocate all", "discard all", "discard plans", "deallocate all; select 1", "begin; deallocate all; rollback", "discard temp")
	if g.frozen && text == "discard plans" {
		text = "discard temp" // that would have literals read again (docs/prepared.md)
	}
	if g.oneIn(3) && !strings.Contains(text, ";") {
		g.parseUnnamed(text)
		g.send("Bind - -")
		g.send("Execute - 0")
		if !g.oneIn(6) {
			g.send("Sync")
		}
	} else {
		g.send("Query %s", text)
	}
	clear(g.statements[:])
}

// malformed is a message that PostgreSQL refuses and lives on.
func (g *generator) malformed() {
	switch g.r.IntN(7) {
	case 0:
		g.send(`Frame B "\x00s1\x00\x00\x00\x00\x05"`)
	case 1:
		g.send(`Frame D "Xs1\x00"`)
	case 2:
		g.send(`Frame C "Xs1\x00"`)
	case 3:
		g.send(`Frame E "\x00"`)
	case 4:
		g.send(`Frame P "s1\x00select 1"`)
	case 5:
		g.send("Close S -") // PostgreSQL keeps the unnamed statement, since it does not see the Query's text
		g.send(`Frame Q "select 1"`)
		g.statements[0] = nil
	default:
		g.send(`Frame F "\x00\x00\x00\xb1\x00\x01"`)
	}
	g.send("Sync")
}

// large is what does not fit one buffer, in either direction.
func (g *generator) large() {
	n := pick(g, 9000, 40000, 70000, 200000)
	switch g.r.IntN(4) {
	case 0:
		g.send("Query select length('${repeat:q:%d}')", n)
		g.statements[0] = nil
	case 1:
		g.send("Parse - select length($1::text), $1::text")
		g.send("Bind - - ${repeat:b:%d}", n)
		g.send("Execute -")
		g.send("Sync")
		g.statements[0] = nil
	case 2:
		g.send("Query select repeat('r', %d) from generate_series(1, 3)", n)
		g.statements[0] = nil
	default:
		i := 1 + g.r.IntN(len(g.statements)-1)
		g.send("Close S %s", g.statementName(i))
		g.send("Parse %s select length($1::text) /* ${repeat:c:%d} */", g.statementName(i), n)
		g.statements[i] = &text{"", []string{"t"}}
		g.bind(0, i)
		g.send("Execute -")
		g.send("Sync")
	}
}

// pinning makes state that keeps the server.
func (g *generator) pinning() {
	text := pick(g, "create temp table if not exists mine (a int); insert into mine values (1); select * from mine", "begin; create temp table now_only (a int) on commit drop; commit",
		fmt.Sprintf("select pg_advisory_lock(%d); select pg_advisory_unlock(%d)", g.name[0], g.name[0]), "set work_mem = '6MB'; show work_mem",
		"begin; declare held cursor with hold for select g from generate_series(1, 3) g; commit; fetch 2 from held; close held")
	if g.frozen && strings.Contains(text, "temp table") {
		text = "select 7" // it would have literals read again (docs/prepared.md)
	}
	g.send("Query %s", text)
	g.statements[0] = nil
}

// sqlPrepared is how often SQL's own PREPARE, EXECUTE and DEALLOCATE come; 0:
// never.
const sqlPrepared = 4

// listing shows the names that there are.
const listing = "select name, from_sql from pg_prepared_statements order by name"

// ddl changes what statements have been prepared for, and uses them.
func (g *generator) ddl() {
	t := g.changing()
	mark := fmt.Sprintf(" /* %d */", g.number)
	change := pick(g, "alter table "+t+" add column more int", "alter table "+t+" drop column more", "alter table "+t+" drop column more; select 1",
		"begin; alter table "+t+" add column more int; rollback", "alter table "+t+" alter column v type varchar(9)", "analyze "+t, "alter table "+t+" rename column v to w")
	i := g.someStatement()
	if g.oneIn(2) {
		g.send("Close S %s", g.statementName(i))
	}
	g.parse(i, &text{pick(g, "select * from "+t+" order by k", "select k, v from "+t, "insert into "+t+" values ($1, $2) on conflict (k) do nothing returning *", "select k from "+t,
		"insert into "+t+" (k, v) values ($1, $2) on conflict (k) do nothing") + mark, nil})
	if strings.Contains(g.statements[i].sql, "$1") {
		g.statements[i].params = []string{"n", "t"}
	}
	g.send("Sync")
	if g.oneIn(3) {
		g.send("Query prepare changing as select * from %s%s", t, mark)
		g.statements[0] = nil
	}
	g.endOfBatch()
	switch {
	case g.oneIn(3) && !strings.Contains(change, ";"):
		g.parse(0, &text{change, nil})
		g.send("Bind - -")
		g.send("Execute - 0")
		g.send("Sync")
	default:
		g.send("Query %s", change)
		g.statements[0] = nil
	}
	g.endOfBatch()
	for range 1 + g.r.IntN(2) {
		switch {
		case g.oneIn(3):
			if g.oneIn(4) { // in an open batch
				g.send("Describe S %s", g.statementName(i))
			}
			g.send("Query %s", pick(g, "execute changing", "select 1; execute changing", "deallocate changing"))
			g.statements[0] = nil
			continue
		case g.oneIn(4):
			g.send("Describe S %s", g.statementName(i))
			g.send("Sync")
			continue
		}
		g.bind(0, i)
		g.execute(0)
		g.send("Sync")
		g.endOfBatch()
	}
}

// frozenTexts have literals whose meaning the settings at Parse decide.
var frozenTexts = []text{
	{"select '01/02/2003'::date as d", nil},
	{"select '2003-02-01 12:00'::timestamptz as at, $1::int as n", []string{"n"}},
	{"select '-1 day 02:03:04'::interval as i", nil},
	{"select k, v, '03/04/2005'::date as d from %s order by k", nil},
	{"select '{NULL,a}'::text[] as a", nil},
	{"select $1::text || ('04/05/2006'::date)::text as t", []string{"t"}},
	{"select E'\\\\x41', 'a\\\\b' as s", nil},
	{"select 'the cats'::tsvector, to_tsquery('cats') as q", nil},
	{"insert into %s values ($1, '05/06/2007'::date::text) on conflict (k) do update set v = excluded.v returning v", []string{"n"}},
}

// frozenSettings are what Parse reads.
func (g *generator) frozenSetting() string {
	return pick(g, "datestyle = 'ISO, DMY'", "datestyle = 'ISO, MDY'", "datestyle = 'SQL, DMY'", "timezone = 'Asia/Tokyo'", "timezone = 'UTC'", "timezone = 'America/New_York'",
		"intervalstyle = 'sql_standard'", "intervalstyle = 'postgres'", "array_nulls = off", "array_nulls = on", "standard_conforming_strings = off", "standard_conforming_strings = on",
		"default_text_search_config = 'pg_catalog.simple'", "default_text_search_config = 'pg_catalog.english'", "client_encoding = 'LATIN1'", "client_encoding = 'UTF8'")
}

// freezing changes what Parse reads, outside of transactions, in front of
// statements with literals and behind them. In the middle of one it could be refused,
// and so could a list of them (docs/prepared.md).
func (g *generator) freezing() {
	g.send("Sync")
	g.send("Query rollback")
	g.inTx = false
	g.statements[0] = nil
	g.endOfBatch()
	if g.oneIn(4) {
		g.send("Query %s", listing)
		g.endOfBatch()
	}
	for range 1 + g.r.IntN(3) {
		if g.oneIn(4) {
			g.parse(0, &text{"set " + g.frozenSetting(), nil})
			g.send("Bind - -")
			g.send("Execute - 0")
			g.send("Sync")
		} else {
			g.send("Query set %s", g.frozenSetting())
		}
		g.statements[0] = nil
		g.endOfBatch()
		i := g.someStatement()
		if g.oneIn(2) || g.statements[i] == nil {
			t := frozenTexts[g.r.IntN(len(frozenTexts))]
			if strings.Contains(t.sql, "%s") {
				t.sql = fmt.Sprintf(t.sql, g.table())
			}
			if i > 0 && g.oneIn(4) && len(t.params) == 0 {
				g.send("Query deallocate %s", g.statementName(i))
				g.send("Query prepare %s as %s", g.statementName(i), t.sql)
				g.statements[0] = nil
				g.statements[i] = &t
			} else {
				g.send("Close S %s", g.statementName(i))
				g.parse(i, &t)
			}
			if g.oneIn(2) {
				g.send("Sync")
				g.endOfBatch()
			}
		}
		for range 1 + g.r.IntN(2) {
			block := g.oneIn(3)
			if block {
				g.settle() // as above: what is sent ahead of a transaction is known when the SET has been answered
				g.send("Query begin")
				g.statements[0] = nil
				g.endOfBatch()
			}
			switch {
			case i > 0 && !block && g.oneIn(4):
				g.send("Query execute %s", g.statementName(i))
				g.statements[0] = nil
			default:
				if g.oneIn(3) {
					g.describe(i)
				}
				g.bind(0, i)
				g.execute(0)
				g.send("Sync")
			}
			g.endOfBatch()
			if block {
				g.send("Query %s", pick(g, "commit", "rollback"))
				g.statements[0] = nil
				g.endOfBatch()
			}
		}
	}
	g.settle()
}

// deallocating runs a function that takes pgpoold's own statements away.
func (g *generator) deallocating() {
	if g.imitation != "" {
		return
	}
	switch g.r.IntN(3) {
	case 0:
		g.send("Query select fuzz_forget()")
		g.statements[0] = nil
	case 1:
		g.send("Parse - select fuzz_forget()")
		g.send("Bind - -")
		g.send("Execute - 0")
		g.send("Sync")
		g.statements[0] = nil
	default:
		g.send("Query begin; select fuzz_forget()")
		g.statements[0] = nil
		g.endOfBatch()
		g.known()
		g.endOfBatch()
		g.send("Query commit")
	}
	g.known()
}

// sqlPrepare works on the names that Parse gives, too: PostgreSQL has one
// namespace for both.
func (g *generator) sqlPrepare() {
	name := g.statementName(1 + g.r.IntN(len(g.statements)-1))
	text := pick(g,
		"prepare "+name+"(int) as select $1 + 1",
		"prepare "+name+" as select k, v from "+g.table()+" order by k",
		"execute "+name+"(2)", "execute "+name, "execute "+name+"(1, 2)", "deallocate "+name, "deallocate prepare "+name,
		"prepare "+name+" as selekt", "prepare "+name+" as select 1; execute "+name+"; deallocate "+name,
		"begin; prepare "+name+" as select 2; rollback", "execute missing")
	if g.lists && g.oneIn(4) {
		// A statement whose table has changed could not be brought to be listed
		// (docs/prepared.md).
		text = pick(g, "prepare listing as "+listing, "execute listing", "execute listing; "+listing, listing)
	}
	if g.frozen && strings.HasPrefix(text, "execute") {
		// In a transaction what Parse has made could be refused (docs/prepared.md).
		g.send("Sync")
		g.send("Query rollback")
		g.inTx = false
		g.statements[0] = nil
		g.endOfBatch()
	}
	// What cannot be brought any more, because its table has changed, fails in front of
	// the text that executes it (docs/prepared.md): in a Query that makes no difference.
	broken := g.tables && !g.lists && strings.HasPrefix(text, "execute")
	if g.oneIn(3) && !strings.Contains(text, ";") && !broken {
		g.parseUnnamed(text)
		g.send("Bind - -")
		g.send("Execute - 0")
		g.send("Sync")
	} else {
		g.send("Query %s", text)
	}
	g.statements[0] = nil
}
