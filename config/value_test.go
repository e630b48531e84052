package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"0", 0, true}, {"30", 30 * time.Second, true}, {"0.25", 250 * time.Millisecond, true},
		{"30s", 30 * time.Second, true}, {"1h30m", 90 * time.Minute, true}, {"250ms", 250 * time.Millisecond, true},
		{"", 0, false}, {"s", 0, false}, {"30 s", 0, false}, {"1d", 0, false}, {"NaN", 0, false}, {"Inf", 0, false},
		{"1e99", 0, false}, {"0x10", 0, false}, {"1_000", 0, false},
	} {
		got, _, ok := parseDuration(tt.in)
		if got != tt.want || ok != tt.ok {
			t.Errorf("parseDuration(%q) = %v, %v", tt.in, got, ok)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Minute: "1h30m", 1500 * time.Millisecond: "1.5s",
		time.Hour + time.Second: "1h0m1s", 100 * time.Second: "1m40s", 20 * time.Hour: "20h", 30 * time.Second: "30s",
	} {
		got := formatDuration(d)
		back, _, ok := parseDuration(got)
		if got != want || !ok || back != d {
			t.Errorf("formatDuration(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	s := Setting{Kind: KindSize, Max: 1 << 40}
	for _, tt := range []struct {
		in   string
		want int
		ok   bool
	}{
		{"0", 0, true}, {"4096", 4096, true}, {"8KiB", 8 << 10, true}, {"64MiB", 64 << 20, true}, {"2 GiB", 2 << 30, true},
		{"64MB", 0, false}, {"MiB", 0, false}, {"-1", 0, false}, {"9999999GiB", 0, false}, {"1.5MiB", 0, false},
		{"99999999999999999999", 0, false},
	} {
		var n int
		reason := s.parse(&n, tt.in, strconv.Quote)
		if n != tt.want || (reason == "") != tt.ok {
			t.Errorf("parse(%q) = %d, %q", tt.in, n, reason)
		}
	}
}

func TestExpand(t *testing.T) {
	env := environ{"A": "${B}", "B": "x", "EMPTY": ""}
	for _, tt := range []struct{ in, want, reason string }{
		{"plain $ $$ $A {x} } SCRAM-SHA-256$1:a$b:c", "plain $ $$ $A {x} } SCRAM-SHA-256$1:a$b:c", ""},
		{"<${B}|${B}>", "<x|x>", ""},
		{"${A}", "${B}", ""},
		{"${EMPTY}${EMPTY:-d}${NONE:-}${NONE:-a:-b}", "da:-b", ""},
		{"${NONE}", "", "the environment variable NONE is not set"},
		{"${B", "", "a ${ lacks its }"},
		{"${1B}", "", "what stands in ${...} is not a variable's name, NAME:-default or file:PATH"},
		{"${}", "", "what stands in ${...} is not a variable's name, NAME:-default or file:PATH"},
	} {
		got, reason := expand(tt.in, "", env.lookup)
		if got != tt.want || reason != tt.reason {
			t.Errorf("expand(%q) = %q, %q", tt.in, got, reason)
		}
	}
}

func TestParseListenAddrs(t *testing.T) {
	for in, want := range map[string]string{
		"unix:/run":                         "/run/.s.PGSQL.6432",
		"127.0.0.1:0,unix:/run/":            "127.0.0.1:0 /run/.s.PGSQL.6432",
		"unix:/a,:0,:7000,[::1]:8000":       "/a/.s.PGSQL.7000 :0 :7000 [::1]:8000",
		"unix:/" + strings.Repeat("x", 106): "",
	} {
		var got []string
		addrs, _ := parseListenAddrs(strings.Split(in, ","))
		for _, a := range addrs {
			got = append(got, a.Address)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, want %s", in, got, want)
		}
	}
}

func TestReaches(t *testing.T) {
	for _, tt := range []struct {
		listen, host string
		port         uint16
		want         bool
	}{
		{"127.0.0.1:6432", "127.0.0.1", 6432, true},
		{"127.0.0.1:6432", "localhost", 6432, true},
		{"localhost:6432", "::1", 6432, true},
		{"127.0.0.1:6432", "127.0.0.2", 6432, false},
		{"127.0.0.1:6432", "127.0.0.1", 5432, false},
		{":6432", "127.0.0.2", 6432, true},
		{"[::]:6432", "localhost", 6432, true},
		{":6432", "db.internal", 6432, false},
		{"10.0.0.1:6432", "10.0.0.1", 6432, true},
		{"10.0.0.1:6432", "localhost", 6432, false},
		{"pool.internal:6432", "POOL.internal", 6432, true},
	} {
		if got := reaches(Addr{"tcp", tt.listen}, "tcp", tt.host, tt.port); got != tt.want {
			t.Errorf("reaches(%s, %s:%d) = %v", tt.listen, tt.host, tt.port, got)
		}
	}
}

func TestIsPublic(t *testing.T) {
	for host, want := range map[string]bool{
		"db.example.org": true, "203.0.113.1": true, "2001:db8::1": true, "localhost": false, "postgres": false,
		"10.1.2.3": false, "192.168.0.1": false, "::1": false, "fd00::1": false, "db.internal": false, "x.svc": false,
	} {
		if got := isPublic(host); got != want {
			t.Errorf("isPublic(%s) = %v", host, got)
		}
	}
}

func TestExpandFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"lf": "a ${B}\n", "crlf": "a\r\n", "two": "a\n\n", "none": "a", "empty": "", "binary": "\xff", "big": strings.Repeat("x", maxSecretFile+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ in, want, reason string }{
		{"<${file:lf}>", "<a ${B}>", ""},
		{"${file:crlf}", "a", ""},
		{"${file:two}", "a\n", ""},
		{"${file:none}${file:" + dir + "/none}", "aa", ""},
		{"${file:empty}", "", ""},
		{"${file:binary}", "", "${file:...}: binary is not UTF-8 text"},
		{"${file:big}", "", "${file:...}: big is larger than 1 MiB"},
		{"${file:.}", "", "${file:...}: read " + dir + ": is a directory"},
	} {
		got, reason := expand(tt.in, dir, environ{}.lookup)
		if got != tt.want || reason != tt.reason {
			t.Errorf("expand(%q) = %q, %q, want %q, %q", tt.in, got, reason, tt.want, tt.reason)
		}
	}
}

// A private-use rune in the file is not taken for a brace.
func TestShieldRunes(t *testing.T) {
	env := environ{"P": "\ue000x\ue001"}
	c := load(t, env, "auth: {users: {a: \"$\ue000P\ue001\", b: ${P}, \"$\ue000\": x}}\ndatabases: {d: {dsn: postgres://u@h}}\n")
	for name, want := range map[string]Secret{"a": "$\ue000P\ue001", "b": "\ue000x\ue001", "$\ue000": "x"} {
		if c.Auth.Users[name] != want {
			t.Errorf("%q is %q", name, string(c.Auth.Users[name]))
		}
	}
}
