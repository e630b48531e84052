package proxy

import (
	"strings"
	"time"

	"pgpoold/backend"
	"pgpoold/wire"
)

// startup is what PostgreSQL makes of a set of startup parameters.
type startup struct {
	set  settings  // what must be brought to a server; nothing that the server has anyway
	link settings  // what is about the connection, and pgpoold's own to keep
	told *reported // what a session with this set is told at login
	base *reported
}

// maxStartups bounds the sets of startup parameters that a pool remembers.
const maxStartups = 1000

// startupSettings are the settings in a startup packet: every parameter that
// is not about the connection, and those in options, which come first
// (process_startup_options).
func startupSettings(params wire.Parameters) ([]setting, *wire.Error) {
	var set []setting
	if o := params.Get("options"); o != "" {
		var err *wire.Error
		if set, err = parseOptions(o); err != nil {
			return nil, err
		}
	}
	for _, p := range params {
		switch p.Name {
		case "user", "database", "options", "replication":
		default:
			set = append(set, setting{p.Name, p.Value})
		}
	}
	return set, nil
}

// parseOptions reads the startup parameter options as PostgreSQL does
// (pg_split_opts and process_postgres_switches): switches apart by spaces, a
// backslash escapes. Only settings (-c name=value, --name=value) can be
// brought to a server that runs already.
func parseOptions(options string) ([]setting, *wire.Error) {
	var set []setting
	words := splitOptions(options)
	for i := 0; i < len(words); i++ {
		w := words[i]
		var pair string
		switch {
		case w == "-c" || w == "--":
			if i++; i < len(words) {
				pair = words[i]
			}
		case strings.HasPrefix(w, "--"):
			pair = w[2:]
		case strings.HasPrefix(w, "-c"):
			pair = w[2:]
		default:
			return nil, &wire.Error{Severity: wire.SeverityFatal, Code: "0A000",
				Message: "unsupported switch in startup parameter options: only -c name=value and --name=value can be used through pgpoold"}
		}
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, &wire.Error{Severity: wire.SeverityFatal, Code: "42601", Message: w + " requires a value"}
		}
		set = append(set, setting{strings.ReplaceAll(name, "-", "_"), value})
	}
	return set, nil
}

func splitOptions(s string) []string {
	var words []string
	var b strings.Builder
	in, escaped := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case escaped:
			b.WriteByte(c)
			escaped = false
		case c == '\\':
			escaped, in = true, true
		case c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r':
			if in {
				words = append(words, b.String())
				b.Reset()
				in = false
			}
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, b.String())
	}
	return words
}

// plainName reports whether an application_name is one that PostgreSQL takes
// as it is.
func plainName(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 32 || s[i] > 126 {
			return false
		}
	}
	return len(s) <= wire.NameLen
}

// start finds out what a client's startup parameters mean. A set that the
// pool has not seen is tried on a server first; gone is asked, while the client
// waits for one, whether it has left.
func (p *pool) start(set []setting, gone func() bool) (*startup, *wire.Error) {
	if p.opts.UpstreamPooler {
		return p.startUpstream(set, gone)
	}
	app, named, rest := "", false, set[:0:0]
	for _, s := range set {
		if strings.EqualFold(s.name, "application_name") {
			if named = plainName(s.value); named {
				app = s.value
				continue
			}
		}
		rest = append(rest, s)
	}
	all, rounds := newSettings(rest), [][]setting(nil)
	if all.count() < len(rest) {
		rounds = overridden(rest)
	}
	if len(rounds) > maxRepeated {
		return nil, &wire.Error{Severity: wire.SeverityFatal, Code: "0A000",
			Message: "startup parameter \"" + rounds[maxRepeated][0].name + "\" comes too often with different values"}
	}
	for _, first := range rounds {
		// PostgreSQL sets each, and refuses also what is set again behind it.
		if _, err := p.tried(newSettings(first), gone); err != nil {
			return nil, asSpelt(err, first)
		}
	}
	st, err := p.tried(all, gone)
	if err != nil {
		return nil, asSpelt(err, rest)
	}
	if !named {
		return st, nil
	}
	return p.named(st, app), nil
}

// startAs is a set of startup parameters and an application_name.
type startAs struct {
	st  *startup
	app string
}

// named is st for a client of that application_name; those with the same one
// share it.
func (p *pool) named(st *startup, app string) *startup {
	key := startAs{st, app}
	p.mu.Lock()
	named := p.startedAs[key]
	p.mu.Unlock()
	if named != nil {
		return named
	}
	own := *st
	named = &own
	named.set = named.set.with("application_name", app, true)
	named.told = named.told.with("application_name", app)
	p.mu.Lock()
	defer p.mu.Unlock()
	makeRoom(p.startedAs, maxStartups)
	p.startedAs[key] = named
	return named
}

// makeRoom lets go of an entry of a map that has as many as it may.
func makeRoom[K comparable, V any](m map[K]V, most int) {
	for k := range m {
		if len(m) < most {
			return
		}
		delete(m, k)
	}
}

// maxRepeated is how many values of one setting may stand in front of the one that
// counts: each is tried.
const maxRepeated = 8

// overridden are the settings behind which the same one stands with another
// value: the first of each name, then the second of each, and so on.
func overridden(set []setting) (rounds [][]setting) {
	last := make(map[string]string, len(set))
	for _, s := range set {
		last[strings.ToLower(s.name)] = s.value
	}
	before := map[setting]bool{} // with their names in lower case
	times := map[string]int{}
	for _, s := range set {
		lower := strings.ToLower(s.name)
		if key := (setting{lower, s.value}); s.value != last[lower] && !before[key] {
			before[key] = true
			n := times[lower]
			times[lower]++
			if n == len(rounds) {
				rounds = append(rounds, nil)
			}
			rounds[n] = append(rounds[n], s)
		}
	}
	return rounds
}

// asSpelt is an error about a set, with the names as the client has spelt them.
func asSpelt(e *wire.Error, set []setting) *wire.Error {
	spelt := *e
	for _, s := range set {
		spelt.Message = strings.ReplaceAll(spelt.Message, `"`+strings.ToLower(s.name)+`"`, `"`+s.name+`"`)
	}
	return &spelt
}

// startUpstream is start for a server that is itself a pooler: nothing can be
// brought to it, so only what it has anyway is admitted.
func (p *pool) startUpstream(set []setting, gone func() bool) (*startup, *wire.Error) {
	st, err := p.tried(noSettings, gone)
	if err != nil {
		return nil, err
	}
	for _, s := range set {
		if strings.EqualFold(s.name, "application_name") || strings.EqualFold(s.name, "extra_float_digits") {
			continue // they change no result that a driver would read differently
		}
		same := false
		for i, name := range st.base.names {
			same = same || strings.EqualFold(name, s.name) && sameWord(st.base.values[i], s.value)
		}
		if !same {
			return nil, &wire.Error{Severity: wire.SeverityFatal, Code: "0A000",
				Message: "startup parameter \"" + s.name + "\" cannot be used: the server is itself a pooler (databases.X.upstream_pooler)"}
		}
	}
	return st, nil
}

// sameWord compares values without case and punctuation: 'utf-8' is UTF8,
// and ISO is the beginning of ISO, MDY.
func sameWord(server, client string) bool {
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, strings.ToLower(s))
	}
	return strings.HasPrefix(plain(server), plain(client))
}

// maxTries is how often startup parameters are tried whose trial was cancelled.
const maxTries = 5

// lookAfter is how often a client that waits for the trial of its startup
// parameters is looked at.
const lookAfter = 200 * time.Millisecond

// wait returns a server for the trial of a set.
func (p *pool) wait(set settings, gone func() bool) (*backend.Server, error) {
	w := &loginWaiter{came: make(chan *backend.Server, 1), failed: make(chan error, 1)}
	ticket := &backend.Ticket{W: w, Label: set}
	p.logging.Add(1)
	defer p.logging.Add(-1)
	srv, err := p.servers.Acquire(ticket, time.Now())
	if srv != nil || err != nil {
		return srv, err
	}
	look := time.NewTicker(lookAfter)
	defer look.Stop()
	for left := false; !left; {
		select {
		case srv = <-w.came:
			return srv, nil
		case err = <-w.failed:
			return nil, err
		case <-p.px.ctx.Done():
			left = true
		case <-look.C:
			left = gone()
		}
	}
	if p.servers.Leave(ticket) {
		return nil, errShutdown // or nobody hears it
	}
	select {
	case srv = <-w.came:
		return srv, nil
	case err = <-w.failed:
		return nil, err
	}
}

// tried returns what the pool knows of a set, after trying it if need be.
func (p *pool) tried(set settings, gone func() bool) (*startup, *wire.Error) {
	p.mu.Lock()
	st := p.started[set]
	p.mu.Unlock()
	newest := p.servers.Newest()
	if st != nil && newest != nil && newest.Handler.(*link).base.same == st.base.same {
		return st, nil
	}
	var refused *wire.Error
	for range maxTries {
		srv, err := p.wait(set, gone)
		if err != nil {
			return nil, refusal(err, wire.SeverityFatal)
		}
		st, refused = srv.Handler.(*link).try(set)
		if refused == nil || refused.Code != "57014" {
			break
		}
		// A timeout of the server's last client has hit the trial.
	}
	if refused != nil {
		return nil, refused
	}
	p.mu.Lock()
	makeRoom(p.started, maxStartups)
	p.started[set] = st
	p.mu.Unlock()
	return st, nil
}

// loginWaiter waits for a server on behalf of a client that is logging in.
type loginWaiter struct {
	came   chan *backend.Server // holds the one server that may come
	failed chan error           // holds the one error that may come
}

// Granted implements backend.Waiter.
func (w *loginWaiter) Granted(s *backend.Server) { w.came <- s }

// Refused implements backend.Waiter.
func (w *loginWaiter) Refused(err error) { w.failed <- err }

// try brings a set to the server, which is the caller's, to see whether
// PostgreSQL takes it, and gives the server back.
func (l *link) try(set settings) (*startup, *wire.Error) {
	l.mu.Lock()
	l.state = linkOurs
	if set == noSettings && l.known && l.label == noSettings {
		st := &startup{set: set, told: l.base, base: l.base}
		l.mu.Unlock()
		l.giveBack()
		return st, nil
	}
	sql := replay(l.label, set, !l.known, false)
	l.mu.Unlock()
	if failed := l.askWait(sql, nil); failed != nil {
		l.giveBack()
		return nil, startupRefused(failed)
	}
	l.mu.Lock()
	l.label, l.known = set, true
	st := &startup{set: l.normal(set), told: l.reported, base: l.base}
	l.mu.Unlock()
	// PostgreSQL's spelling of the values, so that what is equal looks equal.
	var names []string
	for _, p := range st.set.list() {
		if strings.Contains(p.name, ".") {
			names = append(names, p.name)
		}
	}
	shown := &inspection{}
	failed := l.askWait(inspectionSQL(0, names), inspectionRef{shown})
	if failed == nil {
		st.set, st.link = canonical(st.set, append(shown.pairs, shown.custom...))
	}
	if st.link != noSettings {
		// They are not for servers.
		if failed := l.askWait(replay(st.link, noSettings, false, false), nil); failed != nil {
			l.discard(backend.CloseTainted)
			return st, nil
		}
	}
	l.mu.Lock()
	for _, name := range names {
		l.create(name)
	}
	l.label, l.known = st.set, failed == nil
	l.mu.Unlock()
	l.giveBack()
	return st, nil
}

// askWait is ask for a goroutine that can wait.
func (l *link) askWait(sql string, ref any) (failed []byte) {
	done := make(chan []byte, 1)
	l.askFor(sql, ref, func(_ *link, failed []byte) { done <- failed })
	return <-done
}

// canonical puts the values of a set as PostgreSQL shows them, and those about
// the link apart.
func canonical(set settings, shown []setting) (rest, link settings) {
	var r, k []setting
	for _, p := range set.list() {
		for _, v := range shown {
			if v.name == p.name {
				p.value = v.value
			}
		}
		if ofLink(p.name) {
			k = append(k, p)
		} else {
			r = append(r, p)
		}
	}
	return newSettings(r), newSettings(k)
}

// normal drops from a set what the server reports to have anyway, such as
// client_encoding 'utf-8' where it is UTF8. mu is held.
func (l *link) normal(set settings) settings {
	for _, p := range set.list() {
		for i, name := range l.reported.names {
			if !strings.EqualFold(name, p.name) {
				continue
			}
			if base, ok := l.base.get(name); ok && base == l.reported.values[i] {
				set = set.with(p.name, "", false)
			}
		}
	}
	return set
}

// startupRefused is PostgreSQL's refusal of a startup parameter as it would
// be at a login of its own.
func startupRefused(body []byte) *wire.Error {
	e := fromBody(body, wire.SeverityFatal)
	if e.Code == "55P02" {
		e.Code = "0A000"
		e.Detail = "pgpoold shares server connections between clients, so settings that only the start of one can take are refused."
	}
	return e
}
