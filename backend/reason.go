package backend

// CloseReason says why a server connection ended.
type CloseReason string

// The reasons, as logs, console and metrics give them.
const (
	CloseLifetime    CloseReason = "lifetime"     // server_lifetime
	CloseIdle        CloseReason = "idle"         // server_idle_timeout
	CloseReload      CloseReason = "reload"       // its settings changed
	CloseReconnect   CloseReason = "reconnect"    // RECONNECT
	CloseEvicted     CloseReason = "evicted"      // its place was given to another
	CloseKill        CloseReason = "kill"         // KILL
	CloseTainted     CloseReason = "tainted"      // state that cannot be undone
	ClosePin         CloseReason = "pin"          // it was pinned, and its session has ended
	CloseProtocol    CloseReason = "protocol"     // it answered what was not asked
	CloseServerError CloseReason = "server_error" // it ended with an error of its own
	CloseIO          CloseReason = "io"           // the connection broke
	CloseClientGone  CloseReason = "client_gone"  // what its client left could not be cleaned
	CloseDrain       CloseReason = "drain"        // pgpoold stops
	ClosePause       CloseReason = "pause"        // PAUSE
)

// CloseReasons lists all reasons, for those who count them.
var CloseReasons = [...]CloseReason{
	CloseLifetime, CloseIdle, CloseReload, CloseReconnect, CloseEvicted, CloseKill, CloseTainted,
	ClosePin, CloseProtocol, CloseServerError, CloseIO, CloseClientGone, CloseDrain, ClosePause,
}
