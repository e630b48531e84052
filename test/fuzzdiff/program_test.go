package fuzzdiff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"pgpoold/test/wirescript"
)

// program is what several clients do at the same time.
type program struct {
	seed, number uint64
	clients      []script
	// split cuts each client's messages in two behind this byte; 0: it does not.
	split int
}

// script is one client's part, line by line as in a wire script, without its
// head.
type script struct {
	name   string // of the client: a, b, ...
	params string // startup parameters
	lines  []string
}

// functions are what the programs call, made once per database.
//
// fuzz_forget deallocates what pgpoold has put on a server; on a direct connection
// there is nothing of the kind, unless the client itself has such names. A function
// that deallocates other names of the client is left out: through pgpoold the session
// keeps them (docs/prepared.md).
const functions = `create or replace function fuzz_note(n int) returns int language plpgsql as $$ begin raise notice 'note %', n; return n; end $$; ` +
	`create or replace function fuzz_forget() returns int language plpgsql as $$ declare s text; begin ` +
	`for s in select name from pg_prepared_statements where name ~ '^pgpoold_[0-9]+$' loop execute 'deallocate ' || s; end loop; return 1; end $$`

// table is the client's own, so that its replies do not hang on the others.
func (s *script) table() string { return "fuzz_" + s.name }

// changing is one whose columns change. It is made anew for each program, where
// pgpoold does not see it, so what is prepared for it has a text of its own.
func (s *script) changing() string { return "fuzz_changing_" + s.name }

// Autovacuum would have statements read again, and their literals, whenever it likes.
func (s *script) create() string {
	return "create table if not exists " + s.table() + " (k int primary key, v text check (v <> 'forbidden')) with (autovacuum_enabled = off)"
}

// text is the wire script. One that stands alone makes what it needs.
func (s *script) text(alone bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Random messages of client %s.\n", s.name)
	if alone {
		fmt.Fprintf(&b, "setup %s\nsetup %s\n", functions, s.create())
	}
	fmt.Fprintf(&b, "setup delete from %s\n", s.table())
	if slices.ContainsFunc(s.lines, func(line string) bool { return strings.Contains(line, s.changing()) }) {
		fmt.Fprintf(&b, "setup drop table if exists %[1]s; create table %[1]s (k int primary key, v text); insert into %[1]s values (1, 'one')\n", s.changing())
	}
	fmt.Fprintf(&b, "open %s %s\n", s.name, s.params)
	if s.params != "" {
		fmt.Fprintf(&b, "%s< ... Z[I]\n", s.name)
	}
	for _, line := range s.lines {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	// Terminate behind a batch without its Sync, or in the middle of a COPY, is a
	// race that nobody loses.
	fmt.Fprintf(&b, "%[1]s> CopyFail \"the end\"\n%[1]s> Sync\nsettle %[1]s\n", s.name)
	return b.String()
}

// closes tells that the script waits for the connection's end.
func (s *script) closes() bool { return slices.Contains(s.lines, s.name+"< ... close") }

func (s *script) parse() (*wirescript.Script, error) {
	return wirescript.Parse("client-"+s.name, s.text(false))
}

// String is for people, and for a file in test/scripts.
func (p *program) String() string {
	var b strings.Builder
	if p.split > 0 {
		fmt.Fprintf(&b, "(every message is cut behind byte %d)\n", p.split)
	}
	for _, c := range p.clients {
		b.WriteString(c.text(true))
		b.WriteByte('\n')
	}
	return b.String()
}

// maxClients of a program.
const maxClients = 4

// newProgram makes the program of a number. Over the numbers every claimed
// cell of the table is reached, by the first client and by the third. tables says
// that tables may change under what is prepared, and functions deallocate it.
func newProgram(seed, number uint64, tables bool) *program {
	r := rand.New(rand.NewPCG(seed, number))
	p := &program{seed: seed, number: number}
	if r.IntN(6) == 0 {
		p.split = 1 + r.IntN(40)
	}
	cells := claimed()
	for i := range 1 + r.IntN(maxClients) {
		g := &generator{r: r, script: script{name: string(rune('a' + i))}, eager: [...]float64{0.1, 0.4, 0.8}[r.IntN(3)], sets: r.IntN(3) == 0, tables: tables, number: number}
		g.lists = !tables || r.IntN(3) == 0
		g.frozen = !g.sets && r.IntN(4) == 0
		if g.frozen {
			g.lists = false // as freezing does
		}
		if r.IntN(3) == 0 {
			g.imitation = fmt.Sprintf("pgpoold_%d", 1+r.IntN(2000))
		}
		g.login()
		g.fragments(3 + r.IntN(10))
		if i%2 == 0 {
			g.cell(cells[(number+uint64(i*len(cells))/maxClients)%uint64(len(cells))])
		}
		p.clients = append(p.clients, g.script)
	}
	return p
}

// claimed are the cells of the table that the programs reach: all but those
// in which pgpoold's answer is known to be another one.
func claimed() []wirescript.Cell {
	var all []wirescript.Cell
	for _, row := range wirescript.Rows() {
		for _, col := range wirescript.Columns() {
			if row == wirescript.RowUnknown && (col == wirescript.ColCopy || col == wirescript.ColCopyExt) {
				continue
			}
			all = append(all, wirescript.Cell{Row: row, Col: col})
		}
	}
	return all
}
