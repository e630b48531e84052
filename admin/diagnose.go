package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgpoold/proxy"
)

// finding is one sentence about a pool, for a person.
type finding struct {
	Level    string `json:"level"` // bad, warn or ok
	Database string `json:"database,omitempty"`
	User     string `json:"user,omitempty"`
	Text     string `json:"text"`
}

const (
	levelBad  = "bad"
	levelWarn = "warn"
	levelOK   = "ok"
)

// idleTooLong is from when a client that has a transaction open and asks
// nothing is worth a word.
const idleTooLong = 5 * time.Second

// longQuery is from when a running query is.
const longQuery = 5 * time.Second

// A queue is nothing to worry about below shortWait, and bad from longWait.
const (
	shortWait = 100 * time.Millisecond
	longWait  = time.Second
)

// diagnose says in words what keeps clients waiting, the worst first. There is
// always a sentence.
func diagnose(snap *proxy.Snapshot, slow map[uint64]time.Duration, ready bool, why string) []finding {
	clients := make(map[uint64]*proxy.ClientSnapshot, len(snap.Clients))
	for i := range snap.Clients {
		clients[snap.Clients[i].ID] = &snap.Clients[i]
	}
	servers := map[[3]string][]*proxy.ServerSnapshot{}
	for i := range snap.Servers {
		s := &snap.Servers[i]
		key := [3]string{s.Database, s.User, s.Of}
		servers[key] = append(servers[key], s)
	}
	var all []finding
	for i := range snap.Pools {
		p := &snap.Pools[i]
		d := diagnosis{pool: p, servers: servers[[3]string{p.Database, p.User, p.Of}], clients: clients, slow: slow}
		if f := d.finding(); f.Text != "" {
			f.Database, f.User = p.Database, p.User
			whose := ""
			if p.Of != "" {
				whose = " (" + p.Of + ")"
			}
			f.Text = p.Database + "/" + p.User + whose + ": " + f.Text
			all = append(all, f)
		}
	}
	rank := map[string]int{levelBad: 0, levelWarn: 1, levelOK: 2}
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
	switch {
	case snap.Draining:
		all = append([]finding{{Level: levelWarn, Text: fmt.Sprintf("pgpoold is stopping: no new clients, %s left.", count(len(snap.Clients), "client"))}}, all...)
	case len(all) == 0 && !ready:
		all = append(all, finding{Level: levelBad, Text: "not ready: " + why + "."})
	case len(all) == 0:
		all = append(all, finding{Level: levelOK, Text: fmt.Sprintf("Nobody waits: %s, %s.", count(len(snap.Clients), "client"), count(len(snap.Servers), "server connection"))})
	}
	return all
}

// diagnosis is what is known of one pool.
type diagnosis struct {
	pool    *proxy.PoolSnapshot
	servers []*proxy.ServerSnapshot
	clients map[uint64]*proxy.ClientSnapshot
	slow    map[uint64]time.Duration
}

func (d *diagnosis) finding() finding {
	p := d.pool
	waiting := ""
	if p.ClWaiting > 0 {
		waiting = fmt.Sprintf("%d waiting, longest %s: ", p.ClWaiting, spoke(p.MaxWait))
	}
	switch {
	case p.Paused:
		if n := len(d.servers); n > 0 {
			return finding{Level: levelWarn, Text: waiting + "paused; " + count(n, "server") + " still in use. RESUME lets clients go on."}
		}
		return finding{Level: levelWarn, Text: waiting + "paused. RESUME lets clients go on."}
	case p.Refused && len(d.servers) == 0:
		return finding{Level: levelBad, Text: waiting + "PostgreSQL refuses the login of " + p.User + ": " + sentence(p.LastError)}
	case p.LastError != "" && len(d.servers) == 0:
		return finding{Level: levelBad, Text: waiting + "PostgreSQL cannot be reached: " + sentence(p.LastError)}
	case waiting != "":
		level := levelBad
		switch {
		case p.MaxWait < shortWait:
			level = levelOK // servers change hands all the time
		case p.MaxWait < longWait:
			level = levelWarn
		}
		return finding{Level: level, Text: waiting + d.busy() + "."}
	}
	if parts := d.odd(); len(parts) > 0 {
		return finding{Level: levelWarn, Text: strings.Join(parts, "; ") + "."}
	}
	return finding{}
}

// busy says what the servers do while clients wait.
func (d *diagnosis) busy() string {
	p := d.pool
	used := p.SvActive + p.SvBeingCanceled + p.SvTested
	if free := p.SvIdle + p.SvUsed; free > 0 && used == 0 {
		return "a server is about to be handed out"
	}
	if p.Size > 0 && len(d.servers)+p.SvLogin < p.Size || p.SvActive == 0 {
		if p.LastError != "" {
			return fmt.Sprintf("only %d of %s could be connected: %s", len(d.servers), count(p.Size, "server"), strings.TrimSuffix(p.LastError, "."))
		}
		return fmt.Sprintf("%s busy, %d being connected (size %d)", count(used, "server"), p.SvLogin, p.Size)
	}
	text := "all " + count(len(d.servers), "server") + " busy"
	switch len(d.servers) {
	case 1:
		text = "the only server is busy"
	case 2:
		text = "both servers busy"
	}
	parts := d.odd()
	if len(d.servers) == 1 && len(parts) == 1 {
		parts[0] = strings.TrimPrefix(strings.TrimPrefix(parts[0], "1 of them "), "1 ")
	}
	if len(parts) == 0 {
		longest := time.Duration(0)
		for _, s := range d.servers {
			longest = max(longest, s.Query)
		}
		text += " with queries"
		if longest >= longQuery {
			text += ", the longest for " + spoke(longest)
		}
		if p.MaxWait < shortWait {
			return text
		}
		return text + fmt.Sprintf(": the pool is too small for this load (size %d)", p.Size)
	}
	return text + ", " + strings.Join(parts, ", ")
}

// odd says what else the servers do than run queries.
func (d *diagnosis) odd() (parts []string) {
	var idle, slow, pinned, long group
	for _, s := range d.servers {
		c := d.clients[s.ClientID]
		switch {
		case c == nil:
		case d.slow[c.ID] > 0:
			slow.add(c, "")
		case s.InTransaction >= idleTooLong:
			idle.add(c, "")
		case c.Pin != "":
			pinned.add(c, c.Pin)
		case s.Query >= longQuery:
			long.add(c, "")
		}
	}
	if idle.n > 0 {
		parts = append(parts, fmt.Sprintf("%d of them idle in transaction for over %s%s", idle.n, spoke(idleTooLong), idle.application()))
	}
	if slow.n > 0 {
		parts = append(parts, fmt.Sprintf("%d held by clients that do not read their results%s", slow.n, slow.application()))
	}
	if pinned.n > 0 {
		parts = append(parts, fmt.Sprintf("%d pinned (%s)%s", pinned.n, join(pinned.reasons), pinned.application()))
	}
	if long.n > 0 {
		parts = append(parts, fmt.Sprintf("%d running one query for over %s%s", long.n, spoke(longQuery), long.application()))
	}
	if d.pool.ClWaiting == 0 {
		for i := range parts {
			parts[i] = strings.Replace(parts[i], " of them", " of "+count(len(d.servers), "server"), 1)
			if !strings.Contains(parts[i], " of ") {
				n, rest, _ := strings.Cut(parts[i], " ")
				parts[i] = n + " of " + count(len(d.servers), "server") + " " + rest
			}
		}
	}
	return parts
}

// group is clients of one kind.
type group struct {
	n       int
	names   map[string]int
	reasons []string
}

func (g *group) add(c *proxy.ClientSnapshot, reason string) {
	g.n++
	if g.names == nil {
		g.names = map[string]int{}
	}
	g.names[c.ApplicationName]++
	if reason != "" && !slices.Contains(g.reasons, reason) {
		g.reasons = append(g.reasons, reason)
	}
}

// application names the application that most of them are of.
func (g *group) application() string {
	most := ""
	for name, n := range g.names {
		if name != "" && (most == "" || n > g.names[most] || n == g.names[most] && name < most) {
			most = name
		}
	}
	switch {
	case most == "":
		return ""
	case g.names[most] < g.n:
		return ", mostly application " + most
	}
	return ", application " + most
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// spoke is a duration as a person would say it.
func spoke(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "under 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d == d.Truncate(time.Second) && d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	if sec := int(d.Seconds()) % 60; sec > 0 {
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), sec)
	}
	return fmt.Sprintf("%d min", int(d.Minutes()))
}

func sentence(s string) string { return strings.TrimSuffix(s, ".") + "." }
