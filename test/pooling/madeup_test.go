package pooling_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/test/harness"
	"pgpoold/test/postgres"
)

func rvClose(name string) *pgproto3.Close { return &pgproto3.Close{ObjectType: 'S', Name: name} }

func rvDescribe(name string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: 'S', Name: name}
}

// TestMadeUpBehindLargeDescription: a RowDescription that comes in many
// pieces is the last reply to its Describe, and a made-up CloseComplete waits
// for its end.
func TestMadeUpBehindLargeDescription(t *testing.T) {
	var cols []string
	for i := range 1500 {
		cols = append(cols, fmt.Sprintf("%d as a_rather_long_column_name_%d", i, i))
	}
	rvSame(t, 1, nil, func(t *testing.T, open rvOpen) []string {
		a := open()
		a.send(parse("s", "select "+strings.Join(cols, ",")), &pgproto3.Sync{})
		lines := a.rvFrames(1)
		a.send(rvDescribe("s"), rvClose("s"), &pgproto3.Sync{})
		lines = append(lines, a.rvFrames(1)...)
		// The Close comes while the description streams already.
		a.send(parse("s", "select "+strings.Join(cols, ",")), rvDescribe("s"), &pgproto3.Flush{})
		a.send(rvClose("s"), rvClose("none"), &pgproto3.Sync{})
		return append(lines, a.rvFrames(1)...)
	})
}

// TestMadeUpAmongSplitReplies: the replies of PostgreSQL come in two pieces,
// cut at every byte in turn, with made-up ones between and behind them. The
// client gets what it gets directly, to the byte.
func TestMadeUpAmongSplitReplies(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c, `create function note(int) returns int language plpgsql as $$ begin raise notice 'note %', $1; return $1; end $$`)
	m := rvBetween(t, c)
	p := harness.Start(t, harness.Options{DSN: m.dsn(db), Size: 1, Lucky: true})
	// The one server holds the statements after the first round, so both
	// Parses in the batch are made up.
	round := []pgproto3.FrontendMessage{
		parse("s", "select g as a_column, note(g) as another from generate_series(1, 2) g"), rvDescribe("s"), rvClose("none"),
		bind("s"), &pgproto3.Execute{}, rvClose("none"), parse("e", "select 1/0"), rvClose("s"), rvClose("e"), &pgproto3.Sync{},
		sql("select 7 as q"),
	}
	direct := login(t, c.Addr(), postgres.Superuser, db)
	direct.send(round...)
	want := direct.rvFrames(2)
	a := login(t, p.Addr(), postgres.Superuser, db)
	for range 3 {
		a.send(round...)
		rvEqual(t, a.rvFrames(2), want)
	}
	pieces := make(chan int, 1)
	for at := 1; !t.Failed(); at++ {
		seen := 0
		m.set(func() {
			m.down = func(b []byte, write func([]byte)) bool {
				idle := rvIdle(b) // before it is cut
				if k := at - seen; k > 0 && k < len(b) {
					write(b[:k])
					time.Sleep(time.Millisecond / 2) // long enough to be seen alone; nothing depends on it
					b = b[k:]
					seen += k
				}
				seen += len(b)
				write(b)
				if idle {
					select {
					case <-pieces:
					default:
					}
					pieces <- seen
				}
				return false
			}
		})
		a.send(round...)
		rvEqual(t, a.rvFrames(2), want)
		if t.Failed() {
			t.Logf("cut behind byte %d", at)
		}
		if at >= <-pieces {
			break
		}
	}
}

// TestSplitNoticeBehindReady: a notice that PostgreSQL sends by itself begins
// in the segment with a ReadyForQuery. What is left of it goes to the same
// client, not to the next one on that server.
func TestSplitNoticeBehindReady(t *testing.T) {
	c := postgres.ForTest(t)
	db := newDB(t, c)
	m := rvBetween(t, c)
	p := harness.Start(t, harness.Options{DSN: m.dsn(db), Size: 1, Lucky: true, Unaudited: true})
	a, b := login(t, p.Addr(), postgres.Superuser, db), login(t, p.Addr(), postgres.Superuser, db)
	a.must("select 1")
	notice := rvError(t, 'N', "WARNING", "01000", "a warning that comes by itself")
	rest := make(chan struct{})
	sent := make(chan struct{}, 1)
	m.set(func() {
		m.down = func(in []byte, write func([]byte)) bool {
			if !rvIdle(in) {
				write(in)
				return false
			}
			m.set(func() { m.down = nil })
			write(append(bytes.Clone(in), notice[:20]...))
			<-rest
			write(notice[20:])
			return false
		}
		m.up = func(b []byte) {
			if bytes.Contains(b, []byte("from_b")) {
				sent <- struct{}{}
			}
		}
	})
	a.send(sql("select 'a'"))
	if got := strings.Join(a.rvFrames(1), " "); !strings.Contains(got, `\x01a`) {
		t.Fatalf("got %s", got)
	}
	b.send(sql("select 'from_b'"))
	eventually(t, func() string {
		if len(sent) > 0 {
			return ""
		}
		for _, s := range p.Server().Snapshot().Clients {
			if s.PID == b.pid && s.State == "waiting" {
				return ""
			}
		}
		return "the second client has not asked yet"
	})
	close(rest)
	got := strings.Join(b.rvFrames(1), " ")
	if !strings.HasPrefix(got, "T ") || !strings.Contains(got, "from_b") || strings.Contains(got, "warning") {
		t.Errorf("another client got %s", got)
	}
	a.send(sql("select 'again'"))
	if r := a.read(); !strings.HasPrefix(r.types, "N") || r.cell() != "again" {
		t.Errorf("the client itself got %s", r)
	}
}

// TestErrorBehindMadeUp: an error in a batch whose Parse was made up is the
// client's, with what stands behind it, also where another batch has begun.
func TestErrorBehindMadeUp(t *testing.T) {
	sync := &pgproto3.Sync{}
	rvSame(t, 1, nil, func(t *testing.T, open rvOpen) (lines []string) {
		a := open()
		a.send(parse("known", "select $1::int"), sync)
		lines = append(lines, rvGist(a.read()))
		for i := range 3 {
			name := fmt.Sprint("s", i)
			a.send(parse(name, "select $1::int"), bind(name, "1", "2"), sync, bind("", "3"), bind(name, "4"), sync)
			lines = append(lines, rvGist(a.read()), rvGist(a.read()))
			a.send(parse(name+"q", "select $1::int"), bind(name+"q", "1", "2"), sync, sql("select 5"), bind(name, "4"), &pgproto3.Execute{}, sync)
			lines = append(lines, rvGist(a.read()), rvGist(a.read()), rvGist(a.read()))
		}
		return lines
	})
}
