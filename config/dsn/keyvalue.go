package dsn

import "strings"

// splitKeyValue takes apart libpq's other form: key = 'value' pairs between
// white space, with \ as the escape inside and outside of quotes.
func splitKeyValue(s string) (rawDSN, error) {
	var raw rawDSN
	if strings.IndexByte(s, 0) >= 0 {
		return raw, fail(reasonZeroByte)
	}
	for i := skipSpace(s, 0); i < len(s); i = skipSpace(s, i) {
		start := i
		for i < len(s) && s[i] != '=' && !isSpace(s[i]) {
			i++
		}
		key := s[start:i]
		i = skipSpace(s, i)
		if i >= len(s) || s[i] != '=' || key == "" {
			return raw, fail("it is neither a URL (postgres://...) nor a list of key=value; " +
				"a value with spaces stands in single quotes")
		}
		value, next, err := readValue(s, skipSpace(s, i+1))
		if err != nil {
			return raw, err
		}
		i = next
		raw.pairs = append(raw.pairs, pair{key, value})
	}
	return raw, nil
}

func readValue(s string, i int) (value string, next int, err error) {
	var b strings.Builder
	quoted := i < len(s) && s[i] == '\''
	if quoted {
		i++
	}
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			return b.String(), i + 1, nil
		case !quoted && isSpace(c):
			return b.String(), i, nil
		case c != '\\':
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", i, fail("a value lacks its closing single quote")
	}
	return b.String(), i, nil
}

func skipSpace(s string, i int) int {
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	return i
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
