package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// sqlOf is what makes PostgreSQL do an effect.
func sqlOf(e effect) string {
	switch e {
	case modify:
		return "UPDATE sim SET a = a WHERE false"
	case fail:
		return "DROP TABLE missing"
	case failRows:
		return "SELECT 1/(2-g) FROM pg_catalog.generate_series(1,3) g"
	case empty:
		return ""
	case begin_:
		return "BEGIN"
	case commit:
		return "COMMIT"
	case rollback:
		return "ROLLBACK"
	case copyIn, copyBad:
		return "COPY sim FROM STDIN"
	case copyDie:
		return "COPY simdie FROM STDIN"
	case copyOut:
		return "COPY (SELECT 1) TO STDOUT"
	case suspend:
		return "SELECT pg_catalog.generate_series(1,3)"
	}
	return "SELECT 1"
}

// appendReal appends what a client would send for program[i].
func appendReal(dst []byte, program []message, i int) []byte {
	m := program[i]
	switch m.typ {
	case MsgQuery:
		var sql []string
		for _, e := range m.do {
			sql = append(sql, sqlOf(e))
		}
		return AppendQuery(dst, strings.Join(sql, ";"))
	case MsgParse:
		if m.effect() == fail {
			return AppendParse(dst, "", []byte("SELEC\x00\x00\x00"))
		}
		e := rows
		for _, later := range program[i:] {
			if later.typ == MsgExecute {
				e = later.effect()
				break
			}
		}
		return AppendParse(dst, "", []byte(sqlOf(e)+"\x00\x00\x00"))
	case MsgBind:
		if m.effect() == fail {
			return append(AppendBindHead(dst, "", "missing", 6), 0, 0, 0, 0, 0, 0)
		}
		return append(AppendBindHead(dst, "", "", 6), 0, 0, 0, 0, 0, 0)
	case MsgDescribe:
		return append(dst, MsgDescribe, 0, 0, 0, 6, 'P', 0)
	case MsgExecute:
		limit := byte(0)
		if m.effect() == suspend {
			limit = 1
		}
		return append(dst, MsgExecute, 0, 0, 0, 9, 0, 0, 0, 0, limit)
	case MsgClose:
		return AppendCloseStatement(dst, "missing")
	case MsgFunctionCall:
		// int4div(8, 4 or 0), binary
		divisor := byte(4)
		if m.effect() == fail {
			divisor = 0
		}
		dst, at := begin(dst, MsgFunctionCall)
		dst = append(dst, 0, 0, 0, 154, 0, 1, 0, 1, 0, 2, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0, divisor, 0, 1)
		return finish(dst, at)
	case MsgCopyData:
		for j := i - 1; j >= 0; j-- {
			if do := program[j].do; len(do) > 0 {
				for _, e := range do {
					if e == copyBad {
						return append(dst, MsgCopyData, 0, 0, 0, 6, 'x', '\n')
					}
				}
				break
			}
		}
		return append(dst, MsgCopyData, 0, 0, 0, 6, '1', '\n')
	case MsgCopyFail:
		return AppendCopyFail(dst, "enough")
	case MsgFlush:
		if m.bad {
			return append(dst, MsgFlush, 0, 0, 0, 5, 0)
		}
	}
	return AppendEmpty(dst, m.typ)
}

// TestSimulator holds the model that the ledger is tested against to
// PostgreSQL itself.
func TestSimulator(t *testing.T) {
	c := postgres.ForTest(t)
	if err := c.Exec(context.Background(), "postgres", `
		CREATE TABLE sim (a int);
		CREATE TABLE simdie (a int);
		CREATE FUNCTION simdie() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
		CREATE TRIGGER simdie BEFORE INSERT ON simdie FOR EACH STATEMENT EXECUTE FUNCTION simdie()`); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for played := 0; played < 200; {
		data := make([]byte, r.IntN(120))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		choices := choices(data)
		program := choices.program()
		if !realistic(program) {
			continue
		}
		played++
		want, _ := direct(t, program)
		if got := playReal(t, c.Addr(), program); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v\nPostgreSQL %v\nmodel      %v", program, got, want)
		}
	}
}

// realistic leaves out programs in which one Query has a COPY whose data is
// bad and one whose is not: the data messages do not say whose they are.
func realistic(program []message) bool {
	for _, m := range program {
		copies := 0
		for _, e := range m.do {
			if e == copyIn || e == copyBad || e == copyDie {
				copies++
			}
		}
		if copies > 1 {
			return false
		}
	}
	return true
}

// playReal sends a program to PostgreSQL in one piece and reads all replies.
func playReal(t *testing.T, addr string, program []message) (seen []reply) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	startup := []byte("\x00\x00\x00\x00\x00\x03\x00\x00user\x00" + postgres.Superuser + "\x00database\x00postgres\x00\x00")
	binary.BigEndian.PutUint32(startup, uint32(len(startup)))
	out := startup
	for i := range program {
		out = appendReal(out, program, i)
	}
	out = AppendEmpty(AppendEmpty(out, MsgFlush), MsgTerminate) // it would keep replies back otherwise
	if _, err := nc.Write(out); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(nc)
	login := true
	for {
		var head [HeaderLen]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			if err != io.EOF {
				t.Fatalf("%v: %v", program, err)
			}
			return seen
		}
		typ, size := Header(head[:])
		body := make([]byte, size-HeaderLen)
		if _, err := io.ReadFull(in, body); err != nil {
			t.Fatal(err)
		}
		switch {
		case typ == MsgNotice || typ == MsgParameterStatus:
		case login:
			login = typ != MsgReady
		case typ == MsgReady:
			seen = append(seen, reply{typ, body[0]})
		default:
			seen = append(seen, reply{typ: typ})
		}
	}
}
