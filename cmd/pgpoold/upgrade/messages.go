package upgrade

import (
	"pgpoold/proxy"
)

// Protocol is the version of what the messages say. Processes that speak
// different ones do not take over from each other: the successor says which it
// speaks and ends, and the predecessor goes on.
const Protocol = 1

// Kind says what a message is.
type Kind uint8

// The kinds. The first three are the same in all versions.
const (
	// KindHello begins: the predecessor's Hello, with the listening sockets.
	KindHello Kind = 1 + iota
	// KindReady answers it: the successor's Ready. It has read its
	// configuration and waits.
	KindReady
	// KindRefused answers it as well: a Refused, and the successor ends.
	KindRefused

	// KindTake passes everything on: a Take. From here on the successor serves.
	KindTake
	// KindServing says that it does.
	KindServing
	// KindReport tells what the predecessor still has: a Report.
	KindReport
	// KindSession brings a session: a Session, with its socket.
	KindSession
	// KindAnswer says whether the successor would have it: an Answer.
	KindAnswer
	// KindGo gives it the session, KindKeep takes the offer back: a Number.
	KindGo
	KindKeep
	// KindCancel asks the other process to cancel what its session runs: a
	// Cancel, which KindDone answers: a Number.
	KindCancel
	KindDone
	// KindWant asks for a place of a pool, KindGrant gives it: a Pool. KindLack
	// tells for which pools clients of the successor wait: a Report.
	KindWant
	KindGrant
	KindLack
	// KindBye says that the one who says it ends as it should.
	KindBye
)

// Hello is what a predecessor begins with.
type Hello struct {
	Protocol  int
	PID       int
	Version   string // of the program
	Listeners []Listener
	Systemd   bool // the listening sockets are systemd's choice
	// Ready tells that the predecessor has reached PostgreSQL.
	Ready bool
}

// Listener describes one listening socket; they come in this order.
type Listener struct {
	Network, Address string // as configured; "" for a socket of systemd's
	Admin            bool
	Unlink           bool // a Unix socket's file goes when the last process ends
}

// Ready is a successor's answer.
type Ready struct {
	Protocol int
	PID      int
	Version  string
}

// Refused says why a process does not take over.
type Refused struct{ Reason string }

// Take is what the successor goes on with.
type Take struct {
	Legacy      proxy.Legacy
	Held        []proxy.Held
	Controls    proxy.Controls
	LastSession uint64
}

// Report is what the predecessor still has, and what it has counted.
type Report struct {
	Held   []proxy.Held
	Legacy *proxy.Legacy // nil: as before
}

// Pool names a pool.
type Pool struct{ Key proxy.PoolKey }

// Session is one session. Number is the predecessor's for it.
type Session struct {
	Number uint64
	Moved  proxy.Moved
}

// Answer says why the successor does not want it; Refused "": it does.
type Answer struct {
	Number  uint64
	Refused string
}

// Number names what is talked about.
type Number struct{ Number uint64 }

// Cancel is a CancelRequest. Its secret is never logged.
type Cancel struct {
	Number uint64
	PID    uint32
	Secret []byte
}
