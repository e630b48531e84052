package config

import (
	"strings"
	"testing"
)

const scramSecret = "SCRAM-SHA-256$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// Which secret can log in where, by auth.type: "" works, else the beginning of
// the mistake or warning.
func TestSecretsByAuthType(t *testing.T) {
	const md5 = "md5d41d8cd98f00b204e9800998ecf8427e"
	const (
		empty    = `the secret "" works with auth.type trust and any only`
		md5SCRAM = "an md5 secret cannot be used with auth.type scram-sha-256"
		md5Own   = "user app logs in to this server as itself, and its md5 secret works only where PostgreSQL asks for md5"
		scramOwn = "user app logs in to this server as itself, and a SCRAM verifier without a client's proof"
	)
	for _, tt := range []struct{ authType, secret, shared, own string }{
		{"trust", "plain", "", ""}, {"trust", "", "", ""}, {"trust", md5, "", md5Own}, {"trust", scramSecret, "", scramOwn},
		{"password", "plain", "", ""}, {"password", "", empty, empty}, {"password", md5, "", ""}, {"password", scramSecret, "", ""},
		{"md5", "plain", "", ""}, {"md5", "", empty, empty}, {"md5", md5, "", md5Own}, {"md5", scramSecret, "", ""},
		{"scram-sha-256", "plain", "", ""}, {"scram-sha-256", "", empty, empty}, {"scram-sha-256", md5, md5SCRAM, md5SCRAM},
		{"scram-sha-256", scramSecret, "", ""},
	} {
		for dsn, want := range map[string]string{"postgres://u:p@h/d": tt.shared, "postgres://h/d": tt.own} {
			write(t, "auth: {type: "+tt.authType+", users: {app: \""+tt.secret+"\"}}\ndatabases: {d: {dsn: \""+dsn+"\"}}\n")
			c, err := Load("config.yaml", environ{}.lookup)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = strings.Join(c.Warnings, "\n")
			}
			if (got == "") != (want == "") || !strings.Contains(got, ": "+want) && want != "" {
				t.Errorf("%s with %q at %s: got %q, want %q", tt.authType, tt.secret, dsn, got, want)
			}
		}
	}
}

func TestUsersFromDatabases(t *testing.T) {
	c := load(t, nil, `
databases:
  a: {dsn: "postgres://u:p@h/a"}
  b: {dsn: "postgres://h/b", user: v, password: "q@#/"}
  c: {dsn: "postgres://u:p@h/c", users: [u, v]}
`)
	if len(c.Auth.Users) != 2 || c.Auth.Users["u"] != "p" || c.Auth.Users["v"] != "q@#/" {
		t.Errorf("%d users", len(c.Auth.Users))
	}
	for name, want := range map[string]string{"a": "u", "b": "v", "c": "u,v"} {
		if got := strings.Join(c.Databases[name].Users, ","); got != want {
			t.Errorf("%s may be entered by %s, want %s", name, got, want)
		}
	}
	if len(c.Admin.Users) != 0 {
		t.Errorf("admins are %v", c.Admin.Users)
	}
	c = load(t, nil, "auth: {type: any}\ndatabases: {a: {dsn: \"postgres://u@h/a\"}}\n")
	if len(c.Auth.Users) != 0 || c.Databases["a"].Users != nil {
		t.Errorf("with any: %+v", c.Databases["a"])
	}
}

// An empty user in the file stands for each client's own, and takes the DSN's
// password with it.
func TestOwnIdentity(t *testing.T) {
	c := load(t, nil, "auth: {users: {app: x}}\ndatabases: {a: {dsn: \"postgres://u:p@h/a\", user: \"\"}}\n")
	if d := c.Databases["a"]; d.User != "" || d.HasPassword || d.Password != "" || d.Users != nil {
		t.Errorf("a is %+v", d)
	}
}

func TestNobodyCanLogIn(t *testing.T) {
	got := mistakes(t, nil, "auth: {users: {}}\ndatabases: {a: {dsn: \"postgres://u:p@h/a\"}}\n")
	if want := "config.yaml:1: auth.users: nobody could log in: add users under auth.users or an auth.file"; got != want {
		t.Errorf("got %s", got)
	}
}

// A name from a DSN is not proposed.
func TestProposalsHoldNoDSN(t *testing.T) {
	got := mistakes(t, nil, "users: {hidde: {}}\ndatabases: {a: {dsn: \"postgres://hidden:p@h/a\"}}\n")
	if want := "config.yaml:1: users.hidde: hidde cannot log in: no such name under auth.users or in auth.file"; got != want {
		t.Errorf("got %s", got)
	}
}

func TestDatabaseNames(t *testing.T) {
	got := mistakes(t, nil, "databases: {\"\": {dsn: \"postgres://u:p@h/a\"}, pgpoold: {}}\n")
	want := "config.yaml:1: databases.\"\": a database needs a name\nconfig.yaml:1: databases.pgpoold: this name belongs to the console"
	if got != want {
		t.Errorf("got %s", got)
	}
}
