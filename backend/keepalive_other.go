//go:build !linux

package backend

import "syscall"

// control does nothing: this system has no TCP_USER_TIMEOUT.
func (k Keepalive) control(string, string, syscall.RawConn) error { return nil }

// set is not needed: each connection is set by itself.
func (k Keepalive) set(int) error { return nil }

// again is control.
func (k Keepalive) again(rc syscall.RawConn) error { return k.control("tcp", "", rc) }
