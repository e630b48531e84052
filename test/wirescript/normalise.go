package wirescript

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"
	"strings"
)

// Normalisation is one thing that may differ between two runs of a script.
type Normalisation struct {
	What   string
	Reason string
	apply  func(*normaliser, *Message)      // to each message of either run
	same   func(want, got []field) bool     // of an error or notice, where the two differ
	drop   func(t *tracker, m Message) bool // messages that are not recorded at all
}

// Normalisations is the whole list of what a comparison does not see. All
// else must be equal to the byte: every field of every error and notice with
// PostgreSQL's file, line and routine, formats, type modifiers, tags and order.
func Normalisations() []Normalisation {
	return []Normalisation{
		{
			What:   "BackendKeyData: process ID and secret key",
			Reason: "they name one connection; through pgpoold they are pgpoold's own",
			apply:  (*normaliser).key,
		},
		{
			What:   "NotificationResponse: process ID, by order of first appearance in the script",
			Reason: "it names one server process; that the same sender has the same number stays compared",
			apply:  (*normaliser).notification,
		},
		{
			What:   "RowDescription, ParameterDescription: OIDs from 16384 up, by order of first appearance in the script",
			Reason: "PostgreSQL gives each table and type that a script's setup makes a new one; the system's own stay compared",
			apply:  (*normaliser).oids,
		},
		{
			What:   "ParameterStatus before the first ReadyForQuery: order",
			Reason: "PostgreSQL sends them in the order of its hash table, which differs between versions; later ones are compared in order",
		},
		{
			What:   "ErrorResponse, NoticeResponse: file and line, and routine, where the second run's has none of them",
			Reason: "pgpoold raised it: there is no place in PostgreSQL's source to name. Where it names the routine, because drivers look at it, that is compared, as are severity, code, text and all other fields",
			same: func(want, got []field) bool {
				return !slices.ContainsFunc(got, isPlace) &&
					(slices.Equal(withoutSource(want), got) || slices.Equal(slices.DeleteFunc(slices.Clone(want), isPlace), got))
			},
		},
		{
			What:   "ErrorResponse 25P02: file, line and routine",
			Reason: "in a failed transaction PostgreSQL refuses pgpoold's Parse of a statement that the server does not hold in the same words as the client's message behind it",
			same: func(want, got []field) bool {
				return slices.Contains(want, field{'C', "25P02"}) && slices.Equal(withoutSource(want), withoutSource(got))
			},
		},
		{
			What:   "ErrorResponse after a Terminate inside COPY IN",
			Reason: "PostgreSQL takes it as an unexpected message and says so to a client that has stopped listening; pgpoold ends the session",
			drop: func(t *tracker, m Message) bool {
				// The tracker may not know yet that the COPY had begun.
				t.leftCopy = t.leftCopy || t.left && m.Type == 'E' && strings.Contains(m.field('M'), "message type 0x58")
				return t.leftCopy && m.Type == 'E'
			},
		},
	}
}

// normaliser holds what one run has seen; it belongs to the runner.
type normaliser struct {
	list []Normalisation
	pids map[uint32]uint32
	objs map[uint32]uint32
}

func newNormaliser() *normaliser {
	return &normaliser{list: Normalisations(), pids: map[uint32]uint32{}, objs: map[uint32]uint32{}}
}

func (n *normaliser) message(m Message) Message {
	m.Body = bytes.Clone(m.Body)
	for _, rule := range n.list {
		if rule.apply != nil {
			rule.apply(n, &m)
		}
	}
	return m
}

func (n *normaliser) key(m *Message) {
	if m.Type == 'K' {
		m.Body = nil
	}
}

func (n *normaliser) notification(m *Message) {
	if m.Type == 'A' && len(m.Body) >= 4 {
		renumber(m.Body, n.pids, 0)
	}
}

// isSource says that the field names a place in PostgreSQL's source.
func isSource(f field) bool { return f.code == 'F' || f.code == 'L' || f.code == 'R' }

func isPlace(f field) bool { return f.code == 'F' || f.code == 'L' }

func withoutSource(list []field) []field { return slices.DeleteFunc(slices.Clone(list), isSource) }

// same reports whether got is what want was, as far as the two can agree.
func same(want, got Message) bool {
	if want.String() == got.String() {
		return true
	}
	if want.Type != got.Type || want.Type != 'E' && want.Type != 'N' {
		return false
	}
	for _, n := range Normalisations() {
		if n.same != nil && n.same(want.fields(), got.fields()) {
			return true
		}
	}
	return false
}

// dropped reports whether a message is one that is not recorded.
func (n *normaliser) dropped(t *tracker, m Message) bool {
	for _, rule := range n.list {
		if rule.drop != nil && rule.drop(t, m) {
			return true
		}
	}
	return false
}

// firstNormalObjectID is where PostgreSQL starts to number users' objects.
const firstNormalObjectID = 16384

func (n *normaliser) oids(m *Message) {
	switch m.Type {
	case 't':
		for b := m.Body[min(2, len(m.Body)):]; len(b) >= 4; b = b[4:] {
			renumber(b, n.objs, firstNormalObjectID)
		}
	case 'T':
		for b := m.Body[min(2, len(m.Body)):]; ; b = b[18:] {
			i := bytes.IndexByte(b, 0)
			if i < 0 || len(b) < i+1+18 {
				return
			}
			b = b[i+1:]
			renumber(b, n.objs, firstNormalObjectID)     // table
			renumber(b[6:], n.objs, firstNormalObjectID) // type
		}
	}
}

// renumber replaces the number at the start of b, if it is from low up, by low
// plus its place in the order of appearance.
func renumber(b []byte, seen map[uint32]uint32, low uint32) {
	v := binary.BigEndian.Uint32(b)
	if v < low {
		return
	}
	if _, ok := seen[v]; !ok {
		seen[v] = low + uint32(len(seen))
	}
	binary.BigEndian.PutUint32(b, seen[v])
}

// sortLogin orders the ParameterStatus messages of one login, which are
// entries[from:], in place.
func sortLogin(entries []Entry, from int) {
	var at []int
	var msgs []string
	for i := from; i < len(entries); i++ {
		if entries[i].Msg.Type == 'S' {
			at = append(at, i)
			msgs = append(msgs, string(entries[i].Msg.Body))
		}
	}
	sort.Strings(msgs)
	for i, j := range at {
		entries[j].Msg.Body = []byte(msgs[i])
	}
}
