package admin

import (
	"encoding/json"
	"mime"
	"net/http"
	"time"

	"go.uber.org/zap"

	"pgpoold/proxy"
)

// The JSON of /api/v1/snapshot. Names and units are a contract: times are
// RFC 3339, durations are seconds, sizes are bytes.
type (
	snapshotJSON struct {
		Version  string       `json:"version"`
		Started  time.Time    `json:"started"`
		Ready    bool         `json:"ready"`
		NotReady string       `json:"not_ready,omitempty"`
		Draining bool         `json:"draining"`
		Totals   totalsJSON   `json:"totals"`
		Pools    []poolJSON   `json:"pools"`
		Clients  []clientJSON `json:"clients"`
		Servers  []serverJSON `json:"servers"`
	}
	totalsJSON struct {
		ClientsAccepted  uint64            `json:"clients_accepted"`
		ClientsRefused   uint64            `json:"clients_refused"`
		ClientsConnected int               `json:"clients_connected"`
		LoginsUnderWay   int               `json:"logins_under_way"`
		LoginsFailed     uint64            `json:"logins_failed"`
		ServersConnected int               `json:"servers_connected"`
		ServerCloses     map[string]uint64 `json:"server_closes"`
		CancelRequests   uint64            `json:"cancel_requests"`
		CancelsForwarded uint64            `json:"cancels_forwarded"`
		AcceptPauses     uint64            `json:"accept_pauses"`
		PinsByReason     map[string]int    `json:"pins"`
		PinsTotal        map[string]uint64 `json:"pins_total"`
		Errors           map[string]uint64 `json:"errors"`
		StatementsKept   int               `json:"statements_kept"`
		StatementsBytes  int64             `json:"statements_bytes"`
	}
	poolJSON struct {
		Database          string  `json:"database"`
		User              string  `json:"user"`
		Of                string  `json:"of,omitempty"` // a client user with a pool of its own, or replication
		Mode              string  `json:"mode"`
		Size              int     `json:"size"`
		MinSize           int     `json:"min_size"`
		Ready             bool    `json:"ready"`
		LastError         string  `json:"last_error,omitempty"`
		ClientsActive     int     `json:"clients_active"`
		ClientsWaiting    int     `json:"clients_waiting"`
		ServersActive     int     `json:"servers_active"`
		ServersIdle       int     `json:"servers_idle"`
		ServersUsed       int     `json:"servers_used"`
		ServersTested     int     `json:"servers_tested"`
		ServersLogin      int     `json:"servers_login"`
		MaxWait           float64 `json:"max_wait_seconds"`
		ServerAssignments uint64  `json:"server_assignments"`
		Transactions      uint64  `json:"transactions"`
		Queries           uint64  `json:"queries"`
		BytesReceived     uint64  `json:"bytes_received"`
		BytesSent         uint64  `json:"bytes_sent"`
		TransactionTime   float64 `json:"transaction_seconds"`
		QueryTime         float64 `json:"query_seconds"`
		WaitTime          float64 `json:"wait_seconds"`
		Switches          uint64  `json:"server_switches"`
		Dials             uint64  `json:"dials"`
		DialErrors        uint64  `json:"dial_errors"`
	}
	clientJSON struct {
		ID                 uint64     `json:"id"`
		User               string     `json:"user"`
		Database           string     `json:"database"`
		State              string     `json:"state"`
		Addr               string     `json:"addr"`
		Port               int        `json:"port"`
		ConnectTime        time.Time  `json:"connect_time"`
		RequestTime        *time.Time `json:"request_time,omitempty"`
		Wait               float64    `json:"wait_seconds"`
		ServerID           uint64     `json:"server_id,omitempty"`
		PID                uint32     `json:"pid"`
		TLS                string     `json:"tls,omitempty"`
		ApplicationName    string     `json:"application_name"`
		PreparedStatements int        `json:"prepared_statements"`
		Pin                string     `json:"pin,omitempty"`
		PinnedSince        *time.Time `json:"pinned_since,omitempty"`
		BytesReceived      uint64     `json:"bytes_received"`
		BytesSent          uint64     `json:"bytes_sent"`
	}
	serverJSON struct {
		ID                 uint64     `json:"id"`
		User               string     `json:"user"`
		Database           string     `json:"database"`
		State              string     `json:"state"`
		Addr               string     `json:"addr"`
		Port               int        `json:"port"`
		ConnectTime        time.Time  `json:"connect_time"`
		RequestTime        *time.Time `json:"request_time,omitempty"`
		ClientID           uint64     `json:"client_id,omitempty"`
		PID                uint32     `json:"pid"`
		TLS                string     `json:"tls,omitempty"`
		ApplicationName    string     `json:"application_name"`
		PreparedStatements int        `json:"prepared_statements"`
		CloseNeeded        bool       `json:"close_needed"`
		Pin                string     `json:"pin,omitempty"`
		InTransaction      float64    `json:"idle_in_transaction_seconds"`
		Query              float64    `json:"query_seconds"`
	}
)

// timeOrNull is nil for the zero time.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func snapshotToJSON(version string, source Source) snapshotJSON {
	snap := source.Snapshot()
	ready, why := source.Ready()
	t := snap.Totals
	out := snapshotJSON{
		Version: version, Started: snap.Started, Ready: ready, NotReady: why, Draining: snap.Draining,
		Totals: totalsJSON{
			ClientsAccepted: t.ClientsAccepted, ClientsRefused: t.ClientsRefused, ClientsConnected: t.ClientsConnected,
			LoginsUnderWay: t.LoginsUnderWay, LoginsFailed: t.LoginsFailed,
			ServersConnected: t.ServersConnected, ServerCloses: t.ServerCloses,
			CancelRequests: t.CancelRequests, CancelsForwarded: t.CancelsForwarded, AcceptPauses: t.AcceptPauses,
			PinsByReason: t.PinsByReason, PinsTotal: t.PinsTotal, Errors: t.ErrorsBySQLState,
			StatementsKept: t.StatementsKept, StatementsBytes: t.StatementsBytes,
		},
		Pools:   make([]poolJSON, 0, len(snap.Pools)),
		Clients: make([]clientJSON, 0, len(snap.Clients)),
		Servers: make([]serverJSON, 0, len(snap.Servers)),
	}
	for _, p := range sortedPools(snap) {
		out.Pools = append(out.Pools, poolToJSON(&p))
	}
	for _, c := range snap.Clients {
		out.Clients = append(out.Clients, clientToJSON(c))
	}
	for _, s := range snap.Servers {
		out.Servers = append(out.Servers, serverToJSON(s))
	}
	return out
}

func poolToJSON(p *proxy.PoolSnapshot) poolJSON {
	return poolJSON{
		Database: p.Database, User: p.User, Of: p.Of, Mode: p.Mode, Size: p.Size, MinSize: p.MinSize,
		Ready: p.Ready, LastError: p.LastError,
		ClientsActive: p.ClActive, ClientsWaiting: p.ClWaiting,
		ServersActive: p.SvActive, ServersIdle: p.SvIdle, ServersUsed: p.SvUsed, ServersTested: p.SvTested, ServersLogin: p.SvLogin,
		MaxWait: p.MaxWait.Seconds(), ServerAssignments: p.Stats.ServerAssignments,
		Transactions: p.Stats.Xacts, Queries: p.Stats.Queries,
		BytesReceived: p.Stats.BytesReceived, BytesSent: p.Stats.BytesSent,
		TransactionTime: p.Stats.XactTime.Seconds(), QueryTime: p.Stats.QueryTime.Seconds(), WaitTime: p.Stats.WaitTime.Seconds(),
		Switches: p.Stats.Switches, Dials: p.Stats.Dials, DialErrors: p.Stats.DialErrors,
	}
}

func clientToJSON(c proxy.ClientSnapshot) clientJSON {
	return clientJSON{
		ID: c.ID, User: c.User, Database: c.Database, State: c.State, Addr: c.Addr, Port: c.Port,
		ConnectTime: c.ConnectTime, RequestTime: timeOrNull(c.RequestTime), Wait: c.Wait.Seconds(),
		ServerID: c.ServerID, PID: c.PID, TLS: c.TLS, ApplicationName: c.ApplicationName,
		PreparedStatements: c.PreparedStatements, Pin: c.Pin, PinnedSince: timeOrNull(c.PinnedSince),
		BytesReceived: c.BytesIn, BytesSent: c.BytesOut,
	}
}

func serverToJSON(s proxy.ServerSnapshot) serverJSON {
	return serverJSON{
		ID: s.ID, User: s.User, Database: s.Database, State: s.State, Addr: s.Addr, Port: s.Port,
		ConnectTime: s.ConnectTime, RequestTime: timeOrNull(s.RequestTime), ClientID: s.ClientID,
		PID: s.PID, TLS: s.TLS, ApplicationName: s.ApplicationName,
		PreparedStatements: s.PreparedStatements, CloseNeeded: s.CloseNeeded, Pin: s.Pin,
		InTransaction: s.InTransaction.Seconds(), Query: s.Query.Seconds(),
	}
}

func (h *HTTP) snapshot(w http.ResponseWriter, _ *http.Request) {
	h.writeJSON(w, http.StatusOK, snapshotToJSON(h.opts().Version, h.opts().Source))
}

// levelJSON is what /api/v1/log_level takes and gives.
type levelJSON struct {
	Level string `json:"level"`
}

type errorJSON struct {
	Error string `json:"error"`
}

func (h *HTTP) logLevel(w http.ResponseWriter, _ *http.Request) {
	h.writeJSON(w, http.StatusOK, levelJSON{h.opts().Level.Level()})
}

func (h *HTTP) setLogLevel(w http.ResponseWriter, r *http.Request) {
	// Only a JSON body: a browser does not send one to another site unasked.
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		h.writeJSON(w, http.StatusUnsupportedMediaType, errorJSON{"send JSON, with Content-Type: application/json"})
		return
	}
	var want levelJSON
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	body.DisallowUnknownFields()
	if err := body.Decode(&want); err != nil {
		h.writeJSON(w, http.StatusBadRequest, errorJSON{`send {"level": "debug"}, or info, warn, error`})
		return
	}
	if err := h.opts().Level.SetLevel(want.Level); err != nil {
		h.writeJSON(w, http.StatusBadRequest, errorJSON{err.Error()})
		return
	}
	_, who := h.login(r)
	h.opts().Log.Info("log level changed over HTTP", zap.String("user", who), zap.String("level", want.Level))
	h.logLevel(w, r)
}

func (h *HTTP) writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.opts().Log.Debug("an HTTP answer was cut short", zap.Error(err))
	}
}
