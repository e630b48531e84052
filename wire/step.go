package wire

// step tells whether a reply of type typ may answer a message whose reply
// before was of type last, and whether it is the final one. ReadyForQuery and
// ErrorResponse are not its business.
func step(msg, last, typ byte) (ok, done bool) {
	switch msg {
	case MsgParse:
		return typ == MsgParseComplete, true
	case MsgBind:
		return typ == MsgBindComplete, true
	case MsgClose:
		return typ == MsgCloseComplete, true
	case MsgDescribe:
		switch typ {
		case MsgParamDescription:
			return last == 0, false
		case MsgRowDescription, MsgNoData:
			return true, true
		}
	case MsgExecute:
		switch typ {
		case MsgDataRow:
			return last == 0 || last == MsgDataRow, false
		case MsgPortalSuspended:
			return last == 0 || last == MsgDataRow, true
		case MsgEmptyQuery:
			return last == 0, true
		case MsgCommandComplete:
			return true, true
		case MsgCopyIn, MsgCopyOut, MsgCopyBoth:
			return last == 0, false
		}
		return copyStep(last, typ), false
	case MsgQuery:
		first := last == 0 || last == MsgCommandComplete // of a command
		switch typ {
		case MsgRowDescription:
			return first || last == MsgCopyDone, false // in a walsender also at the end of a timeline
		case MsgDataRow:
			return last == MsgRowDescription || last == MsgDataRow, false
		case MsgEmptyQuery:
			return last == 0, false
		case MsgCommandComplete:
			return last != MsgEmptyQuery, false
		case MsgCopyIn, MsgCopyOut, MsgCopyBoth:
			return first, false
		}
		return copyStep(last, typ), false
	case MsgFunctionCall:
		return typ == MsgFunctionResult && last == 0, false
	}
	return false, false
}

// copyStep judges CopyData and CopyDone from the server.
func copyStep(last, typ byte) (ok bool) {
	if typ != MsgCopyData && typ != MsgCopyDone {
		return false
	}
	return last == MsgCopyOut || last == MsgCopyBoth || last == MsgCopyData
}
