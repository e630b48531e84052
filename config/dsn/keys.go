package dsn

import (
	"strings"

	"pgpoold/config/internal/nearest"
)

// keyClass says what becomes of a known key.
type keyClass uint8

const (
	keyUsed    keyClass = iota // apply.go gives it its meaning
	keySetting                 // a PostgreSQL setting: goes into the startup packet
	keyDriver                  // a driver's own option: no effect, a warning
	keyIgnored                 // libpq's, without effect here: a warning
	keyRefused                 // libpq's; leaving it out would weaken or change the connection
)

// lookupKey finds a key by its exact spelling, and driver keys and settings in
// any case. The name it returns comes from the table, never from the DSN.
func lookupKey(key string) (name string, class keyClass, known bool) {
	for _, group := range keyGroups() {
		for _, name := range strings.Fields(group.names) {
			if name == key || group.anyCase && strings.EqualFold(name, key) {
				return name, group.class, true
			}
		}
	}
	return "", 0, false
}

type keyGroup struct {
	class   keyClass
	anyCase bool
	names   string
}

func keyGroups() []keyGroup {
	return []keyGroup{
		{keyUsed, false, `host hostaddr port user password dbname sslmode ssl sslrootcert sslcert sslkey requiressl
			connect_timeout target_session_attrs application_name fallback_application_name client_encoding options
			keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout
			gssencmode channel_binding load_balance_hosts sslnegotiation ssl_min_protocol_version`},
		{keySetting, true, `search_path statement_timeout lock_timeout idle_in_transaction_session_timeout
			transaction_timeout TimeZone DateStyle IntervalStyle extra_float_digits role
			default_transaction_isolation default_transaction_read_only default_transaction_deferrable
			standard_conforming_strings bytea_output jit work_mem maintenance_work_mem temp_buffers row_security
			client_min_messages default_tablespace temp_tablespaces synchronous_commit plan_cache_mode
			random_page_cost effective_cache_size enable_seqscan log_statement log_min_duration_statement
			default_text_search_config lc_messages lc_monetary lc_numeric lc_time max_parallel_workers_per_gather`},
		{keyDriver, true, `pgbouncer connection_limit pool_timeout schema statement_cache_size sslaccept sslidentity
			socket_timeout max_idle_connection_lifetime statement_cache_capacity statement_cache_mode
			description_cache_capacity default_query_exec_mode pool_max_conns pool_min_conns pool_min_idle_conns
			pool_max_conn_lifetime pool_max_conn_lifetime_jitter pool_max_conn_idle_time pool_health_check_period
			prepared_statement_cache_size prepared_statement_name_func async_fallback command_timeout timeout
			min_size max_size max_queries max_inactive_connection_lifetime max_cached_statement_lifetime
			max_cacheable_statement_size prepareThreshold preparedStatementCacheQueries
			preparedStatementCacheSizeMiB preferQueryMode reWriteBatchedInserts loginTimeout socketTimeout
			connectTimeout tcpKeepAlive ApplicationName currentSchema defaultRowFetchSize binaryTransfer stringtype
			uselibpqcompat prepare max max_lifetime idle_timeout pool_size max_overflow pool_recycle pool_pre_ping
			pool_mode prepare_threshold autocommit supa workaround`},
		{keyIgnored, false, `gssdelegation gsslib krbsrvname sslcompression sslsni sslcertmode sslkeylogfile passfile
			min_protocol_version max_protocol_version`},
		{keyRefused, false, `service servicefile replication requirepeer require_auth sslcrl sslcrldir sslpassword
			ssl_max_protocol_version scram_client_key scram_server_key oauth_issuer oauth_client_id
			oauth_client_secret oauth_scope`},
	}
}

// nearestKey proposes the known key that is closest to an unknown one, or "".
func nearestKey(key string) string {
	var names []string
	for _, group := range keyGroups() {
		if group.class == keyUsed || group.class == keySetting {
			names = append(names, strings.Fields(group.names)...)
		}
	}
	return nearest.Of(key, names)
}
