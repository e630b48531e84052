package dsn

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParse looks for panics, for DSNs that are accepted half read, and for
// errors that hold a part of the DSN: whatever stands around it, a marked
// secret never comes back in an error or a warning.
func FuzzParse(f *testing.F) {
	for _, seed := range [][2]string{
		{"postgres://u:", "@h:5432/db?sslmode=require"},
		{"postgres://u:p@", "@h/db"},
		{"postgres://u:p@h/", "/x"},
		{"postgres://u:p@h/db?", "=1"},
		{"postgres://u:p@h/db?sslmode=", ""},
		{"postgres://u:p@[", "]:1"},
		{"postgres://u:p@h:", "/db"},
		{"postgres://h?connect_timeout=", "&keepalives=x"},
		{"host=h user=u password='", "' port=1"},
		{"host=h ", "=x"},
		{"host=", ",b port=1,2"},
		{"", "://h"},
	} {
		f.Add(seed[0], seed[1])
	}
	const secret = "Zq7XkW"
	f.Fuzz(func(t *testing.T, before, after string) {
		d, err := Parse(before + secret + after)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("an error of type %T", err)
			}
			if strings.Contains(strings.ToLower(err.Error()), strings.ToLower(secret)) {
				t.Errorf("the error holds the secret: %v", err)
			}
			return
		}
		if len(d.Hosts) == 0 || d.RuntimeParams == nil || d.HasPassword && d.User == "" {
			t.Errorf("accepted %+v", d)
		}
		for _, h := range d.Hosts {
			if h.Host == "" || h.Port == 0 || h.Network != "tcp" && h.Network != "unix" ||
				(h.Network == "unix") != strings.HasPrefix(h.Host, "/") {
				t.Errorf("accepted the host %+v", h)
			}
		}
		for _, w := range d.Warnings {
			if strings.Contains(strings.ToLower(w), strings.ToLower(secret)) {
				t.Errorf("a warning holds the secret: %s", w)
			}
		}
	})
}
