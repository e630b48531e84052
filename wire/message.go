package wire

// Frontend message types that pgpoold tells apart, see "Message Formats".
const (
	MsgBind         = 'B'
	MsgClose        = 'C'
	MsgCopyData     = 'd'
	MsgCopyDone     = 'c'
	MsgCopyFail     = 'f'
	MsgDescribe     = 'D'
	MsgExecute      = 'E'
	MsgFlush        = 'H'
	MsgFunctionCall = 'F'
	MsgParse        = 'P'
	MsgPassword     = 'p'
	MsgQuery        = 'Q'
	MsgSync         = 'S'
	MsgTerminate    = 'X'
)

// Backend message types.
const (
	MsgAuthentication   = 'R'
	MsgBackendKeyData   = 'K'
	MsgBindComplete     = '2'
	MsgCloseComplete    = '3'
	MsgCommandComplete  = 'C'
	MsgCopyBoth         = 'W'
	MsgCopyIn           = 'G'
	MsgCopyOut          = 'H'
	MsgDataRow          = 'D'
	MsgEmptyQuery       = 'I'
	MsgError            = 'E'
	MsgFunctionResult   = 'V'
	MsgNegotiate        = 'v'
	MsgNoData           = 'n'
	MsgNotice           = 'N'
	MsgNotification     = 'A'
	MsgParamDescription = 't'
	MsgParameterStatus  = 'S'
	MsgParseComplete    = '1'
	MsgPortalSuspended  = 's'
	MsgReady            = 'Z'
	MsgRowDescription   = 'T'
)

// Transaction status of ReadyForQuery.
const (
	TxIdle   = 'I'
	TxOpen   = 'T'
	TxFailed = 'E'
)

// Limits of PostgreSQL on a message's length field, which counts itself.
const (
	smallLimit = 10000     // PQ_SMALL_MESSAGE_LIMIT
	largeLimit = 1<<30 - 2 // PQ_LARGE_MESSAGE_LIMIT, MaxAllocSize - 1
)

// NameLen is the longest statement or portal name that PostgreSQL tells
// apart: its tables of them have keys of NAMEDATALEN bytes with the NUL.
const NameLen = 63

// FrontendLimit is the largest length field that PostgreSQL accepts for a
// frontend message of this type after login (SocketBackend in postgres.c), or
// 0 for a type that does not exist.
func FrontendLimit(typ byte) int { return int(frontendLimits[typ]) }

var frontendLimits = func() (all [256]int32) {
	for _, typ := range []byte{MsgQuery, MsgFunctionCall, MsgBind, MsgParse, MsgCopyData} {
		all[typ] = largeLimit
	}
	for _, typ := range []byte{MsgTerminate, MsgClose, MsgDescribe, MsgExecute, MsgFlush, MsgSync, MsgCopyDone, MsgCopyFail} {
		all[typ] = smallLimit
	}
	return all
}()

// Frontend is Header for a frontend message. ok is false if PostgreSQL takes no such
// message, or the header has not come whole.
func Frontend(b []byte) (typ byte, size int, ok bool) {
	if len(b) < HeaderLen {
		return 0, 0, false
	}
	typ, size = Header(b)
	return typ, size, size >= HeaderLen && size-1 <= int(frontendLimits[typ])
}

// Extended reports whether a frontend message belongs to the extended query
// protocol: an error in it makes PostgreSQL skip everything up to Sync.
func Extended(typ byte) bool {
	switch typ {
	case MsgParse, MsgBind, MsgDescribe, MsgExecute, MsgClose, MsgFlush:
		return true
	}
	return false
}
