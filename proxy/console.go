package proxy

import "net"

// ConsoleClient is a logged-in client of the console database, handed to
// Options.Console, which owns the connection from then on and closes it.
type ConsoleClient struct {
	Conn  net.Conn // behind TLS where the client asked for it; ReadyForQuery has not been sent
	User  string
	Admin bool // else it may only SHOW
	// Parameters are the client's startup parameters.
	Parameters map[string]string
}
