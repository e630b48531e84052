package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"pgpoold/backend"
	"pgpoold/config"
	"pgpoold/proxy"
	"pgpoold/wire/scram"
)

// load reads a configuration from text.
func load(t *testing.T, yaml string, env map[string]string) *config.Config {
	t.Helper()
	file := ""
	if yaml != "" {
		file = filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(file, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// socketDir is a directory whose sockets' paths are short enough.
func socketDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "pgp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestUnixSockets(t *testing.T) {
	path := filepath.Join(socketDir(t), ".s.PGSQL.6432")
	addr := config.Addr{Network: "unix", Address: path}
	l, err := listen(addr, 0o750)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listen(addr, 0o750); err == nil || !strings.Contains(err.Error(), path+" is in use") {
		t.Fatalf("a socket in use: %v", err)
	}
	// A process that dies leaves its socket behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	l, err = listen(addr, 0o777)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatalf("the socket is still there: %v", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(addr, 0o777); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Fatalf("a file in the way: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Fatal("the file is gone")
	}
}

func TestATakenPortIsNamed(t *testing.T) {
	l, err := listen(config.Addr{Network: "tcp", Address: "127.0.0.1:0"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = listen(config.Addr{Network: "tcp", Address: l.Addr().String()}, 0)
	if err == nil || !strings.Contains(err.Error(), "listen.addr: "+l.Addr().String()+" is taken") {
		t.Fatalf("error %v", err)
	}
}

func TestOwnAddresses(t *testing.T) {
	own := &ownAddrs{
		tcp: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6432"), netip.MustParseAddrPort("[::]:7000")},
		interfaces: func() ([]net.Addr, error) {
			return []net.Addr{&net.IPNet{IP: net.ParseIP("192.0.2.7"), Mask: net.CIDRMask(24, 32)}}, nil
		},
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:6432":          true,
		"[::ffff:127.0.0.1]:6432": true,
		"127.0.0.1:5432":          false,
		"127.0.0.2:6432":          false,
		"192.0.2.7:6432":          false,
		"192.0.2.7:7000":          true,
		"127.9.9.9:7000":          true,
		"[::1]:7000":              true,
		"192.0.2.8:7000":          false,
		"nonsense":                false,
	} {
		if got := own.has("tcp", addr); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}

	dir := socketDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own, err = ownAddrsOf([]net.Listener{l})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, dir+".link"); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir + ".link")
	if !own.has("unix", dir+".link/s") || own.has("unix", dir+"/other") {
		t.Error("the own socket is not known by what it is")
	}
}

func TestClientsFitTheDescriptorLimit(t *testing.T) {
	for _, tt := range []struct {
		limit           uint64
		wanted, servers int
		want            int
	}{
		{1 << 20, 10000, 20, 10000},
		{1024, 10000, 20, 1024 - 20 - ownDescriptors},
		{1024, 100, 20, 100},
		{64, 100, 20, 1},
		{1 << 63, 10000, 20, 10000},
	} {
		if got := fitClients(tt.limit, tt.wanted, tt.servers); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

const twoDatabases = `
listen: {addr: 127.0.0.1:0, max_client_conn: 500000}
auth: {users: {app: secret, report: SCRAM-SHA-256$4096:AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}}
admin: {users: [app], token: tok}
pool: {size: 7, min_size: 2, client_gone: finish}
users: {report: {mode: session, size: 3}}
databases:
  a: {dsn: "postgres://owner:pw@10.1.2.3:5433,10.1.2.4/real?sslmode=disable&application_name=x", mode: statement, server_lifetime: 1m}
  b: {dsn: "postgres://10.1.2.3/", users: [app, report]}
`

func TestMostServers(t *testing.T) {
	// a: 7 for its one server user; b: 7 for app and 3 for report.
	if n := mostServers(load(t, twoDatabases, nil)); n != 17 {
		t.Fatalf("%d servers", n)
	}
}

func TestTheDescriptorLimitIsRaisedAndItsLackTold(t *testing.T) {
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	low := syscall.Rlimit{Cur: min(was.Max, 256), Max: was.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was)
	limit, err := raiseDescriptorLimit()
	if err != nil || limit != was.Max {
		t.Fatalf("limit %d, %v; the hard one is %d", limit, err, was.Max)
	}
	cfg := load(t, twoDatabases, nil)
	cfg.Listen.MaxClientConn = 1 << 40
	core, logged := observer.New(zap.DebugLevel)
	fits := clientLimit(cfg, zap.New(core))
	if fits >= 1<<40 || logged.Len() != 1 {
		t.Fatalf("%d clients, %d lines", fits, logged.Len())
	}
	line := logged.All()[0].ContextMap()
	if line["effective_max_client_conn"] != int64(fits) || line["max_client_conn"] != int64(1<<40) || line["open_files_limit"] != limit {
		t.Fatalf("line %v", line)
	}
}

func TestProxyOptionsSayWhatTheConfigurationSays(t *testing.T) {
	opts := proxyOptions(load(t, twoDatabases, nil), func(string, string) bool { return true }, zap.NewNop())
	if opts.MaxClientConn != 500000 || opts.ClientGone != proxy.GoneFinish || opts.Auth.Type != "scram-sha-256" ||
		opts.Auth.Users["app"] != "secret" || len(opts.AdminUsers) != 1 || opts.CancelWaitTimeout != 10*time.Second {
		t.Errorf("options %+v", opts)
	}
	a, b := opts.Databases["a"], opts.Databases["b"]
	if a.Mode != proxy.ModeStatement || b.Mode != proxy.ModeTransaction || a.Users != nil || len(b.Users) != 2 {
		t.Errorf("databases %+v %+v", a, b)
	}
	p := a.Pool
	if p.Database != "a" || p.DBName != "real" || p.Credentials.User != "owner" || p.Credentials.Password != "pw" ||
		p.TLS.Mode != backend.TLSDisable || p.RuntimeParams["application_name"] != "x" || p.Size != 7 || p.MinSize != 2 ||
		p.Lifetime != time.Minute || b.Pool.Lifetime != time.Hour || !p.IsSelf("", "") {
		t.Errorf("pool %+v", p)
	}
	if len(p.Hosts) != 2 || p.Hosts[0].String() != "10.1.2.3:5433" || p.Hosts[1].String() != "10.1.2.4:5432" {
		t.Errorf("hosts %v", p.Hosts)
	}
	if b.Pool.Credentials.User != "" || b.Pool.DBName != "b" {
		t.Errorf("pool %+v", b.Pool)
	}
	report := opts.Users["report"]
	if report.Mode == nil || *report.Mode != proxy.ModeSession || report.Size == nil || *report.Size != 3 {
		t.Errorf("user %+v", report)
	}
}

func TestAdminOptionsHoldNoSecret(t *testing.T) {
	cfg := load(t, twoDatabases, nil)
	d, err := New(Options{Config: cfg, Version: "v", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer d.log.Close()
	opts := d.adminOptions(cfg)
	if len(opts.Settings) < 20 {
		t.Fatalf("%d settings", len(opts.Settings))
	}
	for _, s := range opts.Settings {
		if strings.Contains(s.Value, "tok") && s.Key == "admin_token" {
			t.Errorf("%s shows its secret", s.Key)
		}
	}
	a := opts.Databases[0]
	if a.Name != "a" || a.Host != "10.1.2.3,10.1.2.4" || a.Port != 5433 || a.ForceUser != "owner" || a.Mode != "statement" || opts.Databases[1].Mode != "" {
		t.Errorf("database %+v", a)
	}
	if opts.Token != "tok" || !opts.CheckPassword("app", "secret") || opts.CheckPassword("app", "x") || opts.CheckPassword("nobody", "") {
		t.Error("logins")
	}
}

func TestCheckPassword(t *testing.T) {
	verifier, err := scram.HashPassword("pencil", 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"pencil", verifier, scram.MD5Secret("pencil", "app")} {
		if !checkPassword(secret, "app", "pencil") {
			t.Errorf("%.13s: the password was refused", secret)
		}
		for _, wrong := range []string{"", "pencils", secret + "x"} {
			if checkPassword(secret, "app", wrong) {
				t.Errorf("%.13s: %q was taken", secret, wrong)
			}
		}
	}
	if checkPassword("", "app", "") {
		t.Error("no secret admitted somebody")
	}
}

func TestClientTLS(t *testing.T) {
	core, logged := observer.New(zap.DebugLevel)
	if c, err := clientTLS(config.ClientTLS{Mode: "disable"}, zap.New(core)); c != nil || err != nil {
		t.Fatalf("%v %v", c, err)
	}
	c, err := clientTLS(config.ClientTLS{Mode: "allow"}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(c.Config.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if cert.PublicKeyAlgorithm != x509.ECDSA || c.Config.MinVersion < tls.VersionTLS12 || logged.Len() != 1 {
		t.Fatalf("%v, %d lines", cert.PublicKeyAlgorithm, logged.Len())
	}
	if sum, _ := logged.All()[0].ContextMap()["sha256"].(string); len(sum) != 64 {
		t.Fatalf("fingerprint %q", sum)
	}
	if _, err := clientTLS(config.ClientTLS{Mode: "require", CertFile: "/nonexistent", KeyFile: "/nonexistent"}, zap.New(core)); err == nil {
		t.Fatal("a missing certificate was taken")
	}
}
