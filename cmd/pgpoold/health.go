package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"pgpoold/config"
)

// healthTimeout bounds the whole question.
const healthTimeout = 3 * time.Second

// health asks the admin port of a running pgpoold whether it lives.
func (p *program) health(args []string) int {
	fs, file := p.flags("pgpoold health")
	if code, done := p.parse(fs, args); done {
		return code
	}
	addr, ok := p.adminAddr(*file)
	if !ok {
		return exitFailed
	}
	if addr == "" || addr == "off" {
		fmt.Fprintln(p.stderr, "pgpoold health: admin.addr is off: there is nothing to ask")
		return exitFailed
	}
	if err := askHealth(dialable(addr)); err != nil {
		fmt.Fprintln(p.stderr, "pgpoold health:", err)
		return exitFailed
	}
	fmt.Fprintln(p.stdout, "ok")
	return exitOK
}

// adminAddr is admin.addr, by the environment where it is said there: then
// nothing else of the configuration needs to be readable.
func (p *program) adminAddr(file string) (string, bool) {
	if addr, _ := p.environ("PGPOOLD_ADMIN_ADDR"); addr != "" {
		return addr, true
	}
	if file == "" {
		for _, s := range config.Settings() {
			if s.Path == "admin.addr" {
				return s.Default, true
			}
		}
	}
	cfg, ok := p.load(file)
	if !ok {
		return "", false
	}
	return cfg.Admin.Addr, true
}

// dialable is a listener's address as a client on this machine dials it.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		if ip.Is4() {
			return net.JoinHostPort("127.0.0.1", port)
		}
		return net.JoinHostPort("::1", port)
	}
	return addr
}

func askHealth(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	resp, err := getHealth(ctx, "http://"+addr)
	if err == nil && resp.StatusCode == http.StatusBadRequest { // plain HTTP is not spoken there
		resp.Body.Close()
		resp, err = getHealth(ctx, "https://"+addr)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", addr, resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// getHealth asks one URL. A certificate proves nothing here: the question goes
// to this machine's own port, holds no secret, and is whether somebody answers.
func getHealth(ctx context.Context, base string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/healthz", nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	return client.Do(req)
}
