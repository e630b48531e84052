package admin

import (
	"bytes"
	"html/template"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// pageData is what the page shows.
type pageData struct {
	Version  string
	Now      string
	Up       time.Duration
	Ready    bool
	NotReady string
	Draining bool
	Level    string
	Sections []pageSection
}

type pageSection struct {
	Name    string
	Columns []string
	Rows    [][]*string
	Hidden  int // rows beyond the most that a page shows
}

// The page shows this many rows of a table; the API gives them all.
const maxPageRows = 500

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="5"><title>pgpoold</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #1a1a1a; background: #fff }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 1.6rem }
.scroll { overflow-x: auto } table { border-collapse: collapse }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; font-variant-numeric: tabular-nums }
.bad { color: #a40000; font-weight: 600 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #161616 } th, td { border-color: #333 } .bad { color: #ff8a80 } }
</style></head><body>
<h1>pgpoold {{.Version}}</h1>
<p>{{if .Ready}}Ready.{{else}}<span class="bad">Not ready: {{.NotReady}}</span>{{end}}
{{if .Draining}}<span class="bad">Draining.</span>{{end}} Up {{.Up}}, seen {{.Now}}, log level {{.Level}}.
<a href="/metrics">metrics</a> <a href="/api/v1/snapshot">snapshot</a></p>
{{range .Sections}}<h2>{{.Name}} ({{len .Rows}}{{if .Hidden}} of more{{end}})</h2>
<div class="scroll"><table><tr>{{range .Columns}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td>{{if .}}{{.}}{{end}}</td>{{end}}</tr>
{{end}}</table></div>
{{if .Hidden}}<p>{{.Hidden}} more rows are in the snapshot.</p>{{end}}
{{end}}</body></html>
`))

// page shows the console's tables of pools, clients and servers.
func (h *HTTP) page(w http.ResponseWriter, _ *http.Request) {
	snap := h.opts.Source.Snapshot()
	data := pageData{
		Version:  h.opts.Version,
		Now:      time.Now().Format(time.DateTime),
		Up:       time.Since(snap.Started).Truncate(time.Second),
		Draining: snap.Draining,
		Level:    h.opts.Level.Level(),
	}
	data.Ready, data.NotReady = h.opts.Source.Ready()
	for _, s := range []struct {
		name string
		t    *table
	}{
		{"Pools", h.console.showPools(snap)},
		{"Clients", h.console.showClients(snap)},
		{"Servers", h.console.showServers(snap)},
	} {
		section := pageSection{Name: s.name, Columns: s.t.names(), Rows: s.t.rows}
		if n := len(section.Rows); n > maxPageRows {
			section.Rows, section.Hidden = section.Rows[:maxPageRows], n-maxPageRows
		}
		data.Sections = append(data.Sections, section)
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, data); err != nil {
		h.opts.Log.Error("the admin page failed", zap.Error(err))
		plain(w, http.StatusInternalServerError, "the page failed; the log says why")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = w.Write(out.Bytes())
}
