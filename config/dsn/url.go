package dsn

import "strings"

// rawDSN is a DSN taken apart and decoded, before its keys mean anything.
type rawDSN struct {
	user, password       string
	hasUser, hasPassword bool
	hosts                []string // "" for a host that was left out
	ports                []string // "" for a port that was left out; as long as hosts, or one for all
	dbname               string
	pairs                []pair
}

const (
	reasonRawChar = "its user or password seems to hold a raw @, #, / or ? " +
		"(write %40, %23, %2F or %3F): percent-encode it, or use `password:`"
	reasonPercent  = "it holds a % that is not followed by two hex digits (write %25 for a plain one)"
	reasonZeroByte = "it holds a zero byte"
	reasonSpace    = "it holds a raw space or control character: percent-encode it (%20 for a space)"
	reasonQuery    = "a part of its query is not key=value"
	reasonHost     = "one of its hosts is not a host name or address"
	reasonPort     = "one of its ports is not a number from 1 to 65535; where the password holds a " +
		"raw @, #, / or ?, percent-encode it, or use `password:`"
	reasonPlaceholder = "its password is still the placeholder of the template it was copied from"
)

// splitURL takes apart what stands behind "://".
func splitURL(rest string) (rawDSN, error) {
	var raw rawDSN
	for i := 0; i < len(rest); i++ {
		if rest[i] <= ' ' || rest[i] == 0x7f {
			return raw, fail(reasonSpace)
		}
	}
	if strings.IndexByte(rest, '#') >= 0 {
		return raw, fail(reasonRawChar)
	}
	authority, path, query := rest, "", ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	path, query, _ = strings.Cut(path, "?")
	path = strings.TrimPrefix(path, "/")

	// A raw @ anywhere but in front of the hosts belongs to a password that
	// ended too early, and the text behind it would be taken for a host.
	ats := strings.Count(authority, "@")
	if ats > 1 || strings.Contains(path, "@") || ats == 0 && strings.Contains(query, "@") {
		return raw, fail(reasonRawChar)
	}
	if strings.Contains(path, "/") {
		return raw, fail("its database name holds a raw / (write %2F); where it belongs to the password, " +
			"percent-encode it, or use `password:`")
	}

	hostList := authority
	if userinfo, hosts, found := strings.Cut(authority, "@"); found {
		hostList = hosts
		if err := raw.setUserinfo(userinfo); err != nil {
			return raw, err
		}
	}
	var err error
	if raw.dbname, err = unescape(path, false); err != nil {
		return raw, err
	}
	if hostList != "" {
		for _, item := range strings.Split(hostList, ",") {
			host, port, err := splitHostPort(item)
			if err != nil {
				return raw, err
			}
			raw.hosts = append(raw.hosts, host)
			raw.ports = append(raw.ports, port)
		}
	}
	if query == "" {
		return raw, nil
	}
	for _, item := range strings.Split(query, "&") {
		if item == "" {
			continue
		}
		key, value, found := strings.Cut(item, "=")
		if !found || key == "" {
			return raw, fail(reasonQuery)
		}
		if key, err = unescape(key, true); err != nil {
			return raw, err
		}
		// Drivers read + in a query as a space and libpq does not.
		if (key == "password" || key == "user") && strings.Contains(value, "+") {
			return raw, fail("the user or password in its query holds a raw +: write %2B for a plus, %20 for a space")
		}
		if value, err = unescape(value, true); err != nil {
			return raw, err
		}
		raw.pairs = append(raw.pairs, pair{key, value})
	}
	return raw, nil
}

func (raw *rawDSN) setUserinfo(userinfo string) error {
	user, password, hasPassword := strings.Cut(userinfo, ":")
	if password == "[YOUR-PASSWORD]" || password == "[PASSWORD]" {
		return fail(reasonPlaceholder)
	}
	var err error
	if raw.user, err = unescape(user, false); err != nil {
		return err
	}
	if raw.password, err = unescape(password, false); err != nil {
		return err
	}
	raw.hasUser, raw.hasPassword = raw.user != "", hasPassword
	if raw.hasPassword && !raw.hasUser {
		return fail("it has a password but no user")
	}
	return nil
}

// splitHostPort splits one item of a URL's host list; IPv6 stands in brackets.
func splitHostPort(item string) (host, port string, err error) {
	if strings.HasPrefix(item, "[") {
		end := strings.IndexByte(item, ']')
		if end < 0 {
			return "", "", fail(reasonHost)
		}
		host, port = item[1:end], item[end+1:]
		if !strings.Contains(host, ":") || port != "" && port[0] != ':' {
			return "", "", fail(reasonHost)
		}
		port = strings.TrimPrefix(port, ":")
	} else {
		if strings.Count(item, ":") > 1 {
			return "", "", fail("one of its hosts holds more than one colon: an IPv6 address needs brackets, as in [::1]:5432")
		}
		host, port, _ = strings.Cut(item, ":")
	}
	host, err = unescape(host, false)
	return host, port, err
}

// unescape decodes percent-encoding, and in a query also + as a space.
func unescape(s string, query bool) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%':
			if i+2 >= len(s) {
				return "", fail(reasonPercent)
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return "", fail(reasonPercent)
			}
			c := byte(hi<<4 | lo)
			if c == 0 {
				return "", fail(reasonZeroByte)
			}
			b.WriteByte(c)
			i += 2
		case s[i] == '+' && query:
			b.WriteByte(' ')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
