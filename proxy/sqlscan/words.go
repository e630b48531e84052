package sqlscan

import (
	"bytes"
	"strings"
)

// token is a word that means something, or a kind of other things.
type token uint8

const (
	tokNone    token = iota // punctuation
	tokOther                // any other word
	tokLiteral              // a quoted string
	tokEscaped              // one in which a backslash escapes
	tokAll
	tokConstraints
	tokCreate
	tokDeallocate
	tokDeclare
	tokDefault
	tokDiscard
	tokDo
	tokExecute
	tokGlobal
	tokHold
	tokInsert
	tokInto
	tokLanguage
	tokListen
	tokListing // shows prepared statements
	tokLoad
	tokLocal
	tokMerge
	tokNames
	tokPlpgsql
	tokPrepare
	tokReplace
	tokReported // a setting whose changes PostgreSQL reports
	tokReset
	tokRole
	tokSession
	tokSet
	tokSetConfig
	tokLock     // takes a session advisory lock
	tokUnlock   // or gives it back
	tokSeed     // setseed
	tokExternal // a function whose state no catalog shows
	tokRuns     // a function that runs a text
	tokPgTemp   // the schema of temporary objects
	tokSchemas  // asks for that, or for temp_buffers
	tokCounts   // statistics
	tokLastValue
	tokNextValue
	tokBlock // begins a statement in the body of a function
	tokCopy
	tokClose
	tokDrop
	tokUnlisten
	tokTemp
	tokTime
	tokTransaction
	tokTrue
	tokWith
	tokZone
)

// known are the words that mean something, lower case.
var known = func() map[string]token {
	m := map[string]token{}
	for t, words := range map[token]string{
		tokAll:         "all",
		tokConstraints: "constraints",
		tokCreate:      "create",
		tokDeallocate:  "deallocate",
		tokDeclare:     "declare",
		tokDefault:     "default",
		tokDiscard:     "discard",
		tokDo:          "do",
		tokExecute:     "execute",
		tokGlobal:      "global",
		tokHold:        "hold",
		tokInsert:      "insert",
		tokInto:        "into",
		tokLanguage:    "language",
		tokListen:      "listen",
		tokListing:     "pg_prepared_statements pg_prepared_statement",
		tokLoad:        "load",
		tokLocal:       "local",
		tokMerge:       "merge",
		tokNames:       "names",
		tokPlpgsql:     "plpgsql",
		tokPrepare:     "prepare",
		tokReplace:     "replace",
		tokReset:       "reset",
		tokRole:        "role",
		tokSession:     "session",
		tokSet:         "set",
		tokSetConfig:   "set_config",
		tokTemp:        "temp temporary",
		tokTime:        "time",
		tokTransaction: "transaction",
		tokTrue:        "true",
		tokWith:        "with",
		tokZone:        "zone",
		tokReported:    "application_name client_encoding datestyle intervalstyle standard_conforming_strings timezone default_transaction_read_only",
		tokLock:        "pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared",
		tokUnlock:      "pg_advisory_unlock pg_advisory_unlock_shared pg_advisory_unlock_all",
		tokSeed:        "setseed",
		tokExternal: "set_limit dblink_connect dblink_connect_u pg_backup_start pg_start_backup pg_replication_origin_session_setup " +
			"pg_create_physical_replication_slot pg_create_logical_replication_slot pg_copy_physical_replication_slot pg_copy_logical_replication_slot",
		tokRuns:      "query_to_xml query_to_xmlschema query_to_xml_and_xmlschema ts_stat ts_rewrite crosstab crosstab2 crosstab3 crosstab4 crosstabn connectby xpath_table",
		tokLastValue: "currval lastval",
		tokNextValue: "nextval setval",
		tokCopy:      "copy",
		tokBlock:     "begin then else loop",
		tokSchemas:   "temp_buffers pg_my_temp_schema current_schemas",
		tokClose:     "close",
		tokDrop:      "drop",
		tokUnlisten:  "unlisten",
	} {
		for _, w := range strings.Fields(words) {
			m[w] = t
		}
	}
	return m
}()

// quick tells most other words apart: by the first letter, the lengths of those
// that mean something, as bits.
var quick = func() (all [256]uint64) {
	for w := range known {
		all[w[0]] |= 1 << min(len(w), 63)
	}
	for n := len("pg_temp"); n < 64; n++ {
		all['p'] |= 1 << n // and all that ofPostgres knows
	}
	return all
}()

// classify looks a word up, lower case.
func classify(w []byte) token {
	if len(w) == 0 || quick[w[0]]&(1<<min(len(w), 63)) == 0 {
		return tokOther
	}
	if t, ok := known[string(w)]; ok {
		return t
	}
	if len(w) > 3 && w[0] == 'p' && w[1] == 'g' && w[2] == '_' {
		return ofPostgres(w)
	}
	return tokOther
}

// ofPostgres is classify for what begins with pg_.
func ofPostgres(w []byte) token {
	switch {
	case string(w) == "pg_temp", bytes.HasPrefix(w, []byte("pg_temp_")):
		return tokPgTemp
	case string(w) == "pg_stat_activity", !bytes.HasPrefix(w, []byte("pg_stat_")) && !bytes.HasPrefix(w, []byte("pg_statio_")):
		return tokOther
	}
	return tokCounts
}

// statement is what is known of the statement so far.
type statement struct {
	verb  token // first word
	words int
	prev  token // the word before, if nothing stands between
	prev2 token // and the one before that
	set   setPhase
	inner *Scanner // the body of a DO

	call      callPhase // of set_config
	callDepth int       // parentheses
	arguments int
	isTrue    bool // the last argument so far is the word true, and nothing else
	isEmpty   bool // there is nothing of it yet
}

// setPhase is how far a SET or RESET has been read.
type setPhase uint8

const (
	noSet     setPhase = iota
	wantsName          // SET
	wantsMore          // SET SESSION
	wantsZone          // SET TIME
)

type callPhase uint8

const (
	noCall    callPhase = iota
	wantsOpen           // set_config
	inCall              // set_config(
)

// do reports whether the statement is DO: what it quotes is code.
func (s *Scanner) do() bool { return s.verb == tokDo }

// endStatement judges what is only known at the end.
func (s *Scanner) endStatement() {
	if s.call != noCall {
		s.found |= Untracked | Sets | Customs
	}
	if s.inner != nil {
		found := s.inner.End()
		if found&Names != 0 {
			found |= Runs
		}
		s.found |= found
	}
	s.statement = statement{}
	if s.code {
		s.words, s.verb = 1, tokOther
	}
}

// shift notes a token for those behind it.
func (s *Scanner) shift(t token) { s.prev2, s.prev = s.prev, t }

// name judges a quoted identifier, which is never a keyword.
func (s *Scanner) name() {
	t := classify(s.text.bytes())
	switch t {
	case tokReported, tokLock, tokUnlock, tokSeed, tokExternal, tokRuns, tokPgTemp, tokSchemas, tokCounts, tokLastValue, tokNextValue, tokSetConfig, tokListing:
	case tokPlpgsql:
		if s.prev != tokLanguage {
			t = tokOther
		}
	default:
		t = tokOther
	}
	s.take(t)
}

// meaning judges a word.
func (s *Scanner) meaning(w []byte) {
	t := classify(w)
	if t == tokOther && s.words > 0 && s.set == noSet && s.call == noCall && s.verb != tokDo {
		s.words++
		s.shift(t) // what take would do, and all it would
		return
	}
	s.take(t)
}

// take judges a token in its place.
func (s *Scanner) take(t token) {
	s.words++
	s.argument(t == tokTrue)
	switch t {
	case tokListing:
		s.found |= Lists
	case tokLock:
		s.found |= Untracked | Locks
	case tokUnlock:
		s.found |= Undoes
	case tokSeed:
		s.found |= Untracked | Seeds
	case tokExternal:
		s.found |= Untracked | External
	case tokRuns:
		s.found |= Dynamic
	case tokPgTemp:
		s.found |= Untracked | Temp
	case tokSchemas:
		s.found |= Schemas
	case tokCounts:
		s.found |= Counts
	case tokLastValue:
		s.found |= LastValue
	case tokNextValue, tokInsert:
		s.found |= Draws
	case tokSetConfig:
		s.found |= Customs | Changes
		if s.call != noCall {
			s.found |= Untracked | Sets
		}
		s.call = wantsOpen
	case tokTemp:
		switch s.prev {
		case tokCreate, tokReplace, tokLocal, tokGlobal:
			s.found |= Untracked | Temp
		case tokInto:
			if s.prev2 != tokInsert && s.prev2 != tokMerge {
				s.found |= Untracked | Temp
			}
		}
	case tokHold:
		if s.prev == tokWith && (s.verb == tokDeclare || s.code) {
			s.found |= Untracked | Holds
		}
	case tokDefault:
		if s.verb == tokSet {
			s.found |= Resets
		}
	case tokLocal:
		if s.verb == tokSet && s.prev == tokZone {
			s.found |= Resets // as DEFAULT
		}
	case tokPrepare, tokExecute, tokDeallocate:
		s.found |= Names
		if s.code && (s.words == 2 || t == tokExecute) {
			s.found |= inCode(t)
		}
	case tokSet, tokReset, tokDiscard, tokListen, tokLoad, tokClose, tokDrop, tokUnlisten:
		if s.code && s.words == 2 {
			s.found |= inCode(t)
		}
	}
	switch {
	case s.words == 1:
		s.begin(t)
	case s.set != noSet:
		s.setting(t)
	case s.verb == tokDiscard && s.words == 2 && t == tokAll:
		s.found |= Resets | ResetsAll | Changes
	case s.verb == tokDo && s.prev == tokLanguage && t != tokPlpgsql:
		s.found |= Untracked | Opaque
	}
	s.shift(t)
	if s.code && t == tokBlock {
		s.words, s.prev = 1, tokNone // what follows begins a statement
	}
}

// inCode judges the first word of a statement in the body of a function or DO,
// and EXECUTE wherever it stands.
func inCode(t token) Finding {
	switch t {
	case tokSet:
		return Untracked | Sets | Customs
	case tokReset:
		return Untracked | Sets
	case tokDiscard:
		return Untracked | Sets | Undoes
	case tokExecute:
		return Dynamic &^ Resets
	case tokListen:
		return Untracked | Listens
	case tokLoad:
		return Untracked | Loads
	case tokClose, tokDrop, tokUnlisten:
		return Undoes
	}
	return Untracked | Opaque
}

// begin judges a statement's first word.
func (s *Scanner) begin(t token) {
	s.verb = t
	switch t {
	case tokSet:
		s.found |= Changes
		s.set = wantsName
	case tokReset:
		s.found |= Resets | Changes
		s.set = wantsName
	case tokDiscard:
		s.found |= Undoes
	case tokMerge, tokCopy:
		s.found |= Draws
	case tokListen:
		s.found |= Untracked | Listens
	case tokLoad:
		s.found |= Untracked | Loads
	case tokClose, tokDrop, tokUnlisten:
		s.found |= Undoes
	}
}

// setting judges the words after SET or RESET.
func (s *Scanner) setting(t token) {
	phase := s.set
	s.set = noSet
	if s.verb == tokReset {
		switch t {
		case tokAll:
			s.found |= ResetsAll
		case tokRole, tokSession:
			s.found |= Untracked | Sets
		}
		return
	}
	switch {
	case phase == wantsZone:
		if t != tokZone {
			s.found |= Untracked | Sets
		}
	case t == tokTime:
		s.set = wantsZone
	case t == tokReported, t == tokNames:
	case phase == wantsName && t == tokSession:
		s.set = wantsMore // a name, AUTHORIZATION or CHARACTERISTICS
	case phase == wantsName && (t == tokLocal || t == tokTransaction || t == tokConstraints):
		// Ends with the transaction; so does whatever LOCAL names.
	default:
		s.found |= Untracked | Sets
	}
}

// punctuation takes what is neither a word nor quoted.
func (s *Scanner) punctuation(c byte) {
	if c == '.' && s.verb == tokSet && s.prev != tokNone && s.words <= 3 {
		s.found |= Customs
		if s.words == 2 || s.prev2 == tokSession {
			s.found |= Untracked | Sets // SET time.zone is a setting by that name
		}
	}
	switch s.call {
	case wantsOpen:
		if c != '(' {
			s.found |= Untracked | Sets
			s.call = noCall
			break
		}
		s.call, s.callDepth, s.arguments = inCall, 1, 1
		s.isTrue, s.isEmpty = false, true
	case inCall:
		s.inCall(c)
	}
	s.shift(tokNone)
}

// inCall takes punctuation among the arguments of set_config.
func (s *Scanner) inCall(c byte) {
	switch {
	case c == '(':
		s.callDepth++
		s.isTrue, s.isEmpty = false, false
	case c == ')':
		if s.callDepth--; s.callDepth > 0 {
			break
		}
		if s.arguments != 3 || !s.isTrue {
			s.found |= Untracked | Sets // it does not end with the transaction
		}
		s.call = noCall
	case c == ',' && s.callDepth == 1:
		s.arguments++
		s.isTrue, s.isEmpty = false, true
	default:
		s.isTrue, s.isEmpty = false, false
	}
}

// argument notes that a word or literal stands where set_config's name or
// arguments are.
func (s *Scanner) argument(isTrue bool) {
	switch s.call {
	case wantsOpen:
		s.found |= Untracked | Sets
		s.call = noCall
	case inCall:
		s.isTrue = isTrue && s.isEmpty
		s.isEmpty = false
	}
}
