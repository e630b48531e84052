package regress

// differences are the tests that may differ at preserve, each with the reason.
// At strict none may.
var differences = map[string]string{
	"guc": "it counts on a library, plpgsql, that has not been loaded on its connection; on a shared server another session has loaded it. " +
		"A custom setting with a loaded library's prefix is refused.",
	"sequence":        "`currval` and `lastval` of a number that was drawn before the session first asks for one are refused with 55000, because the session did not have to keep its server for it.",
	"partition_prune": "it runs `EXECUTE` of a prepared statement inside of a function, by a name that only the function's argument tells.",
	"stats":           "a backend sends its counters at most once a second, and `pg_stat_force_next_flush()` reaches only the server that it runs on; a new client is no new session of PostgreSQL's in `pg_stat_database`.",
	"triggers":        "`refint`, a C library of examples, keeps plans by a trigger's name in the memory of its server, and other servers keep theirs when the trigger is made anew. Functions like that belong into `pin_functions`.",
}
