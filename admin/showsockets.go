package admin

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"pgpoold/proxy"
)

// socketColumns are the columns of SHOW CLIENTS and of SHOW SERVERS.
func socketColumns() []column {
	return columnsOf("ssssssisiTTiiississii",
		"type", "user", "database", "replication", "state", "addr", "port", "local_addr", "local_port",
		"connect_time", "request_time", "wait", "wait_us", "close_needed", "ptr", "link", "remote_pid",
		"tls", "application_name", "prepared_statements", "id")
}

// bufferColumns are what SHOW SOCKETS has beside them.
func bufferColumns() []column {
	return columnsOf("iiiiiii", "recv_pos", "pkt_pos", "pkt_remain", "send_pos", "send_remain", "pkt_avail", "send_avail")
}

// clientPtr and serverPtr name a connection in the columns ptr and link.
func clientPtr(id uint64) string { return fmt.Sprintf("c%d", id) }
func serverPtr(id uint64) string { return fmt.Sprintf("s%d", id) }

func linkTo(ptr func(uint64) string, id uint64) *string {
	if id == 0 {
		return text("")
	}
	return text(ptr(id))
}

// asked is when the last request came; as in PgBouncer the connecting counts
// as the first.
func asked(request, connect time.Time) *string {
	if request.IsZero() {
		request = connect
	}
	return timestamp(request)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func clientCells(cl *proxy.ClientSnapshot, state string) []*string {
	return []*string{text("C"), text(cl.User), text(cl.Database), text(orNone(cl.Replication)), text(state),
		text(cl.Addr), number(cl.Port), text(cl.LocalAddr), number(cl.LocalPort),
		timestamp(cl.ConnectTime), asked(cl.RequestTime, cl.ConnectTime), seconds(cl.Wait), micros(cl.Wait),
		bit(cl.CloseNeeded), text(clientPtr(cl.ID)), linkTo(serverPtr, cl.ServerID), number(cl.PID),
		text(cl.TLS), text(cl.ApplicationName), number(cl.PreparedStatements), unsigned(cl.ID)}
}

func (s *consoleSession) cells(state string) []*string {
	zero := text("0")
	return []*string{text("C"), text(s.user), text(consoleDatabase), text("none"), text(state),
		text(s.addr), number(s.port), text(s.localAddr), number(s.localPort),
		timestamp(s.connected), asked(s.lastRequest(), s.connected), zero, zero,
		zero, text(clientPtr(s.id)), text(""), zero,
		text(s.tls), text(s.applicationName), number(0), unsigned(s.id)}
}

func serverCells(s *proxy.ServerSnapshot, state string) []*string {
	zero := text("0")
	return []*string{text("S"), text(s.User), text(s.Database), text(orNone(s.Replication)), text(state),
		text(s.Addr), number(s.Port), text(s.LocalAddr), number(s.LocalPort),
		timestamp(s.ConnectTime), asked(s.RequestTime, s.ConnectTime), zero, zero,
		bit(s.CloseNeeded), text(serverPtr(s.ID)), linkTo(clientPtr, s.ClientID), number(s.PID),
		text(s.TLS), text(s.ApplicationName), number(s.PreparedStatements), unsigned(s.ID)}
}

func (c *Console) showClients(snap *proxy.Snapshot, extended bool) *table {
	t := &table{columns: socketColumns()}
	if extended {
		t.columns = append(t.columns, columnsOf("sTqqi", "pin", "pinned_since", "bytes_received", "bytes_sent", "unread")...)
	}
	for i := range snap.Clients {
		cl := &snap.Clients[i]
		cells := clientCells(cl, cl.State)
		if extended {
			cells = append(cells, textOrNull(cl.Pin), timestamp(cl.PinnedSince), unsigned(cl.BytesIn), unsigned(cl.BytesOut), bit(cl.Unread))
		}
		t.add(cells...)
	}
	for _, s := range c.sessions() {
		cells := s.cells("idle")
		if extended {
			cells = append(cells, nil, nil, nil, nil, text("0"))
		}
		t.add(cells...)
	}
	return t
}

func (c *Console) showServers(snap *proxy.Snapshot, extended bool) *table {
	t := &table{columns: socketColumns()}
	if extended {
		t.columns = append(t.columns, columnsOf("sqq", "pin", "idle_in_transaction_us", "query_us")...)
	}
	for i := range snap.Servers {
		s := &snap.Servers[i]
		state := s.State
		if state == "login" {
			state = "new" // the word of this table; POOLS says login
		}
		cells := serverCells(s, state)
		if extended {
			cells = append(cells, textOrNull(s.Pin), number(s.InTransaction.Microseconds()), number(s.Query.Microseconds()))
		}
		t.add(cells...)
	}
	return t
}

func (c *Console) showSockets(snap *proxy.Snapshot, _ bool) *table {
	return c.sockets(snap, func(*proxy.ClientSnapshot) bool { return true }, true)
}

func (c *Console) showActiveSockets(snap *proxy.Snapshot, _ bool) *table {
	return c.sockets(snap, func(cl *proxy.ClientSnapshot) bool { return cl.Unread }, false)
}

// sockets lists sockets with their buffers. pgpoold's buffers are not
// PgBouncer's: positions in them are NULL.
func (c *Console) sockets(snap *proxy.Snapshot, which func(*proxy.ClientSnapshot) bool, all bool) *table {
	t := &table{columns: append(socketColumns(), bufferColumns()...)}
	buffers := make([]*string, len(bufferColumns()))
	for i := range snap.Clients {
		if cl := &snap.Clients[i]; which(cl) {
			t.add(append(clientCells(cl, "cl_"+cl.State), buffers...)...)
		}
	}
	if !all {
		return t
	}
	for _, s := range c.sessions() {
		t.add(append(s.cells("cl_active"), buffers...)...)
	}
	for i := range snap.Servers {
		s := &snap.Servers[i]
		t.add(append(serverCells(s, "sv_"+s.State), buffers...)...)
	}
	return t
}

func (c *Console) showWaiting(snap *proxy.Snapshot, _ bool) *table {
	t := &table{columns: columnsOf("ssssiiiq", "database", "user", "application_name", "addr", "port", "wait", "wait_us", "id")}
	waiting := slices.DeleteFunc(slices.Clone(snap.Clients), func(cl proxy.ClientSnapshot) bool { return cl.State != "waiting" })
	slices.SortStableFunc(waiting, func(a, b proxy.ClientSnapshot) int { return -cmp.Compare(a.Wait, b.Wait) })
	for _, cl := range waiting {
		t.add(text(cl.Database), text(cl.User), text(cl.ApplicationName), text(cl.Addr), number(cl.Port),
			seconds(cl.Wait), micros(cl.Wait), unsigned(cl.ID))
	}
	return t
}

func (c *Console) showPins(snap *proxy.Snapshot, _ bool) *table {
	t := &table{columns: columnsOf("sssTqsiqq", "database", "user", "reason", "since", "seconds", "application_name", "remote_pid", "client", "server")}
	pids := map[uint64]uint32{}
	for _, s := range snap.Servers {
		pids[s.ID] = s.PID
	}
	for _, cl := range snap.Clients {
		if cl.Pin == "" {
			continue
		}
		t.add(text(cl.Database), text(cl.User), text(cl.Pin), timestamp(cl.PinnedSince), number(int64(time.Since(cl.PinnedSince)/time.Second)),
			text(cl.ApplicationName), number(pids[cl.ServerID]), unsigned(cl.ID), unsigned(cl.ServerID))
	}
	return t
}
