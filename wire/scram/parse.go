package scram

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// Mechanism and MechanismPlus are the SASL names of the two variants.
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"

	bindingType = "tls-server-end-point"

	sqlStateProtocolViolation    = "08P01"
	sqlStateFeatureNotSupported  = "0A000"
	sqlStateInvalidAuthorization = "28000"
)

// ErrProof says that the client does not know the password.
var ErrProof = errors.New("the client's SCRAM proof is wrong")

// Error is a message that does not follow the protocol, with the SQLSTATE and
// the texts that PostgreSQL has for it.
type Error struct {
	SQLState string
	Message  string
	Detail   string
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Message
	}
	return e.Message + ": " + e.Detail
}

func malformed(format string, args ...any) *Error {
	return &Error{
		SQLState: sqlStateProtocolViolation,
		Message:  "malformed SCRAM message",
		Detail:   fmt.Sprintf(format, args...),
	}
}

// attributes walks over "a=value,b=value,...".
type attributes struct {
	rest string
}

// expect takes the next attribute, which must be name.
func (a *attributes) expect(name byte) (string, error) {
	if a.rest == "" || a.rest[0] != name {
		return "", malformed("Expected attribute \"%c\" but found \"%s\".", name, firstByte(a.rest))
	}
	_, value, err := a.next()
	return value, err
}

// next takes the next attribute, whatever its name.
func (a *attributes) next() (name byte, value string, err error) {
	if a.rest == "" || !isLetter(a.rest[0]) {
		return 0, "", malformed("Attribute expected, but found invalid character \"%s\".", firstByte(a.rest))
	}
	name = a.rest[0]
	if len(a.rest) < 2 || a.rest[1] != '=' {
		return 0, "", malformed("Expected character \"=\" for attribute \"%c\".", name)
	}
	value, a.rest, _ = strings.Cut(a.rest[2:], ",")
	return name, value, nil
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// firstByte shows a byte of the client's in an error, never more than one.
func firstByte(s string) string {
	switch {
	case s == "":
		return "0x00"
	case s[0] >= 0x21 && s[0] <= 0x7e:
		return s[:1]
	default:
		return fmt.Sprintf("0x%02x", s[0])
	}
}

// isPrintable is RFC 5802's printable: ASCII without space and comma.
func isPrintable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == ',' {
			return false
		}
	}
	return true
}
