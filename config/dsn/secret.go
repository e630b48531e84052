package dsn

import (
	"fmt"
	"io"
)

// Secret is a string that fmt, the encoders and the loggers print as
// [redacted]. A conversion to string is the only way to its text.
type Secret string

const redacted = "[redacted]"

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// Format prints "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]"; encoding/json and yaml use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
