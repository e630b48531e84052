//go:build !linux

package stream

import (
	"errors"
	"net"
)

// Nothing is parked here.

func (c *Conn) unplug(uint32) (*plug, error)     { return nil, errors.ErrUnsupported }
func (c *Conn) replug() *plug                    { return nil }
func (c *Conn) awaitPlug() *plug                 { return nil }
func (c *Conn) control(f func(fd uintptr)) error { return c.sock.plug.Load().control(f) }
func (c *Conn) parkedAddr(bool) net.Addr         { return &net.TCPAddr{} }
