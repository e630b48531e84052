package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"pgpoold/config/dsn"
	"pgpoold/test/postgres"
)

// dsnVariables are where a user's DSN is looked for, in pgpoold's order.
var dsnVariables = []string{"PGPOOLD_DSN", "SUPABASE_POSTGRES_DSN"}

// target is the database that pgpoold is started on, and how a client gets
// there.
type target struct {
	args []string // pgpoold's
	env  []string // beside the cleaned environment

	user, password, database string // the client's

	psql string // a psql outside PATH, or empty
}

// firstDSN returns the user's DSN and the variable that holds it.
func firstDSN() (variable, text string) {
	for _, name := range dsnVariables {
		if v := os.Getenv(name); v != "" {
			return name, v
		}
	}
	return "", ""
}

// ownDatabase prepares for the user's DSN. Clients get a user and password
// made for this run, so that the line on the screen holds no secret of the
// database; the DSN's own user and password work too.
func (r *runner) ownDatabase(variable, text, dir string) (*target, error) {
	d, err := dsn.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	if d.User == "" {
		return nil, fmt.Errorf("%s names no user", variable)
	}
	t := &target{user: "run", password: rand.Text(), database: d.DBName}
	if t.database == "" {
		t.database = d.User
	}
	if t.user == d.User {
		t.user = "run2"
	}
	var hosts []string
	for _, h := range d.Hosts {
		if h.Network == "unix" {
			hosts = append(hosts, h.Host)
		} else {
			hosts = append(hosts, net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port))))
		}
	}
	r.say("Connecting to database %q on %s (from %s).", t.database, strings.Join(hosts, ", "), variable)

	// The file names variables; the secrets stay in the environment.
	users := map[string]string{t.user: "${PGPOOLD_RUN_PASSWORD}"}
	t.env = []string{"PGPOOLD_RUN_PASSWORD=" + t.password, "PGPOOLD_RUN_DSN=" + text}
	if d.HasPassword && d.Password != "" {
		users[d.User] = "${PGPOOLD_RUN_DSN_PASSWORD}"
		t.env = append(t.env, "PGPOOLD_RUN_DSN_PASSWORD="+string(d.Password))
	}
	config, err := yaml.Marshal(map[string]any{
		"admin":     map[string]any{"users": []string{t.user}},
		"auth":      map[string]any{"users": users},
		"pool":      map[string]any{"size": 20, "min_size": 5},
		"databases": map[string]any{t.database: map[string]any{"dsn": "${PGPOOLD_RUN_DSN}"}},
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "config.yaml")
	t.args = []string{"--config", file}
	return t, os.WriteFile(file, config, 0o600)
}

// privateDatabase starts a PostgreSQL that lives as long as the server s. Its
// DSN is all that pgpoold gets, so clients log in with the DSN's user.
func (r *runner) privateDatabase(ctx context.Context, s *postgres.Server) (*target, error) {
	in, err := postgres.Find(ctx, postgres.Options{
		CacheDir: postgres.CacheDir(),
		Download: true,
		Install:  os.Geteuid() == 0,
		Logf:     r.say,
	})
	if err != nil {
		return nil, err
	}
	r.say("Starting a private PostgreSQL %s (%s) in %s; it is gone when this ends.", in.Full, in.Bin, s.Guard().Dir())
	cluster, err := s.Start(ctx, postgres.Config{Install: in, Password: rand.Text()})
	if err != nil {
		return nil, err
	}
	t := &target{user: "app", password: rand.Text(), database: "app"}
	for _, sql := range []string{
		"CREATE ROLE app LOGIN PASSWORD '" + t.password + "'",
		"CREATE DATABASE app OWNER app",
	} {
		if err := cluster.Exec(ctx, "postgres", sql); err != nil {
			return nil, err
		}
	}
	t.env = []string{"PGPOOLD_DSN=" + cluster.DSN(t.user+":"+t.password, t.database)}
	if path, err := in.Tool("psql"); err == nil && path == filepath.Join(in.Bin, "psql") {
		t.psql = path
	}
	return t, nil
}

// url is the client's DSN. It needs no quoting in a shell: whatever is not
// plain in a name is percent-encoded.
func (t *target) url(addr string) string {
	return "postgres://" + plain(t.user) + ":" + plain(t.password) + "@" + addr + "/" + plain(t.database)
}

// plain percent-encodes all that a shell or a URL could take for its own.
func plain(s string) string {
	return strings.NewReplacer("+", "%20", "~", "%7E").Replace(url.QueryEscape(s))
}

// childEnv is pgpoold's environment: ours without anything that would choose
// another database, configuration or address.
func childEnv(environ []string, addr, adminAddr string, extra []string) []string {
	var env []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "PGPOOLD_DSN", "SUPABASE_POSTGRES_DSN", "PGPOOLD_CONFIG", "PGPOOLD_LISTEN_ADDR", "PGPOOLD_ADMIN_ADDR":
		default:
			env = append(env, kv)
		}
	}
	return append(append(env, "PGPOOLD_LISTEN_ADDR="+addr, "PGPOOLD_ADMIN_ADDR="+adminAddr), extra...)
}

// freeAddrs returns two addresses on the loopback interface: the usual ports,
// or the next free ones.
func freeAddrs() (client, admin string, err error) {
	const first, last = 6432, 6531
	var found []string
	for port := first; port <= last && len(found) < 2; port++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		found = append(found, addr)
	}
	if len(found) < 2 {
		return "", "", errors.New("no two free ports between 6432 and 6531")
	}
	return found[0], found[1], nil
}
