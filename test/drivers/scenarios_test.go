// Package drivers runs one list of scenarios with every driver, directly
// against PostgreSQL and through pgpoold, and compares what they print.
//
// A driver is a program (or, for pgx, a function) that prints one line of JSON
// per scenario. Its result holds whatever must be the same on any PostgreSQL
// connection: rows, tags, errors with their SQLSTATE and text, reported
// parameters. Backends' process ids and times do not belong in it; how many
// clients were served by more than one backend is a field of its own, because
// through pgpoold that is what makes a run worth anything.
package drivers

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// scenarioTexts are what every driver shows, in the order in which it runs
// them. Beside each stands what poolers are known to get wrong there.
var scenarioTexts = []struct{ name, text string }{
	// Startup parameters that are refused or dropped (extra_float_digits, statement_timeout, options), cut off or repeated
	// without quotes; reported parameters that are another server's; one SQLSTATE for every failed login.
	{"connect", "startup parameters, reported parameters, logins that fail"},
	// Queries of the driver's own for types, in the midst of a prepare.
	{"types", "values of many types there and back, text and binary, and bad input"},
	// Names that are unique on one connection only and meet on a shared server; a Close that is sent in the midst of a
	// batch for room; a statement that is remembered although it failed; a connection that is closed because of an
	// unknown or a duplicate name; DEALLOCATE ALL that is answered and not done; SQL's PREPARE on another server.
	{"prepared", "a thousand statements over many transactions, with the same names on two connections; closed, refused and made again"},
	// An old plan that is refused for ever, or run in its new shape for a client that reads the old one.
	{"ddl", "statements whose table has changed since they were prepared"},
	// A made-up ParseComplete in a failed transaction; errors of the pooler's own that do not fail it.
	{"transaction", "savepoints, errors, commits that fail, isolation levels"},
	// Portals that end up on another server; cursors WITH HOLD that are lost with the transaction.
	{"cursor", "results read in parts, left early, interleaved, failing midway"},
	// A Sync inside of COPY that is waited for; data behind a failed COPY; a statement under a name even without a cache.
	{"copy", "both ways, bad data, a source that gives up"},
	// A cancel that hits the next client of the server, or nobody; a requester who is not told when it is done.
	{"cancel", "the driver's own cancel, while a neighbour's query goes on"},
	// A statement_timeout that is dropped, or left behind on the server.
	{"timeout", "PostgreSQL's and the driver's own"},
	// Notifications that are thrown away or go to the next client.
	{"notices", "RAISE NOTICE and WARNING, LISTEN and NOTIFY: in order, and at the right client"},
	// A server that is let go at the first ReadyForQuery; replies out of order when some are made up; a reply that is
	// never sent because the server has nothing to say; large rows that overtake.
	{"pipeline", "many messages before the first answer, with errors among them"},
	// Settings that are lost with the transaction, left to the next client, or answered without being tried; RESET ALL of a
	// driver's own pool, which takes back what the pooler has set.
	{"settings", "SET, SET LOCAL and RESET by several clients in turn"},
	// All of it at once.
	{"concurrent", "many connections at once, each of which knows what every answer must be"},
}

var scenarios = func() []string {
	var names []string
	for _, s := range scenarioTexts {
		names = append(names, s.name)
	}
	return names
}()

// moving are the scenarios whose clients note which backend answers. Through a
// pool of several servers these clients meet more than one: at least this
// percentage of them, where it is chance that decides.
var moving = map[string]int{"prepared": 100, "settings": 100, "concurrent": 50}

// A line is what a driver prints about one scenario.
type line struct {
	Scenario string          `json:"scenario"`
	Result   json.RawMessage `json:"result"`
	// Clients counts the connections that noted which backend answered them,
	// Moved those that were answered by more than one.
	Clients int `json:"clients"`
	Moved   int `json:"moved"`
}

// exception returns what went wrong when the scenario did not run to its end,
// or itself found an answer that was wrong.
func (l line) exception() string {
	var failed struct {
		Exception string            `json:"exception"`
		Message   string            `json:"message"`
		Wrong     []json.RawMessage `json:"wrong"`
	}
	// A result that is no object is none of these.
	if json.Unmarshal(l.Result, &failed) != nil || failed.Exception == "" && len(failed.Wrong) == 0 {
		return ""
	}
	if len(failed.Wrong) > 0 {
		return fmt.Sprintf("%d wrong answers: %s", len(failed.Wrong), failed.Wrong[0])
	}
	return failed.Exception + ": " + failed.Message
}

// readLines parses a program's output.
func readLines(out []byte) ([]line, error) {
	var lines []line
	for number, text := range bytes.Split(bytes.TrimSpace(out), []byte("\n")) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", number+1, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// A difference is between two runs of a scenario.
type difference struct {
	scenario string
	text     string
	// known is whether a reason in the table can explain it: both runs came to
	// their end, and say different things or kept their servers.
	known bool
}

// compare returns the differences between two runs of a driver, and complains
// of a direct run that does not show every one of the wanted scenarios.
func compare(wanted []string, direct, pooled []line) []difference {
	var differences []difference
	have, base := byScenario(pooled), byScenario(direct)
	for _, want := range wanted {
		complain := func(format string, args ...any) {
			differences = append(differences, difference{scenario: want, text: want + ": " + fmt.Sprintf(format, args...)})
		}
		a, ok := base[want]
		if !ok {
			complain("missing directly")
			continue
		}
		if text := a.exception(); text != "" {
			complain("fails directly: %s", text)
			continue
		}
		b, ok := have[want]
		switch {
		case !ok:
			complain("missing through pgpoold")
		case !bytes.Equal(canonical(a.Result), canonical(b.Result)):
			complain("\n directly:        %s\n through pgpoold: %s", excerpt(a.Result, b.Result), excerpt(b.Result, a.Result))
			differences[len(differences)-1].known = b.exception() == ""
		case a.Moved != 0:
			complain("%d of %d direct connections changed servers", a.Moved, a.Clients)
		case b.Moved*100 < b.Clients*moving[want] || moving[want] > 0 && b.Clients == 0:
			complain("%d of %d clients met only one server", b.Clients-b.Moved, b.Clients)
			differences[len(differences)-1].known = b.Clients > 0
		}
	}
	return differences
}

func byScenario(lines []line) map[string]line {
	m := make(map[string]line, len(lines))
	for _, l := range lines {
		m[l.Scenario] = l
	}
	return m
}

// canonical orders an object's keys.
func canonical(text json.RawMessage) []byte {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return text
	}
	out, err := json.Marshal(value)
	if err != nil {
		return text
	}
	return out
}

// excerpt is the part of a result where it begins to differ from another.
func excerpt(text, other json.RawMessage) string {
	const before, length = 80, 800
	a, b := canonical(text), canonical(other)
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	from := max(0, at-before)
	return string(a[from:min(len(a), from+length)])
}
