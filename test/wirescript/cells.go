package wirescript

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Row is a frontend message type of the table of cells.
type Row string

// The rows.
const (
	RowQuery        Row = "Query"
	RowEmptyQuery   Row = "Query (empty)"
	RowParseNamed   Row = "Parse (named)"
	RowParseUnnamed Row = "Parse (unnamed)"
	RowBind         Row = "Bind"
	RowDescribeS    Row = "Describe (statement)"
	RowDescribeP    Row = "Describe (portal)"
	RowExecute      Row = "Execute"
	RowCloseS       Row = "Close (statement)"
	RowCloseP       Row = "Close (portal)"
	RowSync         Row = "Sync"
	RowFlush        Row = "Flush"
	RowFunctionCall Row = "FunctionCall"
	RowCopyData     Row = "CopyData"
	RowCopyDone     Row = "CopyDone"
	RowCopyFail     Row = "CopyFail"
	RowTerminate    Row = "Terminate"
	RowUnknown      Row = "unknown type"
)

// Rows of the table, in its order.
func Rows() []Row {
	return []Row{RowQuery, RowEmptyQuery, RowParseNamed, RowParseUnnamed, RowBind, RowDescribeS, RowDescribeP, RowExecute,
		RowCloseS, RowCloseP, RowSync, RowFlush, RowFunctionCall, RowCopyData, RowCopyDone, RowCopyFail, RowTerminate, RowUnknown}
}

// Column is a state of the session in which a message is sent.
type Column string

// The columns.
const (
	ColIdle      Column = "idle"
	ColInTx      Column = "in transaction"
	ColFailed    Column = "failed transaction"
	ColPipelined Column = "pipelined"
	ColFlushed   Column = "after Flush"
	ColCopy      Column = "COPY IN, simple"
	ColCopyExt   Column = "COPY IN, extended"
	ColSkipped   Column = "after an error, before Sync"
)

// Columns of the table, in its order.
func Columns() []Column {
	return []Column{ColIdle, ColInTx, ColFailed, ColPipelined, ColFlushed, ColCopy, ColCopyExt, ColSkipped}
}

// Meaning says when a message counts for the column.
func (c Column) Meaning() string {
	switch c {
	case ColIdle:
		return "the last ReadyForQuery that was read said `I`, and nothing else is under way"
	case ColInTx:
		return "the last ReadyForQuery that was read said `T`, and nothing else is under way"
	case ColFailed:
		return "the last ReadyForQuery that was read said `E`, and nothing else is under way"
	case ColPipelined:
		return "an earlier batch's ReadyForQuery has not been read"
	case ColFlushed:
		return "a Flush was sent in this batch and its replies were read; no Sync yet"
	case ColCopy:
		return "CopyInResponse to a Query was read, the COPY is open"
	case ColCopyExt:
		return "CopyInResponse to an Execute was read, the COPY is open"
	default:
		return "an ErrorResponse in this batch was read, or struck the message: PostgreSQL skips it"
	}
}

// Cell is one field of the table.
type Cell struct {
	Row Row
	Col Column
}

// columnSlug is the column in the names of scripts.
func columnSlug(c Column) string {
	return map[Column]string{
		ColIdle: "idle", ColInTx: "tx", ColFailed: "failed", ColPipelined: "pipelined", ColFlushed: "flush",
		ColCopy: "copy", ColCopyExt: "copy-ext", ColSkipped: "skipped",
	}[c]
}

// Script is the name of the script that is written for the cell.
func (c Cell) Script() string {
	row := strings.NewReplacer(" (named)", "-named", " (unnamed)", "-unnamed", " (empty)", "-empty", " (statement)", "-statement",
		" (portal)", "-portal", " ", "-").Replace(string(c.Row))
	row = strings.NewReplacer("FunctionCall", "function-call", "CopyData", "copy-data", "CopyDone", "copy-done", "CopyFail", "copy-fail").Replace(row)
	return "cells/" + strings.ToLower(row) + "-" + columnSlug(c.Col)
}

// Cells maps each cell to the scripts that reached it.
type Cells map[Cell][]string

// Add notes that a script reached the cells.
func (c Cells) Add(script string, cells []Cell) {
	for _, cell := range cells {
		if !slices.Contains(c[cell], script) {
			c[cell] = append(c[cell], script)
		}
	}
}

// Empty lists the cells that no script reached.
func (c Cells) Empty() []Cell {
	var out []Cell
	for _, r := range Rows() {
		for _, col := range Columns() {
			if len(c[Cell{r, col}]) == 0 {
				out = append(out, Cell{r, col})
			}
		}
	}
	return out
}

// WriteTable writes the table as Markdown: in each cell the number of scripts
// that reach it, with a link to the one that was written for it.
func (c Cells) WriteTable(w io.Writer) error {
	var s strings.Builder
	s.WriteString("| message |")
	for _, col := range Columns() {
		fmt.Fprintf(&s, " %s |", col)
	}
	s.WriteString("\n|---|" + strings.Repeat("---|", len(Columns())) + "\n")
	for _, r := range Rows() {
		fmt.Fprintf(&s, "| %s |", r)
		for _, col := range Columns() {
			cell := Cell{r, col}
			names := c[cell]
			switch own := cell.Script(); {
			case len(names) == 0:
				s.WriteString(" **none** |")
			case slices.Contains(names, own):
				fmt.Fprintf(&s, " [%d](../test/scripts/%s.wire) |", len(names), own)
			default:
				fmt.Fprintf(&s, " [%d](../test/scripts/%s.wire) |", len(names), slices.Min(names))
			}
		}
		s.WriteByte('\n')
	}
	_, err := io.WriteString(w, s.String())
	return err
}
