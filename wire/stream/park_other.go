//go:build !linux

package stream

import "sync"

// Parker is for Linux only.
type Parker struct{ mu sync.Mutex }

// NewParker has no way to watch many sockets here: connections keep their
// goroutines.
func NewParker() (*Parker, error) { return nil, nil }

func (*Parker) forget(*Conn) {}

// Parked is 0.
func (*Parker) Parked() int { return 0 }

// Close does nothing.
func (*Parker) Close() {}
