package admin

import (
	"fmt"
	"slices"
	"strings"

	"pgpoold/proxy"
)

// spoken is the PgBouncer whose console this one answers like: programs that
// read the console choose their columns by it.
const spoken = "1.26.0"

// shown is one table of SHOW: what it is made of, and how. Its columns stand
// in its table.
type shown struct {
	name string
	of   string // what it lists, for the documentation
	own  bool   // pgpoold's own; else PgBouncer's
	make func(c *Console, snap *proxy.Snapshot, extended bool) *table
}

// shows are the tables, in the order of SHOW HELP.
var shows []shown

func init() {
	shows = []shown{
		{"config", "the settings", false, (*Console).showConfig},
		{"databases", "the databases that clients can name", false, (*Console).showDatabases},
		{"pools", "the pools, one for each database and server user", false, (*Console).showPools},
		{"clients", "the clients", false, (*Console).showClients},
		{"servers", "the connections to PostgreSQL", false, (*Console).showServers},
		{"users", "the users", false, (*Console).showUsers},
		{"version", "the version", false, (*Console).showVersion},
		{"state", "whether it is paused", false, (*Console).showState},
		{"lists", "how many there are of everything", false, (*Console).showLists},
		{"stats", "counters and averages by database", false, (*Console).showStats},
		{"stats_totals", "counters by database", false, (*Console).showStatsTotals},
		{"stats_averages", "averages by database, of the last stats period", false, (*Console).showStatsAverages},
		{"totals", "counters and averages over all databases", false, (*Console).showTotals},
		{"mem", "how many objects of each kind there are", false, (*Console).showMem},
		{"sockets", "clients and servers, with buffers", false, (*Console).showSockets},
		{"active_sockets", "those of them that have something unsent", false, (*Console).showActiveSockets},
		{"dns_hosts", "nothing: names are looked up for each connection", false, (*Console).showDNSHosts},
		{"dns_zones", "nothing, as above", false, (*Console).showDNSZones},
		{"peers", "nothing: there is one process", false, (*Console).showPeers},
		{"peer_pools", "nothing, as above", false, (*Console).showPeerPools},
		{"waiting", "clients that wait for a server, the longest first", true, (*Console).showWaiting},
		{"pins", "clients that keep their server beyond the transaction, and why", true, (*Console).showPins},
		{"statements", "queries without their constants, those that took most time first", true, (*Console).showStatements},
		{"errors", "errors that clients got, by who made them and SQLSTATE", true, (*Console).showErrors},
	}
}

// show makes the table of one SHOW; nil for a name that is none.
func (c *Console) show(what string, extended bool) *table {
	for _, sh := range shows {
		if sh.name == what {
			snap := c.opts().Source.Snapshot()
			sortSnapshot(&snap)
			return sh.make(c, &snap, extended)
		}
	}
	return nil
}

// sortSnapshot puts pools in the order of their names, and clients and
// servers in that of their age.
func sortSnapshot(snap *proxy.Snapshot) {
	snap.Pools = merged(sortedPools(*snap), false)
	slices.SortStableFunc(snap.Clients, func(a, b proxy.ClientSnapshot) int { return cmpUint(a.ID, b.ID) })
	slices.SortStableFunc(snap.Servers, func(a, b proxy.ServerSnapshot) int { return cmpUint(a.ID, b.ID) })
}

func cmpUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func sortedPools(snap proxy.Snapshot) []proxy.PoolSnapshot {
	pools := slices.Clone(snap.Pools)
	slices.SortStableFunc(pools, func(a, b proxy.PoolSnapshot) int {
		if n := strings.Compare(a.Database, b.Database); n != 0 {
			return n
		}
		if n := strings.Compare(a.User, b.User); n != 0 {
			return n
		}
		return strings.Compare(a.Of, b.Of) // the one that all share stands first
	})
	return pools
}

// merged adds up pools that would have one name: with whose, those of one
// database, server user and Of; else those of one database and server user,
// which are one row of PgBouncer's, and whose programs take no second.
func merged(pools []proxy.PoolSnapshot, whose bool) []proxy.PoolSnapshot {
	at := map[[3]string]int{}
	out := make([]proxy.PoolSnapshot, 0, len(pools))
	for _, p := range pools {
		key := [3]string{p.Database, p.User}
		if whose {
			key[2] = p.Of
		}
		if i, ok := at[key]; ok {
			out[i] = addPools(out[i], p)
			continue
		}
		at[key] = len(out)
		out = append(out, p)
	}
	return out
}

func (c *Console) showVersion(_ *proxy.Snapshot, extended bool) *table {
	t := &table{columns: columnsOf("s", "version")}
	t.add(text(fmt.Sprintf("PgBouncer %s (answered by pgpoold %s)", spoken, c.opts().Version)))
	return t
}

func (c *Console) showState(snap *proxy.Snapshot, extended bool) *table {
	yes := func(b bool) *string {
		if b {
			return text("yes")
		}
		return text("no")
	}
	t := &table{columns: columnsOf("ss", "key", "value")}
	t.add(text("active"), yes(!snap.Controls.AllPaused))
	t.add(text("paused"), yes(snap.Controls.AllPaused))
	t.add(text("suspended"), yes(false))
	if extended {
		ready, why := c.opts().Source.Ready()
		t.add(text("ready"), yes(ready))
		t.add(text("not_ready"), text(why))
		t.add(text("draining"), yes(snap.Draining))
	}
	return t
}

func (c *Console) showConfig(*proxy.Snapshot, bool) *table {
	opts := c.opts()
	t := &table{columns: columnsOf("ssss", "key", "value", "default", "changeable")}
	for _, s := range opts.Settings {
		changeable := "no"
		if s.Changeable {
			changeable = "yes"
		}
		value := s.Value
		if s.Key == "log_level" && opts.Level != nil {
			value = opts.Level.Level()
		}
		t.add(text(s.Key), text(value), text(s.Default), text(changeable))
	}
	return t
}

func (c *Console) showLists(snap *proxy.Snapshot, _ bool) *table {
	opts := c.opts()
	t := &table{columns: columnsOf("si", "list", "items")}
	for _, r := range []struct {
		name  string
		items int
	}{
		{"databases", len(opts.Databases) + 1},
		{"users", len(c.users(snap))},
		{"peers", 0},
		{"pools", len(snap.Pools) + 1},
		{"peer_pools", 0},
		{"free_clients", 0},
		{"used_clients", len(snap.Clients) + len(c.sessions())},
		{"login_clients", snap.Totals.LoginsUnderWay},
		{"free_servers", 0},
		{"used_servers", len(snap.Servers)},
		{"dns_names", 0},
		{"dns_zones", 0},
		{"dns_queries", 0},
		{"dns_pending", 0},
	} {
		t.add(text(r.name), number(r.items))
	}
	return t
}

// showMem counts objects; how large one is Go does not tell, so the sizes are
// NULL, but for the statements' texts.
func (c *Console) showMem(snap *proxy.Snapshot, _ bool) *table {
	held := 0
	for _, s := range snap.Servers {
		held += s.PreparedStatements
	}
	t := &table{columns: columnsOf("siiii", "name", "size", "used", "free", "memtotal")}
	zero := text("0")
	for _, r := range []struct {
		name string
		used int
		mem  *string
	}{
		{"user_cache", len(c.users(snap)), nil},
		{"credentials_cache", len(c.users(snap)), nil},
		{"db_cache", len(c.opts().Databases) + 1, nil},
		{"peer_cache", 0, zero},
		{"peer_pool_cache", 0, zero},
		{"pool_cache", len(snap.Pools) + 1, nil},
		{"outstanding_request_cache", 0, zero},
		{"server_cache", len(snap.Servers), nil},
		{"client_cache", len(snap.Clients) + len(c.sessions()), nil},
		{"iobuf_cache", 0, zero},
		{"var_list_cache", 0, zero},
		{"server_prepared_statement_cache", held, number(snap.Totals.StatementsBytes)},
	} {
		t.add(text(r.name), nil, number(r.used), zero, r.mem)
	}
	return t
}

func (c *Console) showDNSHosts(*proxy.Snapshot, bool) *table {
	return &table{columns: columnsOf("sqs", "hostname", "ttl", "addrs")}
}

func (c *Console) showDNSZones(*proxy.Snapshot, bool) *table {
	return &table{columns: columnsOf("sqi", "zonename", "serial", "count")}
}

func (c *Console) showPeers(*proxy.Snapshot, bool) *table {
	return &table{columns: columnsOf("isii", "peer_id", "host", "port", "pool_size")}
}

func (c *Console) showPeerPools(*proxy.Snapshot, bool) *table {
	return &table{columns: columnsOf("iiiii", "peer_id", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active_cancel", "sv_login")}
}
