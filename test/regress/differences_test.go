package regress

// differences are the tests that may differ, each with the reason.
var differences = map[string]string{
	"select_views": warned, "plancache": warned, "copy2": warned, "temp": warned, "truncate": warned,
	"guc": "it counts on a library, plpgsql, that has not been loaded on its connection; on a shared server another session has loaded it. " +
		"A custom setting with a loaded library's prefix is refused.",
	"sequence":        "`currval` and `lastval` of a number that was drawn before the session first asks for one are refused with 55000, because the session did not have to keep its server for it.",
	"constraints":     "`currval` stands in a table's constraint and default; as for `sequence`.",
	"partition_prune": "it runs `EXECUTE` of a prepared statement inside of a function, by a name that only the function's argument tells.",
	"stats":           "a backend sends its counters at most once a second, and `pg_stat_force_next_flush()` reaches only the server that it runs on; a new client is no new session of PostgreSQL's in `pg_stat_database`.",
	"triggers":        "`refint`, a C library of examples, keeps plans by a trigger's name in the memory of its server, and other servers keep theirs when the trigger is made anew. Functions like that belong into `pin_functions`.",
}

// warned is what a test may meet that loads plpgsql behind guc.
const warned = "another test has SET a custom setting with the prefix of plpgsql, and the first session that loads plpgsql on that server gets PostgreSQL's warning about it. A custom setting cannot be taken away again."
