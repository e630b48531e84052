package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/config"
)

// checkTimeout bounds an attempt where server_connect_timeout is off.
const checkTimeout = 15 * time.Second

// errChecked ends the pools that CheckServers made.
var errChecked = errors.New("checked")

// CheckServers logs in to every configured server once, and out again, and
// writes a line for each to out. It returns false if one could not be reached
// or refused. Where each client is itself on the server, one user with a
// plain password tries.
func CheckServers(ctx context.Context, cfg *config.Config, out io.Writer) bool {
	ok := true
	for _, name := range slices.Sorted(maps.Keys(cfg.Databases)) {
		d := cfg.Databases[name]
		opts := poolOptions(d, cfg.Effective(name, ""), nil, zap.NewNop())
		opts.Size, opts.MinSize, opts.CheckDelay = 1, 0, 0
		if opts.ConnectTimeout <= 0 {
			opts.ConnectTimeout = checkTimeout
		}
		if opts.DBName == "" {
			fmt.Fprintf(out, "%s: not tried: its database is the one that a client asks for\n", name)
			continue
		}
		if opts.Credentials.User == "" {
			user, found := someoneWithPassword(cfg, d)
			if !found {
				fmt.Fprintf(out, "%s: not tried: each client logs in as itself, and no plain password is known\n", name)
				continue
			}
			opts.Credentials = backend.Credentials{User: user, Password: string(cfg.Auth.Users[user])}
		}
		line, err := checkServer(ctx, opts)
		if err != nil {
			ok = false
			line = err.Error()
		}
		fmt.Fprintf(out, "%s: %s\n", name, line)
	}
	return ok
}

// someoneWithPassword is the first user of the database whose password is
// known.
func someoneWithPassword(cfg *config.Config, d *config.Database) (string, bool) {
	users := d.Users
	if users == nil {
		users = slices.Sorted(maps.Keys(cfg.Auth.Users))
	}
	for _, u := range users {
		if s, known := cfg.Auth.Users[u]; known && isPlain(string(s)) {
			return u, true
		}
	}
	return "", false
}

// checkServer makes a pool of one, and lets it connect.
func checkServer(ctx context.Context, opts backend.PoolOptions) (string, error) {
	pool, err := backend.NewPool(opts, backend.Callbacks{
		NewHandler: func(*backend.Server) backend.Handler { return quiet{} },
		Closed:     func(*backend.Server, backend.CloseReason) {},
		Dialled:    func(*backend.Pool, time.Duration, error) {},
	})
	if err != nil {
		return "", err
	}
	defer pool.Wait()
	defer pool.Close(errChecked)
	s, err := acquire(ctx, pool)
	if err != nil {
		return "", err
	}
	encrypted := "not encrypted"
	if s.TLS != "" {
		encrypted = s.TLS
	}
	line := fmt.Sprintf("connected to %s as %s: PostgreSQL %s, %s",
		s.RemoteAddr(), opts.Credentials.User, s.Params["server_version"], encrypted)
	pool.Discard(s, backend.CloseDrain)
	return line, nil
}

// acquire waits for the pool's only server.
func acquire(ctx context.Context, pool *backend.Pool) (*backend.Server, error) {
	w := &waiter{got: make(chan *backend.Server, 1), refused: make(chan error, 1)}
	ticket := &backend.Ticket{W: w}
	if s, err := pool.Acquire(ticket, time.Now()); s != nil || err != nil {
		return s, err
	}
	gone := ctx.Done()
	for {
		select {
		case s := <-w.got:
			return s, nil
		case err := <-w.refused:
			return nil, err
		case <-gone:
			if pool.Leave(ticket) {
				return nil, ctx.Err()
			}
			gone = nil // the answer is on its way
		}
	}
}

// waiter is a place in the pool's queue; both channels hold what comes.
type waiter struct {
	got     chan *backend.Server
	refused chan error
}

func (w *waiter) Granted(s *backend.Server) { w.got <- s }
func (w *waiter) Refused(err error)         { w.refused <- err }

// quiet is the handler of a server that nobody uses: whatever it says ends it.
type quiet struct{}

func (quiet) Readable() bool { return false }
func (quiet) Woken() bool    { return false }
func (quiet) Closed(error)   {}
func (quiet) Check()         {}
