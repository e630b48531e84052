package wire

import (
	"bytes"
	"encoding/binary"
)

// Severities of ErrorResponse.
const (
	SeverityError = "ERROR"
	SeverityFatal = "FATAL"
)

// Error is an error that pgpoold tells a client. Detail and Hint may be "".
type Error struct {
	Severity string
	Code     string // SQLSTATE
	Message  string
	Detail   string
	Hint     string
	Routine  string // of PostgreSQL's sources; drivers know some errors by it
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Append appends the ErrorResponse.
func (e *Error) Append(dst []byte) []byte { return e.append(dst, MsgError) }

// AppendNotice appends it as a NoticeResponse.
func (e *Error) AppendNotice(dst []byte) []byte { return e.append(dst, MsgNotice) }

func (e *Error) append(dst []byte, typ byte) []byte {
	dst, at := begin(dst, typ)
	field := func(code byte, value string) {
		if value != "" {
			dst = appendCString(append(dst, code), value)
		}
	}
	field('S', e.Severity)
	field('V', e.Severity)
	field('C', e.Code)
	field('M', e.Message)
	field('D', e.Detail)
	field('H', e.Hint)
	field('R', e.Routine)
	return finish(append(dst, 0), at)
}

// ErrorField finds a field of an ErrorResponse or NoticeResponse by its code
// ('V' severity, 'C' SQLSTATE, 'M' message, ...) in the message's body. The
// result is a slice of body.
func ErrorField(body []byte, code byte) []byte {
	for len(body) > 0 && body[0] != 0 {
		value, rest, ok := CString(body[1:])
		if !ok {
			return nil
		}
		if body[0] == code {
			return value
		}
		body = rest
	}
	return nil
}

// AppendErrorWith appends a copy of an ErrorResponse, body given, in which
// each field is what edit makes of it; edit returns its argument unchanged
// for fields that stay.
func AppendErrorWith(dst, body []byte, edit func(code byte, value []byte) []byte) []byte {
	dst, at := begin(dst, MsgError)
	for len(body) > 0 && body[0] != 0 {
		value, rest, ok := CString(body[1:])
		if !ok {
			break
		}
		dst = append(dst, body[0])
		dst = appendCString(dst, edit(body[0], value))
		body = rest
	}
	return finish(append(dst, 0), at)
}

// Ends reports whether an ErrorResponse, body given, ends the connection:
// its severity is FATAL or PANIC. Servers before 9.6 send no untranslated
// severity; there the translated one decides.
func Ends(body []byte) bool {
	severity := ErrorField(body, 'V')
	if severity == nil {
		severity = ErrorField(body, 'S')
	}
	return bytes.Equal(severity, []byte("FATAL")) || bytes.Equal(severity, []byte("PANIC"))
}

// ParameterStatus splits the body of a ParameterStatus.
func ParameterStatus(body []byte) (name, value []byte, ok bool) {
	name, rest, ok := CString(body)
	if !ok {
		return nil, nil, false
	}
	value, _, ok = CString(rest)
	return name, value, ok
}

// PID is the PID at the head of a NotificationResponse's body.
func PID(body []byte) uint32 {
	if len(body) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(body)
}

// SetPID overwrites the PID at the head of a NotificationResponse's body.
func SetPID(body []byte, pid uint32) {
	if len(body) >= 4 {
		binary.BigEndian.PutUint32(body, pid)
	}
}
