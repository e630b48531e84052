package sqlscan

import "bytes"

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

// classify looks a word up, lower case.
func classify(w []byte) token {
	switch string(w) {
	case "all":
		return tokAll
	case "constraints":
		return tokConstraints
	case "create":
		return tokCreate
	case "deallocate":
		return tokDeallocate
	case "declare":
		return tokDeclare
	case "default":
		return tokDefault
	case "discard":
		return tokDiscard
	case "do":
		return tokDo
	case "execute":
		return tokExecute
	case "global":
		return tokGlobal
	case "hold":
		return tokHold
	case "insert":
		return tokInsert
	case "into":
		return tokInto
	case "language":
		return tokLanguage
	case "listen":
		return tokListen
	case "pg_prepared_statements", "pg_prepared_statement":
		return tokListing
	case "load":
		return tokLoad
	case "local":
		return tokLocal
	case "merge":
		return tokMerge
	case "names":
		return tokNames
	case "plpgsql":
		return tokPlpgsql
	case "prepare":
		return tokPrepare
	case "replace":
		return tokReplace
	case "reset":
		return tokReset
	case "role":
		return tokRole
	case "session":
		return tokSession
	case "set":
		return tokSet
	case "set_config":
		return tokSetConfig
	case "temp", "temporary":
		return tokTemp
	case "time":
		return tokTime
	case "transaction":
		return tokTransaction
	case "true":
		return tokTrue
	case "with":
		return tokWith
	case "zone":
		return tokZone
	case "application_name", "client_encoding", "datestyle", "intervalstyle",
		"standard_conforming_strings", "timezone", "default_transaction_read_only":
		return tokReported
	case "pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared":
		return tokLock
	case "pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all":
		return tokUnlock
	case "setseed":
		return tokSeed
	case "set_limit", "dblink_connect", "dblink_connect_u", "pg_backup_start", "pg_start_backup",
		"pg_replication_origin_session_setup", "pg_create_physical_replication_slot", "pg_create_logical_replication_slot",
		"pg_copy_physical_replication_slot", "pg_copy_logical_replication_slot":
		return tokExternal
	case "query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "ts_stat", "ts_rewrite", "crosstab", "crosstab2",
		"crosstab3", "crosstab4", "crosstabn", "connectby", "xpath_table":
		return tokRuns
	case "currval", "lastval":
		return tokLastValue
	case "nextval", "setval":
		return tokNextValue
	case "copy":
		return tokCopy
	case "begin", "then", "else", "loop":
		return tokBlock
	case "close":
		return tokClose
	case "drop":
		return tokDrop
	case "unlisten":
		return tokUnlisten
	}
	if string(w) == "pg_temp" || bytes.HasPrefix(w, []byte("pg_temp_")) {
		return tokPgTemp
	}
	return tokOther
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
		s.found |= s.inner.End()
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
	case tokReported, tokLock, tokUnlock, tokSeed, tokExternal, tokRuns, tokPgTemp, tokLastValue, tokNextValue, tokSetConfig, tokListing:
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
func (s *Scanner) meaning(w []byte) { s.take(classify(w)) }

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
