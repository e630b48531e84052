package daemon

import (
	"context"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"

	"pgpoold/admin"
)

// Run starts the daemon and serves until a signal ends it: SIGTERM and SIGINT
// drain for drain_timeout, a second one closes what is left, SIGQUIT closes
// at once, SIGHUP reloads, SIGUSR2 has a successor take over. It returns nil
// when it ended as asked, or has handed over.
func (d *Daemon) Run(ctx context.Context, signals <-chan os.Signal) error {
	if err := d.startOver(ctx, signals); err != nil {
		return err
	}
	defer balanceThreads()()
	defer returnMemory()()
	var left <-chan time.Time // ticks while clients are waited for
	var upgrade *attempt      // while one is under way
	var ended <-chan struct{} // its end
	// giveUp ends an upgrade before this process ends itself. Where it comes
	// too late the successor is told what this process was.
	giveUp := func(sig os.Signal) (over bool) {
		if upgrade == nil {
			return false
		}
		upgrade.cancel()
		<-upgrade.done
		to := upgrade.to
		upgrade, ended = nil, nil
		if to == nil {
			return false
		}
		if sig != nil {
			_ = to.cmd.Process.Signal(sig)
		}
		return d.handOver(to, signals)
	}
	for {
		select {
		case <-ended:
			to := upgrade.to
			upgrade, ended = nil, nil
			if to != nil && d.handOver(to, signals) {
				return nil
			}
		case mode := <-d.asked:
			if giveUp(syscall.SIGTERM) {
				return nil
			}
			switch mode {
			case admin.ShutdownNow:
				d.log.Info("closing at once", zap.String("by", "SHUTDOWN"))
				d.Close()
				return nil
			case admin.ShutdownWaitForServers:
				d.server.StopAccepting()
				d.server.RefuseWaiters()
				d.drain("SHUTDOWN WAIT_FOR_SERVERS", 0, signals)
				return nil
			default:
				d.log.Info("stopping when all clients have left", zap.String("by", "SHUTDOWN WAIT_FOR_CLIENTS"))
				d.server.StopAccepting()
				t := time.NewTicker(leaveInterval)
				defer t.Stop()
				left = t.C
			}
		case <-left:
			if d.server.Clients() == 0 {
				d.Close()
				return nil
			}
		case err := <-d.failed:
			d.log.Error("a listener failed", zap.Error(err))
			if giveUp(nil) {
				return nil
			}
			d.Close()
			return err
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				_, _ = d.Reload() // the log says what came of it
			case syscall.SIGUSR2:
				if upgrade != nil || left != nil {
					d.log.Warn("upgrade: none is begun", zap.Error(errUpgrading))
					continue
				}
				a, err := d.beginUpgrade()
				if err != nil {
					d.upgradeFailed(err)
					continue
				}
				upgrade, ended = a, a.done
			case syscall.SIGQUIT:
				if giveUp(sig) {
					return nil
				}
				d.log.Info("closing at once", zap.Stringer("signal", sig))
				d.Close()
				return nil
			default:
				if giveUp(sig) {
					return nil
				}
				d.drain(sig.String(), d.config().DrainTimeout, signals)
				return nil
			}
		}
	}
}

// drain shuts down within a time, 0 for any, or at once when another signal
// comes.
func (d *Daemon) drain(by string, timeout time.Duration, signals <-chan os.Signal) {
	ctx, cancel := context.WithCancel(context.Background())
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), timeout)
	}
	defer cancel()
	d.log.Info("draining: transactions may end; the same signal again closes what is left",
		zap.String("signal", by), zap.Duration("drain_timeout", timeout),
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
			if sig != syscall.SIGHUP && sig != syscall.SIGUSR2 {
				cancel()
			}
		}
	}
}
