package wirescript

import (
	"bytes"
	"encoding/binary"
	"sort"
)

// Normalisation is one thing that may differ between two runs of a script.
type Normalisation struct {
	What   string
	Reason string
	apply  func(*normaliser, *Message)
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
