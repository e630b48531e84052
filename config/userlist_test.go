package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseUserlist(t *testing.T) {
	const text = "\"a\" \"b\"\r\n;\"x\" \"y\"\n\n  \"q\"\"u\"\"\"\t\"s\"\"\" extra \"words\"\n#c\n\"e\" \"\"\n\"open\" \"x\n\"\" \"x\"\nbare x\n\"g\"\"h\""
	var got []string
	parseUserlist(text, func(line int, name, secret string) {
		got = append(got, fmt.Sprintf("%d %s=%s", line, name, secret))
	}, func(line int, reason string) {
		got = append(got, fmt.Sprintf("%d %s", line, reason))
	})
	const form = `want "user" "secret", both in double quotes`
	want := []string{`1 a=b`, `4 q"u"=s"`, `6 e=`, "7 " + form, "8 the user's name is empty", "9 " + form, "10 " + form}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A user with an empty secret is locked out, as in PgBouncer.
func TestUserlistBesideUsers(t *testing.T) {
	file, err := filepath.Abs("testdata/good.userlist.txt")
	if err != nil {
		t.Fatal(err)
	}
	c := load(t, nil, "auth: {file: "+file+", users: {yaml: x}}\ndatabases: {d: {dsn: postgres://u@h}}\n")
	if len(c.Auth.Users) != 3 || c.Auth.Users["app"] != `s3"cret` || c.Auth.Users["yaml"] != "x" || kindOf(c.Auth.Users["scram"]) != secretSCRAM {
		t.Errorf("users are %d", len(c.Auth.Users))
	}
	if len(c.Warnings) != 1 || c.Warnings[0] != file+":3: user locked has an empty secret and cannot log in" {
		t.Errorf("warnings are %q", c.Warnings)
	}
	c = load(t, nil, "auth: {type: trust, file: "+file+"}\ndatabases: {d: {dsn: postgres://u@h}}\n")
	if _, known := c.Auth.Users["locked"]; !known || len(c.Auth.Users) != 3 {
		t.Errorf("with trust users are %d", len(c.Auth.Users))
	}
}

func TestKindOf(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for secret, want := range map[string]secretKind{
		"": secretPlain, "md5": secretPlain, "x": secretPlain,
		"md5d41d8cd98f00b204e9800998ecf8427e": secretMD5, "md5D41d8cd98f00b204e9800998ecf8427e": secretPlain,
		"SCRAM-SHA-256$4096:c2FsdA==$" + key + ":" + key: secretSCRAM,
		"SCRAM-SHA-256$0:c2FsdA==$" + key + ":" + key:    secretBroken,
		"SCRAM-SHA-256$4096:$" + key + ":" + key:         secretBroken,
		"SCRAM-SHA-256$4096:c2FsdA==$" + key + ":AAAA":   secretBroken,
		"SCRAM-SHA-256$": secretBroken, "SCRAM-SHA-1$": secretPlain,
	} {
		if got := kindOf(Secret(secret)); got != want {
			t.Errorf("kindOf(%s) = %d, want %d", secret, got, want)
		}
	}
}
