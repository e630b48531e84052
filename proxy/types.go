package proxy

import (
	"bytes"
	"strings"
)

// What types a statement's parameters have is found out at the client's Parse, as far
// as that leaves them open, and they stay what they are when the types of columns
// change. A server that is brought the statement later is told them.

// types are those of a name's statement, as the body of a ParameterDescription has
// them; "" if they are not known, or what is parsed now has to find them out: the
// client's own Parse was made up.
func (l *link) types(e *name) string {
	if e == nil || e.pending() || l.untried(e) {
		return ""
	}
	return e.shape.params()
}

// declaring is the body of a Parse of h for a client to whom its parameters have these
// types. It is called behind sent.
func (h *held) declaring(types string) []byte {
	body, others := declared([]byte(h.st.body), types)
	if others {
		h.types = types
	}
	return body
}

// declared is the body of a Parse with other types of its parameters, if they are
// others than it has.
func declared(body []byte, types string) (b []byte, others bool) {
	end := bytes.IndexByte(body, 0) + 1
	if types == "" || string(body[end:]) == types {
		return body, false
	}
	return append(bytes.Clone(body[:end]), types...), true
}

// fits reports whether the parameters of what the server holds have these types. What
// was parsed for another client, and not yet looked at, may have others.
func (h *held) fits(types string) bool {
	if types == "" || h.types != "" || h.shape != (shape{}) {
		return !h.differs(types)
	}
	return h.st.body[strings.IndexByte(h.st.body, 0)+1:] == types
}

// differs reports whether they are known to have others.
func (h *held) differs(types string) bool {
	if types == "" || h.types != "" {
		return h.types != types
	}
	return h.shape != (shape{}) && h.shape.params() != types
}
