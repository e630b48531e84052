package backend

import (
	"cmp"
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control sets TCP_USER_TIMEOUT on a new TCP socket.
func (k Keepalive) control(network, _ string, rc syscall.RawConn) error {
	if k.UserTimeout <= 0 || network == "unix" {
		return nil
	}
	return k.again(rc)
}

// again is control for a socket that may have had another value.
func (k Keepalive) again(rc syscall.RawConn) error {
	var serr error
	if err := rc.Control(func(fd uintptr) { serr = k.userTimeout(int(fd)) }); err != nil {
		return err
	}
	return serr
}

// userTimeout sets TCP_USER_TIMEOUT; 0 is the system's own.
func (k Keepalive) userTimeout(fd int) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(max(k.UserTimeout, 0)/time.Millisecond))
	if k.UserTimeout <= 0 {
		return nil // not every socket takes one, nor then has one
	}
	return err
}

// What package net takes for a time or number that is not given.
const (
	defaultKeepalive      = 15 * time.Second
	defaultKeepaliveCount = 9
)

// set sets k and no delay, as package net does on a socket of its own.
func (k Keepalive) set(fd int) error {
	var errs []error
	option := func(level, name, value int) { errs = append(errs, unix.SetsockoptInt(fd, level, name, value)) }
	seconds := func(name int, d time.Duration) {
		if d == 0 {
			d = defaultKeepalive
		}
		if d > 0 {
			option(unix.IPPROTO_TCP, name, int((d+time.Second-1)/time.Second))
		}
	}
	option(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if !k.Enable {
		option(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	} else {
		option(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		seconds(unix.TCP_KEEPIDLE, k.Idle)
		seconds(unix.TCP_KEEPINTVL, k.Interval)
		if n := cmp.Or(k.Count, defaultKeepaliveCount); n > 0 {
			option(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, n)
		}
	}
	return errors.Join(append(errs, k.userTimeout(fd))...)
}
