package daemon

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"pgpoold/admin"
	"pgpoold/config"
)

// config is the configuration in force. Any goroutine may ask.
func (d *Daemon) config() *config.Config { return d.cfg.Load() }

// Reload reads the configuration again, whole or not at all. The notes name
// what needs a restart. Any goroutine may call it; it is admin.Process's.
func (d *Daemon) Reload() (notes []string, err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.upgrading {
		d.log.Error("reload: nothing was changed", zap.Error(errUpgrading))
		return nil, errUpgrading
	}
	d.notifyReloading()
	defer d.notifyReady()
	next, err := config.Load(d.config().File, d.opts.Environ)
	if err != nil {
		d.log.Error("reload: the configuration has mistakes and nothing was changed", zap.Error(err))
		return nil, err
	}
	// What SET has changed goes back to the file's, as in PgBouncer.
	effective, notes := d.config().Running(next)
	if err := d.apply(effective); err != nil {
		d.log.Error("reload: nothing was changed", zap.Error(err))
		return nil, err
	}
	d.log.Announce("the configuration was read again", zap.String("log_level", effective.Log.Level), zap.Strings("needs_restart", notes))
	for _, w := range next.Warnings {
		d.log.Warn(w)
	}
	return notes, nil
}

// Set gives a setting another value until the next Reload.
func (d *Daemon) Set(name, value string) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.upgrading {
		return errUpgrading
	}
	next, err := d.config().With(name, value)
	if err != nil {
		if errors.Is(err, config.ErrRestart) {
			return fmt.Errorf("%s: %w", name, admin.ErrRestart)
		}
		return err
	}
	return d.apply(next)
}

// apply brings a configuration in force. reloading is held.
func (d *Daemon) apply(cfg *config.Config) error {
	opts := proxyOptions(cfg, d.isSelf, d.log.Logger)
	opts.MaxClientConn = clientLimit(cfg, d.log.Logger)
	var err error
	if opts.TLS, err = d.renewTLS(cfg.Listen.TLS); err != nil {
		return err
	}
	if d.opts.Adjust != nil {
		d.opts.Adjust(&opts)
	}
	if err := d.server.Reconfigure(opts); err != nil {
		return err
	}
	if err := d.log.SetLevel(cfg.Log.Level); err != nil {
		return err
	}
	d.tls.Store(opts.TLS)
	d.cfg.Store(cfg)
	d.console.Configure(d.adminOptions(cfg))
	return nil
}

// Shutdown of admin.Process is a method of its own type: Daemon has another.
type process struct{ *Daemon }

// Shutdown begins to stop; Run, which it asks, does it.
func (p process) Shutdown(mode admin.ShutdownMode) {
	select {
	case p.asked <- mode:
	default: // it has been asked often enough
	}
}

// leaveInterval is how often a pgpoold that waits for its clients to leave
// looks whether they have.
const leaveInterval = 50 * time.Millisecond
