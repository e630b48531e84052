package admin

import (
	"regexp"
	"strconv"
	"strings"
)

// The console's grammar, as PgBouncer's: one command of one or two words, or
// a SET. A word is a bare name or stands in double quotes. SHOW EXTENDED and
// the words that drivers send around transactions are pgpoold's own.
var (
	commandPattern = regexp.MustCompile(`(?i)^\s*(` + wordPattern + `)(?:\s+(` + wordPattern + `))?\s*(?:;\s*)?$`)
	showPattern    = regexp.MustCompile(`(?i)^\s*(?:show|select)\s+extended\s+(` + wordPattern + `)\s*(?:;\s*)?$`)
	setPattern     = regexp.MustCompile(`(?i)^\s*set\s+(` + wordPattern + `)\s*(?:=|\bto\b)\s*(` + wordPattern + `|'(?:[^']|'')*')\s*(?:;\s*)?$`)
	xactPattern    = regexp.MustCompile(`(?i)^\s*(begin|start\s+transaction|commit|end|rollback|abort)\b[a-z\s,]*(?:;\s*)?$`)
	blankPattern   = regexp.MustCompile(`^(?:\s|;|--[^\n]*(?:\n|$))*$`)
)

const wordPattern = `"(?:[^"]|"")*"|[0-9a-z_]+|\$[0-9]+`

// Longest command, argument and value of SET, as PgBouncer's.
const (
	maxCommand  = 15
	maxArgument = 63
	maxValue    = 255
)

// command is one parsed console command.
type command struct {
	name     string // in lower case; "" for a string without a command
	arg      string // of SET the setting
	val      string // of SET only
	extended bool   // SHOW EXTENDED
	argParam int    // arg is this parameter of the extended protocol; 0: it is not
	valParam int
}

// parameters is how many parameters the command has.
func (c *command) parameters() int { return max(c.argParam, c.valParam) }

// parse reads a Query's text. problem is what the console answers when it
// cannot.
func parse(query string) (cmd command, problem string) {
	if blankPattern.MatchString(query) {
		return command{}, ""
	}
	if m := xactPattern.FindStringSubmatch(query); m != nil {
		return command{name: xactWord(m[1])}, ""
	}
	if m := showPattern.FindStringSubmatch(query); m != nil {
		cmd = command{name: "show", arg: unquote(m[1]), extended: true}
		return cmd, tooLong(cmd)
	}
	if m := setPattern.FindStringSubmatch(query); m != nil {
		cmd = command{name: "set", arg: unquote(m[1]), val: unquote(m[2]), valParam: parameter(m[2])}
		return cmd, tooLong(cmd)
	}
	m := commandPattern.FindStringSubmatch(query)
	if m == nil || m[1][0] == '$' {
		return command{}, invalidCommand(query)
	}
	cmd = command{name: strings.ToLower(unquote(m[1])), arg: unquote(m[2]), argParam: parameter(m[2])}
	if cmd.name == "set" { // without a value
		return command{}, invalidCommand(query)
	}
	if cmd.name == "select" {
		cmd.name = "show"
	}
	return cmd, tooLong(cmd)
}

func tooLong(cmd command) string {
	if len(cmd.name) > maxCommand || len(cmd.arg) > maxArgument || len(cmd.val) > maxValue {
		return badArguments
	}
	return ""
}

// xactWord is the command's tag in PostgreSQL.
func xactWord(s string) string {
	switch s = strings.ToLower(s); s {
	case "commit", "end":
		return "commit"
	case "rollback", "abort":
		return "rollback"
	}
	return "begin"
}

// parameter is the n of $n, 0 for what is none.
func parameter(s string) int {
	if s == "" || s[0] != '$' {
		return 0
	}
	n, err := strconv.Atoi(s[1:])
	if err != nil || n > 2 {
		return 0
	}
	return n
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
	reloadFailed = "RELOAD failed, see logs for additional details"
)

func invalidCommand(query string) string {
	const most = 200
	if len(query) > most {
		query = query[:most]
	}
	return "invalid command '" + strings.ToValidUTF8(query, "?") + "', use SHOW HELP;"
}
