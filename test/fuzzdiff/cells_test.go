package fuzzdiff

import "pgpoold/test/wirescript"

// cell brings the client into a column's state, sends a message of the row
// there, and makes an end of it: some of these end the connection, so it is
// the last that a script does.
func (g *generator) cell(c wirescript.Cell) {
	g.send("Sync")
	g.settle()
	g.send("Query rollback")
	g.settle()
	copying := c.Col == wirescript.ColCopy || c.Col == wirescript.ColCopyExt
	g.copied = copying
	copyText := "copy " + g.table() + " from stdin"
	switch c.Col {
	case wirescript.ColIdle:
	case wirescript.ColInTx:
		g.send("Query begin")
	case wirescript.ColFailed:
		g.send("Query begin")
		g.send("Query select 1/0")
	case wirescript.ColPipelined:
		g.send("Query select 'in front'")
	case wirescript.ColFlushed:
		g.send("Parse - select $1::int")
		g.send("Flush")
	case wirescript.ColCopy:
		g.send("Query %s", copyText)
	case wirescript.ColCopyExt:
		g.send("Close S copying")
		g.send("Parse copying %s", copyText)
		g.send("Bind - copying")
		g.send("Execute -")
		g.send("Flush")
	case wirescript.ColSkipped:
		g.send("Parse - selekt")
		g.send("Flush")
	}
	if c.Col != wirescript.ColPipelined {
		g.settle()
	}
	switch g.message(c.Row); {
	case c.Row == wirescript.RowTerminate || c.Row == wirescript.RowUnknown || copying && !withinCopy(c.Row):
		g.line("%s< ... close", g.name)
		return
	case copying && c.Row != wirescript.RowCopyDone && c.Row != wirescript.RowCopyFail:
		g.send("CopyDone")
	}
	if c.Col != wirescript.ColCopy {
		g.send("Sync")
	}
	g.settle()
	g.fragments(2)
}

// withinCopy tells the messages that do not end the connection in the middle
// of COPY data.
func withinCopy(r wirescript.Row) bool {
	switch r {
	case wirescript.RowCopyData, wirescript.RowCopyDone, wirescript.RowCopyFail, wirescript.RowSync, wirescript.RowFlush:
		return true
	}
	return false
}

// message is one of the row.
func (g *generator) message(r wirescript.Row) {
	switch r {
	case wirescript.RowQuery:
		g.send("Query %s", pick(g, "select 'here'", "select 1/0", "show timezone"))
	case wirescript.RowEmptyQuery:
		g.send("Query %s", pick(g, `""`, `";"`))
	case wirescript.RowParseNamed:
		g.parse(1, g.preparable())
	case wirescript.RowParseUnnamed:
		g.parse(0, g.preparable())
	case wirescript.RowBind:
		g.bind(g.somePortal(), g.someStatement())
	case wirescript.RowDescribeS:
		g.send("Describe S %s", pick(g, "missing", "other"))
	case wirescript.RowDescribeP:
		g.send("Describe P %s", portalName(1+g.r.IntN(3)))
	case wirescript.RowExecute:
		g.execute(1 + g.r.IntN(3))
	case wirescript.RowCloseS:
		g.send("Close S %s", g.statementName(g.someStatement()))
	case wirescript.RowCloseP:
		g.send("Close P %s", portalName(g.somePortal()))
	case wirescript.RowSync:
		g.send("Sync")
	case wirescript.RowFlush:
		g.send("Flush")
	case wirescript.RowFunctionCall:
		g.functionCall()
	case wirescript.RowCopyData:
		g.send(`CopyData "%d\tcell\n"`, 200+g.small())
	case wirescript.RowCopyDone:
		g.send("CopyDone")
	case wirescript.RowCopyFail:
		g.send(`CopyFail "of the cell"`)
	case wirescript.RowTerminate:
		g.send("Terminate")
	case wirescript.RowUnknown:
		g.send(`Frame y "what is this"`)
	}
}
