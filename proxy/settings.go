package proxy

import (
	"encoding/hex"
	"sort"
	"strings"
	"unique"
)

// settings is a set of settings with their values, as one comparable word:
// two are equal exactly if they hold the same names and values. The zero
// value is the empty set: everything as the server started with it.
type settings struct{ h unique.Handle[settingsText] }

// settingsText is what stands behind a set: names and values, each ended by a
// zero byte.
type settingsText struct {
	all     string
	parsing string // of those that are read at Parse
}

// setting is one name and its value.
type setting struct{ name, value string }

var noSettings = settings{}

// newSettings makes a set of pairs; of two with the same name the later one
// counts. Names are compared as PostgreSQL does, without case.
func newSettings(pairs []setting) settings {
	last := map[string]setting{}
	for _, p := range pairs {
		last[strings.ToLower(p.name)] = p
	}
	if len(last) == 0 {
		return noSettings
	}
	keys := make([]string, 0, len(last))
	for k := range last {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b, read strings.Builder
	for _, k := range keys {
		pair := k + "\x00" + last[k].value + "\x00"
		b.WriteString(pair)
		if !unread(k) {
			read.WriteString(pair)
		}
	}
	text := settingsText{all: b.String()}
	if text.parsing = text.all; read.Len() < b.Len() {
		text.parsing = read.String()
	}
	return settings{unique.Make(text)}
}

// list returns the pairs, ordered by name.
func (s settings) list() []setting {
	if s == noSettings {
		return nil
	}
	return pairsOf(s.h.Value().all)
}

// count is how many pairs there are.
func (s settings) count() int {
	if s == noSettings {
		return 0
	}
	return strings.Count(s.h.Value().all, "\x00") / 2
}

// pairsOf reads a set's text.
func pairsOf(text string) []setting {
	fields := strings.Split(text, "\x00")
	pairs := make([]setting, 0, len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		pairs = append(pairs, setting{fields[i], fields[i+1]})
	}
	return pairs
}

// with returns the set with name set to value, or without it if set is false.
func (s settings) with(name, value string, set bool) settings {
	pairs := s.list()
	kept := pairs[:0]
	for _, p := range pairs {
		if !strings.EqualFold(p.name, name) {
			kept = append(kept, p)
		}
	}
	if set {
		kept = append(kept, setting{name, value})
	}
	return newSettings(kept)
}

// get returns the value of name.
func (s settings) get(name string) (string, bool) {
	for _, p := range s.list() {
		if strings.EqualFold(p.name, name) {
			return p.value, true
		}
	}
	return "", false
}

// limited reports whether a query may be cut short under these settings.
func (s settings) limited() bool {
	if s == noSettings || !strings.Contains(s.h.Value().all, "timeout") {
		return false
	}
	for _, name := range [...]string{"statement_timeout", "transaction_timeout"} {
		if v, ok := s.get(name); ok && v != "0" {
			return true
		}
	}
	return false
}

// parsing is the part that PostgreSQL reads when it parses a statement: all
// but what is known not to matter. Literals are coerced and names are looked
// up at Parse, so statements are shared only where this is equal.
func (s settings) parsing() settings {
	if s == noSettings {
		return s
	}
	text := s.h.Value()
	switch len(text.parsing) {
	case len(text.all):
		return s
	case 0:
		return noSettings
	}
	return settings{unique.Make(settingsText{all: text.parsing, parsing: text.parsing})}
}

// unread tells the settings that are known not to matter at Parse: they are
// about running a statement, its output, or what is logged.
func unread(name string) bool {
	name = strings.ToLower(name)
	if strings.Contains(name, ".") {
		return false // a type's input function may ask for it
	}
	switch name {
	case "application_name", "work_mem", "maintenance_work_mem", "temp_buffers", "synchronous_commit", "extra_float_digits", "bytea_output",
		"client_min_messages", "effective_cache_size", "constraint_exclusion", "plan_cache_mode", "cursor_tuple_fraction", "exit_on_error":
		return true
	}
	for _, prefix := range [...]string{"enable_", "log_", "jit", "geqo", "default_transaction_", "max_parallel_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.HasSuffix(name, "_timeout") || strings.HasSuffix(name, "_cost")
}

// rest is the part that parsing does not read.
func (s settings) rest() []setting {
	var out []setting
	read := s.parsing()
	for _, p := range s.list() {
		if _, ok := read.get(p.name); !ok {
			out = append(out, p)
		}
	}
	return out
}

// under is the set with the part that parsing reads exchanged for env.
func (s settings) under(env settings) settings { return newSettings(append(s.rest(), env.list()...)) }

// replay is the SQL that brings a server from one set to the other. With
// reset it starts from an unknown set. fatal makes PostgreSQL end the
// connection if any part fails, before it reads what comes behind.
//
// What could keep the rest from being set goes first and comes last: timeouts
// and the role.
func replay(from, to settings, reset, fatal bool) string {
	if reset {
		from = noSettings
	}
	unset, wanted := changes(from, to, nil)
	var b strings.Builder
	if fatal {
		b.WriteString("SET exit_on_error=on;")
	}
	if v, _ := from.get("default_transaction_deferrable"); reset || v == "on" {
		b.WriteString(notDeferrable) // or it might wait for others
	}
	if reset {
		// RESET ALL leaves these two alone.
		b.WriteString("RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;")
		if fatal {
			b.WriteString("SET exit_on_error=on;")
		}
	}
	const own = "exit_on_error" // a session's own value comes last
	unset, wanted = without(unset, own), without(wanted, own)
	for _, p := range unset {
		b.WriteString("RESET ")
		quoteIdentifier(&b, p.name)
		b.WriteByte(';')
	}
	const most = 500 // a SELECT has up to 1664 columns
	for i, p := range wanted {
		if i%most == 0 {
			b.WriteString("SELECT ")
		} else {
			b.WriteByte(',')
		}
		b.WriteString("pg_catalog.set_config(")
		quoteText(&b, p.name)
		b.WriteByte(',')
		quoteText(&b, p.value)
		b.WriteString(",false)")
		if i%most == most-1 || i == len(wanted)-1 {
			b.WriteByte(';')
		}
	}
	if v, _ := to.get(own); fatal && v == "on" {
		b.WriteString("SET exit_on_error=on")
	} else if fatal {
		b.WriteString("SET exit_on_error=off")
	}
	return b.String()
}

func without(pairs []setting, name string) []setting {
	for i, p := range pairs {
		if p.name == name {
			return append(pairs[:i:i], pairs[i+1:]...)
		}
	}
	return pairs
}

const notDeferrable = "SET TRANSACTION NOT DEFERRABLE;"

// changes is what must be reset and then set to come from one set to the
// other. created are custom settings that exist on the server: where no value
// is wished for, existing is all that matters.
func changes(from, to settings, created map[string]struct{}) (unset, wanted []setting) {
	for _, p := range to.list() {
		v, ok := from.get(p.name)
		if ok && v == p.value {
			continue
		}
		if _, exists := created[p.name]; !ok && p.value == "" && exists {
			continue
		}
		wanted = append(wanted, p)
	}
	old := from.list()
	for _, p := range old {
		if _, ok := to.get(p.name); !ok && (p.value != "" || !strings.Contains(p.name, ".")) {
			unset = append(unset, p)
		}
	}
	if len(unset)+len(wanted) == 0 {
		return nil, nil
	}
	for _, p := range old { // what hinders is set aside, also where it stays
		v, ok := to.get(p.name)
		if !ok || hindrance(p.name) == 0 {
			continue
		}
		unset = append(unset, p)
		if v == p.value {
			wanted = append(wanted, p)
		}
	}
	sort.SliceStable(unset, func(i, j int) bool { return hindrance(unset[i].name) > hindrance(unset[j].name) })
	sort.SliceStable(wanted, func(i, j int) bool { return hindrance(wanted[i].name) < hindrance(wanted[j].name) })
	return unset, wanted
}

// everyChange is what gives all settings that are read at Parse the values of a
// set, where it is not known which of them have others.
func everyChange(to settings) (unset, wanted []setting) {
	wanted = to.list()
	for _, name := range readAtParse {
		if _, ok := to.get(name); !ok || hindrance(name) > 0 {
			unset = append(unset, setting{name: name})
		}
	}
	sort.SliceStable(wanted, func(i, j int) bool { return hindrance(wanted[i].name) < hindrance(wanted[j].name) })
	return unset, wanted
}

// readAtParse are the settings that parse analysis is known to read: those that
// hinder others first.
var readAtParse = [...]string{"role", "session_authorization", "client_encoding", "search_path", "row_security", "datestyle", "timezone", "timezone_abbreviations",
	"intervalstyle", "lc_monetary", "standard_conforming_strings", "backslash_quote", "array_nulls", "transform_null_equals", "default_text_search_config", "xmloption"}

// hindrance orders the settings under which others may fail to be set: 0 for
// those that hinder nothing.
func hindrance(name string) int {
	switch name = strings.ToLower(name); {
	case name == "role":
		return 3
	case name == "session_authorization":
		return 2
	case strings.HasSuffix(name, "_timeout"):
		return 1
	}
	return 0
}

// quoteLiteral writes a string literal that means the same under either
// value of standard_conforming_strings.
func quoteLiteral(b *strings.Builder, s string) {
	if strings.Contains(s, `\`) {
		b.WriteString(" E'")
		s = strings.ReplaceAll(s, `\`, `\\`)
	} else {
		b.WriteByte('\'')
	}
	b.WriteString(strings.ReplaceAll(s, "'", "''"))
	b.WriteByte('\'')
}

// quoteText writes an expression that gives a text in the database's
// encoding, whatever the client's is.
func quoteText(b *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			b.WriteString("pg_catalog.convert_from(pg_catalog.decode('")
			b.WriteString(hex.EncodeToString([]byte(s)))
			b.WriteString("','hex'),pg_catalog.getdatabaseencoding())")
			return
		}
	}
	quoteLiteral(b, s)
}

// quoteIdentifier writes the name of a setting; custom ones have two parts.
func quoteIdentifier(b *strings.Builder, name string) {
	for i, part := range strings.Split(name, ".") {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteByte('"')
		b.WriteString(strings.ReplaceAll(part, `"`, `""`))
		b.WriteByte('"')
	}
}

// reported is what a server reports of its parameters, or what a client was
// told of them. It never changes; a change makes a new one.
type reported struct {
	names    []string // as PostgreSQL spells them, sorted
	values   []string
	standard bool                  // standard_conforming_strings, asked for with every statement
	opaque   bool                  // client_encoding is one in which a text cannot be read byte by byte
	same     unique.Handle[string] // equal exactly if all names and values are
}

// opaqueEncoding tells the client encodings in which the second byte of a
// character may look like a quote's escape (PG_ENCODING_BE_LAST and above).
func opaqueEncoding(name string) bool {
	switch name {
	case "SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004":
		return true
	}
	return false
}

// sealed fills in what is derived from names and values.
func (r *reported) sealed() *reported {
	var b strings.Builder
	r.standard = true
	for i, name := range r.names {
		b.WriteString(name)
		b.WriteByte(0)
		b.WriteString(r.values[i])
		b.WriteByte(0)
		switch name {
		case "standard_conforming_strings":
			r.standard = r.values[i] != "off"
		case "client_encoding":
			r.opaque = opaqueEncoding(r.values[i])
		}
	}
	r.same = unique.Make(b.String())
	return r
}

func newReported(m map[string]string) *reported {
	r := &reported{}
	for name := range m {
		r.names = append(r.names, name)
	}
	sort.Strings(r.names)
	for _, name := range r.names {
		r.values = append(r.values, m[name])
	}
	return r.sealed()
}

// get returns the value of name.
func (r *reported) get(name string) (string, bool) {
	i := sort.SearchStrings(r.names, name)
	if i < len(r.names) && r.names[i] == name {
		return r.values[i], true
	}
	return "", false
}

// with returns a copy with one value changed.
func (r *reported) with(name, value string) *reported {
	i := sort.SearchStrings(r.names, name)
	if i < len(r.names) && r.names[i] == name {
		c := &reported{names: r.names, values: append([]string(nil), r.values...)}
		c.values[i] = value
		return c.sealed()
	}
	c := &reported{names: append([]string(nil), r.names...), values: append([]string(nil), r.values...)}
	c.names = append(c.names[:i], append([]string{name}, c.names[i:]...)...)
	c.values = append(c.values[:i], append([]string{value}, c.values[i:]...)...)
	return c.sealed()
}

// diff calls each with the values of r that differ from told's.
func (r *reported) diff(told *reported, each func(name, value string)) {
	for i, name := range r.names {
		if v, ok := told.get(name); !ok || v != r.values[i] {
			each(name, r.values[i])
		}
	}
}

// settable reports whether a reported parameter is a setting that a session
// can change with SET and that is carried to its next server.
func settable(name string) bool {
	switch name {
	case "application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone",
		"standard_conforming_strings", "default_transaction_read_only", "search_path", "scram_iterations":
		return true
	}
	return false
}
