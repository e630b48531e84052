package proxy

import (
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// firstDayHint says beside PostgreSQL's text what most often stands behind a
// failure to reach a hosted database on the first day. It is "" where there
// is nothing to add.
func firstDayHint(err error) string {
	text := err.Error()
	var pg *pgconn.PgError
	var dns *net.DNSError
	switch {
	case strings.Contains(text, "Tenant or user not found"):
		return "The shared pooler does not know this user: the user name must end in .PROJECT_REF, and the host must be the one of the project's region."
	case strings.Contains(text, "supabase.co") && (errors.As(err, &dns) || errors.Is(err, syscall.ENETUNREACH) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL)):
		return "db.*.supabase.co has an IPv6 address only, and there may be no IPv6 route here: use the session pooler on port 5432, or the IPv4 add-on."
	case strings.Contains(text, "self-signed certificate") || strings.Contains(text, "unknown authority"):
		return "The server's certificate is not signed by a known authority: set databases.X.tls.ca_file to its CA (Supabase: prod-ca-2021.crt from the dashboard)."
	case errors.As(err, &pg) && pg.Code == "28P01":
		return "The user or password that pgpoold presents to the server is wrong (databases.X.dsn or password). pgpoold waits before it tries again: some hosts ban an address after a few wrong passwords."
	case strings.Contains(text, "supabase") && errors.Is(err, syscall.ECONNREFUSED), strings.Contains(text, "Circuit breaker open"):
		return "The host may have banned this address after wrong passwords; such a ban ends by itself after about half an hour."
	}
	return ""
}
