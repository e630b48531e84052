package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"time"

	"pgpoold/wire"
)

// Cancel asks PostgreSQL to cancel what the server is doing: a CancelRequest
// on a connection of its own, over TLS if the server's connection is. It
// returns when PostgreSQL has closed that connection, which it does after it
// has sent the signal; only then, and only if err is nil, is it certain that
// a later query of the server's will not be hit.
func (s *Server) Cancel(ctx context.Context) error {
	sock, err := s.Pool.Target().dialSocket(ctx, s.network, s.addr)
	if err != nil {
		return err
	}
	defer sock.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := sock.SetDeadline(deadline); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = sock.SetDeadline(longAgo) })
	defer stop()
	var rw io.ReadWriter = sock
	if s.tls != nil {
		if _, err := sock.Write(wire.AppendSSLRequest(nil)); err != nil {
			return err
		}
		var answer [1]byte
		if _, err := io.ReadFull(sock, answer[:]); err != nil {
			return err
		}
		if answer[0] != 'S' {
			return errors.New("the server refused TLS for a cancel request")
		}
		over := tls.Client(sock, s.tls.Clone())
		if err := over.HandshakeContext(ctx); err != nil {
			return err
		}
		rw = over
	}
	if _, err := rw.Write(wire.AppendCancel(nil, s.PID, s.secret)); err != nil {
		return err
	}
	var b [1]byte
	if _, err := rw.Read(b[:]); errors.Is(err, os.ErrDeadlineExceeded) {
		return err // whether the signal was sent is not known
	}
	return nil
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)
