package wire

import "encoding/binary"

// begin appends a message header whose length finish fills in.
func begin(dst []byte, typ byte) (out []byte, at int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst)
}

// AppendHeader appends the header of a message whose body has size bytes.
func AppendHeader(dst []byte, typ byte, size int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, typ), uint32(size+4))
}

func finish(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-1))
	return dst
}

func appendCString[S ~string | ~[]byte](dst []byte, s S) []byte {
	return append(append(dst, s...), 0)
}

// AppendCommandComplete appends a CommandComplete.
func AppendCommandComplete(dst []byte, tag string) []byte {
	dst, at := begin(dst, MsgCommandComplete)
	return finish(appendCString(dst, tag), at)
}

// AppendEmpty appends a message without a body: Sync, Flush, ParseComplete,
// CloseComplete, CopyDone, ...
func AppendEmpty(dst []byte, typ byte) []byte { return append(dst, typ, 0, 0, 0, 4) }

// AppendReady appends ReadyForQuery.
func AppendReady(dst []byte, status byte) []byte { return append(dst, MsgReady, 0, 0, 0, 5, status) }

// AppendQuery appends a Query.
func AppendQuery[S ~string | ~[]byte](dst []byte, sql S) []byte {
	dst, at := begin(dst, MsgQuery)
	return finish(appendCString(dst, sql), at)
}

// AppendParse appends a Parse of name with what follows the name in body:
// the SQL text's C string and the parameter types, as in the message itself.
func AppendParse[S ~string | ~[]byte](dst []byte, name S, body []byte) []byte {
	dst, at := begin(dst, MsgParse)
	dst = appendCString(dst, name)
	return finish(append(dst, body...), at)
}

// AppendCloseStatement appends a Close of a prepared statement.
func AppendCloseStatement[S ~string | ~[]byte](dst []byte, name S) []byte {
	dst, at := begin(dst, MsgClose)
	return finish(appendCString(append(dst, 'S'), name), at)
}

// AppendDescribeStatement appends a Describe of a prepared statement.
func AppendDescribeStatement[S ~string | ~[]byte](dst []byte, name S) []byte {
	dst, at := begin(dst, MsgDescribe)
	return finish(appendCString(append(dst, 'S'), name), at)
}

// AppendBindHead appends the head of a Bind whose body has rest more bytes
// after its two names.
func AppendBindHead[P, S ~string | ~[]byte](dst []byte, portal P, statement S, rest int) []byte {
	dst, at := begin(dst, MsgBind)
	dst = appendCString(appendCString(dst, portal), statement)
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-1+rest))
	return dst
}

// AppendBind appends a Bind without parameters, of results in text.
func AppendBind(dst []byte, portal, statement string) []byte {
	const counts = 6 // of parameter formats, parameters and result formats
	return append(AppendBindHead(dst, portal, statement, counts), make([]byte, counts)...)
}

// AppendExecute appends an Execute of all rows of a portal.
func AppendExecute(dst []byte, portal string) []byte {
	dst, at := begin(dst, MsgExecute)
	return finish(append(appendCString(dst, portal), 0, 0, 0, 0), at)
}

// AppendClosePortal appends a Close of a portal.
func AppendClosePortal(dst []byte, portal string) []byte {
	dst, at := begin(dst, MsgClose)
	return finish(appendCString(append(dst, 'P'), portal), at)
}

// AppendParameterStatus appends a ParameterStatus.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	dst, at := begin(dst, MsgParameterStatus)
	return finish(appendCString(appendCString(dst, name), value), at)
}

// AppendBackendKeyData appends a BackendKeyData.
func AppendBackendKeyData(dst []byte, pid uint32, secret []byte) []byte {
	dst, at := begin(dst, MsgBackendKeyData)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return finish(append(dst, secret...), at)
}

// AppendNegotiate appends a NegotiateProtocolVersion.
func AppendNegotiate(dst []byte, version uint32, unknown []string) []byte {
	dst, at := begin(dst, MsgNegotiate)
	dst = binary.BigEndian.AppendUint32(dst, version)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(unknown)))
	for _, name := range unknown {
		dst = appendCString(dst, name)
	}
	return finish(dst, at)
}

// AppendCopyFail appends a CopyFail.
func AppendCopyFail(dst []byte, reason string) []byte {
	dst, at := begin(dst, MsgCopyFail)
	return finish(appendCString(dst, reason), at)
}
