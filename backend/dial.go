package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/wire/stream"
)

// DialError tells why no server could be connected.
type DialError struct {
	Addr string // which host, as configured
	Err  error
	// Final tells that repeating it soon would only make things worse: a
	// refused login, a connection that leads back to pgpoold.
	Final bool
}

func (e *DialError) Error() string {
	return "cannot connect to server " + e.Addr + ": " + e.Err.Error()
}

// Unwrap returns the cause; a *pgconn.PgError where PostgreSQL refused.
func (e *DialError) Unwrap() error { return e.Err }

// errSelf refuses a connection of pgpoold to itself.
var errSelf = errors.New("this address is pgpoold's own listener: SUPABASE_POSTGRES_DSN (or PGPOOLD_DSN, or databases.X.dsn) " +
	"in pgpoold's environment names PostgreSQL; only the executors' DSN names pgpoold")

// errPooler refuses a server that is itself a transaction pooler.
var errPooler = errors.New("the server is itself a transaction pooler (it reports pgbouncer.pool_mode=transaction): use PostgreSQL's " +
	"own endpoint, or a session pooler, or set upstream_pooler: true for this database")

var lastServerID atomic.Uint64

// connect is puddle's constructor: it logs in to the first host that lets it.
func (p *Pool) connect(ctx context.Context) (*Server, error) {
	// puddle's own context outlives the pool's.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(p.ctx, stop)()
	if most := p.Limits().ConnectTimeout; most > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	var first *DialError
	opts := p.Target()
	for _, host := range opts.Hosts {
		addrs, err := opts.resolve(ctx, host)
		if err != nil {
			first = firstError(first, &DialError{Addr: host.String(), Err: plainLookupError(err)})
			continue
		}
		for _, addr := range addrs {
			s, err := p.connectAddr(ctx, opts, host, addr)
			if err == nil {
				return s, nil
			}
			first = firstError(first, err)
			if err.Final || ctx.Err() != nil {
				return nil, err
			}
		}
	}
	if first == nil {
		first = &DialError{Addr: "(none)", Err: errors.New("no host is configured"), Final: true}
	}
	return nil, first
}

func firstError(a, b *DialError) *DialError {
	if a != nil {
		return a
	}
	return b
}

// plainLookupError drops the resolver's address from a lookup error.
func plainLookupError(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Errorf("host name %q could not be resolved: %s", dns.Name, dns.Err)
	}
	return err
}

// connectAddr tries one address with each kind of encryption that the TLS
// mode admits. A login that PostgreSQL refused is not repeated.
func (p *Pool) connectAddr(ctx context.Context, opts *PoolOptions, host Host, addr string) (*Server, *DialError) {
	configs, err := opts.TLS.configs(host)
	if err != nil {
		return nil, &DialError{Addr: host.String(), Err: err, Final: true}
	}
	var last *DialError
	for _, cfg := range configs {
		s, err := p.login(ctx, opts, host, addr, cfg)
		if err == nil {
			return s, nil
		}
		last = &DialError{Addr: host.String(), Err: err, Final: final(err)}
		if last.Final || ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// final tells refusals that another attempt only makes worse: PostgreSQL's
// own word on who we are (28), how many there may be (53300) and which
// database (3D000).
func final(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "28") || pg.Code == "53300" || pg.Code == "3D000"
	}
	return errors.Is(err, errSelf) || errors.Is(err, errPooler)
}

// login connects, encrypts and logs in once, and makes the result a Server.
func (p *Pool) login(ctx context.Context, opts *PoolOptions, host Host, addr string, encrypt *tls.Config) (*Server, error) {
	cfg, err := opts.loginConfig(host, addr, encrypt)
	if err != nil {
		return nil, err
	}
	// pgconn dials again, on a goroutine of its own, to cancel a login that
	// broke off; that finds nothing to cancel and is refused.
	var dialled atomic.Bool
	var sock *stream.Socket
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		if dialled.Swap(true) {
			return nil, net.ErrClosed
		}
		nc, err := opts.dialSocket(ctx, host.Network, addr)
		if err != nil {
			return nil, err
		}
		sock = nc
		return nc, nil
	}
	withKeys(cfg, opts.Credentials)
	pc, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, cause(err)
	}
	// Without it pgconn's background reader may still be inside a Read, and
	// would take the first reply.
	if err := pc.SyncConn(ctx); err != nil {
		_ = pc.Close(ctx)
		return nil, err
	}
	h, err := pc.Hijack()
	if err != nil {
		return nil, err
	}
	if n := h.Frontend.ReadBufferLen(); n > 0 {
		_ = h.Conn.Close()
		return nil, fmt.Errorf("the server sent %d bytes more than a login asks for", n)
	}
	if h.ParameterStatuses["pgbouncer.pool_mode"] == "transaction" && !opts.UpstreamPooler {
		_ = h.Conn.Close()
		return nil, errPooler
	}
	over := tlsOf(h.Conn)
	conn, err := stream.New(sock, over)
	if err != nil {
		_ = h.Conn.Close()
		return nil, err
	}
	s := &Server{
		ID: lastServerID.Add(1), Pool: p, Conn: conn, PID: h.PID, secret: h.SecretKey,
		Params: maps.Clone(h.ParameterStatuses), Born: time.Now(),
		tls: encrypt, network: host.Network, addr: addr,
	}
	if over != nil {
		state := over.ConnectionState()
		s.TLS = TLSVersion(state.Version) + "/" + tls.CipherSuiteName(state.CipherSuite)
	} else {
		s.tls = nil
	}
	if life := p.Limits().Lifetime; life > 0 {
		jitter := time.Duration(rand.Int64N(int64(life)/20 + 1))
		s.expires = s.Born.Add(life - jitter)
	}
	return s, nil
}

// tlsOf finds the TLS layer below whatever wraps a connection during login.
func tlsOf(nc net.Conn) *tls.Conn {
	for {
		switch c := nc.(type) {
		case *tls.Conn:
			return c
		case interface{ Unwrap() net.Conn }:
			nc = c.Unwrap()
		default:
			return nil
		}
	}
}

// loginConfig is pgconn's configuration of one attempt. Every field that
// ParseConfig could have taken from the environment or a file is set here.
func (o *PoolOptions) loginConfig(host Host, addr string, encrypt *tls.Config) (*pgconn.Config, error) {
	if os.Getenv("PGSERVICE") != "" {
		// pgconn would look for the service, whatever it is told.
		if err := os.Unsetenv("PGSERVICE"); err != nil {
			return nil, err
		}
	}
	cfg, err := pgconn.ParseConfig("host=127.0.0.1 port=5432 user=x password=x dbname=x connect_timeout=0 sslmode=disable " +
		"sslcert='' sslkey='' sslrootcert='' sslpassword='' sslcertmode=allow sslsni=1 sslnegotiation=postgres channel_binding=prefer " +
		"require_auth='' target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0")
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port = host.Host, host.Port
	cfg.User, cfg.Password, cfg.Database = o.Credentials.User, o.Credentials.Password, o.DBName
	cfg.TLSConfig = encrypt
	cfg.Fallbacks = nil
	cfg.ConnectTimeout = 0
	cfg.RuntimeParams = maps.Clone(o.RuntimeParams)
	if cfg.RuntimeParams == nil {
		cfg.RuntimeParams = map[string]string{}
	}
	if o.Replication != "" {
		cfg.RuntimeParams["replication"] = o.Replication
	}
	cfg.KerberosSrvName, cfg.KerberosSpn = "", ""
	cfg.OnNotice, cfg.OnNotification = nil, nil
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{addr}, nil }
	cfg.ValidateConnect = map[string]pgconn.ValidateConnectFunc{
		"read-write":     pgconn.ValidateConnectTargetSessionAttrsReadWrite,
		"read-only":      pgconn.ValidateConnectTargetSessionAttrsReadOnly,
		"primary":        pgconn.ValidateConnectTargetSessionAttrsPrimary,
		"standby":        pgconn.ValidateConnectTargetSessionAttrsStandby,
		"prefer-standby": pgconn.ValidateConnectTargetSessionAttrsPreferStandby,
	}[o.TargetSessionAttrs]
	return cfg, nil
}

// cause strips pgconn's own preamble, which repeats host, user and database.
func cause(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		if inner := connect.Unwrap(); inner != nil {
			return innermost(inner)
		}
	}
	return innermost(err)
}

// innermost drops wrappers whose text repeats the address, which DialError
// has already.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// String is the host as a person would write it; it never has a secret.
func (h Host) String() string {
	if h.Network == "unix" {
		return h.socket()
	}
	return net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port)))
}

func (h Host) socket() string {
	return h.Host + "/.s.PGSQL." + strconv.Itoa(int(h.Port))
}

// resolve lists the addresses of a host in the order in which to try them.
func (o *PoolOptions) resolve(ctx context.Context, h Host) ([]string, error) {
	if h.Network == "unix" {
		return []string{h.socket()}, nil
	}
	if net.ParseIP(h.Host) != nil {
		return []string{h.String()}, nil
	}
	lookup := o.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupIPAddr
	}
	ips, err := lookup(ctx, h.Host)
	if err != nil {
		return nil, err
	}
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = net.JoinHostPort(ip.String(), strconv.Itoa(int(h.Port)))
	}
	return addrs, nil
}

// dialSocket opens the transport.
func (o *PoolOptions) dialSocket(ctx context.Context, network, addr string) (*stream.Socket, error) {
	d := net.Dialer{KeepAliveConfig: o.Keepalive.config(), Control: o.Keepalive.control}
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if o.IsSelf != nil && o.IsSelf(network, nc.RemoteAddr().String()) {
		_ = nc.Close()
		return nil, errSelf
	}
	sock, err := stream.NewSocket(nc)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return sock, nil
}

func (k Keepalive) config() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: k.Enable, Idle: k.Idle, Interval: k.Interval, Count: k.Count}
}

// TLSVersion is a version of TLS as PgBouncer's console writes it: TLSv1.3.
func TLSVersion(v uint16) string { return strings.Replace(tls.VersionName(v), "TLS ", "TLSv", 1) }
