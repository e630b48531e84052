package admin

import (
	_ "embed" // for the page
	"net/http"
)

// pageHTML is the live page: one file, without anything from elsewhere. It
// draws what /api/v1/live says.
//
//go:embed page.html
var pageHTML []byte

func (h *HTTP) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(pageHTML)
}
