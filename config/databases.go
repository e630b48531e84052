package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgpoold/config/dsn"
)

// minSizeAlone is pool.min_size where the DSN comes from the environment.
const minSizeAlone = 5

// finishDatabases turns what is written under databases into servers that can
// be dialled, or takes the environment's DSN where nothing is written.
func (l *loader) finishDatabases() {
	if len(l.cfg.Databases) == 0 {
		if l.told["databases"] || l.toldBelow("databases.") {
			return
		}
		l.databaseFromEnvironment()
	}
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Databases)) {
		l.finishDatabase(l.cfg.Databases[name])
	}
}

func (l *loader) toldBelow(prefix string) bool {
	for path := range l.told {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

func (l *loader) databaseFromEnvironment() {
	name := EnvDSN
	text, _ := l.environ(name)
	if text == "" {
		name = EnvSupabaseDSN
		text, _ = l.environ(name)
	}
	if text == "" {
		sentence := "set " + EnvDSN + " or " + EnvSupabaseDSN + " to your PostgreSQL server's DSN (postgres://user:password@host:5432/database)"
		if l.file == "" {
			l.mistakes = append(l.mistakes, Mistake{Text: "no server to serve: " + sentence + ", or name a configuration file with --config"})
		} else {
			l.mistakeAt(0, "databases", "there is none: add databases: {NAME: {dsn: ...}}, or "+sentence)
		}
		return
	}
	l.fromEnv = name
	d, entry := &Database{}, &databaseEntry{dsn: Secret(text)}
	l.entries[d] = entry
	// The database's name is known once the DSN is read.
	parsed, err := dsn.Parse(text)
	if err != nil {
		l.mistakes = append(l.mistakes, Mistake{Env: name, Text: reasonOf(err)})
		return
	}
	d.Name = parsed.DBName
	if d.Name == "" {
		d.Name = parsed.User
		entry.dbname = parsed.User
	}
	if d.Name == "" || d.Name == "*" || d.Name == "pgbouncer" || d.Name == "pgpoold" {
		l.mistakes = append(l.mistakes, Mistake{Env: name, Text: "the DSN names no database that clients could ask for: add one behind the port, as in .../postgres"})
		return
	}
	l.cfg.sources[databasePath(d.Name)] = source{env: name}
	l.cfg.sources[join(databasePath(d.Name), "dsn")] = source{env: name}
	l.cfg.Databases[d.Name] = d
	if size := l.cfg.Pool.Size; !l.given("pool.min_size") {
		l.cfg.Pool.MinSize = minSizeAlone
		if size > 0 {
			l.cfg.Pool.MinSize = min(minSizeAlone, size)
		}
	}
	if parsed.User != "" && !l.given("admin.users") {
		l.cfg.Admin.Users = []string{parsed.User}
	}
}

// reasonOf is a DSN's error without the word DSN, which the path says.
func reasonOf(err error) string { return strings.TrimPrefix(err.Error(), "DSN: ") }

func (l *loader) finishDatabase(d *Database) {
	entry, path := l.entries[d], databasePath(d.Name)
	dsnPath := join(path, "dsn")
	if entry.dsn == "" {
		if l.given(dsnPath) {
			l.mistake(dsnPath, "it is empty")
		} else {
			l.mistake(path, "it has no dsn")
		}
		return
	}
	parsed, err := dsn.Parse(string(entry.dsn))
	if err != nil {
		l.mistake(dsnPath, reasonOf(err))
		return
	}
	for _, w := range parsed.Warnings {
		l.warn(dsnPath, w)
	}
	d.Hosts = parsed.Hosts
	d.TargetSessionAttrs = parsed.TargetSessionAttrs
	d.RuntimeParams = parsed.RuntimeParams
	d.connectTimeout = parsed.ConnectTimeout
	d.Keepalive = l.cfg.Listen.Keepalive.under(parsed.Keepalive)
	d.UpstreamPooler = entry.upstreamPooler
	if l.given(join(path, "users")) {
		d.Users = entry.users
	}
	l.finishIdentity(d, parsed, path)
	l.finishServerTLS(d, parsed, path)
	for _, h := range d.Hosts {
		l.checkHost(d, h, dsnPath)
	}
}

func (l *loader) finishIdentity(d *Database, parsed *dsn.DSN, path string) {
	entry := l.entries[d]
	d.User, d.DBName = parsed.User, parsed.DBName
	d.Password, d.HasPassword = parsed.Password, parsed.Password != ""
	if entry.user != "" {
		d.User = entry.user
	} else if l.given(join(path, "user")) {
		d.User, d.Password, d.HasPassword = "", "", false // each client's own
	}
	if entry.dbname != "" {
		d.DBName = entry.dbname
	}
	if d.DBName == "" && d.Name != "*" {
		d.DBName = d.Name
	}
	if p := join(path, "password"); l.given(p) {
		d.Password, d.HasPassword = entry.password, true
		switch {
		case entry.password == "":
			l.mistake(p, "it is empty; leave it out where PostgreSQL asks for none")
		case d.User == "":
			l.mistake(p, "it has no user: name one with user: or in the dsn")
		}
	}
}

// finishServerTLS applies libpq's rules to the DSN's sslmode and the tls
// section's together.
func (l *loader) finishServerTLS(d *Database, parsed *dsn.DSN, path string) {
	t, entry := &d.TLS, l.entries[d]
	*t = ServerTLS{Mode: parsed.SSLMode, CAFile: parsed.SSLRootCert, CertFile: parsed.SSLCert, KeyFile: parsed.SSLKey}
	if t.CAFile != "system" {
		t.CAFile = resolvePath(t.CAFile, l.dir)
	}
	t.CertFile, t.KeyFile = resolvePath(t.CertFile, l.dir), resolvePath(t.KeyFile, l.dir)
	modePath, caPath := join(path, "tls.mode"), join(path, "tls.ca_file")
	for _, f := range []struct{ to, from *string }{
		{&t.Mode, &entry.tls.Mode}, {&t.CAFile, &entry.tls.CAFile},
		{&t.CertFile, &entry.tls.CertFile}, {&t.KeyFile, &entry.tls.KeyFile},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	switch {
	case t.Mode == "" && t.CAFile == "system":
		t.Mode = "verify-full"
	case t.Mode == "":
		t.Mode = "prefer"
	case t.Mode == "require" && t.CAFile != "":
		t.Mode = "verify-ca"
	}
	if t.CAFile != "" && !strings.HasPrefix(t.Mode, "verify-") {
		at := caPath
		if !l.given(caPath) {
			at = join(path, "dsn")
		}
		l.warn(at, "the CA file has no effect with "+t.Mode+": nothing is verified before mode verify-full (or verify-ca)")
	}
	if t.Mode == "disable" || l.told[modePath] {
		return
	}
	verified, ca := strings.HasPrefix(t.Mode, "verify-"), ""
	if verified {
		ca = t.CAFile
	}
	l.checkFiles(ca, t.CertFile, t.KeyFile, join(path, "tls"), join(path, "dsn"))
	if verified || d.UpstreamPooler {
		return
	}
	for _, h := range d.Hosts {
		if h.Network != "tcp" || !isPublic(h.Host) {
			continue
		}
		fix := fmt.Sprintf("databases: {%s: {tls: {mode: verify-full, ca_file: FILE}}}", quoteName(d.Name))
		if l.fromEnv != "" {
			fix = "sslmode=verify-full&sslrootcert=FILE in its query"
		}
		if dsn.SupabaseKind(h.Host, h.Port) != dsn.NotSupabase {
			fix += ", where FILE is prod-ca-2021.crt from the project's database settings"
		}
		l.warn(join(path, "dsn"), "a public server is reached without a verified certificate; the fix is "+fix)
		return
	}
}

// checkHost refuses a server that is a transaction pooler or pgpoold itself.
func (l *loader) checkHost(d *Database, h dsn.Host, dsnPath string) {
	if refusal := dsn.PoolerRefusal(h.Host, h.Port); refusal != "" && !d.UpstreamPooler {
		l.mistake(dsnPath, refusal)
	}
	for _, a := range l.cfg.Listen.Addrs {
		if !reaches(a, h.Network, h.Host, h.Port) {
			continue
		}
		variable := "databases.X.dsn (or " + EnvDSN + ", " + EnvSupabaseDSN + ")"
		if l.fromEnv != "" {
			variable = l.fromEnv
		}
		l.mistake(dsnPath, "it leads back to pgpoold's own listener: "+variable+
			" is pgpoold's side and names PostgreSQL, only the clients' DSN names pgpoold")
		return
	}
}

// under lays a DSN's keepalive settings over the general ones.
func (k Keepalive) under(nearer dsn.Keepalive) Keepalive {
	if nearer.Enable != nil {
		k.Enable = *nearer.Enable
	}
	for _, f := range []struct{ to, from *time.Duration }{
		{&k.Idle, nearer.Idle}, {&k.Interval, nearer.Interval}, {&k.UserTimeout, nearer.UserTimeout},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if nearer.Count != nil {
		k.Count = *nearer.Count
	}
	return k
}
