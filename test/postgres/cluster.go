package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/test/guard"
)

// Cluster is a running PostgreSQL. Its methods are for one goroutine, but for
// DSN, SocketDSN, Addr, Exec and Query, which any number may call.
type Cluster struct {
	s    *Server
	cfg  Config
	in   Install
	dir  string // holds data, the sockets' folder s and the log
	base string // initdb's postgresql.conf
	port int

	proc *guard.Process // nil while halted
}

// HaltMode is how a cluster is told to stop, in pg_ctl's words.
type HaltMode syscall.Signal

// The ways to stop.
const (
	Smart     = HaltMode(syscall.SIGTERM) // waits for clients to leave
	Fast      = HaltMode(syscall.SIGINT)  // 57P01 to clients, then a checkpoint
	Immediate = HaltMode(syscall.SIGQUIT) // 57P02 to clients, recovery at the next start
	Crash     = HaltMode(syscall.SIGKILL) // the postmaster alone; its children notice
)

// startPatience bounds how long a cluster may take to accept connections or to
// shut down in order, and how long its port may stay taken.
const startPatience = 60 * time.Second

// errPortTaken is what launch returns when somebody else has the port.
var errPortTaken = errors.New("port taken")

// Start makes a cluster from a copy of the template and waits until it
// accepts connections.
func (s *Server) Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Install == nil {
		in, err := Find(ctx, TestOptions())
		if err != nil {
			return nil, err
		}
		cfg.Install = in
	}
	in, dir, template, err := s.prepare(ctx, cfg.Install)
	if err != nil {
		return nil, err
	}
	c := &Cluster{s: s, cfg: cfg, in: in, dir: dir}
	if err := c.fill(ctx, template); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for try := 0; ; try++ {
		if c.port, err = freePort(); err != nil {
			break
		}
		if err = c.launch(ctx); !errors.Is(err, errPortTaken) || try == 9 {
			break
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return c, nil
}

// fill makes the data folder.
func (c *Cluster) fill(ctx context.Context, template string) error {
	if err := copyTree(template, c.DataDir(), c.s.user); err != nil {
		return fmt.Errorf("copy initdb's folder: %w", err)
	}
	base, err := os.ReadFile(filepath.Join(template, "postgresql.conf"))
	if err != nil {
		return err
	}
	c.base = string(base)
	if err := c.s.user.mkdir(c.SocketDir(), 0o755); err != nil {
		return err
	}
	files := map[string][]byte{"pg_hba.conf": []byte(c.cfg.hba())}
	if t := c.cfg.TLS; t != nil {
		files["server.crt"], files["server.key"] = t.Cert, t.Key
		if len(t.CA) > 0 {
			files["ca.crt"] = t.CA
		}
	}
	for name, data := range files {
		if err := c.s.user.write(filepath.Join(c.DataDir(), name), data, 0o600); err != nil {
			return err
		}
	}
	if c.cfg.Password == "" {
		return nil
	}
	// The password is set before the first start, so that there is no moment
	// at which the cluster trusts anyone.
	sql := filepath.Join(c.dir, "password.sql")
	text := fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'\n", Superuser, strings.ReplaceAll(c.cfg.Password, "'", "''"))
	if err := c.s.user.write(sql, []byte(text), 0o600); err != nil {
		return err
	}
	defer os.Remove(sql)
	in, err := os.Open(sql)
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.Command(filepath.Join(c.in.Bin, "postgres"), "--single", "-D", c.DataDir(),
		"-c", "password_encryption=scram-sha-256", "-c", "fsync=off", "postgres")
	cmd.Stdin = in
	return c.s.runToEnd(ctx, cmd, filepath.Join(c.dir, "single.log"))
}

// launch writes the configuration, starts the postmaster and waits until it
// is ready.
func (c *Cluster) launch(ctx context.Context) error {
	// postgresql.auto.conf is left to ALTER SYSTEM.
	conf := filepath.Join(c.DataDir(), "postgresql.conf")
	if err := c.s.user.write(conf, []byte(c.base+c.cfg.conf(c.port, c.SocketDir())), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(c.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	begin, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(c.in.Bin, "postgres"), "-D", c.DataDir())
	cmd.Env = serverEnv()
	cmd.Dir = c.dir
	cmd.Stdout, cmd.Stderr = log, log
	c.s.user.runAs(cmd)
	p, err := c.s.guard.Start(cmd)
	if err != nil {
		return err
	}
	if err := c.awaitReady(ctx, p, begin); err != nil {
		p.End(syscall.SIGQUIT, 0)
		return err
	}
	c.proc = p
	return nil
}

// awaitReady watches postmaster.pid, whose eighth line is PostgreSQL's own
// word for its state.
func (c *Cluster) awaitReady(ctx context.Context, p *guard.Process, logBegin int64) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.Done():
			said, _ := os.ReadFile(c.LogPath())
			said = said[min(int64(len(said)), logBegin):]
			if strings.Contains(string(said), "could not bind") {
				return errPortTaken
			}
			return fmt.Errorf("%w: %s", p.Err(), logTail(c.LogPath(), 5))
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %s", ctx.Err(), logTail(c.LogPath(), 5))
		case <-tick.C:
		}
		text, err := os.ReadFile(filepath.Join(c.DataDir(), "postmaster.pid"))
		if err != nil {
			continue
		}
		lines := strings.Split(string(text), "\n")
		if len(lines) > 7 && lines[0] == strconv.Itoa(p.PID()) && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
	}
}

// Halt stops PostgreSQL and keeps its data and port.
func (c *Cluster) Halt(mode HaltMode) {
	if c.proc == nil {
		return
	}
	patience := time.Duration(0)
	if mode == Smart || mode == Fast {
		patience = startPatience
	}
	c.proc.End(syscall.Signal(mode), patience)
	c.proc = nil
}

// Resume starts a halted cluster again on its old port.
func (c *Cluster) Resume(ctx context.Context) error {
	if c.proc != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		// After Crash the old children hold the port until they have noticed,
		// and PostgreSQL refuses to start beside them.
		err := c.launch(ctx)
		if err == nil {
			return nil
		}
		retry := errors.Is(err, errPortTaken) || strings.Contains(err.Error(), "is still in use") ||
			strings.Contains(err.Error(), "already exists")
		if !retry || ctx.Err() != nil {
			return fmt.Errorf("start PostgreSQL again: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Restart is Halt(Fast) and Resume.
func (c *Cluster) Restart(ctx context.Context) error {
	c.Halt(Fast)
	return c.Resume(ctx)
}

// Stop ends PostgreSQL at once and removes its files.
func (c *Cluster) Stop() error {
	c.Halt(Immediate)
	return os.RemoveAll(c.dir)
}

// PID is the postmaster's process id, 0 while halted.
func (c *Cluster) PID() int {
	if c.proc == nil {
		return 0
	}
	return c.proc.PID()
}

// Addr is host:port.
func (c *Cluster) Addr() string { return net.JoinHostPort(c.Host(), strconv.Itoa(c.port)) }

// Host is the address that the cluster listens on.
func (c *Cluster) Host() string { return "127.0.0.1" }

// Port is the TCP port, and the number in the socket's name.
func (c *Cluster) Port() int { return c.port }

// SocketDir is the folder of the Unix socket.
func (c *Cluster) SocketDir() string { return filepath.Join(c.dir, "s") }

// DataDir is the data folder.
func (c *Cluster) DataDir() string { return filepath.Join(c.dir, "data") }

// LogPath is the server's log.
func (c *Cluster) LogPath() string { return filepath.Join(c.dir, "postgres.log") }

// Install is the installation that runs.
func (c *Cluster) Install() Install { return c.in }

// DSN is a connection string over TCP; user may be "name" or "name:password".
// It asks for no TLS; with Config.TLS add what the test is about.
func (c *Cluster) DSN(user, db string) string {
	return c.url(user, db, c.Addr(), url.Values{"sslmode": {"disable"}})
}

// SocketDSN is a connection string over the Unix socket.
func (c *Cluster) SocketDSN(user, db string) string {
	return c.url(user, db, "", url.Values{
		"host": {c.SocketDir()}, "port": {strconv.Itoa(c.port)}, "sslmode": {"disable"},
	})
}

func (c *Cluster) url(user, db, host string, query url.Values) string {
	u := url.URL{Scheme: "postgres", Host: host, Path: "/" + db, RawQuery: query.Encode()}
	if name, password, ok := strings.Cut(user, ":"); ok {
		u.User = url.UserPassword(name, password)
	} else {
		u.User = url.User(user)
	}
	return u.String()
}

// superuser is the superuser's half of a DSN.
func (c *Cluster) superuser() string {
	if c.cfg.Password == "" {
		return Superuser
	}
	return Superuser + ":" + c.cfg.Password
}

// SuperDSN is DSN for the superuser with the password it has.
func (c *Cluster) SuperDSN(db string) string { return c.DSN(c.superuser(), db) }

// Exec runs statements as the superuser, over a connection of its own that is
// closed again.
func (c *Cluster) Exec(ctx context.Context, db, sql string) error {
	_, err := c.Query(ctx, db, sql)
	return err
}

// Query is Exec that returns the rows of the last statement, as text; NULL is
// "".
func (c *Cluster) Query(ctx context.Context, db, sql string) ([][]string, error) {
	conn, err := pgconn.Connect(ctx, c.SocketDSN(c.superuser(), db))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	last := results[len(results)-1]
	rows := make([][]string, len(last.Rows))
	for i, row := range last.Rows {
		for _, v := range row {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
