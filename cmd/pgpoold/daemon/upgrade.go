package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"pgpoold/admin"
	"pgpoold/cmd/pgpoold/upgrade"
	"pgpoold/proxy"
)

// errUpgrading refuses what must wait until an upgrade has ended.
var errUpgrading = errors.New("an upgrade is under way: try again when it has ended")

// loginsPatience is how long logins under way may take until the successor
// serves; who logs in after that moves, or has to connect again.
const loginsPatience = 500 * time.Millisecond

// attempt is an upgrade that is under way, from its start until the successor
// serves or has failed. begun by Run, which joins it.
type attempt struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	to     *successor    // nil: it has failed; read when done is closed
}

// beginUpgrade starts an attempt, or says why not.
func (d *Daemon) beginUpgrade() (*attempt, error) {
	if d.opts.Executable == "" || len(d.opts.Command) == 0 {
		return nil, errors.New("it is not known which program to start")
	}
	if os.Getpid() == 1 {
		return nil, errors.New("process 1 of a container cannot hand over: the container ends with it")
	}
	if p := d.predecessor.Load(); p != nil {
		return nil, fmt.Errorf("the last upgrade is not over: process %d is still draining", p.hello.PID)
	}
	d.reloading.Lock() // behind a reload
	defer d.reloading.Unlock()
	if d.upgrading {
		return nil, errUpgrading
	}
	d.upgrading = true
	ctx, cancel := context.WithCancel(context.Background())
	if most := d.config().UpgradeTimeout; most > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), most)
	}
	a := &attempt{cancel: cancel, done: make(chan struct{})}
	d.notifyReloading()
	go d.attempt(ctx, a)
	return a, nil
}

// attempt makes it. When it fails everything is as it was.
func (d *Daemon) attempt(ctx context.Context, a *attempt) {
	defer close(a.done)
	defer a.cancel()
	to, err := d.startSuccessor(ctx)
	if err == nil {
		if err = d.passOn(ctx, to); err == nil {
			a.to = to
			return
		}
		to.kill()
	}
	d.upgradeFailed(err)
	d.reloading.Lock()
	d.upgrading = false
	d.reloading.Unlock()
	d.notifyReady()
}

// passOn lets a successor that is ready serve. Who connects meanwhile waits.
func (d *Daemon) passOn(ctx context.Context, to *successor) error {
	for _, g := range d.gates {
		g.Hold()
	}
	d.settleLogins(ctx)
	err := ctx.Err()
	if err == nil {
		held := d.server.Freeze()
		err = to.take(&upgrade.Take{Legacy: *d.server.Legacy(), Held: held, Controls: d.server.Controls(), LastSession: d.server.LastSession() + sessionsApart})
		if err != nil {
			d.server.Thaw()
		}
	}
	if err != nil {
		for _, g := range d.gates {
			g.GoOn()
		}
	}
	return err
}

// sessionsApart is how many sessions may still begin here without a number
// that the successor gives as well.
const sessionsApart = 1 << 16

// settleLogins waits until nobody is logging in, but not for long.
func (d *Daemon) settleLogins(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, loginsPatience)
	defer cancel()
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for d.server.LoginsUnderWay() > 0 {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// handOver gives a successor that serves what is left, and returns true when
// this process has nothing more to do. False says that the successor has ended
// and this process serves again.
func (d *Daemon) handOver(to *successor, signals <-chan os.Signal) bool {
	d.notify(fmt.Sprintf("MAINPID=%d\nREADY=1", to.pid()))
	for _, g := range d.gates {
		g.keepFile(true)
	}
	close(d.stop)
	timeout := d.config().DrainTimeout
	ctx, cancel := context.WithCancel(context.Background())
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), timeout)
	}
	defer cancel()
	d.log.Announce("upgrade: the successor serves; draining", zap.Int("successor", to.pid()), zap.Duration("drain_timeout", timeout),
		zap.Int("clients", d.server.Clients()))
	d.server.SetPeer(to)
	stop := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(d.closeHTTP) // its port is the successor's
	helpers.Go(func() { d.report(to, stop) })
	helpers.Go(func() { hurryOver(signals, stop, cancel) })
	moved, err := d.server.HandOver(ctx, to)
	if err != nil && to.isLost() && to.bye { // it was stopped, and so is this process
		for _, g := range d.gates {
			g.Leave()
		}
		err = d.server.Shutdown(ctx)
	}
	close(stop)
	helpers.Wait()
	if errors.Is(err, proxy.ErrLost) {
		d.serveAgain(to)
		return false
	}
	if err != nil {
		d.log.Warn("upgrade: the drain was cut short", zap.Error(err), zap.Int("clients", d.server.Clients()))
	}
	d.server.SetPeer(nil)
	d.console.Close()
	d.server.Close()
	_ = to.ch.Send(upgrade.KindReport, &upgrade.Report{Legacy: d.server.Legacy()})
	to.Held(nil)
	to.leave()
	for _, g := range d.gates {
		g.Leave()
	}
	d.serving.Wait()
	d.stopped = true
	d.log.Announce("upgrade: this process has handed over and ends", zap.Int("successor", to.pid()), zap.Int("moved", moved))
	d.log.Close()
	return true
}

func (s *successor) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// reportInterval is how often the successor is told what was counted here.
const reportInterval = time.Second

// report tells it. handOver joins it.
func (d *Daemon) report(to *successor, stop <-chan struct{}) {
	t := time.NewTicker(reportInterval)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			_ = to.ch.Send(upgrade.KindReport, &upgrade.Report{Legacy: d.server.Legacy()})
		}
	}
}

// hurryOver cuts a handover short at the second signal that asks for an end:
// the first is the successor's, where both get it. handOver joins it.
func hurryOver(signals <-chan os.Signal, stop <-chan struct{}, cancel func()) {
	for n := 0; ; {
		select {
		case <-stop:
			return
		case sig := <-signals:
			if n++; sig == syscall.SIGQUIT || endsProcess(sig) && n > 1 {
				cancel()
			}
		}
	}
}

// endsProcess tells the signals that ask for an end.
func endsProcess(sig os.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
}

// serveAgain takes everything back from a successor that has ended.
func (d *Daemon) serveAgain(to *successor) {
	d.upgradeFailed(errors.New("the successor ended while this process drained; it serves again"))
	to.kill()
	d.server.SetPeer(nil)
	d.server.TakeBack()
	d.stop = make(chan struct{})
	d.http = admin.NewHTTP(d.adminOptions(d.config()), d.console)
	for _, g := range d.gates {
		g.keepFile(false)
		g.GoOn()
	}
	d.serveAdmin()
	d.beginWatching()
	d.reloading.Lock()
	d.upgrading = false
	d.reloading.Unlock()
	d.notify(fmt.Sprintf("MAINPID=%d\nREADY=1", os.Getpid()))
}

// outcome is what became of upgrades.
type outcome struct {
	mu     sync.Mutex
	failed int   // guarded by mu
	last   error // guarded by mu: of the last that has failed
}

func (o *outcome) fail(err error) {
	o.mu.Lock()
	o.failed, o.last = o.failed+1, err
	o.mu.Unlock()
}

// Upgrades is how many upgrades of this process have failed, and why the last
// one has. It is admin.Process's.
func (d *Daemon) Upgrades() (failed int, last error) {
	d.outcome.mu.Lock()
	defer d.outcome.mu.Unlock()
	return d.outcome.failed, d.outcome.last
}

// upgradeFailed notes that the last attempt has failed.
func (d *Daemon) upgradeFailed(err error) {
	d.outcome.fail(err)
	d.log.Error("upgrade: it has failed, and this process goes on", zap.Error(err))
}
