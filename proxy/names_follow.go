package proxy

import (
	"context"
	"time"
)

// followNames has the names of all servers' hosts looked up every dns_max_ttl,
// one round at a time. The clock calls it.
func (px *Server) followNames(now time.Time) {
	every := px.live().dnsMaxTTL
	if every <= 0 || now.Sub(px.namesAt) < every || !px.following.CompareAndSwap(false, true) {
		return
	}
	px.namesAt = now
	px.helpers.Add(1)
	go px.lookUpNames(max(every, time.Second))
}

// lookUpNames is one round, bounded by a time; Close joins it.
func (px *Server) lookUpNames(within time.Duration) {
	defer px.helpers.Done()
	defer px.following.Store(false)
	ctx, cancel := context.WithTimeout(px.ctx, within)
	defer cancel()
	for _, p := range px.allPools() {
		p.servers.FollowNames(ctx)
	}
}
