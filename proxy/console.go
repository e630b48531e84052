package proxy

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net"
)

// ConsoleClient is a logged-in client of the console database, handed to
// Options.Console, which owns the connection from then on and closes it.
type ConsoleClient struct {
	Conn  net.Conn // behind TLS where the client asked for it; ReadyForQuery has not been sent
	User  string
	Admin bool   // else it may only SHOW
	TLS   string // "TLSv1.3/TLS_AES_128_GCM_SHA256", or ""
	// ApplicationName is what it has called itself at login.
	ApplicationName string
	// PID and Secret are what it is to name in a CancelRequest; Cancels gets
	// a value when it did.
	PID     uint32
	Secret  []byte
	Cancels chan struct{}
}

// assignConsole gives a console client its cancel key.
func (k *cancelKeys) assignConsole(c *ConsoleClient) {
	c.Secret = make([]byte, 4)
	rand.Read(c.Secret)
	c.Cancels = make(chan struct{}, 1)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.console == nil {
		k.console = map[uint32]*ConsoleClient{}
	}
	for {
		var b [4]byte
		rand.Read(b[:])
		pid := firstPID + binary.BigEndian.Uint32(b[:])%(1<<31-firstPID)
		if k.pid[pid] == nil && k.console[pid] == nil {
			c.PID = pid
			k.console[pid] = c
			return
		}
	}
}

func (k *cancelKeys) forgetConsole(c *ConsoleClient) {
	k.mu.Lock()
	delete(k.console, c.PID)
	k.mu.Unlock()
}

// cancelConsole does what a CancelRequest for a console client asks.
func (k *cancelKeys) cancelConsole(pid uint32, secret []byte) {
	k.mu.Lock()
	c := k.console[pid]
	k.mu.Unlock()
	if c == nil || subtle.ConstantTimeCompare(c.Secret, secret) != 1 {
		return
	}
	select {
	case c.Cancels <- struct{}{}:
	default: // one is waiting to be seen already
	}
}
