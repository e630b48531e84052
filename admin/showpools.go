package admin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgpoold/proxy"
)

func (c *Console) showPools(snap *proxy.Snapshot, extended bool) *table {
	t := &table{columns: columnsOf("ssiiiiiiiiiiiiiss",
		"database", "user", "cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req",
		"sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login",
		"maxwait", "maxwait_us", "pool_mode", "load_balance_hosts")}
	if extended {
		t.columns = append(t.columns, columnsOf("iiiiiss", "pool_size", "min_pool_size", "sv_pinned", "sv_idle_in_transaction", "paused", "ready", "last_error")...)
	}
	pinned, idle := map[[2]string]int{}, map[[2]string]int{}
	for _, s := range snap.Servers {
		key := [2]string{s.Database, s.User}
		if s.Pin != "" {
			pinned[key]++
		}
		if s.InTransaction > 0 {
			idle[key]++
		}
	}
	for _, p := range snap.Pools {
		row := []*string{text(p.Database), text(p.User),
			number(p.ClActive), number(p.ClWaiting), number(p.ClActiveCancelReq), number(p.ClWaitingCancelReq),
			number(p.SvActive), number(p.SvActiveCancel), number(p.SvBeingCanceled),
			number(p.SvIdle), number(p.SvUsed), number(p.SvTested), number(p.SvLogin),
			seconds(p.MaxWait), micros(p.MaxWait), text(p.Mode), nil}
		if extended {
			key := [2]string{p.Database, p.User}
			row = append(row, number(p.Size), number(p.MinSize), number(pinned[key]), number(idle[key]), bit(p.Paused), bit(p.Ready), textOrNull(p.LastError))
		}
		t.add(row...)
	}
	zero := text("0")
	row := []*string{text(consoleDatabase), text(consoleDatabase), number(len(c.sessions())), zero, zero, zero,
		zero, zero, zero, zero, zero, zero, zero, zero, zero, text("statement"), nil}
	if extended {
		row = append(row, zero, zero, zero, zero, zero, text("1"), nil)
	}
	t.add(row...)
	return t
}

// autoDatabases are the databases that "*" stands for and that have pools.
func (c *Console) autoDatabases(snap *proxy.Snapshot) (all []Database) {
	named := map[string]bool{}
	var any *Database
	for i, d := range c.opts().Databases {
		named[d.Name] = true
		if d.Name == "*" {
			any = &c.opts().Databases[i]
		}
	}
	if any == nil {
		return nil
	}
	for _, p := range snap.Pools {
		if !named[p.Database] {
			named[p.Database] = true
			auto := *any
			auto.Name = p.Database
			if auto.DBName == "" {
				auto.DBName = p.Database
			}
			all = append(all, auto)
		}
	}
	return all
}

func (c *Console) showDatabases(snap *proxy.Snapshot, extended bool) *table {
	t := &table{columns: columnsOf("ssissiiiissiiiiii",
		"name", "host", "port", "database", "force_user", "pool_size", "min_pool_size", "reserve_pool_size",
		"server_lifetime", "pool_mode", "load_balance_hosts", "max_connections", "current_connections",
		"max_client_connections", "current_client_connections", "paused", "disabled")}
	if extended {
		t.columns = append(t.columns, columnsOf("ii", "pools", "ready")...)
	}
	clients, servers, pools, ready := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	for _, p := range snap.Pools {
		pools[p.Database]++
		if p.Ready {
			ready[p.Database]++
		}
	}
	for _, cl := range snap.Clients {
		clients[cl.Database]++
	}
	for _, s := range snap.Servers {
		servers[s.Database]++
	}
	row := func(d Database) {
		paused := snap.Controls.AllPaused || snap.Controls.Paused[d.Name]
		name := d.DBName
		if name == "" {
			name = d.Name
		}
		cells := []*string{text(d.Name), textOrNull(d.Host), number(d.Port), text(name), textOrNull(d.ForceUser),
			number(d.PoolSize), number(d.MinPoolSize), number(d.ReservePoolSize),
			number(int64(d.ServerLifetime / time.Second)), textOrNull(d.Mode), nil,
			number(d.MaxConnections), number(servers[d.Name]), number(d.MaxClientConnections), number(clients[d.Name]), bit(paused), bit(snap.Controls.Disabled[d.Name])}
		if extended {
			cells = append(cells, number(pools[d.Name]), bit(pools[d.Name] == ready[d.Name]))
		}
		t.add(cells...)
	}
	for _, d := range c.opts().Databases {
		row(d)
	}
	for _, d := range c.autoDatabases(snap) {
		row(d)
	}
	clients[consoleDatabase] = len(c.sessions())
	paused := snap.Controls.AllPaused
	snap.Controls.AllPaused = false // the console itself never is
	row(Database{Name: consoleDatabase, DBName: consoleDatabase, ForceUser: consoleDatabase, Mode: "statement"})
	snap.Controls.AllPaused = paused
	return t
}

// users are the configured users, and those that servers and clients have
// beside them.
func (c *Console) users(snap *proxy.Snapshot) map[string]User {
	all := map[string]User{}
	for _, cl := range snap.Clients {
		all[cl.User] = User{Name: cl.User}
	}
	for _, p := range snap.Pools {
		all[p.User] = User{Name: p.User}
	}
	for _, s := range c.sessions() {
		all[s.user] = User{Name: s.user}
	}
	for _, u := range c.opts().Users {
		all[u.Name] = u
	}
	return all
}

func (c *Console) showUsers(snap *proxy.Snapshot, _ bool) *table {
	t := &table{columns: columnsOf("ssssiiii", "name", "pool_size", "reserve_pool_size", "pool_mode",
		"max_user_connections", "current_connections", "max_user_client_connections", "current_client_connections")}
	servers, clients := map[string]int{}, map[string]int{}
	for _, s := range snap.Servers {
		servers[s.User]++
	}
	for _, cl := range snap.Clients {
		clients[cl.User]++
	}
	for _, s := range c.sessions() {
		clients[s.user]++
	}
	users := c.users(snap)
	for _, name := range slices.Sorted(maps.Keys(users)) {
		u := users[name]
		size := text("")
		if u.PoolSize != nil {
			size = text(fmt.Sprintf("%9d", *u.PoolSize)) // PgBouncer's way to write it
		}
		t.add(text(name), size, text(""), textOrNull(u.Mode), number(u.MaxConnections), number(servers[name]), number(u.MaxClientConnections), number(clients[name]))
	}
	return t
}

func (c *Console) showStatements(*proxy.Snapshot, bool) *table {
	t := &table{columns: columnsOf("sqqqqTs", "database", "calls", "total_time", "avg_time", "max_time", "last", "statement")}
	for _, p := range c.opts().Source.Fingerprints() {
		t.add(text(p.Database), unsigned(p.Calls), number(p.Time.Microseconds()), number((p.Time / time.Duration(max(p.Calls, 1))).Microseconds()),
			number(p.Longest.Microseconds()), timestamp(p.Last), text(p.Text))
	}
	return t
}

func (c *Console) showErrors(snap *proxy.Snapshot, _ bool) *table {
	t := &table{columns: columnsOf("ssq", "side", "sqlstate", "count")}
	for _, side := range []struct {
		name   string
		counts map[string]uint64
	}{{sidePooler, snap.Totals.ErrorsBySQLState}, {sideServer, snap.Totals.ServerErrorsBySQLState}} {
		for _, code := range slices.Sorted(maps.Keys(side.counts)) {
			t.add(text(side.name), text(code), unsigned(side.counts[code]))
		}
	}
	return t
}

// Who made an error that a client got.
const (
	sidePooler = "pgpoold"
	sideServer = "server"
)

func join(list []string) string { return strings.Join(list, ", ") }
