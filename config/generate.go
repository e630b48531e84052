package config

import (
	"fmt"
	"strings"
)

// sectionNotes open the sections of the sample and of the reference page.
func sectionNote(section string) string {
	switch section {
	case "listen":
		return "The clients' side."
	case "listen.tls":
		return "TLS between clients and pgpoold."
	case "admin":
		return "The HTTP port, and who may enter it and the console."
	case "admin.tls":
		return "TLS of the HTTP port."
	case "auth":
		return "How clients log in."
	case "pool":
		return "How servers are shared. A key may also stand under databases.X and users.X where it says so: the nearest wins, user before database before pool."
	case "databases.X":
		return `What clients can connect to, by the name they use; "*" answers for any other name. Keys of pool may stand here too. Without this section the DSN in PGPOOLD_DSN, else in SUPABASE_POSTGRES_DSN, is the only database, under its own name.`
	case "databases.X.tls":
		return "TLS between pgpoold and the server."
	case "log":
		return "What is logged, to standard error."
	}
	return ""
}

const (
	usersNote     = "Users and their secrets: plain, md5..., or SCRAM-SHA-256$... (pgpoold hash makes one). Without users and a file, clients log in with the user and password of the DSN, into that user's databases."
	overridesNote = "Settings of one client user, nearer than those of databases and pool."
)

// wrap breaks text into comment lines.
func wrap(b *strings.Builder, indent, text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+2+len(line)+1+len(word) > 100 {
			fmt.Fprintf(b, "%s# %s\n", indent, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	if line != "" {
		fmt.Fprintf(b, "%s# %s\n", indent, line)
	}
}

// limits describes the values that a setting takes.
func (s *Setting) limits() string {
	switch s.Kind {
	case KindInt, KindSize:
		return fmt.Sprintf("%s, %d to %d", s.Unit(), s.Min, s.Max)
	case KindDuration:
		return "duration, 0 to " + formatDuration(s.MaxTime)
	}
	return s.Unit()
}

// defaultText is the default as a document shows it.
func (s *Setting) defaultText() string {
	if s.Default == "" {
		return "none"
	}
	return s.Default
}

// sampleValue is what the sample writes behind the key.
func (s *Setting) sampleValue() string {
	switch {
	case s.Example != "":
		return s.Example
	case s.Default != "":
		return s.Default
	case s.Kind == KindList:
		return "[]"
	}
	return `""`
}

// Sample is the text of config.yaml: every setting with its unit, default and
// whether a reload applies it. What is commented out is an example; take the
// # away to use it.
func Sample() string {
	var b strings.Builder
	wrap(&b, "", "pgpoold's configuration with every setting. Generated from the table in config/table.go; run go generate ./config after a change there.")
	b.WriteString("#\n")
	wrap(&b, "", "Every key is optional; what is not commented out has its default here, but for the database. Durations are written 30s, 5m or 1h30m (a plain number is seconds), sizes 64MiB, and 0 is off. ${NAME}, ${NAME:-default} and ${file:PATH} in a value are replaced. The line below each description says: canonical name; values; default; what applies a change; environment variable, which is nearer than this file.")
	section := ""
	for _, s := range Settings() {
		next, indent := s.section(), s.indent()
		if next != section {
			sampleSectionEnd(&b, section)
			sampleSectionStart(&b, next)
			section = next
		} else {
			b.WriteString("\n")
		}
		wrap(&b, indent, s.Doc)
		meta := s.Name + "; " + s.limits() + "; default " + s.defaultText() + "; " + s.Reload()
		if env := s.Env(); env != "" {
			meta += "; " + env
		}
		if places := s.places(); places != "" {
			meta += "; also under " + places
		}
		wrap(&b, indent, meta)
		mark := ""
		if s.Scope == ScopeDatabase && s.Name != "dsn" {
			mark = "#"
		}
		fmt.Fprintf(&b, "%s%s%s: %s\n", indent, mark, s.key(), s.sampleValue())
	}
	return b.String()
}

// section is the path of the mapping that holds the setting.
func (s *Setting) section() string {
	path := s.Path
	if s.Scope == ScopeDatabase {
		path = "databases.X." + path
	}
	return path[:max(0, strings.LastIndexByte(path, '.'))]
}

func (s *Setting) indent() string {
	if s.section() == "" {
		return ""
	}
	return strings.Repeat("  ", 1+strings.Count(s.section(), "."))
}

func sampleSectionStart(b *strings.Builder, section string) {
	b.WriteString("\n")
	parent, key := "", section
	if i := strings.LastIndexByte(section, '.'); i >= 0 {
		parent, key = section[:i], section[i+1:]
	}
	switch {
	case section == "databases.X":
		wrap(b, "", sectionNote(section))
		b.WriteString("databases:\n  search:\n")
	case section == "databases.X.tls":
		wrap(b, "    ", sectionNote(section))
		b.WriteString("    #tls:\n")
	case section != "":
		indent := ""
		if parent != "" {
			indent = "  "
		}
		wrap(b, indent, sectionNote(section))
		fmt.Fprintf(b, "%s%s:\n", indent, key)
	}
}

func sampleSectionEnd(b *strings.Builder, section string) {
	switch section {
	case "auth":
		b.WriteString("\n")
		wrap(b, "  ", usersNote)
		b.WriteString("  #users: {app: \"${APP_PASSWORD}\", report: \"${REPORT_PASSWORD}\", ops: \"${OPS_PASSWORD:-ops}\"}\n")
	case "pool":
		b.WriteString("\n")
		wrap(b, "", overridesNote)
		b.WriteString("#users: {report: {mode: session, size: 3}}\n")
	case "databases.X":
		b.WriteString("\n    # A setting of pool for this database alone.\n    #size: 10\n")
	case "databases.X.tls":
		b.WriteString("\n  # Any other name, the same name on that server, each client with its own identity.\n")
		b.WriteString("  #\"*\": {dsn: \"postgres://db.internal:5432?sslmode=verify-full\"}\n")
	}
}

// Reference is the text of docs/settings.md.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Settings\n\n" +
		"Generated from the table in `config/table.go` by `go generate ./config`; a test keeps it true.\n" +
		"`config.yaml` at the top of the repository is the same as a file to start from.\n\n" +
		"## How settings are written\n\n" +
		"- The nearest wins: a flag, the environment variable, the file (`--config FILE`, else `$PGPOOLD_CONFIG`), the default.\n" +
		"- Durations are `30s`, `5m`, `1h30m`; a plain number is seconds. Sizes are `64MiB`. `0` is off.\n" +
		"- `${NAME}`, `${NAME:-default}` and `${file:PATH}` are replaced inside values after the YAML was read, so what\n" +
		"  replaces them may hold any character. A variable that is not set is a mistake. No other `$` means anything.\n" +
		"- Relative paths in the file start at the file's folder.\n" +
		"- Unknown and duplicate keys and values out of range are mistakes; all are told at once, with their lines.\n" +
		"- The canonical name is the one of SHOW CONFIG and of error texts, PgBouncer's where the meaning is the same.\n" +
		"- Defaults are PgBouncer's but for `pool_mode`, `max_client_conn`, `session_state`, `auth_type`, `client_tls_sslmode`\n" +
		"  and the `tcp_*` settings.\n")
	section := "-"
	for _, s := range Settings() {
		if next := s.section(); next != section {
			if section = next; section == "" {
				b.WriteString("\n## Top level\n\n")
			} else {
				fmt.Fprintf(&b, "\n## `%s`\n\n%s\n\n", section, sectionNote(section))
				switch section {
				case "auth":
					b.WriteString("`auth.users.NAME: SECRET`: " + usersNote + "\n\n")
				case "pool":
					b.WriteString("`users.NAME.KEY`: " + overridesNote + "\n\n")
				}
			}
			b.WriteString("| key | values | default | change by | canonical name | PgBouncer | environment | meaning |\n|---|---|---|---|---|---|---|---|\n")
		}
		env := "-"
		if s.Env() != "" {
			env = "`" + s.Env() + "`"
		}
		doc := strings.ReplaceAll(s.Doc, "|", `\|`)
		if places := s.places(); places != "" {
			doc += " Also under " + places + "."
		}
		pgbouncer := "-"
		if names := s.pgbouncerNames(); len(names) > 0 {
			pgbouncer = "`" + strings.Join(names, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | `%s` | %s | %s | %s |\n",
			s.key(), s.limits(), s.defaultText(), s.Reload(), s.Name, pgbouncer, env, doc)
	}
	return b.String()
}
