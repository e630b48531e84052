package regress

// differences are the tests that may differ at preserve, each with the reason.
// At strict none may.
var differences = map[string]string{
	"guc": "it counts on a library, plpgsql, that has not been loaded on its connection; on a shared server another session has loaded it. " +
		"A custom setting with a loaded library's prefix is refused.",
	"sequence": "`currval` and `lastval` of a number that was drawn before the session first asks for one are refused with 55000, because the session did not have to keep its server for it.",
	"stats":    "a backend sends its counters at most once a second, and `pg_stat_force_next_flush()` reaches only the server that it runs on; a new client is no new session of PostgreSQL's in `pg_stat_database`.",
}
