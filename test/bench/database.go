package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"pgpoold/test/measure/process"
	"pgpoold/test/postgres"
)

// pgbenchScale times 100,000 rows: about 15 MB a step, so that everything fits
// into shared buffers.
const pgbenchScale = 10

// database is the private PostgreSQL that all targets lead to.
type database struct {
	server         *postgres.Server
	cluster        *postgres.Cluster
	upstream       process.Upstream
	pgbench        string
	version        string
	maxConnections int
	tls            *postgres.TLS
}

// certificate is the files of one.
type certificate struct{ cert, key string }

// writeCertificates puts certificates for clients into files that a proxy's
// user can read: one with a key of P-256 and, under true, one of RSA-2048.
func (d *database) writeCertificates(dir string) (map[bool]certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	ofRSA, err := postgres.NewTLSWith(key, "localhost", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	write := func(name string, of *postgres.TLS) certificate {
		c := certificate{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")}
		err = errors.Join(err, os.WriteFile(c.cert, of.Cert, 0o644), os.WriteFile(c.key, of.Key, 0o644))
		return c
	}
	return map[bool]certificate{false: write("client", d.tls), true: write("client-rsa", ofRSA)}, err
}

func startDatabase(ctx context.Context, maxConnections int) (_ *database, err error) {
	opts := postgres.TestOptions()
	install, err := postgres.Find(ctx, opts)
	if err != nil {
		return nil, err
	}
	d := &database{maxConnections: maxConnections}
	if d.pgbench, err = install.Tool("pgbench"); err != nil {
		return nil, err
	}
	if d.server, err = postgres.NewServer(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.server.Close())
		}
	}()
	if d.tls, err = postgres.NewTLS("localhost", "127.0.0.1"); err != nil {
		return nil, err
	}
	d.cluster, err = d.server.Start(ctx, postgres.Config{
		MaxConnections: maxConnections,
		Settings:       map[string]string{"shared_buffers": "512MB", "autovacuum": "off"},
		Install:        install,
		TLS:            d.tls,
	})
	if err != nil {
		return nil, err
	}
	d.upstream = process.Upstream{Host: d.cluster.Host(), Port: d.cluster.Port(), Database: "bench", User: postgres.Superuser}
	if err := d.cluster.Exec(ctx, "postgres", "CREATE DATABASE bench"); err != nil {
		return nil, err
	}
	rows, err := d.cluster.Query(ctx, "bench", "SHOW server_version")
	if err != nil {
		return nil, err
	}
	d.version = rows[0][0]
	return d, nil
}

// fill makes pgbench's tables.
func (d *database) fill(ctx context.Context) error {
	u := d.upstream
	out, err := exec.CommandContext(ctx, d.pgbench, "-i", "-q", "-s", strconv.Itoa(pgbenchScale),
		"-h", u.Host, "-p", strconv.Itoa(u.Port), "-U", u.User, u.Database).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgbench -i: %w\n%s", err, out)
	}
	return d.cluster.Exec(ctx, u.Database, "VACUUM ANALYZE")
}
