package sqlscan

// Finding is a set of things that a text may do.
type Finding uint32

// The findings.
const (
	// Untracked says that the text may make state of a session that PostgreSQL
	// does not report: what kind of state, one or more of those from Sets to
	// Opaque say.
	Untracked Finding = 1 << iota
	// Resets says that it may give settings back their start values.
	Resets
	// Moment says that a literal depends on the moment it is parsed: 'now',
	// 'today', 'tomorrow', 'yesterday'.
	Moment
	// ResetsAll says that it may give all settings back at once.
	ResetsAll
	// Names says that it may name prepared statements: PREPARE, EXECUTE or
	// DEALLOCATE stands in it. Commands tells which.
	Names
	// Lists says that it may ask which prepared statements there are.
	Lists

	// Sets says that it may change a setting that is not reported.
	Sets
	// Temp, Locks, Holds and Listens say that it may make a temporary object,
	// take a session advisory lock, leave a cursor open behind its
	// transaction, or LISTEN.
	Temp
	Locks
	Holds
	Listens
	// Loads, Seeds and External say that it may LOAD a library, seed random(),
	// or call a function whose state no catalog shows.
	Loads
	Seeds
	External
	// Opaque says that it may do anything: it is not understood.
	Opaque

	// Customs says that it may name a custom setting, also one that ends with
	// its transaction; the function CustomNames finds which.
	Customs
	// Undoes says that it may end state of the kinds from Temp to Listens.
	Undoes
	// Params says that the name of one is a parameter of the statement. It is
	// what CustomNames tells, for those who keep it with the text.
	Params
	// LastValue says that it may ask for currval or lastval, Draws that it may
	// take a number from a sequence.
	LastValue
	Draws
	// Manual is not found in a text either: the session asked to keep its
	// server.
	Manual
	// Redefines is not found in a text: a command has changed what names hide.
	Redefines
	// Changes says that it changes a setting in plain words, also one that is
	// reported, also for its transaction only.
	Changes
	// Forgets says that it may take prepared statements away where no command's
	// tag tells: in the body of a function, or of a DO.
	Forgets
	// Schemas says that it may notice that there have been temporary objects on
	// its server: it asks for their schema, or names temp_buffers.
	Schemas
	// Counts says that it asks for statistics that a server keeps for a while.
	Counts
	// Runs says that a function in it runs texts, which may be names in this one:
	// EXECUTE of a prepared statement.
	Runs
	// Named is not found in a text: custom settings exist on the server.
	Named
	// Literals is not found by Scan: the text changes settings, and names one that
	// literals are read under and that is not reported.
	Literals
)

// Provable is the state that the catalogs show.
const Provable = Temp | Locks | Holds | Listens

// Dynamic is what a text may do that runs another one, which is not seen.
const Dynamic = Untracked | Sets | Customs | Provable | Resets | Undoes

// Lasting is the state that holds to the session's end.
const Lasting = Loads | Seeds | External | Opaque
