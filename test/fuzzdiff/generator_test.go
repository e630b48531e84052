package fuzzdiff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// generator writes one client's script. What it believes of the client's state
// only makes sense more likely than nonsense; whether a message succeeds is
// PostgreSQL's to say.
type generator struct {
	script
	r      *rand.Rand
	eager  float64 // how often it waits for its replies
	tables bool    // as newProgram's
	lists  bool    // it lists what it has prepared, and then its tables do not change
	frozen bool    // it changes what parsing reads, between transactions, and has literals in prepared texts
	sets   bool    // it changes what parsing reads, and has no literals in prepared texts

	number    uint64 // of the program
	imitation string // a name of a statement that looks like pgpoold's; "": none does

	inTx       bool
	bound      bool     // this batch has made an unnamed portal
	copying    bool     // there is a statement of this name
	copied     bool     // a COPY was sent, and nothing was read since
	statements [5]*text // by the number of their name, 0 is the unnamed one
	rowless    [5]bool  // a text without a result was sent under the name at some time
	portals    [4]*text
}

func (g *generator) line(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

// send writes a message, unless it is for the unnamed portal and no Bind made
// that in this batch: a Query that failed in a transaction leaves an unnamed
// portal behind, and PostgreSQL 15 crashes when that is executed.
func (g *generator) send(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	verb, rest, _ := strings.Cut(text, " ")
	if verb == "Query" && strings.Contains(rest, "isolation level") {
		// Directly behind a Describe, say, it can still be chosen in the same batch.
		// A server that lacks the statement has parsed it by then, under a snapshot,
		// and refuses (docs/prepared.md). In a transaction, behind a Parse that is made
		// up, it can be chosen still, and PostgreSQL refuses.
		g.line("%s> Sync", g.name)
		g.line("%s> Query commit", g.name)
	}
	switch verb {
	case "Sync", "Query", "FunctionCall", "Frame":
		g.bound = false
	case "Bind":
		g.bound = g.bound || strings.HasPrefix(rest, "- ")
	case "Execute", "Describe":
		if target := strings.TrimPrefix(rest, "P "); !g.bound && (verb == "Execute" || target != rest) && strings.HasPrefix(target, "-") {
			return
		}
	}
	g.line("%s> %s", g.name, text)
}

// oneIn is true once in n times.
func (g *generator) oneIn(n int) bool { return g.r.IntN(n) == 0 }

func pick[T any](g *generator, from ...T) T { return from[g.r.IntN(len(from))] }

// settle reads all that is owed. Behind a COPY that may send a Sync and a Query,
// which end the batch.
func (g *generator) settle() {
	g.bound = g.bound && !g.copied
	g.copied = false
	g.line("settle %s", g.name)
}

// pause is what stands between messages: mostly nothing.
func (g *generator) pause() {
	switch {
	case g.oneIn(12):
		g.send("Flush")
		if g.oneIn(2) {
			g.settle()
		}
	case g.oneIn(12):
		g.line("push")
	}
}

// endOfBatch is what stands between fragments.
func (g *generator) endOfBatch() {
	switch {
	case g.r.Float64() < g.eager:
		g.settle()
	case g.oneIn(5):
		g.line("push")
	}
}

// login sometimes brings startup parameters.
func (g *generator) login() {
	if !g.oneIn(4) {
		return
	}
	params := []string{"application_name=fuzz", "TimeZone=Asia/Tokyo", `DateStyle="SQL, DMY"`, "IntervalStyle=iso_8601", "extra_float_digits=2", "client_encoding=utf-8"}
	g.r.Shuffle(len(params), func(i, j int) { params[i], params[j] = params[j], params[i] })
	g.params = strings.Join(params[:1+g.r.IntN(3)], " ")
}

// fragments writes n pieces of what clients do.
func (g *generator) fragments(n int) {
	for range n {
		g.fragment()
		g.endOfBatch()
	}
	if g.oneIn(3) {
		g.send("Sync")
		g.settle()
	}
}

// weighted is one kind of fragment and how often it comes.
type weighted struct {
	weight int
	write  func(*generator)
}

var kinds = []weighted{
	{14, (*generator).simple},
	{6, (*generator).transaction},
	{24, (*generator).batch},
	{8, (*generator).known},
	{7, (*generator).cursor},
	{7, (*generator).copyIn},
	{3, (*generator).copyOut},
	{4, (*generator).setting},
	{3, (*generator).functionCall},
	{5, (*generator).stray},
	{2, (*generator).forget},
	{2, (*generator).malformed},
	{2, (*generator).large},
	{1, (*generator).pinning},
	{sqlPrepared, (*generator).sqlPrepare},
}

// ofTables are the kinds that come only where tables may change.
var ofTables = []weighted{
	{2, (*generator).deallocating},
	{2, (*generator).ddl}, // the last
}

func (g *generator) fragment() {
	all := kinds
	if g.tables {
		all = append(slices.Clone(kinds), ofTables...)
		if g.lists {
			all = all[:len(all)-1]
		}
	}
	if g.frozen {
		all = append(slices.Clone(kinds), weighted{12, (*generator).freezing})
	}
	total := 0
	for _, k := range all {
		total += k.weight
	}
	n := g.r.IntN(total)
	for _, k := range all {
		if n -= k.weight; n < 0 {
			k.write(g)
			return
		}
	}
}

// small is a number that often is the same.
func (g *generator) small() int { return g.r.IntN(5) }

// text is what a client prepares, with values that suit its parameters.
type text struct {
	sql    string
	params []string // n: a number, t: a text; as many as there are
}

// rowless tells a text whose statement returns nothing.
func (t *text) rowless() bool {
	word, _, _ := strings.Cut(t.sql, " ")
	switch word {
	case "select", "values", "show", "selekt":
		return false
	}
	return !strings.Contains(t.sql, "returning")
}

// value of a parameter, mostly one that suits.
func (g *generator) value(kind string) string {
	switch {
	case g.oneIn(25):
		return "NULL"
	case g.oneIn(40):
		return "${repeat:9:9000}"
	case kind == "n" && !g.oneIn(30):
		return fmt.Sprint(g.small())
	case g.oneIn(20):
		return "forbidden"
	}
	return pick(g, "x", "some-text", "7")
}

// preparable is a text for Parse.
func (g *generator) preparable() *text {
	t := g.table()
	n := g.r.IntN(30)
	all := []text{
		{fmt.Sprintf("select $1::int + %d as n", n), []string{"n"}},
		{"select $1::text as t, $2::int as n", []string{"t", "n"}},
		{"select g, g * $1::int as m from generate_series(1, 7) g", []string{"n"}},
		{"select g from generate_series(1, $1::int) g", []string{"n"}},
		{"insert into " + t + " values ($1, $2) returning k", []string{"n", "t"}},
		{"insert into " + t + " values ($1, $2) on conflict (k) do update set v = excluded.v", []string{"n", "t"}},
		{"update " + t + " set v = $2 where k = $1", []string{"n", "t"}},
		{"delete from " + t + " where k = $1", []string{"n"}},
		{"select k, v from " + t + " order by k", nil},
		{"select count(*) from " + t + " where k < $1", []string{"n"}},
		{"select 6 / $1::int as q", []string{"n"}},
		{"select 6 / (3 - g) from generate_series(1, 5) g", nil},
		{"select fuzz_note($1)", []string{"n"}},
		{"select repeat($1::text, 300)", []string{"t"}},
		{"select", nil},
		{"", nil},
		{"  -- nothing", nil},
		{"selekt 1", nil},
		{"select nothing from " + t, nil},
		{"select 1; select 2", nil},
		{"show timezone", nil},
		{"select make_date(2003, 2, 1), make_interval(days => $1::int)", []string{"n"}},
		{"values ($1::int, 2), (3, 4)", []string{"n"}},
		{fmt.Sprintf("select %d as one_of_many", g.r.IntN(400)), nil},
	}
	if !g.sets {
		all = append(all,
			text{"select 'a literal' || $1::text", []string{"t"}},
			text{"select '01/02/2003'::date, '12:00+03'::timetz", nil},
			text{"select $$dollars$$ as d, U&'d\\0061t\\+000061' as u", nil})
	}
	if g.oneIn(8) {
		return &text{g.control(false), nil}
	}
	return &all[g.r.IntN(len(all))]
}

// control is a command for the transaction, mostly one that suits. PostgreSQL
// ends a connection that executes one for savepoints in a batch outside of a
// transaction block, so these are for Query alone.
func (g *generator) control(savepoints bool) string {
	if !g.inTx && !g.oneIn(6) {
		g.inTx = true
		if !savepoints {
			return pick(g, "begin", "begin", "start transaction read only")
		}
		return pick(g, "begin", "begin", "begin isolation level repeatable read", "start transaction read only", "begin isolation level serializable")
	}
	if savepoints && g.oneIn(2) {
		return pick(g, "savepoint sp", "savepoint sp", "rollback to sp", "release sp", "rollback to none")
	}
	if g.oneIn(8) {
		return pick(g, "commit and chain", "rollback and chain")
	}
	g.inTx = false
	return pick(g, "commit", "commit", "rollback", "end")
}

// query is a text for Query, of one statement or several.
func (g *generator) query() string {
	n := 1
	if g.oneIn(4) {
		n += 1 + g.r.IntN(3)
	}
	var parts []string
	for range n {
		parts = append(parts, g.command())
	}
	return strings.Join(parts, "; ")
}

func (g *generator) command() string {
	t := g.table()
	if g.oneIn(5) {
		return g.control(true)
	}
	vacuum := "vacuum " + t
	if g.frozen {
		vacuum = "vacuum pg_am" // of its own table literals would be read again (docs/prepared.md)
	}
	return pick(g,
		fmt.Sprintf("select %d as n, 'x' as t", g.r.IntN(100)),
		fmt.Sprintf("insert into %s values (%d, 'v')", t, g.small()),
		fmt.Sprintf("insert into %s values (%d, 'w') on conflict do nothing returning *", t, g.small()),
		fmt.Sprintf("delete from %s where k > %d", t, g.small()),
		"select * from "+t+" order by k",
		"select 1/0",
		"select 6 / (3 - g) from generate_series(1, 5) g",
		"selekt 1",
		"select * from nowhere",
		fmt.Sprintf("select fuzz_note(%d)", g.small()),
		"select g from generate_series(1, 200) g",
		"",
		"/* nothing */",
		"declare cu cursor for select g from generate_series(1, 9) g",
		"fetch 2 from cu",
		"close cu",
		"lock table "+t+" in share mode",
		fmt.Sprintf("select pg_advisory_xact_lock(%d)", g.name[0]),
		"do $$ begin raise notice 'from do'; end $$",
		"do $$ begin raise exception 'from do' using errcode = 'XX123', hint = 'none'; end $$",
		"show timezone",
		"select make_date(2003, 2, 1), make_interval(days => 3), to_timestamp(0)",
		"select current_setting('application_name')",
		"set local work_mem = '5MB'",
		vacuum,
	)
}
