package config

import "strings"

// parseUserlist reads PgBouncer's auth_file: a line for each user, its name
// and its secret in double quotes, a quote inside written twice; what follows
// on the line is ignored, and so are empty lines and lines that begin with ;
// or #. bad is called with each line that cannot be read; the reason never
// holds any of its text.
func parseUserlist(text string, user func(line int, name, secret string), bad func(line int, reason string)) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		name, rest, ok := cutQuoted(line)
		if !ok {
			bad(i+1, `want "user" "secret", both in double quotes`)
			continue
		}
		secret, _, ok := cutQuoted(strings.TrimLeft(rest, " \t"))
		switch {
		case !ok:
			bad(i+1, `want "user" "secret", both in double quotes`)
		case name == "":
			bad(i+1, "the user's name is empty")
		default:
			user(i+1, name, secret)
		}
	}
}

// cutQuoted takes one "..." off the front of s.
func cutQuoted(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", s, false
}
