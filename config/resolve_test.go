package config

import (
	"reflect"
	"testing"
	"time"
)

func TestEffective(t *testing.T) {
	c := load(t, nil, `
auth: {users: {plain: x, report: x, batch: x}}
pool: {size: 30, min_size: 10, server_connect_timeout: 9s}
users:
  report: {mode: session, size: 3}
  batch: {size: 0}
databases:
  a: {dsn: "postgres://u@h/a?connect_timeout=4", size: 7, query_wait_timeout: 5s, mode: statement}
  b: {dsn: "postgres://u@h/b?connect_timeout=4", server_connect_timeout: 2s}
  "*": {dsn: "postgres://u@h", round_robin: true}
`)
	base := c.Pool
	for _, tt := range []struct {
		database, user string
		change         func(*Pool)
	}{
		{"a", "plain", func(p *Pool) {
			p.Size, p.MinSize, p.Mode, p.QueryWaitTimeout, p.ServerConnectTimeout = 7, 7, "statement", 5*time.Second, 4*time.Second
		}},
		{"a", "report", func(p *Pool) {
			p.Size, p.MinSize, p.Mode, p.QueryWaitTimeout, p.ServerConnectTimeout = 3, 3, "session", 5*time.Second, 4*time.Second
		}},
		{"a", "batch", func(p *Pool) {
			p.Size, p.MinSize, p.Mode, p.QueryWaitTimeout, p.ServerConnectTimeout = 0, 10, "statement", 5*time.Second, 4*time.Second
		}},
		{"b", "", func(p *Pool) { p.ServerConnectTimeout = 2 * time.Second }},
		{"other", "unknown", func(p *Pool) { p.RoundRobin = true }},
	} {
		want := base
		tt.change(&want)
		if got := c.Effective(tt.database, tt.user); !reflect.DeepEqual(got, want) {
			t.Errorf("Effective(%s, %s) = %+v, want %+v", tt.database, tt.user, got, want)
		}
	}
	if !reflect.DeepEqual(c.Pool, base) {
		t.Error("Effective changed the configuration")
	}
	o := &c.Users["report"].Overrides
	if !o.Has("pool_mode") || o.Has("min_pool_size") || o.Values().Size != 3 {
		t.Errorf("report's overrides are %+v", o)
	}
	if c.Database("a").Name != "a" || c.Database("zzz").Name != "*" {
		t.Error("Database finds the wrong entry")
	}
}

func TestKeepalive(t *testing.T) {
	c := load(t, nil, `
auth: {users: {x: y}}
listen: {tcp_keepidle: 1m, tcp_keepcnt: 5}
databases:
  a: {dsn: "postgres://u@h?keepalives=0&keepalives_idle=7&tcp_user_timeout=0"}
  b: {dsn: "postgres://u@h"}
`)
	general := Keepalive{true, time.Minute, 30 * time.Second, 5, 5 * time.Minute}
	if c.Listen.Keepalive != general || c.Databases["b"].Keepalive != general {
		t.Errorf("keepalive is %+v, %+v", c.Listen.Keepalive, c.Databases["b"].Keepalive)
	}
	if got, want := c.Databases["a"].Keepalive, (Keepalive{false, 7 * time.Second, 30 * time.Second, 5, 0}); got != want {
		t.Errorf("a's keepalive is %+v, want %+v", got, want)
	}
}
