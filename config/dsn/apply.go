package dsn

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// apply gives the keys their meaning.
func (d *DSN) apply(raw rawDSN, isURL bool) error {
	seen := map[string]bool{"user": raw.hasUser, "password": raw.hasPassword, "dbname": raw.dbname != ""}
	if len(raw.hosts) > 0 {
		seen["host"] = strings.Join(raw.hosts, "") != ""
		seen["port"] = strings.Join(raw.ports, "") != ""
	}
	d.User, d.Password, d.HasPassword = raw.user, Secret(raw.password), raw.hasPassword
	d.DBName = raw.dbname
	for _, p := range raw.pairs {
		name, class, known := lookupKey(p.key)
		if !known {
			return unknownKey(p.key, isURL)
		}
		if seen[name] {
			return fail(name + " is given twice")
		}
		seen[name] = true
		if strings.IndexByte(p.value, 0) >= 0 {
			return fail(reasonZeroByte)
		}
		var err error
		switch class {
		case keyUsed:
			err = d.use(&raw, name, p.value)
		case keySetting:
			d.RuntimeParams[name] = p.value
		case keyDriver:
			d.warn(name + " is an option of a driver: ignored")
		case keyIgnored:
			d.warn(name + " has no effect here: ignored")
		case keyRefused:
			err = fail(name + " is not supported, and leaving it out would change what the DSN means")
		}
		if err != nil {
			return err
		}
	}
	if d.HasPassword && d.User == "" {
		return fail("it has a password but no user")
	}
	if seen["hostaddr"] && seen["host"] {
		return fail("it has both host and hostaddr: write the address as host")
	}
	if err := d.setHosts(raw.hosts, raw.ports); err != nil {
		return err
	}
	return d.checkTLS()
}

func unknownKey(key string, isURL bool) error {
	where := "one of its keys is unknown"
	if isURL {
		where = "a key of its query is unknown"
	}
	if name := nearestKey(key); name != "" {
		return fail(where + ", did you mean " + name + "?")
	}
	return fail(where + ": a PostgreSQL setting is written options=-c name=value (in a URL options=-c%20name%3Dvalue)")
}

func (d *DSN) warn(text string) { d.Warnings = append(d.Warnings, text) }

// use handles the keys of class keyUsed.
func (d *DSN) use(raw *rawDSN, name, value string) error {
	switch name {
	case "host", "hostaddr":
		raw.hosts = strings.Split(value, ",")
	case "port":
		raw.ports = strings.Split(value, ",")
	case "user":
		d.User = value
	case "password":
		if value == "[YOUR-PASSWORD]" || value == "[PASSWORD]" {
			return fail(reasonPlaceholder)
		}
		d.Password, d.HasPassword = Secret(value), true
	case "dbname":
		// libpq would take such a dbname for a whole connection string.
		if strings.Contains(value, "=") || strings.Contains(value, "://") {
			return fail("its dbname is itself a connection string")
		}
		d.DBName = value
	case "sslmode", "ssl", "requiressl":
		return d.setSSLMode(name, value)
	case "sslrootcert":
		d.SSLRootCert = value
	case "sslcert":
		d.SSLCert = value
	case "sslkey":
		d.SSLKey = value
	case "application_name", "client_encoding", "options":
		d.RuntimeParams[name] = value
	case "fallback_application_name":
		if _, given := d.RuntimeParams["application_name"]; !given {
			d.RuntimeParams["application_name"] = value
		}
	case "target_session_attrs":
		return oneOf(&d.TargetSessionAttrs, name, value, "any", "read-write", "read-only", "primary", "standby", "prefer-standby")
	case "gssencmode", "channel_binding":
		if value == "require" {
			return fail(name + "=require is not supported")
		}
	case "sslnegotiation":
		if value != "postgres" {
			return fail("sslnegotiation is supported with the value postgres only")
		}
	case "load_balance_hosts":
		if value != "disable" {
			return fail("load_balance_hosts is supported with the value disable only: hosts are tried in order")
		}
	case "ssl_min_protocol_version":
		if value != "" && value != "TLSv1" && value != "TLSv1.1" && value != "TLSv1.2" {
			return fail("ssl_min_protocol_version is supported up to TLSv1.2 only, which is what pgpoold asks for")
		}
	default:
		return d.setTiming(name, value)
	}
	return nil
}

// setTiming handles connect_timeout and libpq's TCP settings.
func (d *DSN) setTiming(name, value string) error {
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || n < 0 || n > 1<<31-1 {
		return fail(name + " is not a whole number from 0 to 2147483647")
	}
	seconds := time.Duration(n) * time.Second
	switch name {
	case "connect_timeout":
		d.ConnectTimeout = &seconds
	case "keepalives":
		on := n != 0
		d.Keepalive.Enable = &on
	case "keepalives_idle":
		d.Keepalive.Idle = &seconds
	case "keepalives_interval":
		d.Keepalive.Interval = &seconds
	case "keepalives_count":
		d.Keepalive.Count = &n
	case "tcp_user_timeout":
		timeout := time.Duration(n) * time.Millisecond
		d.Keepalive.UserTimeout = &timeout
	}
	return nil
}

func (d *DSN) setSSLMode(name, value string) error {
	if d.SSLMode != "" {
		return fail("sslmode is given twice (ssl and requiressl mean the same)")
	}
	if name != "sslmode" {
		switch strings.ToLower(value) {
		case "true", "1", "on", "yes":
			value = "require"
		case "false", "0", "off", "no":
			value = "disable"
			if name == "requiressl" {
				value = "prefer"
			}
		}
	}
	if value == "no-verify" {
		return fail("sslmode=no-verify is a driver's word: write sslmode=require")
	}
	return oneOf(&d.SSLMode, "sslmode", value, "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
}

func oneOf(field *string, name, value string, words ...string) error {
	for _, w := range words {
		if value == w {
			*field = value
			return nil
		}
	}
	return fail(name + " is not one of " + strings.Join(words, ", "))
}

// checkTLS applies libpq's rules about sslmode and the files beside it.
func (d *DSN) checkTLS() error {
	if (d.SSLCert == "") != (d.SSLKey == "") {
		return fail("sslcert and sslkey need each other")
	}
	if d.SSLRootCert == "system" {
		if d.SSLMode != "" && d.SSLMode != "verify-full" {
			return fail("sslrootcert=system needs sslmode=verify-full")
		}
		d.SSLMode = "verify-full"
	}
	return nil
}

// setHosts pairs hosts with ports and checks both.
func (d *DSN) setHosts(hosts, ports []string) error {
	if len(hosts) == 0 || strings.Join(hosts, "") == "" {
		return fail("it names no host: write the server's name, localhost, or a socket's directory as host=/var/run/postgresql")
	}
	if len(ports) > 1 && len(ports) != len(hosts) {
		return fail("it has more ports than hosts, or fewer: write one port for all hosts, or one for each")
	}
	for i, host := range hosts {
		port := ""
		switch {
		case len(ports) == 1:
			port = ports[0]
		case len(ports) > 1:
			port = ports[i]
		}
		h, err := makeHost(strings.TrimSpace(host), strings.TrimSpace(port))
		if err != nil {
			return err
		}
		d.Hosts = append(d.Hosts, h)
	}
	return nil
}

func makeHost(host, port string) (Host, error) {
	h := Host{Network: "tcp", Host: host, Port: DefaultPort}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return h, fail(reasonPort)
		}
		h.Port = uint16(n)
	}
	if strings.HasPrefix(host, "/") {
		h.Network = "unix"
		return h, nil
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") { // key=value, copied from a URL
		h.Host = host[1 : len(host)-1]
	}
	if strings.Contains(h.Host, ":") {
		if _, err := netip.ParseAddr(h.Host); err != nil {
			return h, fail(reasonHost)
		}
		return h, nil
	}
	if h.Host == "" || len(h.Host) > 253 {
		return h, fail(reasonHost)
	}
	for i := 0; i < len(h.Host); i++ {
		if c := h.Host[i]; !isAlnum(c) && c != '.' && c != '-' && c != '_' && c < 0x80 {
			return h, fail(reasonHost)
		}
	}
	return h, nil
}
