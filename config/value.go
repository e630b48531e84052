package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"pgpoold/config/internal/nearest"
)

// parse reads text into the value that ptr points to, and says what is wrong
// with it, "" for nothing. quote decides how text appears in that sentence;
// for secrets and replaced variables it hides it.
func (s *Setting) parse(ptr any, text string, quote func(string) string) string {
	switch s.Kind {
	case KindString, KindPath:
		if reason := textReason(text); reason != "" {
			return reason
		}
		*ptr.(*string) = text
	case KindSecret:
		if strings.IndexByte(text, 0) >= 0 {
			return "holds a zero byte"
		}
		*ptr.(*Secret) = Secret(text)
	case KindWord:
		return s.parseWord(ptr.(*string), text, quote)
	case KindBool:
		switch strings.ToLower(text) {
		case "true", "yes", "on", "1":
			*ptr.(*bool) = true
		case "false", "no", "off", "0":
			*ptr.(*bool) = false
		default:
			return quote(text) + " is neither true nor false"
		}
	case KindInt, KindSize:
		parse, what := strconv.Atoi, " is not a whole number"
		if s.Kind == KindSize {
			parse, what = parseSize, " is not a size, write 64MiB, 8KiB or a number of bytes"
		}
		n, err := parse(text)
		if err != nil {
			return quote(text) + what
		}
		if n < s.Min || n > s.Max {
			return fmt.Sprintf("%s is out of range, want %d to %d", quote(text), s.Min, s.Max)
		}
		*ptr.(*int) = n
	case KindShare:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || !(v >= 0 && v <= 1) {
			return quote(text) + " is not a share, write a number from 0 to 1"
		}
		*ptr.(*float64) = v
	case KindDuration:
		return s.parseDuration(ptr.(*time.Duration), text, quote)
	case KindOctal:
		n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
		if err != nil || n > 0o777 {
			return quote(text) + " is not a file mode, write it in octal, as in 0777"
		}
		*ptr.(*uint32) = uint32(n)
	case KindList:
		if reason := textReason(text); reason != "" {
			return reason
		}
		*ptr.(*[]string) = splitList(text)
	}
	return ""
}

// textReason refuses what no name, address or file is. A DSN that stands in
// the wrong place must not become a part of some later message.
func textReason(text string) string {
	switch {
	case strings.IndexByte(text, 0) >= 0:
		return "holds a zero byte"
	case strings.Contains(text, "://"):
		return "is a URL or a DSN, which does not belong here"
	}
	return ""
}

func (s *Setting) parseWord(ptr *string, text string, quote func(string) string) string {
	for _, w := range s.Words {
		if text == w {
			*ptr = text
			return ""
		}
	}
	reason := quote(text) + " is not one of " + strings.Join(s.Words, ", ")
	if near := nearest.Of(text, s.Words); near != "" {
		reason += ", did you mean " + near + "?"
	}
	return reason
}

func (s *Setting) parseDuration(ptr *time.Duration, text string, quote func(string) string) string {
	d, plain, ok := parseDuration(text)
	switch {
	case !ok:
		return quote(text) + " is not a duration, write 30s, 5m or 1h30m, or a number of seconds"
	case plain && d != 0 && s.Milliseconds:
		return quote(text) + " needs a unit, write 30s (PgBouncer takes a plain number as milliseconds here)"
	case d < 0 || d > s.MaxTime:
		return quote(text) + " is out of range, want 0 to " + formatDuration(s.MaxTime)
	case d != 0 && d < time.Millisecond:
		return quote(text) + " is too short, want at least 1ms, or 0"
	}
	*ptr = d
	return ""
}

// parseDuration reads Go's notation, or seconds as PgBouncer does.
func parseDuration(text string) (d time.Duration, plain, ok bool) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		if !(seconds > -1e9 && seconds < 1e9) || strings.ContainsAny(text, "xXpP_") {
			return 0, true, false
		}
		return time.Duration(seconds * float64(time.Second)), true, true
	}
	d, err := time.ParseDuration(text)
	return d, false, err == nil
}

// formatDuration writes what parseDuration reads, without zero parts.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// parseSize reads bytes with a binary unit, or none.
func parseSize(text string) (int, error) {
	number, shift := text, 0
	for _, unit := range []struct {
		name  string
		shift int
	}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}} {
		if n, found := strings.CutSuffix(text, unit.name); found {
			number, shift = strings.TrimSpace(n), unit.shift
		}
	}
	n, err := strconv.ParseUint(number, 10, 62-shift)
	return int(n) << shift, err
}

// splitList splits a list written as one string at its commas.
func splitList(text string) []string {
	list := []string{}
	for _, item := range strings.Split(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// format writes a value as it would stand in the file.
func format(ptr any) string {
	switch v := ptr.(type) {
	case *string:
		return *v
	case *Secret:
		if *v == "" {
			return ""
		}
		return v.String()
	case *bool:
		return strconv.FormatBool(*v)
	case *int:
		return strconv.Itoa(*v)
	case *float64:
		return strconv.FormatFloat(*v, 'g', -1, 64)
	case *time.Duration:
		return formatDuration(*v)
	case *uint32:
		return fmt.Sprintf("%04o", *v)
	case *[]string:
		return strings.Join(*v, ", ")
	}
	panic(fmt.Sprintf("bug: no format for %T", ptr))
}
