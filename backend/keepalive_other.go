//go:build !linux

package backend

import "syscall"

// control does nothing: this system has no TCP_USER_TIMEOUT.
func (k Keepalive) control(string, string, syscall.RawConn) error { return nil }
