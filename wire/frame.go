package wire

import (
	"bytes"
	"encoding/binary"
)

// HeaderLen is the length of a message's type and length field.
const HeaderLen = 5

// Header reads a message's type and total length, type byte included. b has
// at least HeaderLen bytes. size is less than HeaderLen if the length field
// is not a legal one.
func Header(b []byte) (typ byte, size int) {
	return b[0], int(int32(binary.BigEndian.Uint32(b[1:5]))) + 1
}

// CString splits a NUL-terminated string off b. The results are slices of b.
func CString(b []byte) (s, rest []byte, ok bool) {
	if len(b) > 0 && b[0] == 0 {
		return b[:0], b[1:], true
	}
	return cString(b)
}

func cString(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, b, false
	}
	return b[:i], b[i+1:], true
}

// Name cuts a statement or portal name to what PostgreSQL tells apart.
func Name(s []byte) []byte {
	if len(s) > NameLen {
		return s[:NameLen]
	}
	return s
}
