package daemon

import (
	"context"
	"os"
	"syscall"

	"go.uber.org/zap"

	"pgpoold/config"
)

// Run starts the daemon and serves until a signal ends it: SIGTERM and SIGINT
// drain for drain_timeout, a second one closes what is left, SIGQUIT closes
// at once, SIGHUP reloads. It returns nil when it ended as asked.
func (d *Daemon) Run(ctx context.Context, signals <-chan os.Signal) error {
	if err := d.Start(ctx); err != nil {
		return err
	}
	for {
		select {
		case err := <-d.failed:
			d.log.Error("a listener failed", zap.Error(err))
			d.Close()
			return err
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				d.reload()
			case syscall.SIGQUIT:
				d.log.Info("closing at once", zap.Stringer("signal", sig))
				d.Close()
				return nil
			default:
				d.drain(sig, signals)
				return nil
			}
		}
	}
}

// drain shuts down within drain_timeout, or at once when another signal comes.
func (d *Daemon) drain(sig os.Signal, signals <-chan os.Signal) {
	ctx, cancel := context.WithCancel(context.Background())
	if d.cfg.DrainTimeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), d.cfg.DrainTimeout)
	}
	defer cancel()
	d.log.Info("draining: transactions may end; the same signal again closes what is left",
		zap.Stringer("signal", sig), zap.Duration("drain_timeout", d.cfg.DrainTimeout),
		zap.Int("clients", d.server.Snapshot().Totals.ClientsConnected))
	done := make(chan struct{})
	joined := make(chan struct{})
	go hurry(signals, done, joined, cancel)
	d.Shutdown(ctx)
	close(done)
	<-joined
}

// hurry cancels a drain at the next signal that asks for an end. drain joins it.
func hurry(signals <-chan os.Signal, done <-chan struct{}, joined chan<- struct{}, cancel func()) {
	defer close(joined)
	for {
		select {
		case <-done:
			return
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				cancel()
			}
		}
	}
}

// reload reads the configuration again. Only log.level follows a running
// daemon in this version; the log says so.
func (d *Daemon) reload() {
	cfg, err := config.Load(d.cfg.File, d.opts.Environ)
	if err != nil {
		d.log.Error("SIGHUP: the configuration has mistakes and nothing was changed", zap.Error(err))
		return
	}
	if err := d.log.SetLevel(cfg.Log.Level); err != nil {
		d.log.Error("SIGHUP: log.level was not changed", zap.Error(err))
		return
	}
	d.log.Announce("SIGHUP: log.level was read again; every other setting needs a restart in this version",
		zap.String("log_level", cfg.Log.Level))
}
