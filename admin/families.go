package admin

import (
	"strings"
	"time"

	"pgpoold/backend"
	"pgpoold/proxy"
)

// families are pgpoold's metrics, in the order of their documentation.
func families() []family {
	return []family{
		{name: "build_info", help: "Always 1; the labels say what runs.", kind: kindGauge, labels: []string{"version", "goversion"}, values: buildInfo},
		plainFamily(kindGauge, "ready", "Whether clients are served, as /readyz says: 1 or 0.", func(s *scrape) float64 { return oneIf(s.ready) }),
		plainFamily(kindGauge, "draining", "Whether pgpoold is shutting down: 1 or 0.", func(s *scrape) float64 { return oneIf(s.snap.Draining) }),
		plainFamily(kindGauge, "start_time_seconds", "When pgpoold started, as unix time.", func(s *scrape) float64 { return float64(s.snap.Started.UnixNano()) / 1e9 }),

		{name: "clients", help: "Logged-in clients, by what they do (idle ones are active here, as in SHOW POOLS).", kind: kindGauge,
			labels: []string{"database", "user", "state"}, values: clientStates},
		{name: "servers", help: "Server connections, by what they do.", kind: kindGauge,
			labels: []string{"database", "user", "state"}, values: serverStates},
		{name: "servers_idle_in_transaction", help: "Servers whose client has a transaction open and has asked nothing in it for over 5 seconds.", kind: kindGauge,
			labels: []string{"database", "user"}, values: idleInTransaction},
		poolFamily(kindGauge, "pool_size", "Most server connections of the pool; 0 is unlimited.", func(p *proxy.PoolSnapshot) float64 { return float64(p.Size) }),
		poolFamily(kindGauge, "pool_min_size", "Fewest server connections that the pool keeps.", func(p *proxy.PoolSnapshot) float64 { return float64(p.MinSize) }),
		poolFamily(kindGauge, "pool_ready", "Whether PostgreSQL could be reached: 1 or 0.", func(p *proxy.PoolSnapshot) float64 { return oneIf(p.Ready) }),
		poolFamily(kindGauge, "pool_paused", "Whether PAUSE or KILL holds the pool: 1 or 0.", func(p *proxy.PoolSnapshot) float64 { return oneIf(p.Paused) }),
		poolFamily(kindGauge, "pool_max_wait_seconds", "How long the first client in the queue has waited.", func(p *proxy.PoolSnapshot) float64 { return p.MaxWait.Seconds() }),

		poolHistogram("server_wait_seconds", "How long a server was waited for, of every time that one was handed out; beside clients pgpoold itself takes one to try a new set of startup settings and to read the catalogs.",
			func(s *proxy.PoolStats) (*backend.Histogram, time.Duration) { return &s.Waits, s.WaitTime }),
		poolHistogram("query_seconds", "How long queries took, from the client's message to ReadyForQuery.",
			func(s *proxy.PoolStats) (*backend.Histogram, time.Duration) { return &s.QueryTimes, s.QueryTime }),
		poolHistogram("transaction_seconds", "How long transactions took, what was idle in them included.",
			func(s *proxy.PoolStats) (*backend.Histogram, time.Duration) { return &s.XactTimes, s.XactTime }),
		poolHistogram("server_connect_seconds", "How long connecting and logging in to PostgreSQL took, where it worked.",
			func(s *proxy.PoolStats) (*backend.Histogram, time.Duration) { return &s.Connects, s.ConnectTime }),

		poolCounter("server_assignments_total", "Times that a client was given a server.", func(s *proxy.PoolStats) uint64 { return s.ServerAssignments }),
		poolCounter("inspections_total", "Transactions after which PostgreSQL was asked what state they had left.", func(s *proxy.PoolStats) uint64 { return s.Inspections }),
		poolCounter("server_switches_total", "Assignments of another server than the client had last.", func(s *proxy.PoolStats) uint64 { return s.Switches }),
		poolCounter("transactions_total", "Transactions.", func(s *proxy.PoolStats) uint64 { return s.Xacts }),
		poolCounter("queries_total", "Queries.", func(s *proxy.PoolStats) uint64 { return s.Queries }),
		poolCounter("query_errors_total", "Errors of PostgreSQL's that clients got.", func(s *proxy.PoolStats) uint64 { return s.Errors }),
		poolCounter("received_bytes_total", "Bytes from clients.", func(s *proxy.PoolStats) uint64 { return s.BytesReceived }),
		poolCounter("sent_bytes_total", "Bytes to clients.", func(s *proxy.PoolStats) uint64 { return s.BytesSent }),
		poolCounter("client_parses_total", "Named statements that clients parsed.", func(s *proxy.PoolStats) uint64 { return s.ClientParses }),
		poolCounter("server_parses_total", "Named statements that servers parsed.", func(s *proxy.PoolStats) uint64 { return s.ServerParses }),
		poolCounter("binds_total", "Uses of named statements by clients.", func(s *proxy.PoolStats) uint64 { return s.Binds }),
		poolCounter("statement_hits_total", "Uses of a named statement that the server held.", func(s *proxy.PoolStats) uint64 { return s.StatementHits }),
		poolCounter("statement_misses_total", "Uses of a named statement that had to be sent to the server.", func(s *proxy.PoolStats) uint64 { return s.StatementMisses }),
		poolCounter("statement_evictions_total", "Named statements closed on a server for want of room.", func(s *proxy.PoolStats) uint64 { return s.StatementEvictions }),
		poolCounter("client_logins_total", "Clients that logged in.", func(s *proxy.PoolStats) uint64 { return s.ClientLogins }),
		poolCounter("server_dials_total", "Attempts to connect to PostgreSQL.", func(s *proxy.PoolStats) uint64 { return s.Dials }),
		poolCounter("server_dial_errors_total", "Attempts that failed.", func(s *proxy.PoolStats) uint64 { return s.DialErrors }),

		plainFamily(kindCounter, "clients_accepted_total", "Connections that were accepted.", func(s *scrape) float64 { return float64(s.snap.Totals.ClientsAccepted) }),
		plainFamily(kindCounter, "clients_refused_total", "Connections refused by max_client_conn or by the cap on logins under way.", func(s *scrape) float64 { return float64(s.snap.Totals.ClientsRefused) }),
		plainFamily(kindCounter, "logins_failed_total", "Logins that failed: a wrong password, an unknown user, a certificate.", func(s *scrape) float64 { return float64(s.snap.Totals.LoginsFailed) }),
		plainFamily(kindCounter, "tls_handshakes_failed_total", "TLS handshakes of clients that failed.", func(s *scrape) float64 { return float64(s.snap.Totals.TLSFailed) }),
		plainFamily(kindGauge, "logins_under_way", "Connections that have not logged in yet.", func(s *scrape) float64 { return float64(s.snap.Totals.LoginsUnderWay) }),
		plainFamily(kindGauge, "clients_connected", "Logged-in clients, over all pools.", func(s *scrape) float64 { return float64(s.snap.Totals.ClientsConnected) }),
		plainFamily(kindGauge, "servers_connected", "Server connections, over all pools.", func(s *scrape) float64 { return float64(s.snap.Totals.ServersConnected) }),
		{name: "tls_connections", help: "Connections by side (client, server) and TLS version; none is without TLS.", kind: kindGauge,
			labels: []string{"side", "version"}, values: tlsVersions},
		plainFamily(kindCounter, "cancel_requests_total", "Cancel requests for a client of pgpoold's.", func(s *scrape) float64 { return float64(s.snap.Totals.CancelRequests) }),
		plainFamily(kindCounter, "cancels_forwarded_total", "Cancel requests passed on to PostgreSQL.", func(s *scrape) float64 { return float64(s.snap.Totals.CancelsForwarded) }),
		plainFamily(kindCounter, "accept_pauses_total", "Times that accepting stopped for want of descriptors.", func(s *scrape) float64 { return float64(s.snap.Totals.AcceptPauses) }),
		labelled(kindCounter, "server_closes_total", "Server connections that were closed.", "reason", func(s *scrape) map[string]uint64 { return s.snap.Totals.ServerCloses }),
		labelled(kindGauge, "pins", "Clients that keep their server beyond the transaction.", "reason", func(s *scrape) map[string]int { return s.snap.Totals.PinsByReason }),
		labelled(kindCounter, "state_missed_total", "Session state that only session_state_audit has found.", "kind", func(s *scrape) map[string]uint64 { return s.snap.Totals.StateMissed }),
		labelled(kindCounter, "pins_total", "Times that a client began to keep its server.", "reason", func(s *scrape) map[string]uint64 { return s.snap.Totals.PinsTotal }),
		{name: "errors_total", help: "Errors that clients got, by who made them (pgpoold, server) and SQLSTATE.", kind: kindCounter,
			labels: []string{"side", "sqlstate"}, values: errorsBySide},
		plainFamily(kindGauge, "settings_bytes", "What the settings of all sessions take.", func(s *scrape) float64 { return float64(s.snap.Totals.SettingsBytes) }),
		plainFamily(kindGauge, "statements", "Distinct prepared statements that are kept.", func(s *scrape) float64 { return float64(s.snap.Totals.StatementsKept) }),
		plainFamily(kindGauge, "statements_bytes", "Memory that they take.", func(s *scrape) float64 { return float64(s.snap.Totals.StatementsBytes) }),
	}
}

func clientStates(s *scrape, emit func(float64, ...string)) {
	for key, p := range s.pools {
		emit(float64(p.ClActive), key[0], key[1], "active")
		emit(float64(p.ClWaiting), key[0], key[1], "waiting")
		emit(float64(p.ClActiveCancelReq), key[0], key[1], "active_cancel_req")
		emit(float64(p.ClWaitingCancelReq), key[0], key[1], "waiting_cancel_req")
	}
}

func serverStates(s *scrape, emit func(float64, ...string)) {
	for key, p := range s.pools {
		emit(float64(p.SvActive), key[0], key[1], "active")
		emit(float64(p.SvActiveCancel), key[0], key[1], "active_cancel")
		emit(float64(p.SvBeingCanceled), key[0], key[1], "being_canceled")
		emit(float64(p.SvIdle), key[0], key[1], "idle")
		emit(float64(p.SvUsed), key[0], key[1], "used")
		emit(float64(p.SvTested), key[0], key[1], "tested")
		emit(float64(p.SvLogin), key[0], key[1], "login")
	}
}

func idleInTransaction(s *scrape, emit func(float64, ...string)) {
	n := map[[2]string]int{}
	for _, sv := range s.snap.Servers {
		if sv.InTransaction >= idleTooLong {
			key := [2]string{sv.Database, sv.User}
			if _, ok := s.pools[key]; !ok {
				key = [2]string{otherLabel, otherLabel}
			}
			n[key]++
		}
	}
	for key := range s.pools {
		emit(float64(n[key]), key[0], key[1])
	}
}

func tlsVersions(s *scrape, emit func(float64, ...string)) {
	version := func(name string) string {
		v, _, _ := strings.Cut(name, "/")
		if v == "" {
			return "none"
		}
		return v
	}
	n := map[[2]string]int{{"client", "none"}: 0, {"server", "none"}: 0}
	for name, clients := range s.snap.Totals.ClientsByTLS {
		n[[2]string{"client", version(name)}] += clients
	}
	for i := range s.snap.Servers {
		n[[2]string{"server", version(s.snap.Servers[i].TLS)}]++
	}
	for key, v := range n {
		emit(float64(v), key[0], key[1])
	}
}

func errorsBySide(s *scrape, emit func(float64, ...string)) {
	for code, n := range s.snap.Totals.ErrorsBySQLState {
		emit(float64(n), sidePooler, code)
	}
	for code, n := range s.snap.Totals.ServerErrorsBySQLState {
		emit(float64(n), sideServer, code)
	}
}
