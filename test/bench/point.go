package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What a transaction is, where it is not pgbench's own -S.
const (
	whatSelect  = ""
	whatRows    = "rows"     // 1,000 rows of 100 bytes
	whatValue   = "value"    // one of 10 MB
	whatConnect = "connect"  // a connection and a query
	whatWrite   = "write"    // pgbench's own -N: a transaction of five statements, with an INSERT
	whatCopyOut = "copy-out" // COPY TO STDOUT of copyBytes
	whatCopyIn  = "copy-in"  // COPY FROM STDIN of copyBytes
)

// Which sides speak TLS.
const (
	tlsNone   = ""
	tlsClient = "client"
	tlsServer = "server"
	tlsBoth   = "both"
)

// A point of the table.
type point struct {
	Protocol string // pgbench's --protocol: simple, extended, prepared
	Clients  int
	Depth    int // queries in a pipeline, which is one transaction; 0: one query, no pipeline
	What     string
	TLS      string
	SCRAM    bool // clients log in with a password
	RSA      bool // the certificate for clients has a key of RSA-2048, not of P-256
	Idle     int  // clients more, that have run a query and do nothing
	Cores    int  // GOMAXPROCS of pgpoold; 0: as it comes
	// State and Audit are pgpoold's session_state and session_state_audit, ""
	// for the defaults. Where one is given a second pgpoold has the defaults.
	State, Audit string
}

// defaultState is the level of session state that nobody asked for.
const defaultState = "preserve"

func (p point) String() string { return fmt.Sprintf("%s, %d clients", p.workload(), p.Clients) }

// workload is what the table calls it.
func (p point) workload() string {
	s := p.Protocol
	if p.What != whatSelect {
		s = map[string]string{
			whatRows: "1,000 rows of 100 bytes", whatValue: "a value of 10 MB", whatConnect: "connect, query, leave",
			whatWrite: "write", whatCopyOut: "COPY out of 64 MB", whatCopyIn: "COPY in of 64 MB",
		}[p.What]
	}
	if p.Depth > 0 {
		s += fmt.Sprintf(", pipelines of %d", p.Depth)
	}
	if p.SCRAM {
		s += ", SCRAM"
	}
	if p.TLS != tlsNone {
		s += map[string]string{tlsClient: ", TLS to clients", tlsServer: ", TLS to servers", tlsBoth: ", TLS on both sides"}[p.TLS]
	}
	if p.RSA {
		s += " with RSA-2048"
	}
	if p.Idle > 0 {
		s += fmt.Sprintf(", beside %d idle clients", p.Idle)
	}
	if p.Cores > 0 {
		s += fmt.Sprintf(", GOMAXPROCS=%d", p.Cores)
	}
	if p.leveled() {
		s += ", " + p.level()
	}
	return s
}

// leveled reports whether the point is there for a level's cost.
func (p point) leveled() bool { return p.State != "" || p.Audit != "" }

// level is what the table calls the level of session state.
func (p point) level() string {
	s := p.State
	if s == "" {
		s = defaultState
	}
	if p.Audit != "" {
		s += " with audit " + p.Audit
	}
	return s
}

// parsePoint reads a workload as -protocols names it: a protocol, or what a
// transaction is, with /depth, +tls=client, +scram, +rsa, +idle=N, +cores=N,
// +state=LEVEL and +audit=SHARE behind it.
func parsePoint(name string) (p point, err error) {
	bad := func() (point, error) {
		return point{}, fmt.Errorf("-protocols: %q: want simple, extended, prepared, %s, with /DEPTH (not simple), +tls=client, +tls=server, +tls=both, +scram, +rsa, +idle=N, +cores=N, +state=preserve, +state=strict, +state=reject, +state=ignore or +audit=SHARE behind it",
			name, strings.Join([]string{whatRows, whatValue, whatConnect, whatWrite, whatCopyOut, whatCopyIn}, ", "))
	}
	parts := strings.Split(name, "+")
	what, depth, deep := strings.Cut(parts[0], "/")
	switch what {
	case "simple", "extended", "prepared":
		p.Protocol = what
	case whatRows, whatValue, whatConnect, whatWrite, whatCopyOut, whatCopyIn:
		p.Protocol, p.What = "simple", what
	default:
		return bad()
	}
	if deep {
		if p.Depth, err = strconv.Atoi(depth); err != nil || p.Depth < 1 || p.Protocol == "simple" {
			return bad()
		}
	}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		n, _ := strconv.Atoi(value)
		switch {
		case key == "tls" && (value == tlsClient || value == tlsServer || value == tlsBoth):
			p.TLS = value
		case part == "scram":
			p.SCRAM = true
		case part == "rsa":
			p.RSA = true
		case key == "idle" && n > 0:
			p.Idle = n
		case key == "cores" && n > 0:
			p.Cores = n
		case key == "state" && slices.Contains([]string{defaultState, "strict", "reject", "ignore"}, value):
			p.State = value
		case key == "audit" && isShare(value):
			p.Audit = value
		default:
			return bad()
		}
	}
	return p, nil
}

func isShare(s string) bool {
	share, err := strconv.ParseFloat(s, 64)
	return err == nil && share >= 0 && share <= 1
}

// clientTLS and serverTLS tell which sides are encrypted.
func (p point) clientTLS() bool { return p.TLS == tlsClient || p.TLS == tlsBoth }
func (p point) serverTLS() bool { return p.TLS == tlsServer || p.TLS == tlsBoth }

// sslmode is what a client of t says. A direct one stands for both sides.
func (p point) sslmode(t *target) string {
	if p.clientTLS() || t.pid == 0 && p.serverTLS() {
		return "require"
	}
	return "disable"
}

func (p point) copies() bool { return p.What == whatCopyOut || p.What == whatCopyIn }

// warming is how many transactions of each client run before those that count.
func (p point) warming() int {
	if p.What == whatValue {
		return 2
	}
	return 20
}

// without reports whether a target cannot do this, or is not asked to.
func (p point) without(name string) bool {
	switch {
	case name == nameDefault:
		return !p.leveled()
	case p.leveled():
		return name != namePgpoold && name != namePgbouncer
	case name == nameFloor: // it knows no statements, no TLS and no full sockets
		return p.Protocol == "prepared" || p.Depth > 0 || p.What != whatSelect || p.TLS != tlsNone || p.SCRAM || p.Idle > 0 || p.Cores > 0
	case name == nameDirect:
		return p.Idle > 0 || p.Cores > 0
	}
	return p.Cores > 0 && name != namePgpoold
}

// script is pgbench's; "" for its own -S. For a pipeline it is that, so many
// times. The query in front of each client's first one is where pgbench prepares
// all statements, which it cannot do inside of a pipeline.
func (p point) script() string {
	switch p.What {
	case whatRows:
		return "SELECT repeat('x', 100) FROM generate_series(1, 1000);\n"
	case whatValue:
		return "SELECT repeat('x', 10000000);\n"
	case whatConnect:
		return "SELECT 1;\n"
	}
	if p.Depth == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\\if :first\nSELECT 1;\n\\set first 0\n\\endif\n\\startpipeline\n")
	for range p.Depth {
		fmt.Fprintf(&b, "\\set aid random(1, %d)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n", 100000*pgbenchScale)
	}
	b.WriteString("\\endpipeline\n")
	return b.String()
}

func (p point) scriptName() string {
	if p.Depth > 0 {
		return fmt.Sprintf("pipeline-%d.sql", p.Depth)
	}
	return p.What + ".sql"
}
