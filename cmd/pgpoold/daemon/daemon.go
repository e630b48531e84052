// Package daemon is a running pgpoold: it turns a configuration into
// listeners, the proxy, the console and the admin port, starts them in order
// and stops them in reverse.
//
// Files, in reading order: daemon.go (the life), run.go (signals), threads.go
// (how many the load needs), listen.go, gate.go, tls.go and limits.go (what the
// start needs), options.go (from configuration to options); upgrade.go and
// successor.go (giving everything to another process), predecessor.go (taking
// it).
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgpoold/admin"
	"pgpoold/cmd/pgpoold/logging"
	"pgpoold/cmd/pgpoold/upgrade"
	"pgpoold/config"
	"pgpoold/proxy"
)

// Options are what a Daemon is made of.
type Options struct {
	Config  *config.Config
	Version string
	// Log is where the log goes.
	Log io.Writer
	// Environ looks up an environment variable when the configuration is read
	// again; nil is os.LookupEnv.
	Environ func(string) (string, bool)
	// Executable and Command are the program and the arguments, its name the
	// first, with which an upgrade starts a successor; "": there is none.
	Executable string
	Command    []string
	// Predecessor is the process to take over from; nil: there is none.
	Predecessor *Predecessor
	// Adjust, when set, sees the proxy's options before they are used. Tests
	// use it.
	Adjust func(*proxy.Options)
}

// Daemon is one pgpoold. Its methods are for one goroutine, but for those
// that say otherwise; its fields are set by New and Start and do not change
// until Shutdown.
type Daemon struct {
	opts Options
	cfg  atomic.Pointer[config.Config]
	log  *logging.Logger

	reloading sync.Mutex              // held while a configuration is brought in force
	upgrading bool                    // guarded by reloading: a successor is starting, or has everything
	asked     chan admin.ShutdownMode // what the console asks of Run
	outcome   outcome                 // of upgrades

	predecessor atomic.Pointer[Predecessor] // while it has something left

	gates         []*gate // all listeners
	activated     bool    // they are systemd's choice
	listeners     []net.Listener
	adminListener net.Listener // nil: there is no admin port
	isSelf        func(network, addr string) bool
	tls           atomic.Pointer[proxy.ClientTLS]
	server        *proxy.Server
	console       *admin.Console
	http          *admin.HTTP

	serving sync.WaitGroup // the goroutines below
	failed  chan error     // the first error of a Serve that nobody asked to end
	stop    chan struct{}  // closed by Shutdown: ends watch
	stopped bool
}

// New makes a Daemon, and its log. It opens nothing else.
func New(opts Options) (*Daemon, error) {
	if opts.Environ == nil {
		opts.Environ = os.LookupEnv
	}
	log, err := logging.New(logging.Options{Level: opts.Config.Log.Level, Format: opts.Config.Log.Format, Out: opts.Log})
	if err != nil {
		return nil, err
	}
	d := &Daemon{opts: opts, log: log, failed: make(chan error, 1), stop: make(chan struct{}), asked: make(chan admin.ShutdownMode, 4)}
	d.cfg.Store(opts.Config)
	return d, nil
}

// Start listens and serves. When it returns an error, nothing is left open.
func (d *Daemon) Start(ctx context.Context) error {
	return d.startOver(ctx, nil)
}

// startOver is Start for a process that may take over from another one; then
// it returns when it serves, unless one of the signals ends it before.
func (d *Daemon) startOver(ctx context.Context, signals <-chan os.Signal) error {
	if err := d.start(ctx, signals); err != nil {
		if p := d.opts.Predecessor; p != nil {
			p.Refuse(err)
		}
		d.closeListeners()
		d.log.Close()
		return err
	}
	return nil
}

func (d *Daemon) start(ctx context.Context, signals <-chan os.Signal) error {
	for _, w := range d.config().Warnings {
		d.log.Warn(w)
	}
	if err := d.listen(); err != nil {
		return err
	}
	own, err := ownAddrsOf(d.listeners)
	if err != nil {
		return err
	}
	cfg := d.config()
	d.isSelf = own.has
	opts := proxyOptions(cfg, d.isSelf, d.log.Logger)
	opts.MaxClientConn = clientLimit(cfg, d.log.Logger)
	if opts.TLS, err = clientTLS(cfg.Listen.TLS, d.log.Logger); err != nil {
		return err
	}
	d.tls.Store(opts.TLS)
	// The console shows the server, so it is made behind it; nothing serves yet.
	opts.Console = func(c *proxy.ConsoleClient) { d.console.Serve(c) }
	if d.opts.Adjust != nil {
		d.opts.Adjust(&opts)
	}
	if d.server, err = proxy.New(opts); err != nil {
		return err
	}
	adminOpts := d.adminOptions(cfg)
	if adminOpts.TLS, err = adminTLS(cfg.Admin); err != nil {
		d.server.Close()
		return err
	}
	d.console = admin.NewConsole(adminOpts)
	d.http = admin.NewHTTP(adminOpts, d.console)

	if d.opts.Predecessor != nil {
		if err := d.takeOver(signals); err != nil {
			d.server.Close()
			return err
		}
	}
	if err := d.server.Start(ctx); err != nil {
		d.server.Close()
		return err
	}
	d.console.Start()
	d.serveAdmin()
	for _, l := range d.listeners {
		d.serving.Add(1)
		go d.serve("listen.addr", func() error { return d.server.Serve(l) })
	}
	d.beginWatching()
	if p := d.opts.Predecessor; p != nil {
		d.server.SetPeer(p)
		go p.receive(d)
		if err := p.ch.Send(upgrade.KindServing, nil); err != nil {
			d.log.Warn("upgrade: the predecessor cannot be told that this process serves", zap.Error(err))
		}
		d.ownSockets()
		return nil // systemd hears it from the predecessor, to whom it still listens
	}
	d.notifyReady()
	return nil
}

// ownSockets makes the files of Unix sockets this process's, and closes the
// sockets that are not configured any more.
func (d *Daemon) ownSockets() {
	for _, g := range d.gates {
		g.keepFile(false)
	}
	for _, g := range d.opts.Predecessor.gates {
		g.keepFile(false)
		_ = g.Close()
	}
	d.opts.Predecessor.gates = nil
}

// serveAdmin begins to answer on the admin port.
func (d *Daemon) serveAdmin() {
	if d.adminListener != nil {
		d.serving.Add(1)
		http, l := d.http, d.adminListener
		go d.serve("admin.addr", func() error { return http.Serve(l) })
	}
}

// beginWatching starts what goes on until stop is closed.
func (d *Daemon) beginWatching() {
	d.serving.Add(1)
	go d.watch(d.stop)
	if every := d.watchdogInterval(); every > 0 {
		d.serving.Add(1)
		go d.watchdog(every, d.stop)
	}
}

func (d *Daemon) listen() error {
	cfg := d.config()
	mode := os.FileMode(cfg.Listen.UnixSocketMode).Perm()
	if err := d.takeActivated(); err != nil {
		return err
	}
	addrs := cfg.Listen.Addrs
	if d.activated {
		addrs = nil // the sockets are systemd's choice
	}
	for _, addr := range addrs {
		if d.inherit(addr.Network, addr.Address, false) {
			continue
		}
		l, err := listen(addr, mode)
		if err != nil {
			return err
		}
		d.add(newGate(l, addr.Network, addr.Address, false))
	}
	if cfg.Admin.Addr == "" || d.adminListener != nil || d.inherit("tcp", cfg.Admin.Addr, true) {
		return nil
	}
	l, err := net.Listen("tcp", cfg.Admin.Addr)
	if err != nil {
		return takenError("admin.addr", cfg.Admin.Addr, err)
	}
	d.add(newGate(l, "tcp", cfg.Admin.Addr, true))
	return nil
}

// takeActivated takes the sockets that systemd has opened, for this process or
// for the one before.
func (d *Daemon) takeActivated() error {
	p := d.opts.Predecessor
	if p == nil {
		clients, port, err := passed()
		for _, l := range clients {
			d.add(newGate(l, "", "", false))
		}
		if port != nil {
			d.add(newGate(port, "", "", true))
		}
		d.activated = len(clients) > 0
		return err
	}
	for d.inherit("", "", false) {
	}
	d.inherit("", "", true)
	d.activated = p.hello.Systemd
	return nil
}

// inherit takes a socket of the process before, if it has one of this address.
func (d *Daemon) inherit(network, address string, port bool) bool {
	if d.opts.Predecessor == nil {
		return false
	}
	g := d.opts.Predecessor.socket(network, address, port)
	if g != nil {
		d.add(g)
	}
	return g != nil
}

func (d *Daemon) add(g *gate) {
	d.gates = append(d.gates, g)
	if g.admin {
		d.adminListener = g
	} else {
		d.listeners = append(d.listeners, g)
	}
}

// takeOver waits until the process before gives everything, and takes it.
func (d *Daemon) takeOver(signals <-chan os.Signal) error {
	p := d.opts.Predecessor
	t, err := p.awaitTake(d, signals)
	if err != nil {
		return err
	}
	d.predecessor.Store(p)
	d.server.SetLegacy(&t.Legacy)
	d.server.SetElsewhere(t.Held)
	d.server.Inherit(t.Controls, t.LastSession)
	d.log.Announce("upgrade: this process takes over", zap.Int("predecessor", p.hello.PID), zap.String("from", p.hello.Version),
		zap.String("version", d.opts.Version), zap.Int("pid", os.Getpid()))
	return nil
}

func (d *Daemon) closeListeners() {
	for _, g := range d.gates {
		_ = g.Close()
	}
}

// serve runs one listener until it ends. Shutdown joins it.
func (d *Daemon) serve(setting string, serve func() error) {
	defer d.serving.Done()
	stop := d.stop
	err := serve()
	select {
	case <-stop: // asked to
		return
	default:
	}
	if err == nil && d.server.Draining() {
		return
	}
	if err == nil {
		err = errors.New("the listener was closed")
	}
	select {
	case d.failed <- fmt.Errorf("%s: %w", setting, err):
	default: // another one failed first
	}
}

// How often watch asks whether clients are served: often until it is so for
// the first time, for the sake of those who wait for the ready line.
const (
	watchStart = 20 * time.Millisecond
	watchLater = time.Second
	// patience is how long the first connections may take before a line says
	// what they wait for.
	patience = 2 * time.Second
)

// watch writes the ready line once clients are served, and a line each time
// that this changes. Shutdown joins it.
func (d *Daemon) watch(stop <-chan struct{}) {
	defer d.serving.Done()
	started, announced, was := time.Now(), false, false
	told := ""
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		ok, why := d.server.Ready()
		switch {
		case ok && !announced:
			announced = true
			d.log.Announce("pgpoold ready", d.describe()...)
		case ok && !was:
			d.log.Info("ready again")
		case !ok && was, !ok && why != told && time.Since(started) > patience:
			told = why
			d.log.Warn("not ready: "+why, d.describe()...)
		}
		was = ok
		if ok {
			told = ""
		}
		if announced {
			tick.Reset(watchLater)
		} else {
			tick.Reset(watchStart)
		}
	}
}

// describe says where pgpoold listens and what it serves.
func (d *Daemon) describe() []zap.Field {
	var addrs []string
	for _, l := range d.listeners {
		addrs = append(addrs, l.Addr().String())
	}
	cfg := d.config()
	var databases []string
	for _, name := range slices.Sorted(maps.Keys(cfg.Databases)) {
		p := cfg.Effective(name, "")
		if p.Mode != cfg.Pool.Mode || p.Size != cfg.Pool.Size {
			name = fmt.Sprintf("%s (mode %s, size %d)", name, p.Mode, p.Size)
		}
		databases = append(databases, name)
	}
	fields := []zap.Field{
		zap.Int("pid", os.Getpid()),
		zap.Strings("listen", addrs),
		zap.Strings("databases", databases),
		zap.String("mode", cfg.Pool.Mode),
		zap.Int("size", cfg.Pool.Size),
		zap.String("version", d.opts.Version),
	}
	if d.adminListener != nil {
		fields = append(fields, zap.String("admin", d.adminListener.Addr().String()))
	}
	return fields
}

// Addrs are the client addresses in force. Any goroutine may ask, once Start
// has returned.
func (d *Daemon) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(d.listeners))
	for i, l := range d.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// AdminAddr is the admin port's address, nil for none. Any goroutine may ask,
// once Start has returned.
func (d *Daemon) AdminAddr() net.Addr {
	if d.adminListener == nil {
		return nil
	}
	return d.adminListener.Addr()
}

// Server is the proxy. Any goroutine may ask, once Start has returned.
func (d *Daemon) Server() *proxy.Server { return d.server }

// Failed gives the error that ended a listener which nobody closed.
func (d *Daemon) Failed() <-chan error { return d.failed }

// adminGrace is how long requests of the admin port may take once the proxy
// has ended.
const adminGrace = 2 * time.Second

// Shutdown drains: no new clients, idle ones are closed, transactions end
// until ctx is done; then everything is closed. The admin port answers until
// the proxy has ended. A second call does nothing.
func (d *Daemon) Shutdown(ctx context.Context) {
	if d.stopped {
		return
	}
	d.stopped = true
	most := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok {
		most = time.Until(deadline)
	}
	d.notifyStopping(most)
	close(d.stop)
	d.console.Close()
	if err := d.server.Shutdown(ctx); err != nil {
		d.log.Warn("the drain was cut short", zap.Error(err))
	}
	d.closeHTTP()
	d.serving.Wait()
	if p := d.opts.Predecessor; p != nil {
		_ = p.ch.Send(upgrade.KindBye, nil) // if it still listens
		p.ch.Close()
		<-p.ended
	}
	d.log.Info("pgpoold ended")
	d.log.Close()
}

// closeHTTP ends the admin port.
func (d *Daemon) closeHTTP() {
	if d.adminListener == nil {
		return
	}
	grace, cancel := context.WithTimeout(context.Background(), adminGrace)
	defer cancel()
	if err := d.http.Shutdown(grace); err != nil {
		d.log.Debug("admin requests were cut short", zap.Error(err))
	}
}

// Close ends everything at once.
func (d *Daemon) Close() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	d.Shutdown(now)
}
