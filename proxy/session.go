package proxy

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
	"pgpoold/wire"
	"pgpoold/wire/stream"
)

// session is one logged-in client, from the end of its login to its close.
//
// Its own goroutine, the client pump, reads the client and feeds what it read
// to advance, under in. While the session waits for a server the pump reads
// on; whoever brings the server (Granted) calls advance in the pump's place.
// The replies come by the pump of the attached server.
//
// Nothing of a session lives on its goroutine's stack between messages.
type session struct {
	// Immutable.
	px        *Server
	id        uint64
	conn      *stream.Conn
	db        *Database
	pool      *pool
	user      string
	pid       uint32
	carries   bool // what it has SET goes with it, and other state keeps its server
	level     StateLevel
	upstream  bool // the server is itself a transaction pooler
	mode      Mode
	secret    string
	start     settings  // startup parameters, which RESET returns to
	startLink settings  // those about the connection
	startTo   *reported // what the client was told at login
	began     int64     // unix nanoseconds
	tlsName   *string   // nil: none
	addr      sessionAddr

	// Any goroutine.
	link       atomic.Pointer[link]           // stored under link.mu
	lastServer atomic.Pointer[backend.Server] // the last one it had
	blocked    atomic.Bool                    // advance waits for replies; the server's pump wakes the client's
	drainTold  atomic.Bool                    // the log has been told that a drain waits for it
	state      atomic.Uint32                  // sessionState, for the console
	torn       atomic.Bool                    // the last message it got was cut off: nothing is said behind it
	ending     atomic.Pointer[wire.Error]     // why the session must end; Severity "" for without a word
	idleLimit  atomic.Int32                   // idle_session_timeout in milliseconds; 0: none
	sentN      int32                          // guarded as sent: how much of it there is; -1: it was too much
	again      int32                          // guarded as sent: servers in a row that ended before they had read it
	endBy      atomic.Int64                   // when it must have ended by itself, unix nanoseconds; 0: it need not
	received   atomic.Uint64                  // bytes from the client
	timeouts   atomic.Pointer[Timeouts]       // never nil

	watched *watched // the clock's; nil: nothing to remember
	quiet   quiet    // the clock's

	// in guards the client's side: what it has sent and how far that is
	// handled. It is held for no longer than a non-blocking write takes.
	in        sync.Mutex
	buf       *stream.Buffer  // guarded by in: input; nil while there is none
	pos, n    int             // guarded by in: buf[pos:n] is not handled
	big       []byte          // guarded by in: a message too large for buf, as far as it has come; its size is the capacity; nil: none
	pass      int             // guarded by in: bytes of a message on its way that have not come
	passOn    bool            // guarded by in: they go to the server; else they are dropped
	orderly   bool            // guarded by in: no more can come, and a Terminate stands behind what is not handled
	terminate bool            // guarded by in: Terminate came
	gone      bool            // guarded by in: the pump has ended
	canceled  bool            // guarded by in: a cancel came when it had just left the queue
	waiting   bool            // guarded by in: in the pool's queue
	departing bool            // guarded by in, owned by the pump: the session is moving to another process
	skip      bool            // guarded by in: an error of ours: everything up to Sync is dropped
	reply     []byte          // guarded by in: answers of ours, sent when advance ends
	ticket    *backend.Ticket // guarded by in while not waiting, and its Since always; nil: it has asked for no server since it was parked

	// Guarded by the attached link's mu; by in while there is none.
	names         names
	unnamed       unnamed
	frozen        []*name // of names, parsed under other settings than frozenFor, with literals that mean what they meant then
	frozenFor     settings
	batch         uint64          // batches sent: a Sync or Query ends one
	settings      settings        // what the client wishes to be in force
	told          *reported       // what the client was told last
	found         sqlscan.Finding // what the texts since the last inspection may have done
	unsettled     bool            // under which settings a statement of the session was parsed is only known when the transaction has ended
	blind         bool            // and of one not before the batch of its Parse has ended
	plainly       bool            // and all of that batch are plain: what they set holds at its end
	forgets       bool            // a DEALLOCATE or DISCARD was sent, and may not have been answered
	usesLast      bool            // its texts have asked for currval or lastval
	without       backend.Used    // what no server of its may have had
	stays         bool            // guarded by in: it cannot move to another process (here it takes no room)
	frozenUnnamed bool            // the unnamed statement may be such a one as frozen has (here it takes no room)
	changedIn     uint32          // the batch, but for its upper half, of the last text that may change settings
	held          sqlscan.Finding // what state it has on its server
	own           sqlscan.Finding // what the text scanned last says itself
	print         uint64          // fingerprint of the text scanned last, where the audit is on
	customs       []string        // custom settings that its texts have named
	settingsSize  int64           // what its settings are counted with
	pin           string          // why the session keeps its server
	pinSince      int64           // since when, unix nanoseconds
	asked         int64           // when its last query began, unix nanoseconds; 0: none has
	sent          *stream.Buffer  // what the client has sent since the attach, as long as it could be sent again
	outBytes      uint64          // to the client, replies of servers'
	portals       *portals        // nil: none whose text names statements
	cancel        *pendingCancel  // not nil: cancel requests wait until the client's own query is at the head
}

// tls names the version and the cipher of the client's TLS; "": it has none.
func (s *session) tls() string {
	if s.tlsName == nil {
		return ""
	}
	return *s.tlsName
}

// sessionAddr is where a client is, for logs and the console.
type sessionAddr struct {
	host string // "unix" or an IP
	port int
}

// sessionState is a session's state as the console calls it.
type sessionState uint32

const (
	stateIdle sessionState = iota
	stateWaiting
	stateActive
	stateEnded // nobody sees it any more
)

func (st sessionState) String() string {
	return [...]string{"idle", "waiting", "active", "idle"}[st]
}

// run is the client pump's life, or the part of it up to where the connection
// is parked. It owns the connection and closes it.
func (s *session) run() {
	for {
		err := s.conn.Pump(s.readable, s.woken)
		switch {
		case err == stream.ErrParked:
			return // it is not this goroutine's any more
		case !s.departing:
			s.leave(err)
		case !s.move():
			continue // it goes on here
		}
		s.px.sessions.Done()
		return
	}
}

// readable reads what the client sent and handles it; false ends the session.
func (s *session) readable() bool {
	for {
		if s.conn.Queued() && s.conn.Flushed() != nil {
			return false // a client that does not read is not read either
		}
		s.in.Lock()
		if s.full() {
			// What came is not to be handled yet, so no more is read; the client
			// is held up by its own socket.
			more := s.advance()
			full := s.full()
			if s.waiting && s.conn.HungUp() {
				more = false // its end stands behind what is not read
			}
			s.in.Unlock()
			if !more {
				return false
			}
			if full {
				return true
			}
			continue
		}
		p := s.room()
		n, drained, err := s.conn.TryRead(p)
		if n > 0 {
			s.filled(n)
			s.received.Add(uint64(n))
		}
		more := s.advance()
		s.tidyBuffer()
		link := s.link.Load()
		s.in.Unlock()
		if !more {
			return false
		}
		if link != nil && link.srv.Conn.Queued() && !s.flushServer(link) {
			return false
		}
		if err == stream.ErrWouldBlock {
			return true
		}
		if err != nil {
			return err == io.EOF && s.saidAll()
		}
		if drained {
			return true
		}
	}
}

// saidAll reports whether a client that sends no more has said goodbye behind
// messages that are not handled yet: these still run, as PostgreSQL would run
// them, and the session stays for as long.
func (s *session) saidAll() bool {
	s.in.Lock()
	defer s.in.Unlock()
	if s.terminate {
		return s.link.Load() != nil // it may read on, what it has asked for
	}
	if s.big != nil || s.pass > 0 {
		return false
	}
	for b := s.input(); len(b) >= wire.HeaderLen; {
		typ, size := wire.Header(b)
		if typ == wire.MsgTerminate {
			s.orderly = true
			return s.advance()
		}
		if size < wire.HeaderLen || size > len(b) {
			break
		}
		b = b[size:]
	}
	return false
}

// flushServer waits until the server has taken what the client sent, as a
// direct connection would, and then sees whether the server can go.
func (s *session) flushServer(l *link) bool {
	_ = l.srv.Conn.Flushed()
	s.releaseLate(l)
	return s.ending.Load() == nil
}

// releaseLate gives the server back if what kept it was the client's side.
func (s *session) releaseLate(l *link) {
	l.mu.Lock()
	if l.sess == s && l.inspectable() {
		l.inspect(false)
	}
	if l.sess != s || !l.free() {
		l.mu.Unlock()
		return
	}
	l.detach()
	l.mu.Unlock()
	l.giveBack()
}

// woken runs after somebody has woken the pump.
func (s *session) woken() bool {
	if s.ending.Load() != nil || s.conn.Queued() && s.conn.Flushed() != nil {
		return false
	}
	s.blocked.Store(false)
	s.in.Lock()
	more := !s.departs() && s.advance()
	s.tidyBuffer()
	link := s.link.Load()
	s.in.Unlock()
	if more && link != nil && link.srv.Conn.Queued() {
		return s.flushServer(link)
	}
	return more
}

// full reports whether there is no room for more input.
func (s *session) full() bool {
	if s.big != nil {
		return len(s.big) == cap(s.big)
	}
	return s.buf != nil && s.n == len(s.buf) && s.pos == 0
}

// room is where the next input goes.
func (s *session) room() []byte {
	if s.big != nil {
		return s.big[len(s.big):cap(s.big)]
	}
	if s.buf == nil {
		s.buf = stream.GetBuffer()
		s.pos, s.n = 0, 0
	} else if s.n == len(s.buf) {
		s.n = copy(s.buf[:], s.buf[s.pos:s.n])
		s.pos = 0
	}
	return s.buf[s.n:]
}

func (s *session) filled(n int) {
	if s.big != nil {
		s.big = s.big[:len(s.big)+n]
		return
	}
	s.n += n
}

// tidyBuffer gives the buffer back when it is empty: an idle client has none.
func (s *session) tidyBuffer() {
	if s.buf != nil && s.pos == s.n {
		stream.PutBuffer(s.buf)
		s.buf = nil
	}
}

// freeSent gives up what was kept for a second attempt. The caller holds the
// link's mu.
func (s *session) freeSent() {
	if s.sent != nil {
		stream.PutBuffer(s.sent)
		s.sent = nil
	}
	s.sentN = 0
}

// end makes the session end with e, told to the client; Severity "" ends it
// without a word. The first reason stays. It may be called by anybody.
func (s *session) end(e *wire.Error) {
	if s.ending.CompareAndSwap(nil, e) {
		s.endBy.Store(time.Now().Add(farewell).UnixNano())
	}
	s.conn.Wake()
}

// hurry ends a session that should have ended but hangs in a write to a peer
// that does not read.
func (s *session) hurry(now time.Time) {
	if by := s.endBy.Load(); by != 0 && now.UnixNano() > by {
		s.conn.Interrupt()
		if l := s.link.Load(); l != nil && l.srv.Conn.Queued() {
			l.srv.Close(backend.CloseClientGone)
			l.srv.Conn.Interrupt()
		}
	}
}

// writeFailed notes that the client cannot be written to.
func (s *session) writeFailed(error) { s.end(&wire.Error{}) }

// wish notes that the client's own doing gave a reported setting a new value,
// and returns the value to tell the client. The link's mu is held.
func (s *session) wish(l *link, name, value string) string {
	startValue, atStart := s.start.get(name)
	base, _ := l.base.get(name)
	told := value
	switch {
	case atStart && s.found&sqlscan.Resets != 0 && value == base:
		// RESET went to the server's start value; the session's own is meant.
		s.settings = s.settings.with(name, startValue, true)
		if v, ok := s.startTo.get(name); ok {
			told = v
		}
		l.known = l.known && s.isReadable()
		return told
	case value == base && !atStart:
		s.settings = s.settings.with(name, "", false)
	default:
		if v, ok := s.startTo.get(name); ok && atStart && v == value {
			value = startValue
		}
		s.settings = s.settings.with(name, value, true)
	}
	if l.known {
		l.label = s.settings
	}
	return told
}
