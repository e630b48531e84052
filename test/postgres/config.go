package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Config describes a cluster. The zero value is a cluster that trusts
// everyone on the loopback interface.
type Config struct {
	// MaxConnections is max_connections; 0: 200.
	MaxConnections int
	// Settings go into postgresql.conf, values unquoted. They win over what
	// this package sets, but for port, listen_addresses and
	// unix_socket_directories.
	Settings map[string]string
	// HBA lines come first in pg_hba.conf, so they decide for what they match.
	// Behind them stand "trust" for everyone locally and on the loopback
	// interface, replication too; with Password set it is "scram-sha-256".
	HBA []string
	// Password is the superuser's; empty: none, and trust.
	Password string
	// TLS switches ssl on with these files' contents; nil: off.
	TLS *TLS
	// Durable leaves fsync and full_page_writes on.
	Durable bool
	// Install is the installation to run; nil: the one that Find finds with
	// TestOptions.
	Install *Install
}

// Superuser is the name of every cluster's superuser.
const Superuser = "postgres"

// conf is the text that follows initdb's own postgresql.conf, which holds what
// initdb found out about the machine.
func (c Config) conf(port int, socketDir string) string {
	set := map[string]string{
		"max_connections":   "200",
		"timezone":          "UTC",
		"log_timezone":      "UTC",
		"logging_collector": "off",
		"log_destination":   "stderr",
		"log_line_prefix":   "%m [%p] %q%u@%d ",
		"shared_buffers":    "64MB",
		"ssl":               "off",
	}
	if c.MaxConnections > 0 {
		set["max_connections"] = strconv.Itoa(c.MaxConnections)
	}
	if !c.Durable {
		set["fsync"] = "off"
		set["full_page_writes"] = "off"
		set["synchronous_commit"] = "off"
	}
	if c.TLS != nil {
		set["ssl"] = "on"
		set["ssl_cert_file"] = "server.crt"
		set["ssl_key_file"] = "server.key"
		if len(c.TLS.CA) > 0 {
			set["ssl_ca_file"] = "ca.crt"
		}
	}
	maps.Copy(set, c.Settings)
	set["port"] = strconv.Itoa(port)
	set["listen_addresses"] = "127.0.0.1"
	set["unix_socket_directories"] = socketDir

	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(set[name], "'", "''"))
	}
	return b.String()
}

// hba is the text of pg_hba.conf.
func (c Config) hba() string {
	method := "trust"
	if c.Password != "" {
		method = "scram-sha-256"
	}
	lines := slices.Clone(c.HBA)
	for _, db := range []string{"all", "replication"} {
		lines = append(lines,
			"local "+db+" all "+method,
			"host "+db+" all 127.0.0.1/32 "+method,
			"host "+db+" all ::1/128 "+method)
	}
	return strings.Join(lines, "\n") + "\n"
}
