package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Codes that stand where the first packet has its protocol version.
const (
	CancelCode = 80877102
	SSLCode    = 80877103
	GSSENCCode = 80877104
)

// Protocol versions.
const (
	Protocol30 = 3 << 16
	Protocol32 = 3<<16 | 2
)

// MaxStartupPacket is MAX_STARTUP_PACKET_LENGTH of PostgreSQL's libpq-be: the
// largest first packet, its length field included.
const MaxStartupPacket = 10000

// MaxCancelKey is the longest cancel key of protocol 3.2.
const MaxCancelKey = 256

// StartupKind is what a first packet asks for.
type StartupKind uint8

// The kinds of first packet.
const (
	StartupMessage StartupKind = iota
	StartupSSL
	StartupGSSENC
	StartupCancel
)

// Startup is a first packet.
type Startup struct {
	Kind StartupKind
	// StartupMessage.
	Version    uint32
	Parameters Parameters // without _pq_ options
	Options    []string   // the names of _pq_ options; pgpoold knows none
	// StartupCancel.
	PID    uint32
	Secret []byte
}

// Parameter is one of a startup message's.
type Parameter struct{ Name, Value string }

// Parameters are a startup message's, in its order. A name may come again.
type Parameters []Parameter

// Get returns the value of a parameter, "" if it is not there: the last one's, as
// PostgreSQL reads them (ProcessStartupPacket).
func (p Parameters) Get(name string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].Name == name {
			return p[i].Value
		}
	}
	return ""
}

// usualParameters is for how many parameters of a startup message there is room at once.
const usualParameters = 6

// parameterName is a parameter's name; those that nearly every client sends take no
// memory.
func parameterName(b []byte) string {
	switch string(b) {
	case "user":
		return "user"
	case "database":
		return "database"
	case "application_name":
		return "application_name"
	case "client_encoding":
		return "client_encoding"
	}
	return string(b)
}

// ErrStartupLength is the refusal of a first packet whose length cannot be
// right; PostgreSQL closes such a connection without a word.
var ErrStartupLength = errors.New("invalid length of startup packet")

// StartupLength checks the length field of a first packet and returns how
// many bytes follow it.
func StartupLength(head [4]byte) (int, error) {
	n := binary.BigEndian.Uint32(head[:])
	if n < 8 || n > MaxStartupPacket {
		return 0, ErrStartupLength
	}
	return int(n) - 4, nil
}

// ParseStartup reads what follows the length field of a first packet. Errors
// of type *Error are meant for the client; after any other PostgreSQL says
// nothing.
func ParseStartup(b []byte) (*Startup, error) {
	if len(b) < 4 {
		return nil, ErrStartupLength
	}
	code := binary.BigEndian.Uint32(b)
	b = b[4:]
	switch code {
	case SSLCode:
		return &Startup{Kind: StartupSSL}, nil
	case GSSENCCode:
		return &Startup{Kind: StartupGSSENC}, nil
	case CancelCode:
		if len(b) < 8 || len(b) > 4+MaxCancelKey {
			return nil, ErrStartupLength
		}
		return &Startup{Kind: StartupCancel, PID: binary.BigEndian.Uint32(b), Secret: bytes.Clone(b[4:])}, nil
	}
	s := &Startup{Version: code, Parameters: make(Parameters, 0, usualParameters)}
	if code>>16 != 3 {
		return nil, &Error{Severity: SeverityFatal, Code: "0A000", Message: fmt.Sprintf(
			"unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", code>>16, code&0xffff)}
	}
	for {
		name, rest, ok := CString(b)
		if !ok {
			return nil, layoutError()
		}
		if len(name) == 0 {
			if len(rest) != 0 {
				return nil, layoutError()
			}
			return s, nil
		}
		value, rest, ok := CString(rest)
		if !ok {
			return nil, layoutError()
		}
		if bytes.HasPrefix(name, []byte("_pq_.")) {
			s.Options = append(s.Options, string(name))
		} else {
			s.Parameters = append(s.Parameters, Parameter{parameterName(name), string(value)})
		}
		b = rest
	}
}

func layoutError() error {
	return &Error{Severity: SeverityFatal, Code: "08P01", Message: "invalid startup packet layout: expected terminator as last byte"}
}

// AppendCancel appends a CancelRequest packet.
func AppendCancel(dst []byte, pid uint32, secret []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(secret)))
	dst = binary.BigEndian.AppendUint32(dst, CancelCode)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return append(dst, secret...)
}

// AppendSSLRequest appends an SSLRequest packet.
func AppendSSLRequest(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, 8), SSLCode)
}
