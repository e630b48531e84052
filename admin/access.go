package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// right is what a request may do.
type right int

const (
	mayNothing right = iota
	mayLook
	mayChange
)

// look admits whoever may look: on loopback everybody while no token is
// configured, else who logs in.
func (h *HTTP) look(next http.Handler) http.Handler { return h.need(mayLook, next) }

// change admits administrators only, from wherever they come, and not what a
// page of another site makes their browser send.
func (h *HTTP) change(next http.Handler) http.Handler { return h.need(mayChange, next) }

func (h *HTTP) need(least right, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if why := foreign(r); why != "" {
				plain(w, http.StatusForbidden, why)
				return
			}
		}
		has, who := h.rights(r)
		switch {
		case has >= least:
			next.ServeHTTP(w, r)
		case has == mayNothing || least == mayChange && who == "":
			if who != "" {
				h.opts().Log.Warn("admin login failed", zap.String("user", who), zap.String("addr", r.RemoteAddr))
			}
			header.Set("WWW-Authenticate", `Basic realm="pgpoold", charset="UTF-8"`)
			plain(w, http.StatusUnauthorized, "log in with admin.token as a bearer token, or as one of admin.users or admin.stats_users (set them in the configuration, or PGPOOLD_ADMIN_TOKEN and PGPOOLD_ADMIN_USERS in the environment)")
		default:
			plain(w, http.StatusForbidden, "this needs one of admin.users, or admin.token")
		}
	})
}

// rights are what the request may do, and whom it names.
func (h *HTTP) rights(r *http.Request) (has right, who string) {
	has, who = h.login(r)
	if has == mayNothing && who == "" && h.isLocal(r) {
		has = mayLook
	}
	return has, who
}

func (h *HTTP) mayLook(r *http.Request) bool {
	has, _ := h.rights(r)
	return has >= mayLook
}

// guardHeader must stand in every request that changes something. A page of
// another site cannot send it: a browser asks first, and is not answered.
const guardHeader = "X-Pgpoold"

// foreign says why a request that changes something could be another site's,
// "" if it is none.
func foreign(r *http.Request) string {
	if r.Header.Get(guardHeader) == "" {
		return "a request that changes something needs the header " + guardHeader + ": 1"
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return "a page of another site may not change anything here"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return "" // no browser
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Host != r.Host {
		return "a page of another site may not change anything here"
	}
	if peer, _, err := net.SplitHostPort(r.RemoteAddr); err == nil && isLoopback(peer) && !isLocalName(r.Host) && r.Header.Get("X-Forwarded-For") == "" {
		return "over loopback the address must be a loopback one" // a name that another site has pointed here
	}
	return ""
}

// login reads the request's credentials. who is whom they name, "" where the
// request has none.
func (h *HTTP) login(r *http.Request) (has right, who string) {
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return mayNothing, ""
	}
	if scheme, token, ok := strings.Cut(authorization, " "); ok && strings.EqualFold(scheme, "Bearer") {
		if h.opts().Token != "" && sameSecret(strings.TrimSpace(token), h.opts().Token) {
			return mayChange, "token"
		}
		return mayNothing, "token"
	}
	user, password, ok := r.BasicAuth()
	if !ok || user == "" {
		return mayNothing, "?"
	}
	if user == tokenUser && h.opts().Token != "" && sameSecret(password, h.opts().Token) {
		return mayChange, tokenUser // for browsers, which have no other way to send it
	}
	has = mayNothing
	if slices.Contains(h.opts().StatsUsers, user) {
		has = mayLook
	}
	if slices.Contains(h.opts().AdminUsers, user) {
		has = mayChange
	}
	if has == mayNothing || h.opts().CheckPassword == nil {
		return mayNothing, user
	}
	select { // a SCRAM verifier is costly to check, and anybody may ask
	case h.checks <- struct{}{}:
		defer func() { <-h.checks }()
	case <-r.Context().Done():
		return mayNothing, user
	}
	if !h.opts().CheckPassword(user, password) {
		return mayNothing, user
	}
	return has, user
}

// tokenUser is the name under which a browser may log in with the token.
const tokenUser = "token"

func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// isLocal reports whether the request needs no login to look: it came over
// loopback, for a loopback name (a web page that another site made point here
// has its own), and not through another server in front of this one.
func (h *HTTP) isLocal(r *http.Request) bool {
	if h.opts().Token != "" || r.Header.Get("Forwarded") != "" || r.Header.Get("X-Forwarded-For") != "" {
		return false
	}
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !isLoopback(peer) {
		return false
	}
	return isLocalName(r.Host)
}

// isLocalName reports whether a Host header names loopback.
func isLocalName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return host == "localhost" || isLoopback(host)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
