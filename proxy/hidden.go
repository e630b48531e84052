package proxy

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgpoold/backend"
	"pgpoold/proxy/sqlscan"
)

// What the text of a query does not show stands in the functions that it
// calls, and in those behind triggers and views. A pool reads their bodies when
// its first session begins and after each command of its sessions that may change
// them, and looks for what others have changed.

// How often others' changes are looked for: in a pool that is being used every
// lookOftenAfter, or as often as takes one part in lookShare of one server's time,
// if there is a server to spare; else, while there are clients, every
// lookAgainAfter.
const (
	lookOftenAfter = 5 * time.Second
	lookShare      = 100
	lookAgainAfter = 2 * time.Minute
)

// seeing are the functions of PostgreSQL's own that a body may call without its
// text being kept.
const seeing = "'set_config','pg_advisory_lock','pg_advisory_lock_shared','pg_try_advisory_lock','pg_try_advisory_lock_shared'," +
	"'pg_advisory_unlock','pg_advisory_unlock_shared','pg_advisory_unlock_all','setseed','currval','lastval','nextval','setval'"

// hiddenSQL reads what names hide. It takes no locks but on the catalogs.
func hiddenSQL(base *reported) string {
	const user = ".oid OPERATOR(pg_catalog.>=) '16384'::pg_catalog.oid"
	calls := func(tree string) string {
		return "(SELECT pg_catalog.string_agg(f.proname::pg_catalog.text OPERATOR(pg_catalog.||) '()',' ') FROM pg_catalog.pg_proc f" +
			" WHERE f.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace AND (f.proname::pg_catalog.text OPERATOR(pg_catalog.=) ANY(ARRAY[" + seeing + "]))" +
			" AND pg_catalog.strpos(" + tree + "::pg_catalog.text,':funcid ' OPERATOR(pg_catalog.||) f.oid::pg_catalog.text OPERATOR(pg_catalog.||) ' ') OPERATOR(pg_catalog.>) 0)"
	}
	var b strings.Builder
	row := func(kind, name, text, third, from string) {
		if b.Len() > 0 {
			b.WriteString(" UNION ALL ")
		}
		b.WriteString("SELECT '" + kind + "',")
		column(&b, name)
		b.WriteByte(',')
		column(&b, text)
		b.WriteByte(',')
		column(&b, third)
		b.WriteString(" FROM " + from)
	}
	source := "p.prosrc"
	if major(base) >= 14 {
		source = "CASE WHEN p.prosqlbody IS NULL THEN p.prosrc ELSE pg_catalog.coalesce(" + calls("p.prosqlbody") + ",'') END"
		source = strings.Replace(source, "pg_catalog.coalesce", "coalesce", 1)
	}
	on := func(a, b string) string { return a + " OPERATOR(pg_catalog.=) " + b }
	class := func(column, name string) string { return on(column, "'pg_catalog."+name+"'::pg_catalog.regclass") }
	row("b", "p.proname::pg_catalog.text", source, "l.lanname::pg_catalog.text",
		"pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON "+on("l.oid", "p.prolang")+
			" WHERE p"+user+" AND l.lanname OPERATOR(pg_catalog.<>) 'c' AND l.lanname OPERATOR(pg_catalog.<>) 'internal'")
	row("b", "p.proname::pg_catalog.text", "''", "'c'", "pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON "+on("l.oid", "p.prolang")+
		" WHERE p"+user+" AND l.lanname OPERATOR(pg_catalog.=) 'c' AND NOT EXISTS(SELECT 1 FROM pg_catalog.pg_depend e WHERE "+class("e.classid", "pg_proc")+
		" AND "+on("e.objid", "p.oid")+" AND e.deptype OPERATOR(pg_catalog.=) 'e')")
	row("b", "c.relname::pg_catalog.text", "coalesce("+calls("r.ev_action")+",'')", "'sql'",
		"pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON "+on("c.oid", "r.ev_class")+" WHERE r"+user)
	row("u", "c.relname::pg_catalog.text", "p.proname::pg_catalog.text", "''",
		"pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON "+on("c.oid", "t.tgrelid")+" JOIN pg_catalog.pg_proc p ON "+on("p.oid", "t.tgfoid")+
			" WHERE NOT t.tgisinternal")
	depend := "pg_catalog.pg_depend d JOIN "
	row("u", "c.relname::pg_catalog.text", "p.proname::pg_catalog.text", "''",
		depend+"pg_catalog.pg_rewrite r ON "+class("d.classid", "pg_rewrite")+" AND "+on("r.oid", "d.objid")+
			" JOIN pg_catalog.pg_class c ON "+on("c.oid", "r.ev_class")+" JOIN pg_catalog.pg_proc p ON "+class("d.refclassid", "pg_proc")+" AND "+on("p.oid", "d.refobjid")+" WHERE p"+user)
	row("u", "c.relname::pg_catalog.text", "u.relname::pg_catalog.text", "''",
		depend+"pg_catalog.pg_rewrite r ON "+class("d.classid", "pg_rewrite")+" AND "+on("r.oid", "d.objid")+
			" JOIN pg_catalog.pg_class c ON "+on("c.oid", "r.ev_class")+" JOIN pg_catalog.pg_class u ON "+class("d.refclassid", "pg_class")+" AND "+on("u.oid", "d.refobjid")+
			" WHERE u"+user+" AND u.oid OPERATOR(pg_catalog.<>) c.oid")
	row("u", "c.relname::pg_catalog.text", "p.proname::pg_catalog.text", "''",
		depend+"pg_catalog.pg_attrdef a ON "+class("d.classid", "pg_attrdef")+" AND "+on("a.oid", "d.objid")+
			" JOIN pg_catalog.pg_class c ON "+on("c.oid", "a.adrelid")+" JOIN pg_catalog.pg_proc p ON "+class("d.refclassid", "pg_proc")+" AND "+on("p.oid", "d.refobjid")+" WHERE p"+user)
	row("u", "f.proname::pg_catalog.text", "p.proname::pg_catalog.text", "''",
		depend+"pg_catalog.pg_proc f ON "+class("d.classid", "pg_proc")+" AND "+on("f.oid", "d.objid")+
			" JOIN pg_catalog.pg_proc p ON "+class("d.refclassid", "pg_proc")+" AND "+on("p.oid", "d.refobjid")+" WHERE p"+user)
	return b.String() + ";" + versionSQL()
}

// versionSQL tells, cheaply, whether hiddenSQL would tell something new.
func versionSQL() string {
	var b strings.Builder
	part := func(table, but string) string {
		return "(SELECT pg_catalog.count(*)::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce(pg_catalog.sum(xmin::pg_catalog.text::pg_catalog.int8)::pg_catalog.text,'')" +
			" FROM pg_catalog." + table + " t WHERE oid OPERATOR(pg_catalog.>=) '16384'::pg_catalog.oid" + but + ")"
	}
	// A temporary table's come and go all the time, and hide nothing from others.
	const temporary = " AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) t.adrelid AND c.relpersistence OPERATOR(pg_catalog.=) 't'::\"char\")"
	b.WriteString("SELECT 'h',")
	column(&b, part("pg_proc", "")+" OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) "+part("pg_trigger", "")+" OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) "+part("pg_rewrite", "")+
		" OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) "+part("pg_attrdef", temporary))
	return b.String()
}

// major is PostgreSQL's major version.
func major(base *reported) int {
	v, _ := base.get("server_version")
	if i := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		v = v[:i]
	}
	n, _ := strconv.Atoi(v)
	return n
}

// redefines tells by a command's tag that names may hide something else.
func redefines(tag []byte) bool {
	_, what, _ := bytes.Cut(tag, []byte(" "))
	switch string(what) {
	case "FUNCTION", "PROCEDURE", "ROUTINE", "TRIGGER", "EXTENSION", "VIEW", "RULE", "MATERIALIZED VIEW":
		return true
	}
	return false
}

// hide makes what was read the pool's knowledge.
func (p *pool) hide(a *answer) {
	h := sqlscan.Hide(a.bodies, a.uses, p.state.PinFunctions)
	p.mu.Lock()
	p.version = a.version
	p.mu.Unlock()
	p.hidden.Store(h)
}

// seeHidden reads what names hide, if that has not been done, or so long ago
// that others may have changed it: nobody looks while there are no clients.
func (p *pool) seeHidden(gone func() bool) {
	if p.hidden.Load() != nil && !p.stale() {
		return
	}
	p.hiding.Lock()
	defer p.hiding.Unlock()
	switch {
	case p.hidden.Load() == nil:
		p.looks()
		if a, _ := p.askAny(hiddenSQL, gone); a != nil {
			p.hide(a)
			return
		}
		p.hide(&answer{}) // as if there were nothing; lookAgain tries again
	case p.stale():
		p.compare(nil, gone)
	}
}

// stale reports whether what names hide has not been looked at for long.
func (p *pool) stale() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.looking && time.Since(p.hiddenAt) > lookAgainAfter+lookOftenAfter
}

// askAny asks some server of the pool's, and tells how long that had it; nil:
// there was no answer.
func (p *pool) askAny(sql func(base *reported) string, gone func() bool) (_ *answer, took time.Duration) {
	srv, err := p.wait(noSettings, gone)
	if err != nil {
		return nil, 0
	}
	return p.askThis(srv, sql)
}

// askThis is askAny for a server that nobody else has.
func (p *pool) askThis(srv *backend.Server, sql func(base *reported) string) (_ *answer, took time.Duration) {
	began := time.Now()
	l := srv.Handler.(*link)
	l.mu.Lock()
	l.state = linkOurs
	l.mu.Unlock()
	ins := &inspection{}
	done := make(chan []byte, 1)
	l.askFor(sql(l.base), inspectionRef{ins}, func(l *link, failed []byte) {
		l.giveBack()
		done <- failed
	})
	if failed := <-done; failed != nil {
		p.px.opts.Log.Warn("the functions of a database could not be read; what they do to a session is not seen", zap.String("database", p.key.database),
			zap.String("error", fromBody(failed, "").Message))
		return nil, 0
	}
	return &ins.answer, time.Since(began)
}

// lookSoon makes the next lookAgain look.
func (p *pool) lookSoon() {
	p.mu.Lock()
	p.hiddenAt = time.Time{}
	p.mu.Unlock()
}

// lookAgain sees, from time to time, whether others have changed what names
// hide. used changes whenever a session of the pool's has been given a server.
func (p *pool) lookAgain(now time.Time, used uint64) {
	if p.hidden.Load() == nil || p.clients.Load() == 0 || p.px.ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	since := now.Sub(p.hiddenAt)
	must := since > lookAgainAfter
	due := !p.looking && (must || used != p.usedThen && since > max(p.lookAfter, lookOftenAfter))
	p.looking = p.looking || due
	p.mu.Unlock()
	if !due {
		return
	}
	spare := p.servers.Spare()
	look := spare != nil || must
	p.mu.Lock()
	if p.looking = look; look {
		p.usedThen = used
	}
	p.mu.Unlock()
	if !look {
		return
	}
	p.px.helpers.Add(1)
	go func() { // one at a time. Joined by Close.
		defer p.px.helpers.Done()
		p.compare(spare, func() bool { return false })
		p.mu.Lock()
		p.looking = false
		p.mu.Unlock()
	}()
}

// looks notes that what is asked from now on is known then. A lookSoon that comes
// meanwhile is about something newer.
func (p *pool) looks() {
	p.mu.Lock()
	p.hiddenAt = time.Now()
	p.mu.Unlock()
}

// compare asks a server, or some server, whether anybody has changed what names
// hide, and reads it then.
func (p *pool) compare(srv *backend.Server, gone func() bool) {
	version := func(*reported) string { return versionSQL() }
	var a *answer
	var took time.Duration
	p.looks()
	if srv != nil {
		a, took = p.askThis(srv, version)
	}
	if a == nil { // such a server may have ended while nobody needed it
		a, took = p.askAny(version, gone)
	}
	p.mu.Lock()
	changed := a != nil && a.version != p.version
	p.mu.Unlock()
	after := max(lookShare*took, lookOftenAfter)
	if changed {
		var more time.Duration
		if a, more = p.askAny(hiddenSQL, gone); a != nil {
			p.hide(a)
		}
		after = max(lookShare*(took+more), lookOftenAfter)
	}
	if a == nil || after > lookAgainAfter {
		after = lookAgainAfter
	}
	p.mu.Lock()
	p.lookAfter = after
	p.mu.Unlock()
}

// hidden is what the names in a text hide.
func (s *session) hidden(sql []byte) sqlscan.Finding {
	if !s.carries {
		return 0
	}
	h := s.pool.hidden.Load()
	if h.Len() == 0 {
		return 0
	}
	return s.noteHidden(h, h.In(sql))
}

func (s *session) noteHidden(h *sqlscan.Hidden, found sqlscan.Finding) sqlscan.Finding {
	if found&(sqlscan.Untracked|sqlscan.Undoes|sqlscan.LastValue|sqlscan.Resets) == 0 && s.level != StateStrict {
		return 0 // a custom setting for the transaction alone
	}
	if found&sqlscan.Customs != 0 {
		for _, name := range h.Customs() {
			if !s.custom(name) {
				found |= sqlscan.Untracked | sqlscan.Opaque
			}
		}
	}
	return found
}

// hiddenVerdict is what was found in a statement's text, while h is true.
type hiddenVerdict struct {
	h     *sqlscan.Hidden
	found sqlscan.Finding
}

// hiddenIn is hidden for a statement, which is looked through once for as long
// as nothing changes.
func (s *session) hiddenIn(st *statement) sqlscan.Finding {
	if !s.carries {
		return 0
	}
	h := s.pool.hidden.Load()
	if h.Len() == 0 {
		return 0
	}
	v := st.hidden.Load()
	if v == nil || v.h != h {
		v = &hiddenVerdict{h, h.In([]byte(st.body))}
		st.hidden.Store(v)
	}
	return s.noteHidden(h, v.found)
}
