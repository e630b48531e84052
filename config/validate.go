package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
)

// finishListen checks the addresses of both ports.
func (l *loader) finishListen() {
	addrs, bad := parseListenAddrs(l.cfg.Listen.addr)
	for _, i := range slices.Sorted(maps.Keys(bad)) {
		l.blame("listen.addr", strconv.Quote(l.cfg.Listen.addr[i])+": "+bad[i])
	}
	seen := map[Addr]bool{}
	for _, a := range addrs {
		if seen[a] {
			l.mistake("listen.addr", a.Address+" stands twice")
		}
		seen[a] = true
	}
	if len(l.cfg.Listen.addr) == 0 {
		l.mistake("listen.addr", "it is empty: clients could not connect")
	}
	l.cfg.Listen.Addrs = addrs

	if l.cfg.Admin.Addr == "off" {
		l.cfg.Admin.Addr = ""
	}
	if l.cfg.Admin.Addr == "" {
		return
	}
	if reason := checkHostPort(l.cfg.Admin.Addr); reason != "" {
		l.mistake("admin.addr", strconv.Quote(l.cfg.Admin.Addr)+": "+reason)
		return
	}
	adminHost, adminPort, _ := net.SplitHostPort(l.cfg.Admin.Addr)
	for _, a := range addrs {
		host, port, err := net.SplitHostPort(a.Address)
		if a.Network == "tcp" && err == nil && port == adminPort && port != "0" &&
			(host == adminHost || isWildcard(host) || isWildcard(adminHost)) {
			l.mistake("admin.addr", "port "+port+" is listen.addr's already")
		}
	}
}

// validate checks what must fit together.
func (l *loader) validate() {
	l.validateClientTLS()
	l.checkFiles("", l.cfg.Admin.TLSCertFile, l.cfg.Admin.TLSKeyFile, "admin.tls", "")
	l.validateUsers()
	l.validateSizes("pool", "pool.size", "pool.min_size", l.cfg.Pool.Size, l.cfg.Pool.MinSize)
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Databases)) {
		d := l.cfg.Databases[name]
		path := databasePath(name)
		l.validateOverrides(path, &d.Overrides)
		if l.told[path] || l.told[join(path, "dsn")] {
			continue
		}
		for _, user := range d.Users {
			l.checkUser(join(path, "users"), user)
		}
		if d.User == "" {
			l.validateOwnIdentity(d, path)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Users)) {
		l.validateOverrides(join("users", quoteName(name)), &l.cfg.Users[name].Overrides)
	}
}

func (l *loader) validateOverrides(path string, o *Overrides) {
	if o.set["default_pool_size"] && o.set["min_pool_size"] {
		l.validateSizes(path, join(path, "size"), join(path, "min_size"), o.values.Size, o.values.MinSize)
	}
}

func (l *loader) validateSizes(path, sizePath, minPath string, size, minSize int) {
	if l.told[sizePath] || size == 0 || minSize <= size {
		return
	}
	l.mistake(minPath, fmt.Sprintf("%d is more than %s.size, which is %d", minSize, path, size))
}

func (l *loader) validateUsers() {
	if l.told["auth.users"] || l.told["auth.file"] || l.told["auth.type"] {
		return
	}
	for _, list := range []struct {
		path  string
		names []string
	}{{"admin.users", l.cfg.Admin.Users}, {"admin.stats_users", l.cfg.Admin.StatsUsers}} {
		for _, name := range list.names {
			if l.fromEnv == "" || l.given(list.path) {
				l.checkUser(list.path, name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Users)) {
		l.checkUser(join("users", quoteName(name)), name)
	}
}

// validateOwnIdentity checks that clients of a database whose DSN has no user
// can be logged in to the server as themselves.
func (l *loader) validateOwnIdentity(d *Database, path string) {
	if l.cfg.Auth.Type == "any" {
		l.mistake(join(path, "dsn"), "auth.type any needs a user here: whoever the client says it is would be taken for it")
		return
	}
	names := d.Users
	if names == nil {
		names = slices.Sorted(maps.Keys(l.cfg.Auth.Users))
	}
	for _, name := range names {
		secret, known := l.cfg.Auth.Users[name]
		if !known {
			continue
		}
		who := "user " + quoteName(name) + " logs in to this server as itself, and "
		switch kind := kindOf(secret); {
		case kind == secretSCRAM && l.cfg.Auth.Type == "trust":
			l.warn(join(path, "dsn"), who+"a SCRAM verifier without a client's proof (auth.type trust) is of no use where PostgreSQL asks for a password")
		case kind == secretMD5 && l.cfg.Auth.Type != "password":
			l.warn(join(path, "dsn"), who+"its md5 secret works only where PostgreSQL asks for md5")
		}
	}
}

func (l *loader) validateClientTLS() {
	t, path := &l.cfg.Listen.TLS, "listen.tls"
	if t.Mode == "disable" || l.told["listen.tls.mode"] {
		return
	}
	if t.Mode == "verify-ca" || t.Mode == "verify-full" {
		for _, f := range []struct{ key, value string }{
			{"cert_file", t.CertFile}, {"key_file", t.KeyFile}, {"ca_file", t.CAFile},
		} {
			if f.value == "" {
				l.mistake("listen.tls.mode", t.Mode+" needs "+join(path, f.key))
				return
			}
		}
	}
	l.checkFiles(t.CAFile, t.CertFile, t.KeyFile, path, "")
}

// checkFiles loads the files of one side of TLS as the daemon will. Where a
// file does not stand in the section at path it came from the DSN at dsnPath.
func (l *loader) checkFiles(ca, cert, key, path, dsnPath string) {
	at := func(keyName string) string {
		if p := join(path, keyName); dsnPath == "" || l.given(p) {
			return p
		}
		return dsnPath
	}
	if ca != "" && ca != "system" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			l.mistake(at("ca_file"), fileReason(err, dsnPath != "" && at("ca_file") == dsnPath, "the CA file"))
		} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			l.mistake(at("ca_file"), "the CA file holds no certificate in PEM")
		}
	}
	switch {
	case cert == "" && key == "":
	case cert == "":
		l.mistake(at("key_file"), "the key needs its certificate, cert_file")
	case key == "":
		l.mistake(at("cert_file"), "the certificate needs its key, key_file")
	default:
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			l.mistake(at("cert_file"), fileReason(err, dsnPath != "" && at("cert_file") == dsnPath, "the certificate or its key"))
		}
	}
}

// fileReason leaves out a path that came from a DSN.
func fileReason(err error, fromDSN bool, what string) string {
	if fromDSN {
		return what + " that it names cannot be used"
	}
	return err.Error()
}
