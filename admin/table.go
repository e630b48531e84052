package admin

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
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

// description is the RowDescription of the table; formats are the result
// formats of a portal.
func (t *table) description(formats []int16) *pgproto3.RowDescription {
	fields := make([]pgproto3.FieldDescription, len(t.columns))
	for i, col := range t.columns {
		fields[i] = pgproto3.FieldDescription{
			Name:         []byte(col.name),
			DataTypeOID:  col.oid,
			DataTypeSize: col.typeLength(),
			TypeModifier: -1,
			Format:       formatOf(formats, i),
		}
	}
	return &pgproto3.RowDescription{Fields: fields}
}

// encode writes a cell in a format of the protocol: 0 is text, 1 is binary.
func (c column) encode(cell string, format int16) []byte {
	if format != 1 || c.oid == oidText {
		return []byte(cell)
	}
	switch c.oid {
	case oidInt4:
		n, _ := strconv.ParseInt(cell, 10, 32)
		return binary.BigEndian.AppendUint32(nil, uint32(n))
	case oidInt8:
		n, _ := strconv.ParseInt(cell, 10, 64)
		return binary.BigEndian.AppendUint64(nil, uint64(n))
	}
	return numeric(cell)
}

// numeric is the binary form of a whole number that is not negative, as type
// numeric: digits to the base of 10000.
func numeric(cell string) []byte {
	n, _ := strconv.ParseUint(cell, 10, 64)
	var digits []uint16
	for ; n > 0; n /= 10000 {
		digits = append(digits, uint16(n%10000))
	}
	out := binary.BigEndian.AppendUint16(nil, uint16(len(digits)))
	out = binary.BigEndian.AppendUint16(out, uint16(max(len(digits)-1, 0))) // weight
	out = append(out, 0, 0, 0, 0)                                           // sign, dscale
	for i := len(digits) - 1; i >= 0; i-- {
		out = binary.BigEndian.AppendUint16(out, digits[i])
	}
	return out
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

func bit(b bool) *string {
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
