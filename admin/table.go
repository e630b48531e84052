package admin

import (
	"strconv"
	"time"
)

// PostgreSQL's type OIDs for the columns that PgBouncer's console has.
const (
	oidInt8    = 20
	oidInt4    = 23
	oidText    = 25
	oidNumeric = 1700
)

// column is one column of a console table.
type column struct {
	name string
	oid  uint32
}

// table is the answer to one SHOW. A nil cell is NULL.
type table struct {
	columns []column
	rows    [][]*string
}

// columnsOf pairs names with types: one letter each, as PgBouncer's source
// writes them: s text, i int4, q int8, N numeric, T a timestamp as text.
func columnsOf(types string, names ...string) []column {
	cols := make([]column, len(names))
	for i, name := range names {
		cols[i].name = name
		switch types[i] {
		case 'i':
			cols[i].oid = oidInt4
		case 'q':
			cols[i].oid = oidInt8
		case 'N':
			cols[i].oid = oidNumeric
		default:
			cols[i].oid = oidText
		}
	}
	return cols
}

// typeLength is pg_type.typlen of a column's type.
func (c column) typeLength() int16 {
	switch c.oid {
	case oidInt4:
		return 4
	case oidInt8:
		return 8
	}
	return -1
}

func (t *table) add(cells ...*string) { t.rows = append(t.rows, cells) }

// names are the columns' names, for the page.
func (t *table) names() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

func text(s string) *string { return &s }

// textOrNull is NULL for "".
func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func number[T int | int64 | uint32](n T) *string { return text(strconv.FormatInt(int64(n), 10)) }

func unsigned(n uint64) *string { return text(strconv.FormatUint(n, 10)) }

func flag(b bool) *string {
	if b {
		return text("1")
	}
	return text("0")
}

// timestamp is NULL for the zero time.
func timestamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return text(t.Local().Format("2006-01-02 15:04:05 MST"))
}

// seconds and micros are the two columns in which PgBouncer shows a wait.
func seconds(d time.Duration) *string { return number(int64(d / time.Second)) }
func micros(d time.Duration) *string  { return number(int64(d % time.Second / time.Microsecond)) }
