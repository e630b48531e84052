// Package stream is a connection as the pumps see it: park, wake, read,
// write, close over one descriptor, plain or TLS.
//
// A Conn has two lives. While it logs in it reads and writes as an ordinary
// blocking net.Conn.
// Then Pump takes it over: one goroutine parks inside RawConn.Read and calls
// a handler whenever bytes may have come; TryRead never blocks there. Any
// goroutine may write (see Conn.Write) and any may wake or interrupt it.
//
// On Linux the pump issues read and write as raw system calls, which a
// non-blocking descriptor allows and which spares the scheduler's
// bookkeeping (also while it logs in); everywhere else, and under the race detector, it takes
// syscall.Read and syscall.Write. Both run inside RawConn's callbacks, so the
// descriptor cannot be closed or reused below them. Who looks at a descriptor from
// elsewhere (Control, Peek, Pending) may find its socket closed, but never another's.
package stream
