package admin

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// handleAPI registers /api/v1; all of it stands in its description.
func (h *HTTP) handleAPI(mux *http.ServeMux) {
	for pattern, handler := range h.apiRoutes() {
		mux.Handle(pattern, handler)
	}
}

// apiRoutes are the routes of /api/v1, by method and path.
func (h *HTTP) apiRoutes() map[string]http.Handler {
	routes := map[string]http.Handler{
		"GET /api/v1/openapi.json": h.look(http.HandlerFunc(h.openAPI)),
		"GET /api/v1/live":         h.look(http.HandlerFunc(h.live)),
		"GET /api/v1/snapshot":     h.look(http.HandlerFunc(h.snapshot)),
		"GET /api/v1/log_level":    h.look(http.HandlerFunc(h.logLevel)),
		"POST /api/v1/log_level":   h.change(http.HandlerFunc(h.setLogLevel)),
	}
	for _, sh := range shows {
		routes["GET /api/v1/"+sh.name] = h.look(h.table(sh.name))
	}
	for _, v := range httpVerbs {
		routes["POST /api/v1/"+v.name] = h.change(h.command(v))
	}
	return routes
}

// table gives a table of SHOW as an array of objects.
func (h *HTTP) table(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t := h.console.show(name, r.URL.Query().Has("extended"))
		h.writeJSON(w, http.StatusOK, t.objects())
	}
}

// objects are the rows as JSON: numbers where the column is one, null for
// NULL.
func (t *table) objects() []json.RawMessage {
	out := make([]json.RawMessage, len(t.rows))
	for i, row := range t.rows {
		var b strings.Builder
		for j, cell := range row {
			sep := ","
			if j == 0 {
				sep = "{"
			}
			fmt.Fprintf(&b, "%s%s:", sep, quoted(t.columns[j].name))
			switch {
			case cell == nil:
				b.WriteString("null")
			case t.columns[j].oid == oidText:
				b.WriteString(quoted(*cell))
			default:
				b.WriteString(*cell)
			}
		}
		b.WriteByte('}')
		out[i] = json.RawMessage(b.String())
	}
	return out
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

// httpVerb is a command of the console that POST does. It does not wait.
type httpVerb struct {
	name string
	does string
	arg  string // what the argument is, "" for none
	need bool   // and whether it must be there
	run  func(h *HTTP, arg string) error
}

var httpVerbs = []httpVerb{
	{"pause", "PAUSE, without waiting for its end.", "database", false, func(h *HTTP, db string) error { _, _, err := h.opts().Operator.Pause(db); return err }},
	{"resume", "RESUME.", "database", false, func(h *HTTP, db string) error { return h.opts().Operator.Resume(db) }},
	{"reconnect", "RECONNECT.", "database", false, func(h *HTTP, db string) error { h.opts().Operator.Reconnect(db); return nil }},
	{"kill", "KILL: closes clients and servers, and pauses.", "database", false, func(h *HTTP, db string) error { h.opts().Operator.Kill(db); return nil }},
	{"kill_client", "KILL_CLIENT.", "id", true, func(h *HTTP, id string) error {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return fmt.Errorf("id: %q is no number", id)
		}
		if h.console.kill(n) {
			return nil
		}
		return h.opts().Operator.KillClient(n)
	}},
	{"disable", "DISABLE.", "database", true, func(h *HTTP, db string) error { h.opts().Operator.Disable(db, false); return nil }},
	{"enable", "ENABLE.", "database", true, func(h *HTTP, db string) error { h.opts().Operator.Disable(db, true); return nil }},
	{"reload", "RELOAD.", "", false, func(h *HTTP, _ string) error { _, err := h.opts().Process.Reload(); return err }},
}

// command does a command. Its argument stands in a JSON object.
func (h *HTTP) command(v httpVerb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
			h.writeJSON(w, http.StatusUnsupportedMediaType, errorJSON{"send JSON, with Content-Type: application/json"})
			return
		}
		args := map[string]string{}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&args); err != nil {
			h.writeJSON(w, http.StatusBadRequest, errorJSON{"send a JSON object, whose values are strings"})
			return
		}
		arg, given := args[v.arg]
		if v.need && arg == "" || len(args) > 1 || len(args) == 1 && !given {
			h.writeJSON(w, http.StatusBadRequest, errorJSON{`send {"` + v.arg + `": "..."}`})
			return
		}
		if v.arg == "database" && arg != "" && !h.opts().Operator.Knows(arg) {
			h.writeJSON(w, http.StatusNotFound, errorJSON{"no such database: " + arg})
			return
		}
		_, who := h.login(r)
		h.opts().Log.Info("command over HTTP", zap.String("user", who), zap.String("command", strings.ToUpper(v.name)), zap.String("argument", arg))
		if err := v.run(h, arg); err != nil {
			h.writeJSON(w, http.StatusConflict, errorJSON{err.Error()})
			return
		}
		h.writeJSON(w, http.StatusOK, map[string]bool{"ok": true})
	}
}

// openAPI describes the API.
func (h *HTTP) openAPI(w http.ResponseWriter, _ *http.Request) {
	h.writeJSON(w, http.StatusOK, h.describeAPI())
}

type object = map[string]any

func (h *HTTP) describeAPI() object {
	answers := func(schema object) object {
		return object{
			"200":     object{"description": "OK", "content": object{"application/json": object{"schema": schema}}},
			"default": object{"description": "An error, with the reason."},
		}
	}
	paths := object{}
	for _, sh := range shows {
		columns, plain := object{}, h.console.show(sh.name, false).names()
		for i, c := range h.console.show(sh.name, true).columns {
			kind := "string"
			if c.oid != oidText {
				kind = "integer"
			}
			column := object{"type": []string{kind, "null"}}
			if i >= len(plain) {
				column["description"] = "With extended."
			}
			columns[c.name] = column
		}
		paths["/api/v1/"+sh.name] = object{"get": object{
			"summary":   "SHOW " + strings.ToUpper(sh.name) + ": " + sh.of + ".",
			"responses": answers(object{"type": "array", "items": object{"type": "object", "properties": columns, "required": plain, "additionalProperties": false}}),
			"parameters": []object{{"name": "extended", "in": "query", "required": false, "schema": object{"type": "string"},
				"description": "The columns of SHOW EXTENDED."}},
		}}
	}
	paths["/api/v1/snapshot"] = object{"get": object{"summary": "Everything at one moment; durations in seconds.", "responses": answers(object{"type": "object"})}}
	paths["/api/v1/openapi.json"] = object{"get": object{"summary": "This description.", "responses": answers(object{"type": "object"})}}
	paths["/api/v1/live"] = object{"get": object{"summary": "What the live page draws.", "responses": answers(object{"type": "object"})}}
	level := object{"type": "object", "properties": object{"level": object{"type": "string", "enum": []string{"debug", "info", "warn", "error"}}}}
	guard := object{"name": guardHeader, "in": "header", "required": true, "schema": object{"type": "string"}, "description": "Anything; pages of other sites cannot send it."}
	body := func(schema object) object {
		return object{"required": true, "content": object{"application/json": object{"schema": schema}}}
	}
	paths["/api/v1/log_level"] = object{
		"get":  object{"summary": "The least level that is logged.", "responses": answers(level)},
		"post": object{"summary": "Changes it.", "requestBody": body(level), "parameters": []object{guard}, "responses": answers(level)},
	}
	for _, v := range httpVerbs {
		props := object{}
		if v.arg != "" {
			props[v.arg] = object{"type": "string"}
		}
		paths["/api/v1/"+v.name] = object{"post": object{"summary": v.does, "parameters": []object{guard},
			"requestBody": body(object{"type": "object", "properties": props, "additionalProperties": false}),
			"responses":   answers(object{"type": "object"})}}
	}
	return object{
		"openapi": "3.1.0",
		"info":    object{"title": "pgpoold", "version": h.opts().Version},
		"paths":   paths,
		"components": object{"securitySchemes": object{
			"token": object{"type": "http", "scheme": "bearer"}, "user": object{"type": "http", "scheme": "basic"}}},
		"security": []object{{"token": []string{}}, {"user": []string{}}},
	}
}
