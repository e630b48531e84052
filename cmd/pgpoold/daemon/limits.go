package daemon

import (
	"math"
	"syscall"

	"go.uber.org/zap"

	"pgpoold/config"
	"pgpoold/wire/stream"
)

// ownDescriptors is what pgpoold itself needs beside clients and servers:
// listeners, the admin port's connections, the log, the poller, connections
// that pass a cancel request on, and those that are about to be closed.
const ownDescriptors = 64 + stream.MaxClosing

// raiseDescriptorLimit raises the soft limit to the hard one and returns what
// is in force.
func raiseDescriptorLimit() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Cur < limit.Max {
		raised := syscall.Rlimit{Cur: limit.Max, Max: limit.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
			return limit.Cur, err
		}
		limit = raised
	}
	return limit.Cur, nil
}

// fitClients is how many clients the descriptor limit carries beside the
// servers, at most wanted and at least one.
func fitClients(limit uint64, wanted, servers int) int {
	room := int64(min(limit, math.MaxInt32)) - int64(servers) - ownDescriptors
	return int(max(1, min(room, int64(wanted))))
}

// mostServers is how many server connections the configured pools can open.
// Pools without a size count as nothing: there is no telling.
func mostServers(cfg *config.Config) int {
	n := 0
	for name, d := range cfg.Databases {
		if d.User != "" {
			n += cfg.Effective(name, "").Size
			continue
		}
		users := d.Users
		if users == nil {
			for u := range cfg.Auth.Users {
				users = append(users, u)
			}
		}
		for _, u := range users {
			n += cfg.Effective(name, u).Size
		}
	}
	return n
}

// clientLimit is max_client_conn as far as the descriptor limit carries it.
func clientLimit(cfg *config.Config, log *zap.Logger) int {
	wanted := cfg.Listen.MaxClientConn
	limit, err := raiseDescriptorLimit()
	if err != nil {
		log.Warn("the limit on open files could not be raised", zap.Uint64("limit", limit), zap.Error(err))
	}
	if limit == 0 {
		return wanted
	}
	servers := mostServers(cfg)
	fits := fitClients(limit, wanted, servers)
	if fits < wanted {
		log.Warn("the limit on open files does not carry max_client_conn (listen.max_client_conn) and the pools: fewer clients are admitted",
			zap.Uint64("open_files_limit", limit),
			zap.Int("open_files_needed", wanted+servers+ownDescriptors),
			zap.Int("max_client_conn", wanted),
			zap.Int("effective_max_client_conn", fits))
	}
	return fits
}
