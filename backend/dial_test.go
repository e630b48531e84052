package backend

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/postgres"
)

// tlsCluster is PostgreSQL with a certificate for localhost alone, and the
// files of its CA and of another one.
func tlsCluster(t *testing.T) (c *postgres.Cluster, ca, otherCA string) {
	t.Helper()
	write := func(name string, pem []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	files, err := postgres.NewTLS("localhost")
	if err != nil {
		t.Fatal(err)
	}
	other, err := postgres.NewTLS("localhost")
	if err != nil {
		t.Fatal(err)
	}
	c = postgres.StartForTest(t, postgres.Config{TLS: files})
	return c, write("ca.crt", files.CA), write("other.crt", other.CA)
}

// libpq's sslmode, each against a server whose certificate names localhost.
func TestTLSModes(t *testing.T) {
	c, ca, other := tlsCluster(t)
	plain := postgres.ForTest(t)
	const refused = "refused"
	for _, r := range []struct {
		mode TLSMode
		host string
		ca   string
		want string // "" plain, TLS, or refused
	}{
		{TLSDisable, "localhost", "", ""},
		{TLSAllow, "localhost", "", ""}, // plain comes first
		{TLSPrefer, "127.0.0.1", "", "TLS"},
		{"", "127.0.0.1", "", "TLS"},
		{TLSRequire, "127.0.0.1", "", "TLS"},
		{TLSRequire, "127.0.0.1", ca, "TLS"}, // with a CA it is verify-ca
		{TLSRequire, "127.0.0.1", other, refused},
		{TLSVerifyCA, "localhost", ca, "TLS"},
		{TLSVerifyCA, "127.0.0.1", ca, "TLS"}, // whatever the name
		{TLSVerifyCA, "localhost", other, refused},
		{TLSVerifyCA, "localhost", "", refused}, // the system's roots do not know it
		{TLSVerifyFull, "localhost", ca, "TLS"},
		{TLSVerifyFull, "127.0.0.1", ca, refused},
		{TLSVerifyFull, "localhost", other, refused},
		{TLSVerifyFull, "localhost", "system", refused},
		{TLSVerifyFull, "localhost", "/nonexistent", refused},
	} {
		t.Run(string(r.mode)+" "+r.host+" "+filepath.Base(r.ca), func(t *testing.T) {
			opts := onCluster(c, postgres.Superuser, 1)
			opts.Hosts[0].Host = r.host
			opts.TLS = TLSOptions{Mode: r.mode, CAFile: r.ca}
			p := newTestPool(t, opts)
			s := newSeat(nil)
			p.ask(s)
			srv, err := s.wait(t)
			if r.want == refused {
				if err == nil {
					t.Fatalf("let in over %q", srv.TLS)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(srv.TLS, "TLS") != (r.want == "TLS") {
				t.Errorf("encrypted with %q", srv.TLS)
			}
			if code := srv.Handler.(*link).query(t, "SELECT 1"); code != "" {
				t.Error(code)
			}
		})
	}
	for mode, ok := range map[TLSMode]bool{TLSPrefer: true, TLSAllow: true, TLSRequire: false, TLSVerifyFull: false} {
		t.Run("server without TLS: "+string(mode), func(t *testing.T) {
			opts := onCluster(plain, postgres.Superuser, 1)
			opts.TLS = TLSOptions{Mode: mode}
			p := newTestPool(t, opts)
			s := newSeat(nil)
			p.ask(s)
			if srv, err := s.wait(t); (err == nil) != ok || ok && srv.TLS != "" {
				t.Errorf("%v", err)
			}
		})
	}
}

// A CancelRequest cancels, over TLS where the server's connection is.
func TestCancel(t *testing.T) {
	c, _, _ := tlsCluster(t)
	for _, r := range []struct {
		name string
		mode TLSMode
		host Host
	}{
		{"plain", TLSDisable, Host{"tcp", c.Host(), uint16(c.Port())}},
		{"TLS", TLSRequire, Host{"tcp", c.Host(), uint16(c.Port())}},
		{"Unix", TLSDisable, Host{"unix", c.SocketDir(), uint16(c.Port())}},
	} {
		t.Run(r.name, func(t *testing.T) {
			opts := onCluster(c, postgres.Superuser, 1)
			opts.TLS.Mode, opts.Hosts = r.mode, []Host{r.host}
			p := newTestPool(t, opts)
			srv := p.get(nil)
			l := srv.Handler.(*link)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			done := make(chan struct{})
			go func() {
				defer close(done)
				// Until it has begun there is nothing to cancel.
				for ctx.Err() == nil {
					rows, err := c.Query(ctx, "postgres", "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)' AND state = 'active'")
					if err != nil || len(rows) > 0 {
						break
					}
				}
				if err := srv.Cancel(ctx); err != nil {
					t.Error(err)
				}
			}()
			if code := l.query(t, "SELECT pg_sleep(3600)"); code != "57014" {
				t.Errorf("ended with %q", code)
			}
			<-done
			// It has hit its mark and nothing behind it.
			if code := l.query(t, "SELECT pg_sleep(0.01)"); code != "" {
				t.Errorf("the next query ended with %q", code)
			}
		})
	}
}

// Whether a cancel was sent is not known if nobody answers in time.
func TestCancelUnanswered(t *testing.T) {
	f := newFakePG(t)
	p := newTestPool(t, f.options(1))
	srv := p.get(nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	srv.addr = silent.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { got <- srv.Cancel(ctx) }()
	nc, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cancel()
	select {
	case err := <-got:
		if err == nil {
			t.Error("it is certain that nothing can be hit")
		}
	case <-time.After(patience):
		t.Fatal("Cancel does not return")
	}
}

// D1: a DSN means what it says and nothing else.
func TestEnvironmentIsShutOut(t *testing.T) {
	c := postgres.ForTest(t)
	home := t.TempDir()
	for _, name := range []string{".pgpass", ".pg_service.conf"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte("*:*:*:*:wrong\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{
		"HOME": home, "PGHOST": "192.0.2.1", "PGPORT": "1", "PGDATABASE": "wrong", "PGUSER": "wrong", "PGPASSWORD": "wrong", "PGPASSFILE": home + "/.pgpass",
		"PGAPPNAME": "wrong", "PGCONNECT_TIMEOUT": "wrong", "PGSSLMODE": "verify-full", "PGSSLKEY": "wrong", "PGSSLCERT": "wrong", "PGSSLCERTMODE": "wrong",
		"PGSSLSNI": "wrong", "PGSSLROOTCERT": "wrong", "PGSSLPASSWORD": "wrong", "PGSSLNEGOTIATION": "direct", "PGTARGETSESSIONATTRS": "standby",
		"PGSERVICE": "wrong", "PGSERVICEFILE": home + "/.pg_service.conf", "PGTZ": "Asia/Tokyo", "PGOPTIONS": "-c wrong=1",
		"PGMINPROTOCOLVERSION": "wrong", "PGMAXPROTOCOLVERSION": "wrong", "PGCHANNELBINDING": "require", "PGREQUIREAUTH": "gss",
	} {
		t.Setenv(name, value)
	}
	opts := onCluster(c, postgres.Superuser, 1)
	opts.RuntimeParams = map[string]string{"application_name": "right"}
	p := newTestPool(t, opts)
	srv := p.get(nil)
	if srv.Params["application_name"] != "right" || srv.Params["TimeZone"] == "Asia/Tokyo" {
		t.Errorf("%v", srv.Params)
	}
}

// A connection that would lead back to pgpoold is refused with a sentence
// that says what is wrong.
func TestSelf(t *testing.T) {
	f := newFakePG(t)
	opts := f.options(1)
	opts.IsSelf = func(network, addr string) bool { return network == "tcp" && addr == f.l.Addr().String() }
	p := newTestPool(t, opts)
	s := newSeat(nil)
	p.ask(s)
	_, err := s.wait(t)
	var dial *DialError
	if !errors.As(err, &dial) || !dial.Final || !strings.Contains(err.Error(), "pgpoold's own listener") {
		t.Errorf("%v", err)
	}
}

// Hosts are walked until one lets us in, or says who we are not.
func TestHosts(t *testing.T) {
	for _, r := range []struct {
		name   string
		first  string // "" closed, else the SQLSTATE it refuses with
		second bool   // the next one is tried
	}{
		{"nobody there", "", true}, {"starting up", "57P03", true},
		{"wrong password", "28P01", false}, {"no entry in pg_hba.conf", "28000", false}, {"full", "53300", false}, {"no such database", "3D000", false},
	} {
		t.Run(r.name, func(t *testing.T) {
			a, b := newFakePG(t), newFakePG(t)
			if r.first == "" {
				a.l.Close()
			} else {
				a.refuse.Store(&r.first)
			}
			opts := a.options(1)
			opts.Hosts = append(opts.Hosts, b.options(1).Hosts...)
			p := newTestPool(t, opts)
			s := newSeat(nil)
			p.ask(s)
			_, err := s.wait(t)
			var pg *pgconn.PgError
			if r.second && err != nil || !r.second && (!errors.As(err, &pg) || pg.Code != r.first) {
				t.Errorf("%v", err)
			}
			if tried := b.attempts.Load() > 0; tried != r.second {
				t.Errorf("the second was tried: %v", tried)
			}
		})
	}
}

func TestConnectTimeout(t *testing.T) {
	f := newFakePG(t)
	f.gate = make(chan struct{}) // a server that says nothing
	opts := f.options(1)
	opts.ConnectTimeout = 20 * time.Millisecond
	p := newTestPool(t, opts)
	t.Cleanup(func() { close(f.gate) })
	s := newSeat(nil)
	p.ask(s)
	if _, err := s.wait(t); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestHostString(t *testing.T) {
	for want, h := range map[string]Host{
		"db.internal:5432": {"tcp", "db.internal", 5432}, "[::1]:5433": {"tcp", "::1", 5433}, "/run/postgresql/.s.PGSQL.5432": {"unix", "/run/postgresql", 5432},
	} {
		if h.String() != want {
			t.Errorf("%s", h)
		}
	}
}
