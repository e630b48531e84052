package daemon

import (
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// adminSocket is the name (FileDescriptorName=) of the socket that is the
// admin port; all others are for clients.
const adminSocket = "admin"

// passed are the listening sockets that systemd has opened: those for clients,
// and the admin port's or nil.
func passed() (clients []net.Listener, admin net.Listener, err error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	for name, listeners := range named {
		for _, l := range listeners {
			switch {
			case l == nil:
				return nil, nil, fmt.Errorf("the socket %q from systemd is no listening stream socket", name)
			case name == adminSocket && admin == nil:
				admin = l
			default:
				clients = append(clients, l)
			}
		}
	}
	return clients, admin, nil
}

// notify tells systemd; without systemd it does nothing.
func (d *Daemon) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.log.Warn("systemd could not be told", zap.Error(err))
	}
}

// notifyReloading begins a reload, of which notifyReady is the end.
func (d *Daemon) notifyReloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

func (d *Daemon) notifyReady() { d.notify(daemon.SdNotifyReady) }

// notifyStopping tells that a drain begins, and how long it may take.
func (d *Daemon) notifyStopping(most time.Duration) {
	d.notify(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, (most + adminGrace + time.Second).Microseconds()))
}

// watchdog tells systemd again and again that the proxy still answers, if
// systemd wants to know. Shutdown joins it.
func (d *Daemon) watchdog(every time.Duration, stop <-chan struct{}) {
	defer d.serving.Done()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		d.server.Ready() // it takes every lock that a stuck proxy would hold
		d.notify(daemon.SdNotifyWatchdog)
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// watchdogInterval is how often watchdog must be heard of; 0: it need not.
func (d *Daemon) watchdogInterval() time.Duration {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn("systemd's watchdog", zap.Error(err))
		return 0
	}
	return within / 2
}
