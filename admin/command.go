package admin

import (
	"regexp"
	"strings"
)

// The console's grammar, as PgBouncer's: one command of one or two words, or
// a SET. A word is a bare name or stands in double quotes.
var (
	commandPattern = regexp.MustCompile(`(?i)^\s*(` + wordPattern + `)(?:\s+(` + wordPattern + `))?\s*(?:;\s*)?$`)
	setPattern     = regexp.MustCompile(`(?i)^\s*set\s+(` + wordPattern + `)\s*(?:=|\bto\b)\s*(` + wordPattern + `|'(?:[^']|'')*')\s*(?:;\s*)?$`)
	blankPattern   = regexp.MustCompile(`^(?:\s|;|--[^\n]*(?:\n|$))*$`)
)

const wordPattern = `"(?:[^"]|"")*"|[0-9a-z_]+`

// Longest command, argument and value of SET, as PgBouncer's.
const (
	maxCommand  = 15
	maxArgument = 63
	maxValue    = 255
)

// command is one parsed console command.
type command struct {
	name string // in lower case; "" for a string without a command
	arg  string // of SET the setting
	val  string // of SET only
}

// parse reads a Query's text. problem is what the console answers when it
// cannot.
func parse(query string) (cmd command, problem string) {
	if blankPattern.MatchString(query) {
		return command{}, ""
	}
	if m := setPattern.FindStringSubmatch(query); m != nil {
		cmd = command{name: "set", arg: unquote(m[1]), val: unquote(m[2])}
		if len(cmd.arg) > maxArgument || len(cmd.val) > maxValue {
			return command{}, badArguments
		}
		return cmd, ""
	}
	m := commandPattern.FindStringSubmatch(query)
	if m == nil {
		return command{}, invalidCommand(query)
	}
	cmd = command{name: strings.ToLower(unquote(m[1])), arg: unquote(m[2])}
	if len(cmd.name) > maxCommand || len(cmd.arg) > maxArgument {
		return command{}, badArguments
	}
	if cmd.name == "select" {
		cmd.name = "show"
	}
	return cmd, ""
}

// unquote takes the quotes off a word; a bare word is as it is.
func unquote(s string) string {
	if len(s) < 2 || (s[0] != '"' && s[0] != '\'') {
		return s
	}
	q := s[:1]
	return strings.ReplaceAll(s[1:len(s)-1], q+q, q)
}

// PgBouncer's answers to what it cannot do; scripts match on them.
const (
	badArguments = "bad arguments"
	accessNeeded = "admin access needed"
	setFailed    = "SET failed"
	noExtended   = "extended query protocol not supported by admin console"
)

func invalidCommand(query string) string {
	const most = 200
	if len(query) > most {
		query = query[:most]
	}
	return "invalid command '" + strings.ToValidUTF8(query, "?") + "', use SHOW HELP;"
}
