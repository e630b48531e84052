package config

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestRows(t *testing.T) {
	c := load(t, nil, `
listen: {tcp_user_timeout: 1500ms, addr: [":1", ":2"]}
admin: {token: s3cret}
auth: {users: {app: s3cret}}
pool: {query_wait_timeout: 1m30s, round_robin: true, server_login_retry: 0.5}
log: {level: debug}
databases: {d: {dsn: "postgres://u:s3cret@h"}}
`)
	rows := map[string]Row{}
	for _, r := range c.Rows() {
		rows[r.Key] = r
	}
	for _, want := range []Row{
		{"listen_addr", ":1, :2", "127.0.0.1:6432", false},
		{"max_client_conn", "10000", "10000", true},
		{"unix_socket_mode", "0777", "0777", false},
		{"tcp_keepalive", "1", "1", false},
		{"tcp_user_timeout", "1500", "300000", false},
		{"client_login_timeout", "60", "60", false},
		{"query_wait_timeout", "90", "120", true},
		{"server_login_retry", "0.5", "15", true},
		{"server_round_robin", "1", "0", true},
		{"pool_mode", "transaction", "transaction", true},
		{"default_pool_size", "20", "20", true},
		{"admin_token", "[redacted]", "", false},
		{"log_level", "debug", "info", true},
	} {
		if rows[want.Key] != want {
			t.Errorf("got %+v, want %+v", rows[want.Key], want)
		}
	}
	if _, ok := rows["dsn"]; ok {
		t.Error("SHOW CONFIG has a database's settings")
	}
}

// However a configuration is printed, its secrets are not.
func TestSecretsStayInside(t *testing.T) {
	c := load(t, nil, `
admin: {token: s3cret-token}
auth: {users: {app: s3cret-user}}
databases: {d: {dsn: "postgres://u:s3cret-dsn@h", password: s3cret-password}}
`)
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%v %+v %#v %v %+v", c, c, c, c.Rows(), c.Databases["d"])
	fmt.Fprintf(&b, "%#v %+v", *c.Databases["d"], c.Auth)
	if i := strings.Index(b.String(), "s3cret"); i >= 0 {
		t.Errorf("a secret is printed: ...%s", b.String()[max(0, i-80):i+20])
	}
}
