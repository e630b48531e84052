package main

import (
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgpoold/config/dsn"
)

func TestURLNeedsNoQuoting(t *testing.T) {
	odd := "a b'\"$`\\;&|<>()*?[]{}#~!=%+/@:é"
	tg := &target{user: odd, password: odd, database: odd}
	text := tg.url("127.0.0.1:6432")
	out, err := exec.Command("/bin/sh", "-c", "printf %s "+text).Output()
	if err != nil || string(out) != text {
		t.Errorf("the shell made %q of %q (%v)", out, text, err)
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	if u.User.Username() != odd || password != odd || u.Path != "/"+odd {
		t.Errorf("%s does not say what was put in", text)
	}
	if d, err := dsn.Parse(text); err != nil || d.User != odd || string(d.Password) != odd || d.DBName != odd {
		t.Errorf("pgpoold's own reader: %+v, %v", d, err)
	}
}

func TestOwnDatabaseKeepsSecretsInTheEnvironment(t *testing.T) {
	var said strings.Builder
	r := &runner{out: &said}
	dir := t.TempDir()
	tg, err := r.ownDatabase("SUPABASE_POSTGRES_DSN", "postgres://alice:hush%24me@db.test:5433/shop", dir)
	if err != nil {
		t.Fatal(err)
	}
	if text := said.String(); !strings.Contains(text, "db.test:5433") || !strings.Contains(text, `"shop"`) || strings.Contains(text, "hush") {
		t.Errorf("said %q", text)
	}
	file := filepath.Join(dir, "config.yaml")
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(config), "hush") || strings.Contains(string(config), tg.password) {
		t.Errorf("a secret in the file:\n%s", config)
	}
	if !slices.Equal(tg.args, []string{"--config", file}) || !slices.Contains(tg.env, "PGPOOLD_RUN_DSN_PASSWORD=hush$me") {
		t.Errorf("arguments %q", tg.args)
	}
	if tg.user == "alice" || tg.database != "shop" {
		t.Errorf("client %s, database %s", tg.user, tg.database)
	}

	if tg, err = r.ownDatabase("PGPOOLD_DSN", "postgres://run@db.test/", dir); err != nil {
		t.Fatal(err)
	}
	if tg.user == "run" || tg.database != "run" {
		t.Errorf("client %s, database %s", tg.user, tg.database)
	}
	if _, err := r.ownDatabase("PGPOOLD_DSN", "postgres://db.test/shop", dir); err == nil {
		t.Error("a DSN without a user was taken")
	}
	if _, err := r.ownDatabase("PGPOOLD_DSN", "postgres://u:se@cret@db.test/shop", dir); err == nil || strings.Contains(err.Error(), "cret") {
		t.Errorf("got %v", err)
	}
}

func TestChildEnvChoosesNothing(t *testing.T) {
	env := childEnv([]string{"HOME=/h", "PGPOOLD_DSN=a", "SUPABASE_POSTGRES_DSN=b", "PGPOOLD_CONFIG=c",
		"PGPOOLD_LISTEN_ADDR=d", "PGPOOLD_ADMIN_ADDR=e", "PGPOOLD_LOG_LEVEL=debug"}, "l", "m", []string{"X=y"})
	want := []string{"HOME=/h", "PGPOOLD_LOG_LEVEL=debug", "PGPOOLD_LISTEN_ADDR=l", "PGPOOLD_ADMIN_ADDR=m", "X=y"}
	if !slices.Equal(env, want) {
		t.Errorf("got %q, want %q", env, want)
	}
}

func TestFreeAddrsPassOverTakenPorts(t *testing.T) {
	before, _, err := freeAddrs()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", before)
	if err != nil {
		t.Skip("somebody else took ", before)
	}
	defer l.Close()
	client, admin, err := freeAddrs()
	if err != nil {
		t.Fatal(err)
	}
	if client == before || admin == before || client == admin {
		t.Errorf("%s is taken; got %s and %s", before, client, admin)
	}
}

func TestCopyLogFindsTheReadyLine(t *testing.T) {
	for _, tc := range []struct {
		log   string
		ready bool
	}{
		{"starting\n2026 INFO pgpoold ready addr=x\nmore\npgpoold ready again\n", true},
		{"starting\nrefused", false},
		{strings.Repeat("x", 1<<20) + "\npgpoold ready", true},
	} {
		p := &pooler{ready: make(chan struct{}), logDone: make(chan struct{})}
		var out strings.Builder
		p.copyLog(io.NopCloser(strings.NewReader(tc.log)), &out)
		ready := false
		select {
		case <-p.ready:
			ready = true
		default:
		}
		if ready != tc.ready || out.String() != tc.log {
			t.Errorf("ready %v, want %v; copied %d bytes of %d", ready, tc.ready, out.Len(), len(tc.log))
		}
	}
}
