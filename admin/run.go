package admin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgpoold/proxy"
)

// Operator does what the console's commands ask. *proxy.Server is one.
type Operator interface {
	Knows(database string) bool
	Pause(database string) (mark uint64, own bool, err error)
	Paused(database string, mark uint64) (stands, done bool)
	Unpause(database string, mark uint64)
	Resume(database string) error
	Kill(database string)
	KillClient(id uint64) error
	Reconnect(database string)
	CloseNeeded(database string) int
	Disable(database string, off bool)
}

// Process does what concerns all of pgpoold.
type Process interface {
	// Reload reads the configuration again. The notes say what needs a restart.
	Reload() (notes []string, err error)
	// Set gives a setting another value until the next Reload; ErrRestart
	// wraps the refusal of one that needs a restart.
	Set(name, value string) error
	// Shutdown begins to stop and does not wait.
	Shutdown(ShutdownMode)
	// Upgrades is how many upgrades of this process have failed, and why the
	// last one has.
	Upgrades() (failed int, last error)
}

// ErrRestart says that a setting cannot be changed while pgpoold runs.
var ErrRestart = errors.New("it needs a restart")

// ShutdownMode is how SHUTDOWN stops.
type ShutdownMode int

// The modes: at once; when no transaction is open; when all clients have left.
const (
	ShutdownNow ShutdownMode = iota
	ShutdownWaitForServers
	ShutdownWaitForClients
)

// answer is what a command gives.
type answer struct {
	table   *table
	tag     string
	notices [][2]string // text, detail
	problem *problem
	empty   bool   // there was no command
	end     error  // the connection ends instead
	after   func() // done once the answer is sent
}

// problem is an ERROR of the console's.
type problem struct{ code, text, detail, hint string }

func wrong(format string, args ...any) *answer {
	return &answer{problem: &problem{text: fmt.Sprintf(format, args...)}}
}

// verb is one command of the console beside SHOW and SET.
type verb struct {
	name  string
	usage string
	does  string                                      // for the documentation
	run   func(s *consoleSession, arg string) *answer // nil for an argument that it does not have
}

// verbs are the commands, in the order of SHOW HELP.
var verbs = []verb{
	{"pause", "PAUSE [<db>]", "Hands out no servers and closes each when its transaction (in session mode, its client) ends; answers when all are closed. Clients wait. Ctrl-C undoes it.", (*consoleSession).pause},
	{"resume", "RESUME [<db>]", "Undoes PAUSE and KILL; without a database, every one of them.", (*consoleSession).resume},
	{"disable", "DISABLE <db>", "Refuses new clients of a database; those who are in stay.", func(s *consoleSession, db string) *answer { return s.disable(db, false) }},
	{"enable", "ENABLE <db>", "Undoes DISABLE.", func(s *consoleSession, db string) *answer { return s.disable(db, true) }},
	{"reconnect", "RECONNECT [<db>]", "Replaces each server when it is next free. Answers at once; WAIT_CLOSE waits.", (*consoleSession).reconnect},
	{"kill", "KILL [<db>]", "Closes all clients and servers now, cancels what they run, and pauses: RESUME lets clients in.", (*consoleSession).kill},
	{"kill_client", "KILL_CLIENT <id>", "Closes one client, by the id of SHOW CLIENTS.", (*consoleSession).killClient},
	{"wait_close", "WAIT_CLOSE [<db>]", "Answers when the servers that RECONNECT has marked are closed.", (*consoleSession).waitClose},
	{"reload", "RELOAD", "Reads the configuration again, whole or not at all. A notice names each change that needs a restart.", (*consoleSession).reload},
	{"shutdown", "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]", "Stops: at once; when no transaction is open; or when all clients have left.", (*consoleSession).shutdown},
}

// run does a command.
func (s *consoleSession) run(cmd command, query string) *answer {
	began := time.Now()
	s.request.Store(began.UnixNano())
	defer func() {
		s.console.commands.Add(1)
		s.console.commandTime.Add(int64(time.Since(began)))
	}()
	switch cmd.name {
	case "":
		return &answer{empty: true}
	case "show":
		return s.show(cmd, query)
	case "set":
		return s.set(strings.ToLower(cmd.arg), cmd.val)
	case "begin", "commit", "rollback": // drivers send them around everything
		s.tx = 'I'
		if cmd.name == "begin" {
			s.tx = 'T'
		}
		return &answer{tag: strings.ToUpper(cmd.name)}
	}
	for _, v := range verbs {
		if v.name != cmd.name {
			continue
		}
		if !s.admin {
			return wrong(accessNeeded)
		}
		s.console.opts().Log.Info("console command", zap.String("user", s.user), zap.String("command", strings.ToUpper(v.name)), zap.String("argument", cmd.arg))
		if a := v.run(s, cmd.arg); a != nil {
			return a
		}
		break
	}
	return &answer{problem: &problem{text: invalidCommand(query)}}
}

func (s *consoleSession) operator() Operator { return s.console.opts().Operator }

// checkDatabase is the answer to a command with a database that it cannot be
// about; nil: it can.
func (s *consoleSession) checkDatabase(verb, db string, needed bool) *answer {
	switch {
	case db == "" && needed:
		return wrong("a database is required")
	case db == "":
		return nil
	case IsConsole(db) && !s.operator().Knows(db):
		return wrong("cannot %s admin db: %s", verb, db)
	case !s.operator().Knows(db):
		return wrong("no such database: %s", db)
	}
	return nil
}

// Waiting commands look this often whether they are done.
const waitInterval = 10 * time.Millisecond

// wait answers when done says so. stop, if it gives an answer, ends the wait;
// so does a cancel request, after undo.
func (s *consoleSession) wait(tag string, done func() (bool, *answer), undo func()) *answer {
	select {
	case <-s.cancels: // for something before
	default:
	}
	t := time.NewTicker(waitInterval)
	defer t.Stop()
	for {
		if ok, a := done(); a != nil {
			return a
		} else if ok {
			return &answer{tag: tag}
		}
		select {
		case <-t.C:
			if s.ended() {
				return &answer{end: errors.New("the console closes")}
			}
		case <-s.cancels:
			undo()
			return &answer{problem: &problem{code: "57014", text: "canceling statement due to user request"}}
		}
	}
}

func (s *consoleSession) pause(db string) *answer {
	if a := s.checkDatabase("pause", db, false); a != nil {
		return a
	}
	op := s.operator()
	mark, own, err := op.Pause(db)
	if err != nil {
		return wrong("%v", err)
	}
	return s.wait("PAUSE", func() (bool, *answer) {
		stands, done := op.Paused(db, mark)
		if !stands {
			return false, &answer{problem: &problem{text: "PAUSE was undone before all servers were closed"}}
		}
		return done, nil
	}, func() {
		if own {
			op.Unpause(db, mark)
		}
	})
}

func (s *consoleSession) resume(db string) *answer {
	if a := s.checkDatabase("resume", db, false); a != nil {
		return a
	}
	if err := s.operator().Resume(db); err != nil {
		return wrong("%v", err)
	}
	return &answer{tag: "RESUME"}
}

func (s *consoleSession) disable(db string, off bool) *answer {
	verb, tag := "disable", "DISABLE"
	if off {
		verb, tag = "enable", "ENABLE"
	}
	if a := s.checkDatabase(verb, db, true); a != nil {
		return a
	}
	s.operator().Disable(db, off)
	return &answer{tag: tag}
}

func (s *consoleSession) reconnect(db string) *answer {
	if a := s.checkDatabase("reconnect", db, false); a != nil {
		return a
	}
	s.operator().Reconnect(db)
	return &answer{tag: "RECONNECT"}
}

func (s *consoleSession) kill(db string) *answer {
	if a := s.checkDatabase("kill", db, false); a != nil {
		return a
	}
	s.operator().Kill(db)
	return &answer{tag: "KILL"}
}

func (s *consoleSession) killClient(arg string) *answer {
	id, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return wrong("invalid client pointer supplied")
	}
	if !s.console.kill(id) {
		if err := s.operator().KillClient(id); err != nil {
			return wrong("%v", err)
		}
	}
	return &answer{tag: "KILL_CLIENT"}
}

func (s *consoleSession) waitClose(db string) *answer {
	if a := s.checkDatabase("wait in", db, false); a != nil {
		return a
	}
	return s.wait("WAIT_CLOSE", func() (bool, *answer) { return s.operator().CloseNeeded(db) == 0, nil }, func() {})
}

func (s *consoleSession) reload(arg string) *answer {
	if arg != "" {
		return nil
	}
	notes, err := s.console.opts().Process.Reload()
	if err != nil {
		return &answer{problem: &problem{code: "F0000", text: reloadFailed, detail: err.Error(), hint: "Nothing was changed."}}
	}
	a := &answer{tag: "RELOAD"}
	for _, n := range notes {
		a.notices = append(a.notices, [2]string{n, ""})
	}
	return a
}

func (s *consoleSession) shutdown(arg string) *answer {
	p := s.console.opts().Process
	switch strings.ToLower(arg) {
	case "":
		p.Shutdown(ShutdownNow)
		return &answer{end: errEndNow}
	case "wait_for_servers":
		return &answer{tag: "SHUTDOWN", after: func() { p.Shutdown(ShutdownWaitForServers) }}
	case "wait_for_clients":
		return &answer{tag: "SHUTDOWN", after: func() { p.Shutdown(ShutdownWaitForClients) }}
	}
	return nil
}

// drivers are the parameters that drivers ask for and set as they connect,
// with what the console says to it.
func drivers(name string) (value string, ok bool) {
	switch name {
	case "client_encoding":
		return "UTF-8", true
	case "default_transaction_isolation", "transaction_isolation":
		return "read committed", true
	case "standard_conforming_strings":
		return "on", true
	case "datestyle":
		return "ISO", true
	case "timezone":
		return "GMT", true
	case "extra_float_digits":
		return "1", true
	case "application_name":
		return "", true
	}
	return "", false
}

func (s *consoleSession) set(name, value string) *answer {
	if _, ok := drivers(name); ok {
		return &answer{tag: "SET", notices: [][2]string{{"SET ignored", ""}}}
	}
	opts := s.console.opts()
	switch {
	case !s.admin:
		return wrong(accessNeeded)
	case opts.Process == nil:
		return wrong(setFailed)
	}
	if err := opts.Process.Set(name, value); err != nil {
		p := &problem{text: setFailed, detail: err.Error()}
		if errors.Is(err, ErrRestart) {
			p.hint = "Change it in the configuration and start pgpoold again."
		}
		return &answer{problem: p}
	}
	opts.Log.Info("setting changed from the console", zap.String("user", s.user), zap.String("setting", name), zap.String("value", value))
	return &answer{tag: "SET " + name + "=" + value}
}

func (s *consoleSession) show(cmd command, query string) *answer {
	what := strings.ToLower(cmd.arg)
	if what == "help" {
		return &answer{tag: "SHOW", notices: [][2]string{{"Console usage", usage()}}}
	}
	if value, ok := drivers(what); ok {
		t := &table{columns: columnsOf("s", what)}
		t.add(text(value))
		return &answer{tag: "SHOW", table: t}
	}
	t := s.console.show(what, cmd.extended)
	if t == nil {
		return &answer{problem: &problem{text: invalidCommand(query)}}
	}
	return &answer{tag: "SHOW", table: t}
}

// usage is the detail of SHOW HELP.
func usage() string {
	var b strings.Builder
	names := []string{"HELP"}
	for _, sh := range shows {
		names = append(names, strings.ToUpper(sh.name))
	}
	for len(names) > 0 {
		n := min(6, len(names))
		b.WriteString("\n\tSHOW " + strings.Join(names[:n], "|"))
		names = names[n:]
	}
	b.WriteString("\n\tSHOW EXTENDED <any of these>\n\tSET key = arg")
	for _, v := range verbs {
		b.WriteString("\n\t" + v.usage)
	}
	return b.String()
}

var _ Operator = (*proxy.Server)(nil)
