package proxy

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"pgpoold/backend"
	"pgpoold/wire"
)

// The errors that pgpoold itself tells clients.
var (
	lostError = &wire.Error{Severity: wire.SeverityFatal, Code: "08006", Message: "server closed the connection unexpectedly"}

	errStatementMode = &wire.Error{Severity: wire.SeverityFatal, Code: "08P01",
		Message: "transaction blocks not allowed in statement pooling mode", Hint: "This is pool_mode (pool.mode: statement)."}
	errShutdown = &wire.Error{Severity: wire.SeverityFatal, Code: "57P01", Message: "terminating connection due to administrator command",
		Detail: "pgpoold is shutting down."}
	errCanceled = &wire.Error{Severity: wire.SeverityError, Code: "57014", Message: "canceling statement due to user request"}

	errWaitTimeout = &wire.Error{Severity: wire.SeverityError, Code: "53300", Message: "query_wait_timeout",
		Detail: "No server became free in time (pool.query_wait_timeout).",
		Hint:   "All servers of the pool are busy: raise default_pool_size (pool.size), or look for long or idle transactions."}
	errLoginTimeout = fatal("57014", "client_login_timeout: the login took too long (listen.client_login_timeout)")
	errTooMany      = errLimit("no more connections allowed", "max_client_conn", "listen.max_client_conn")
)

func fatal(code, format string, args ...any) *wire.Error {
	return &wire.Error{Severity: wire.SeverityFatal, Code: code, Message: fmt.Sprintf(format, args...)}
}

// refusal is what a client hears when its pool can give it no server.
func refusal(err error, severity string) *wire.Error {
	var own *wire.Error
	if errors.As(err, &own) {
		e := *own
		e.Severity = severity
		return &e
	}
	if errors.Is(err, backend.ErrWaitTimeout) {
		var wait *backend.WaitError
		if !errors.As(err, &wait) {
			wait = &backend.WaitError{}
		}
		return waitTimeout(wait.Setting, severity)
	}
	e := &wire.Error{Severity: severity, Code: "57P03", Message: err.Error()}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		// PostgreSQL's own word on the database; what it thinks of pgpoold's
		// login is not the client's.
		if pg.Code == "3D000" || pg.Code == "53300" {
			e.Code = pg.Code
		}
		if e.Message = pg.Message; pg.Code != "3D000" {
			e.Message = "cannot connect to server: " + pg.Message
		}
		e.Detail, e.Hint = pg.Detail, pg.Hint
	}
	if hint := firstDayHint(err); hint != "" {
		e.Hint = hint
	}
	return e
}
