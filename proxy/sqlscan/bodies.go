package sqlscan

import (
	"bytes"
	"strings"
)

// Body is a function, with what its body says.
type Body struct {
	Name     string
	Source   []byte
	Language string
}

// Use says that what has one name uses what has the other: a table its
// triggers' functions, a view the functions in its query.
type Use struct{ Name, Uses string }

// Hidden is what names of functions, tables and views hide: what a statement
// that has one of them in it may do. The zero value hides nothing. It is not
// changed once it is made.
type Hidden struct {
	found   map[string]Finding
	customs []string    // custom settings that the bodies set
	quick   [256]uint64 // by the first letter: the lengths of names, as bits
}

// Hide judges functions by their bodies, and by those of the functions and
// tables that they name. pins are functions that keep state which nobody can
// see, and, with - in front, those whose bodies are not to count.
func Hide(bodies []Body, uses []Use, pins []string) *Hidden {
	h := &Hidden{found: map[string]Finding{}}
	known := map[string]bool{}
	bodies, uses = append([]Body(nil), bodies...), append([]Use(nil), uses...)
	for i := range bodies {
		bodies[i].Name = strings.ToLower(bodies[i].Name)
		known[bodies[i].Name] = true
	}
	for i, u := range uses {
		uses[i] = Use{strings.ToLower(u.Name), strings.ToLower(u.Uses)}
		known[uses[i].Name] = true
	}
	edges := map[string]map[string]bool{} // used by
	edge := func(name, uses string) {
		if edges[uses] == nil {
			edges[uses] = map[string]bool{}
		}
		edges[uses][name] = true
	}
	harmless := map[string]bool{}
	for _, name := range pins {
		name, not := strings.CutPrefix(strings.ToLower(name), "-")
		if not {
			harmless[name] = true
		} else {
			h.found[name] |= Untracked | External
		}
	}
	const kept = Untracked | Resets | ResetsAll | Sets | Provable | Lasting | Customs | Undoes | LastValue | Draws | Runs | Forgets
	for _, b := range bodies {
		if !harmless[b.Name] {
			h.found[b.Name] |= h.body(b) & kept
		}
		if Deallocating(b.Source) {
			h.found[b.Name] |= Forgets
		}
		eachWord(b.Source, func(w []byte) {
			if known[string(w)] && string(w) != b.Name {
				edge(b.Name, string(w))
			}
		})
	}
	for _, u := range uses {
		edge(u.Name, u.Uses)
	}
	work := make([]string, 0, len(h.found))
	for name := range h.found {
		work = append(work, name)
	}
	for len(work) > 0 {
		name := work[len(work)-1]
		work = work[:len(work)-1]
		for by := range edges[name] {
			if f := h.found[by] | h.found[name]; f != h.found[by] {
				h.found[by] = f
				work = append(work, by)
			}
		}
	}
	for name, f := range h.found {
		if f&(Untracked|Undoes|LastValue|Resets|Customs|Forgets) == 0 || name == "" {
			delete(h.found, name)
			continue
		}
		h.quick[name[0]] |= 1 << (min(len(name), 63))
	}
	return h
}

// body judges one function.
func (h *Hidden) body(b Body) Finding {
	switch b.Language {
	case "sql", "plpgsql":
	case "c":
		return Untracked | External // what it keeps in memory nobody can see
	default:
		// What a procedural language keeps for its session, and what it runs.
		f := Dynamic &^ Resets
		for _, word := range [...]string{"GD", "SD", "_SHARED", "global", "unsafe"} {
			if bytes.Contains(b.Source, []byte(word)) {
				f |= External
			}
		}
		return f
	}
	f := ScanCode(b.Source)
	if f&Names != 0 {
		f |= Runs
	}
	if f&Customs != 0 {
		n := CodeCustomNames(b.Source, true)
		h.customs = append(h.customs, n.Settings...)
		if (n.Unknown || n.Params) && f&Sets != 0 {
			f |= Opaque
		}
	}
	return f
}

// Deallocating reports whether the word DEALLOCATE stands in a text, in a literal
// or not.
func Deallocating(text []byte) (found bool) {
	eachWord(text, func(w []byte) { found = found || string(w) == "deallocate" })
	return found
}

// Customs are the custom settings that functions set.
func (h *Hidden) Customs() []string {
	if h == nil {
		return nil
	}
	return h.customs
}

// Len is how many names hide something.
func (h *Hidden) Len() int {
	if h == nil {
		return 0
	}
	return len(h.found)
}

// In is what a text may do by the names in it. Names in comments and literals
// count, too.
func (h *Hidden) In(sql []byte) (f Finding) {
	if h == nil || len(h.found) == 0 {
		return 0
	}
	var buf [64]byte
	for i := 0; i < len(sql); {
		c := sql[i]
		if classes[c]&wordStart == 0 {
			i++
			continue
		}
		from := i
		for i < len(sql) && classes[sql[i]]&wordPart != 0 {
			i++
		}
		n := i - from
		if n > len(buf) || h.quick[lower(c)]&(1<<min(n, 63)) == 0 {
			continue
		}
		for j := range n {
			buf[j] = lower(sql[from+j])
		}
		f |= h.found[string(buf[:n])]
	}
	return f
}

// HasWord reports whether a name stands in a text, quoted or not.
func HasWord(sql []byte, name string) bool {
	for from := 0; name != ""; {
		i := bytes.Index(sql[from:], []byte(name))
		if i < 0 {
			break
		}
		i += from
		end := i + len(name)
		if (i == 0 || classes[sql[i-1]]&wordPart == 0) && (end == len(sql) || classes[sql[end]]&wordPart == 0) {
			return true
		}
		from = i + 1
	}
	return false
}

// eachWord calls f with each word of a text, lower case.
func eachWord(sql []byte, f func(w []byte)) {
	var buf [64]byte
	for i := 0; i < len(sql); {
		if classes[sql[i]]&wordStart == 0 {
			i++
			continue
		}
		from := i
		for i < len(sql) && classes[sql[i]]&wordPart != 0 {
			i++
		}
		if n := i - from; n <= len(buf) {
			for j := range n {
				buf[j] = lower(sql[from+j])
			}
			f(buf[:n])
		}
	}
}
