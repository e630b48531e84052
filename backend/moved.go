package backend

import (
	"context"
	"net"
	"slices"
)

// FollowNames looks up the names of the pool's hosts, and lets servers end,
// when they are next free, that are where no name leads any more. A name that
// cannot be resolved changes nothing. It may take as long as ctx allows.
func (p *Pool) FollowNames(ctx context.Context) {
	opts := p.Target()
	named := false
	var now []string
	for _, h := range opts.Hosts {
		addrs, err := opts.resolve(ctx, h)
		if err != nil {
			return
		}
		named = named || h.Network == "tcp" && net.ParseIP(h.Host) == nil
		now = append(now, addrs...)
	}
	if !named || opts != p.Target() {
		return
	}
	gone := func(s *Server) bool { return !slices.Contains(now, s.addr) }
	p.mu.Lock()
	moved := false
	for s := range p.all {
		moved = moved || !s.close && gone(s)
	}
	p.mu.Unlock()
	if moved {
		p.replace(CloseReconnect, gone)
	}
}
