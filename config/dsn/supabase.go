package dsn

import "strings"

// Endpoint is what a host and port of Supabase stand for.
type Endpoint uint8

// The endpoints that Supabase gives to a project.
const (
	NotSupabase       Endpoint = iota
	DirectServer               // db.REF.supabase.co:5432, IPv6 only without an add-on
	SessionPooler              // *.pooler.supabase.com:5432
	TransactionPooler          // *.pooler.supabase.com:6543
	DedicatedPooler            // db.REF.supabase.co:6543
)

// SupabaseKind tells Supabase's endpoints apart by host and port.
func SupabaseKind(host string, port uint16) Endpoint {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	shared := strings.HasSuffix(host, ".pooler.supabase.com")
	project := strings.HasPrefix(host, "db.") && strings.HasSuffix(host, ".supabase.co")
	switch {
	case shared && port == 6543:
		return TransactionPooler
	case shared:
		return SessionPooler
	case project && port == 6543:
		return DedicatedPooler
	case project:
		return DirectServer
	}
	return NotSupabase
}

// IsTransactionPooler reports whether the endpoint pools transactions itself.
func (e Endpoint) IsTransactionPooler() bool {
	return e == TransactionPooler || e == DedicatedPooler
}

// PoolerRefusal is the sentence for a server that is itself a transaction
// pooler, or "" where host and port do not say so.
func PoolerRefusal(host string, port uint16) string {
	if !SupabaseKind(host, port).IsTransactionPooler() {
		return ""
	}
	return "port 6543 of Supabase is itself a transaction pooler, which loses session state and mixes up pipelined queries: " +
		"use the direct endpoint db.REF.supabase.co:5432 (user postgres; IPv6, or the IPv4 add-on), " +
		"or the session pooler, port 5432 of the pooler.supabase.com host (user postgres.REF), with pool.size below its cap; " +
		"upstream_pooler: true overrides, then nothing is pipelined and no named statement is sent"
}
