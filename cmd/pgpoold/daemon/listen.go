package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"pgpoold/config"
)

// listen opens one client address.
func listen(addr config.Addr, socketMode os.FileMode) (net.Listener, error) {
	if addr.Network == "unix" {
		return listenUnix(addr.Address, socketMode)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // such a socket does not take all options, which then are set for each client
	l, err := lc.Listen(context.Background(), addr.Network, addr.Address)
	return l, takenError("listen.addr", addr.Address, err)
}

// listenUnix opens a Unix socket. A socket file that somebody answers on is
// in use; one that nobody answers on was left behind by a process that died,
// and makes room.
func listenUnix(path string, mode os.FileMode) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, 2*time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen.addr: unix socket %s is in use by another process", path)
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode()&os.ModeSocket == 0:
		return nil, fmt.Errorf("listen.addr: %s exists and is no socket", path)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen.addr: a stale unix socket is in the way: %w", err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("listen.addr: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, takenError("listen.addr", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen.unix_socket_mode: %w", err)
	}
	return l, nil
}

// takenError says which setting's address could not be listened on, and why.
func takenError(setting, addr string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %s is taken: another process listens there already", setting, addr)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("%s: cannot listen on %s: %w", setting, addr, err)
}

// ownAddrs are the addresses of pgpoold's own listeners.
type ownAddrs struct {
	sockets []os.FileInfo // of the unix sockets
	tcp     []netip.AddrPort
	// interfaces lists the machine's addresses, for listeners on all of them.
	interfaces func() ([]net.Addr, error)
}

func ownAddrsOf(listeners []net.Listener) (*ownAddrs, error) {
	own := &ownAddrs{interfaces: net.InterfaceAddrs}
	for _, l := range listeners {
		switch a := l.Addr().(type) {
		case *net.TCPAddr:
			own.tcp = append(own.tcp, netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), uint16(a.Port)))
		case *net.UnixAddr:
			info, err := os.Stat(a.Name)
			if err != nil {
				return nil, err
			}
			own.sockets = append(own.sockets, info)
		}
	}
	return own, nil
}

// has reports whether a dial of the resolved address would reach pgpoold. It
// is for backend.PoolOptions.IsSelf.
func (o *ownAddrs) has(network, addr string) bool {
	if network == "unix" {
		info, err := os.Stat(addr)
		if err != nil {
			return false
		}
		for _, own := range o.sockets {
			if os.SameFile(info, own) {
				return true
			}
		}
		return false
	}
	remote, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	ip := remote.Addr().Unmap().WithZone("")
	for _, own := range o.tcp {
		if own.Port() != remote.Port() {
			continue
		}
		if own.Addr() == ip || (own.Addr().IsUnspecified() && o.isLocal(ip)) {
			return true
		}
	}
	return false
}

// isLocal reports whether ip is one of this machine's.
func (o *ownAddrs) isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	all, err := o.interfaces()
	if err != nil {
		return false
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap().WithZone("") == ip {
			return true
		}
	}
	return false
}
