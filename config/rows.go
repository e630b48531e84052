package config

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Row is one line of SHOW CONFIG.
type Row struct {
	Key, Value, Default string
	Changeable          bool
}

// Rows returns SHOW CONFIG: the settings of the whole process and pool's, by
// canonical name and in PgBouncer's notation (seconds, 0 and 1). Secrets are
// [redacted].
func (c *Config) Rows() []Row {
	var rows []Row
	for _, s := range Settings() {
		ptr := c.pointer(&s)
		if ptr == nil {
			continue
		}
		rows = append(rows, Row{
			Key:        s.Name,
			Value:      s.show(ptr),
			Default:    s.showDefault(),
			Changeable: s.Changeable,
		})
	}
	return rows
}

// pointer returns where the configuration keeps a setting, nil for one that
// only a database has.
func (c *Config) pointer(s *Setting) any {
	switch s.Scope {
	case ScopeGlobal:
		return s.global(c)
	case ScopePool:
		return s.pool(&c.Pool)
	}
	return nil
}

func (s *Setting) show(ptr any) string {
	switch v := ptr.(type) {
	case *bool:
		if *v {
			return "1"
		}
		return "0"
	case *time.Duration:
		if s.Milliseconds {
			return strconv.FormatInt(v.Milliseconds(), 10)
		}
		return strconv.FormatFloat(v.Seconds(), 'f', -1, 64)
	}
	return format(ptr)
}

func (s *Setting) showDefault() string {
	if s.Default == "" {
		return ""
	}
	var c Config
	ptr := c.pointer(s)
	if reason := s.parse(ptr, s.Default, strconv.Quote); reason != "" {
		panic("bug: default of " + s.Path + ": " + reason)
	}
	return s.show(ptr)
}

// Print writes the effective settings, without secrets and in the file's
// order, each with where it came from.
func (c *Config) Print(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, s := range Settings() {
		if ptr := c.pointer(&s); ptr != nil {
			c.printLine(b, s.Path, format(ptr))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Auth.Users)) {
		kind := map[secretKind]string{secretPlain: "plain", secretMD5: "md5", secretSCRAM: "SCRAM-SHA-256"}[kindOf(c.Auth.Users[name])]
		if c.Auth.Users[name] == "" {
			kind = "none"
		}
		c.printLine(b, join("auth.users", quoteName(name)), redactedSecret+" ("+kind+")")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		c.printOverrides(b, join("users", quoteName(name)), &c.Users[name].Overrides)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		c.printDatabase(b, c.Databases[name])
	}
	return b.Flush()
}

const redactedSecret = "[redacted]"

func (c *Config) printLine(w io.Writer, path, value string) {
	if value == "" {
		value = `""`
	}
	fmt.Fprintf(w, "%-42s %-28s # %s\n", path+":", value, c.origin(path))
}

// origin names the line or the variable that a value came from.
func (c *Config) origin(path string) string {
	switch src := c.sources[path]; {
	case src.env != "":
		return src.env
	case src.line > 0:
		return fmt.Sprintf("%s:%d", c.File, src.line)
	}
	return "default"
}

func (c *Config) printOverrides(w io.Writer, path string, o *Overrides) {
	for _, s := range poolSettings() {
		if o.set[s.Name] {
			c.printLine(w, join(path, s.key()), format(s.pool(&o.values)))
		}
	}
}

func (c *Config) printDatabase(w io.Writer, d *Database) {
	path := databasePath(d.Name)
	hosts := make([]string, len(d.Hosts))
	for i, h := range d.Hosts {
		hosts[i] = fmt.Sprintf("%s:%d", h.Host, h.Port)
		if strings.Contains(h.Host, ":") {
			hosts[i] = fmt.Sprintf("[%s]:%d", h.Host, h.Port)
		}
	}
	line := func(key, value, without string) {
		if value == "" {
			value = without
		}
		p := join(path, key)
		origin := c.origin(p)
		if _, given := c.sources[p]; !given {
			origin = c.origin(join(path, "dsn"))
		}
		fmt.Fprintf(w, "%-42s %-28s # %s\n", p+":", value, origin)
	}
	line("hosts", strings.Join(hosts, ", "), "")
	line("user", d.User, "(each client's own)")
	if d.HasPassword {
		line("password", redactedSecret, "")
	}
	line("dbname", d.DBName, "(the name the client asked for)")
	line("tls.mode", d.TLS.Mode, "")
	if d.TLS.Mode != "disable" {
		line("tls.ca_file", d.TLS.CAFile, "system")
	}
	if d.TLS.CertFile != "" {
		line("tls.cert_file", d.TLS.CertFile, "")
		line("tls.key_file", d.TLS.KeyFile, "")
	}
	users := "(all that can log in)"
	if d.Users != nil {
		users = strings.Join(d.Users, ", ")
	}
	line("users", users, "(none)")
	if d.UpstreamPooler {
		line("upstream_pooler", "true", "")
	}
	c.printOverrides(w, path, &d.Overrides)
}
