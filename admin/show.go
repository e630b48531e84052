package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgpoold/proxy"
)

// show makes the table of one SHOW; nil for a name that is none.
func (c *Console) show(what string) *table {
	switch what {
	case "pools":
		return c.showPools(c.opts.Source.Snapshot())
	case "clients":
		return c.showClients(c.opts.Source.Snapshot())
	case "servers":
		return c.showServers(c.opts.Source.Snapshot())
	case "databases":
		return c.showDatabases(c.opts.Source.Snapshot())
	case "lists":
		return c.showLists(c.opts.Source.Snapshot())
	case "stats":
		return c.stats.show(c.opts.Source.Snapshot())
	case "stats_totals":
		return c.stats.showTotals(c.opts.Source.Snapshot())
	case "stats_averages":
		return c.stats.showAverages(c.opts.Source.Snapshot())
	case "config":
		return c.showConfig()
	case "version":
		t := &table{columns: columnsOf("s", "version")}
		t.add(text(fmt.Sprintf("PgBouncer %s (answered by pgpoold %s)", spoken, c.opts.Version)))
		return t
	case "state":
		t := &table{columns: columnsOf("ss", "key", "value")}
		t.add(text("active"), text("yes"))
		t.add(text("paused"), text("no"))
		t.add(text("suspended"), text("no"))
		return t
	}
	return nil
}

// spoken is the PgBouncer whose console this one answers like: programs that
// read the console choose their columns by it.
const spoken = "1.26.0"

// usage is the detail of SHOW HELP.
const usage = "\n" +
	"\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|VERSION\n" +
	"\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|LISTS|STATE\n" +
	"\tSET log_level = debug|info|warn|error"

func (c *Console) showPools(snap proxy.Snapshot) *table {
	t := &table{columns: columnsOf("ssiiiiiiiiiiiiiss",
		"database", "user", "cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req",
		"sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login",
		"maxwait", "maxwait_us", "pool_mode", "load_balance_hosts")}
	for _, p := range sortedPools(snap) {
		t.add(text(p.Database), text(p.User),
			number(p.ClActive), number(p.ClWaiting), number(p.ClActiveCancelReq), number(p.ClWaitingCancelReq),
			number(p.SvActive), number(p.SvActiveCancel), number(p.SvBeingCanceled),
			number(p.SvIdle), number(p.SvUsed), number(p.SvTested), number(p.SvLogin),
			seconds(p.MaxWait), micros(p.MaxWait), text(p.Mode), nil)
	}
	zero := text("0")
	t.add(text(consoleDatabase), text(consoleDatabase), number(len(c.sessions())), zero, zero, zero,
		zero, zero, zero, zero, zero, zero, zero, zero, zero, text("statement"), nil)
	return t
}

func sortedPools(snap proxy.Snapshot) []proxy.PoolSnapshot {
	pools := slices.Clone(snap.Pools)
	slices.SortStableFunc(pools, func(a, b proxy.PoolSnapshot) int {
		if n := strings.Compare(a.Database, b.Database); n != 0 {
			return n
		}
		return strings.Compare(a.User, b.User)
	})
	return pools
}

// socketColumns are the columns of SHOW CLIENTS and of SHOW SERVERS.
func socketColumns() []column {
	return columnsOf("ssssssisiTTiiississii",
		"type", "user", "database", "replication", "state", "addr", "port", "local_addr", "local_port",
		"connect_time", "request_time", "wait", "wait_us", "close_needed", "ptr", "link", "remote_pid",
		"tls", "application_name", "prepared_statements", "id")
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

func (c *Console) showClients(snap proxy.Snapshot) *table {
	t := &table{columns: socketColumns()}
	for _, cl := range snap.Clients {
		t.add(text("C"), text(cl.User), text(cl.Database), text(orNone(cl.Replication)), text(cl.State),
			text(cl.Addr), number(cl.Port), text(cl.LocalAddr), number(cl.LocalPort),
			timestamp(cl.ConnectTime), timestamp(cl.RequestTime), seconds(cl.Wait), micros(cl.Wait),
			flag(cl.CloseNeeded), text(clientPtr(cl.ID)), linkTo(serverPtr, cl.ServerID), number(cl.PID),
			text(cl.TLS), text(cl.ApplicationName), number(cl.PreparedStatements), unsigned(cl.ID))
	}
	zero := text("0")
	for _, s := range c.sessions() {
		t.add(text("C"), text(s.user), text(consoleDatabase), text("none"), text("active"),
			text(s.addr), number(s.port), text(s.localAddr), number(s.localPort),
			timestamp(s.connected), timestamp(s.lastRequest()), zero, zero,
			zero, text(clientPtr(s.id)), text(""), zero,
			text(""), text(s.applicationName), zero, unsigned(s.id))
	}
	return t
}

func (c *Console) showServers(snap proxy.Snapshot) *table {
	t := &table{columns: socketColumns()}
	zero := text("0")
	for _, s := range snap.Servers {
		state := s.State
		if state == "login" {
			state = "new" // the word of this table; POOLS says login
		}
		t.add(text("S"), text(s.User), text(s.Database), text(orNone(s.Replication)), text(state),
			text(s.Addr), number(s.Port), text(s.LocalAddr), number(s.LocalPort),
			timestamp(s.ConnectTime), timestamp(s.RequestTime), zero, zero,
			flag(s.CloseNeeded), text(serverPtr(s.ID)), linkTo(clientPtr, s.ClientID), number(s.PID),
			text(s.TLS), text(s.ApplicationName), number(s.PreparedStatements), unsigned(s.ID))
	}
	return t
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (c *Console) showDatabases(snap proxy.Snapshot) *table {
	t := &table{columns: columnsOf("ssissiiiissiiiiii",
		"name", "host", "port", "database", "force_user", "pool_size", "min_pool_size", "reserve_pool_size",
		"server_lifetime", "pool_mode", "load_balance_hosts", "max_connections", "current_connections",
		"max_client_connections", "current_client_connections", "paused", "disabled")}
	clients, servers := map[string]int{}, map[string]int{}
	for _, cl := range snap.Clients {
		clients[cl.Database]++
	}
	for _, s := range snap.Servers {
		servers[s.Database]++
	}
	row := func(d Database) {
		t.add(text(d.Name), textOrNull(d.Host), number(d.Port), text(d.DBName), textOrNull(d.ForceUser),
			number(d.PoolSize), number(d.MinPoolSize), number(0),
			number(int64(d.ServerLifetime/time.Second)), textOrNull(d.Mode), nil,
			number(0), number(servers[d.Name]), number(0), number(clients[d.Name]), number(0), number(0))
	}
	named := map[string]bool{}
	for _, d := range c.opts.Databases {
		named[d.Name] = true
	}
	for _, d := range c.opts.Databases {
		row(d)
		if d.Name != "*" {
			continue
		}
		// What "*" answers for exists while it has pools.
		for _, p := range sortedPools(snap) {
			if !named[p.Database] {
				named[p.Database] = true
				auto := d
				auto.Name, auto.DBName = p.Database, p.Database
				row(auto)
			}
		}
	}
	clients[consoleDatabase] = len(c.sessions())
	row(Database{Name: consoleDatabase, DBName: consoleDatabase, ForceUser: consoleDatabase, Mode: "statement"})
	return t
}

func (c *Console) showLists(snap proxy.Snapshot) *table {
	t := &table{columns: columnsOf("si", "list", "items")}
	for _, r := range []struct {
		name  string
		items int
	}{
		{"databases", len(c.opts.Databases) + 1},
		{"users", c.opts.Users},
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

func (c *Console) showConfig() *table {
	t := &table{columns: columnsOf("ssss", "key", "value", "default", "changeable")}
	for _, s := range c.opts.Settings {
		value, changeable := s.Value, "no"
		if s.Changeable {
			changeable = "yes"
		}
		if s.Key == levelSetting && c.opts.Level != nil {
			value, changeable = c.opts.Level.Level(), "yes"
		}
		t.add(text(s.Key), text(value), text(s.Default), text(changeable))
	}
	return t
}

// levelSetting is the one setting that changes without a restart.
const levelSetting = "log_level"
