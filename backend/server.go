package backend

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/puddle/v2"

	"pgpoold/wire/stream"
)

// Handler is what a server's pump feeds. The consumer of the pool makes one
// for each server (Callbacks.NewHandler). Its methods run on the pump's
// goroutine unless they say otherwise.
type Handler interface {
	// Readable reads what the server sent; false ends the connection.
	Readable() bool
	// Woken runs after Server.Close or Server.Wake; false ends the connection.
	Woken() bool
	// Closed runs once, after the last Readable or Woken, while the socket
	// still exists. err is nil if the handler itself ended the connection.
	Closed(err error)
	// Check asks an idle server for a sign of life, and gives the server back
	// with Pool.Release when it came. It may be called by anybody.
	Check()
}

// Server is one logged-in connection to PostgreSQL.
type Server struct {
	// Immutable once the server is in its pool.
	ID      uint64
	Pool    *Pool
	Conn    *stream.Conn
	PID     uint32
	TLS     string            // version and cipher, or ""
	Params  map[string]string // what the server reported at login
	Born    time.Time
	Handler Handler

	secret  []byte      // cancel key
	tls     *tls.Config // how the connection was encrypted; nil: it was not
	network string      // where it was dialled
	addr    string
	expires time.Time // zero: never
	res     *puddle.Resource[*Server]

	// Any goroutine. The first reason stays.
	closing atomic.Pointer[CloseReason]

	// Guarded by Pool.mu.
	state     serverState
	idleSince time.Time
	label     any // what is in force on it; compared when a session looks for a server
	used      Used
	close     bool // it is to end when it is next free
	why       CloseReason
	marked    time.Time // and since when
	lent      func()    // its place goes to another process, which hears of it by this
}

// Used marks what has been done on a server that cannot be undone. Few sessions
// could ever notice; these ask for a server without it.
type Used uint8

// The marks.
const (
	UsedBefore  Used = 1 << iota // it was not dialled for the one who asks
	UsedTemp                     // temporary objects were made
	UsedCustoms                  // custom settings were named
)

// serverState is where a server is in its pool.
type serverState uint8

const (
	serverActive   serverState = iota // somebody's
	serverIdle                        // in Pool.idle
	serverTested                      // Handler.Check is under way
	serverCanceled                    // clean, but a cancel request is still on its way
	serverGone                        // out of the pool
)

// Close ends the connection: its pump is woken and ends. It may be called by
// anybody, more than once. A server in use loses its client.
func (s *Server) Close(reason CloseReason) {
	s.closing.CompareAndSwap(nil, &reason)
	s.Conn.Wake()
}

// Closing returns the reason given to Close, or "".
func (s *Server) Closing() CloseReason {
	if r := s.closing.Load(); r != nil {
		return *r
	}
	return ""
}

// SetClosing records why the pump is about to end the connection, if nobody
// has given a reason before.
func (s *Server) SetClosing(reason CloseReason) { s.closing.CompareAndSwap(nil, &reason) }

// RemoteAddr is where the server is.
func (s *Server) RemoteAddr() net.Addr { return s.Conn.RemoteAddr() }

// run is the pump: it parks on the server's socket for the server's whole
// life and then takes it out of the pool. Owned by the pool, which joins it.
func (s *Server) run() {
	defer s.Pool.pumps.Done()
	err := s.Conn.Pump(s.Handler.Readable, s.Handler.Woken)
	s.SetClosing(CloseIO)
	s.Pool.remove(s)
	s.Handler.Closed(err)
	if s.Closing() != CloseIO {
		s.sayGoodbye()
	}
	s.Conn.Close(0)
	s.res.Destroy()
	s.Pool.removed(s)
}

// goodbyePatience is how long PostgreSQL may take to end its side.
const goodbyePatience = time.Second

// sayGoodbye sends Terminate, if the socket takes it, and waits until
// PostgreSQL has closed its end: only then has it one connection less, and
// another may take the place. A pool that closes needs no place.
func (s *Server) sayGoodbye() {
	err := s.Conn.Write([]byte{'X', 0, 0, 0, 4}, false)
	if err == nil && s.Closing() != CloseClientGone && s.Pool.ctx.Err() == nil {
		_, _ = s.Conn.Ending(goodbyePatience)
	}
}
