package proxy

import (
	"bytes"
	"strings"

	"pgpoold/wire"
)

// resetting is what drivers send when a connection goes back to their pool,
// each with the tags of its commands. "" stands for the row of
// pg_advisory_unlock_all().
var resetting = map[string][]string{
	"discard all":                       {"DISCARD ALL"},
	"reset all":                         {"RESET"},
	"reset session authorization":       {"RESET"},
	"set session authorization default": {"SET"},
	"unlisten *":                        {"UNLISTEN"},
	"close all":                         {"CLOSE CURSOR ALL"},
	"discard temp":                      {"DISCARD TEMP"},
	"select pg_advisory_unlock_all()":   {""},
}

// unlockedAll is what PostgreSQL answers to SELECT pg_advisory_unlock_all():
// one row, one column of the type void.
var unlockedAll = func() []byte {
	const name = "pg_advisory_unlock_all\x00"
	b := wire.AppendHeader(nil, wire.MsgRowDescription, 2+len(name)+18)
	b = append(append(b, 0, 1), name...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0xe6, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0)
	b = append(wire.AppendHeader(b, wire.MsgDataRow, 6), 0, 1, 0, 0, 0, 0)
	return wire.AppendCommandComplete(b, "SELECT 1")
}()

// queryDetached answers a Query of which no server needs to hear. It returns
// false for any other.
func (s *session) queryDetached(sql []byte) bool {
	switch word := firstWord(sql); {
	case word == "deallocate":
		return s.deallocateDetached(sql)
	case mayReset(word, sql):
		return s.resetDetached(sql)
	}
	return false
}

// resetDetached answers a Query that only resets, and finds nothing to reset:
// no server needs to hear of it. It returns false for any other.
func (s *session) resetDetached(sql []byte) bool {
	const longest = 200
	sql = bytes.TrimRight(sql, "\x00")
	if len(sql) > longest || !s.carries || s.held != 0 || !s.atStart() {
		return false
	}
	var tags []string
	for _, part := range strings.Split(string(sql), ";") {
		if part = strings.Join(strings.Fields(strings.ToLower(part)), " "); part == "" {
			continue
		}
		tag, ok := resetting[part]
		if !ok || part == "discard all" && strings.Count(strings.TrimRight(string(sql), "; \t\r\n"), ";") > 0 {
			return false // in a string of several it is an error
		}
		tags = append(tags, tag...)
	}
	if len(tags) == 0 {
		return false
	}
	for _, tag := range tags {
		if tag == "" {
			s.reply = append(s.reply, unlockedAll...)
			continue
		}
		if tag == "DISCARD ALL" {
			for _, st := range s.names.clear() {
				s.px.statements.drop(st)
			}
		}
		s.reply = wire.AppendCommandComplete(s.reply, tag)
	}
	if s.unnamed.exists() {
		s.unnamed.begin(nil, 0, noSettings, s.batch)
		s.unnamed.settle(true)
	}
	s.batch++
	s.reply = wire.AppendReady(s.reply, wire.TxIdle)
	return true
}

// mayReset tells most texts apart by their beginning.
func mayReset(word string, sql []byte) bool {
	switch word {
	case "discard", "reset", "unlisten", "close":
		return true
	case "select":
		return beginsWith(sql, "select pg_advisory_unlock_all()")
	case "set":
		return beginsWith(sql, "set session authorization default")
	}
	return false
}

// beginsWith compares without case.
func beginsWith(sql []byte, text string) bool {
	sql = trimStart(sql)
	return len(sql) >= len(text) && bytes.EqualFold(sql[:len(text)], []byte(text))
}

// atStart reports whether the session has the settings that it began with.
func (s *session) atStart() bool {
	if s.settings == s.start {
		return true
	}
	for _, p := range s.settings.list() {
		if v, ok := s.start.get(p.name); ok && v == p.value || !ok && p.value == "" && strings.Contains(p.name, ".") {
			continue
		}
		return false
	}
	return len(s.settings.list()) >= len(s.start.list())
}
