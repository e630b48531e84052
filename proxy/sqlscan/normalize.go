package sqlscan

// Normalize appends a text to dst with every constant replaced by ?, comments
// dropped, and white space made one space: what is left is the same for each
// call of one query and holds nothing that its callers put in. Lists of
// constants become one. It errs to the side of hiding: what is not closed is a
// constant to its end. Only the text's first most bytes count.
func Normalize(dst, sql []byte, standardStrings bool, most int) []byte {
	if len(sql) > most {
		sql = sql[:most]
	}
	n := normalizer{in: sql, out: dst, standard: standardStrings}
	for n.pos < len(n.in) {
		n.step()
	}
	for len(n.out) > len(dst) && (n.out[len(n.out)-1] == ' ' || n.out[len(n.out)-1] == ';') {
		n.out = n.out[:len(n.out)-1]
	}
	return n.out
}

type normalizer struct {
	in       []byte
	pos      int
	out      []byte
	standard bool
	space    bool // white space or a comment stands in front of what comes
}

func (n *normalizer) peek(i int) byte {
	if n.pos+i < len(n.in) {
		return n.in[n.pos+i]
	}
	return 0
}

// put writes what is no constant.
func (n *normalizer) put(p ...byte) {
	if n.space && len(n.out) > 0 {
		n.out = append(n.out, ' ')
	}
	n.space = false
	n.out = append(n.out, p...)
}

// constant writes ? in place of one, unless it only makes a list longer.
func (n *normalizer) constant() {
	i := len(n.out)
	for i > 0 && n.out[i-1] == ' ' {
		i--
	}
	if i > 1 && n.out[i-1] == ',' && n.out[i-2] == '?' {
		n.out = n.out[:i-1]
		n.space = false
		return
	}
	n.put('?')
}

func (n *normalizer) step() {
	c := n.in[n.pos]
	switch cl := classes[c]; {
	case cl&blank != 0:
		n.space = true
		n.pos++
	case c == '-' && n.peek(1) == '-':
		for n.pos < len(n.in) && n.in[n.pos] != '\n' && n.in[n.pos] != '\r' {
			n.pos++
		}
		n.space = true
	case c == '/' && n.peek(1) == '*':
		n.comment()
	case c == '\'':
		n.literal(!n.standard)
	case c == '"':
		n.name()
	case c == '$':
		n.dollar()
	case c >= '0' && c <= '9', c == '.' && n.peek(1) >= '0' && n.peek(1) <= '9':
		n.number()
	case cl&wordStart != 0:
		n.word()
	default:
		n.put(c)
		n.pos++
	}
}

func (n *normalizer) comment() {
	depth := 0
	for n.pos < len(n.in) {
		switch {
		case n.in[n.pos] == '/' && n.peek(1) == '*':
			depth++
			n.pos += 2
		case n.in[n.pos] == '*' && n.peek(1) == '/':
			n.pos += 2
			if depth--; depth == 0 {
				n.space = true
				return
			}
		default:
			n.pos++
		}
	}
}

// literal drops a quoted string; pos is at its quote.
func (n *normalizer) literal(escapes bool) {
	n.pos++
	for n.pos < len(n.in) {
		c := n.in[n.pos]
		n.pos++
		switch {
		case c == '\\' && escapes:
			n.pos++
		case c == '\'' && n.pos < len(n.in) && n.in[n.pos] == '\'':
			n.pos++
		case c == '\'':
			n.constant()
			return
		}
	}
	n.pos = len(n.in)
	n.constant()
}

func (n *normalizer) name() {
	from := n.pos
	n.pos++
	for n.pos < len(n.in) {
		c := n.in[n.pos]
		n.pos++
		if c == '"' {
			if n.pos < len(n.in) && n.in[n.pos] == '"' {
				n.pos++
				continue
			}
			n.put(n.in[from:n.pos]...)
			return
		}
	}
	n.constant() // cut off
}

// dollar is a parameter, a dollar-quoted string, or just a dollar.
func (n *normalizer) dollar() {
	end := n.pos + 1
	if end < len(n.in) && n.in[end] >= '0' && n.in[end] <= '9' {
		for end < len(n.in) && n.in[end] >= '0' && n.in[end] <= '9' {
			end++
		}
		n.put(n.in[n.pos:end]...)
		n.pos = end
		return
	}
	for end < len(n.in) && n.in[end] != '$' && classes[n.in[end]]&wordPart != 0 {
		end++
	}
	if end >= len(n.in) {
		n.pos = end
		n.constant()
		return
	}
	if n.in[end] != '$' {
		n.put('$')
		n.pos++
		return
	}
	tag := n.in[n.pos : end+1]
	n.pos = end + 1
	for ; n.pos+len(tag) <= len(n.in); n.pos++ {
		if string(n.in[n.pos:n.pos+len(tag)]) == string(tag) {
			n.pos += len(tag)
			n.constant()
			return
		}
	}
	n.pos = len(n.in)
	n.constant()
}

func (n *normalizer) number() {
	for n.pos < len(n.in) {
		c := n.in[n.pos]
		sign := (c == '+' || c == '-') && (n.in[n.pos-1]|0x20) == 'e'
		if c != '.' && c != '_' && classes[c]&wordPart == 0 && !sign {
			break
		}
		n.pos++
	}
	n.constant()
}

func (n *normalizer) word() {
	from := n.pos
	for n.pos < len(n.in) && classes[n.in[n.pos]]&wordPart != 0 {
		n.pos++
	}
	w := n.in[from:n.pos]
	if len(w) == 1 && n.peek(0) == '\'' {
		switch w[0] | 0x20 {
		case 'e':
			n.literal(true)
			return
		case 'b', 'x', 'n':
			n.literal(!n.standard)
			return
		}
	}
	if len(w) == 1 && w[0]|0x20 == 'u' && n.peek(0) == '&' && n.peek(1) == '\'' {
		n.pos++
		n.literal(!n.standard)
		return
	}
	n.put(w...)
}
