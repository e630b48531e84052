package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// HTTP is the admin port.
type HTTP struct {
	console *Console // makes the tables, and has the options
	server  *http.Server
	checks  chan struct{} // holds a token while a password is checked: one at a time
}

// NewHTTP makes the admin port's server. It shows the console's tables on its
// page, so both are of one set of options.
func NewHTTP(opts Options, console *Console) *HTTP {
	h := &HTTP{console: console, checks: make(chan struct{}, 1)}
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		newCollector(console.opts),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	likePgBouncer := prometheus.NewRegistry()
	likePgBouncer.MustRegister(&compat{console})
	scrapes := promhttp.HandlerOpts{
		ErrorLog:            zap.NewStdLog(opts.Log),
		MaxRequestsInFlight: 3,
		Timeout:             10 * time.Second,
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.Handle("GET /metrics", h.look(promhttp.HandlerFor(reg, scrapes)))
	mux.Handle("GET /metrics/pgbouncer", h.look(promhttp.HandlerFor(likePgBouncer, scrapes)))
	mux.Handle("GET /{$}", h.look(http.HandlerFunc(h.page)))
	mux.Handle("GET /login", h.change(http.RedirectHandler("/", http.StatusSeeOther)))
	h.handleAPI(mux)
	if opts.Pprof {
		mux.Handle("GET /debug/pprof/", h.look(http.HandlerFunc(pprof.Index)))
		mux.Handle("GET /debug/pprof/profile", h.look(http.HandlerFunc(pprof.Profile)))
		mux.Handle("GET /debug/pprof/trace", h.look(http.HandlerFunc(pprof.Trace)))
		mux.Handle("GET /debug/pprof/symbol", h.look(http.HandlerFunc(pprof.Symbol)))
		mux.Handle("GET /debug/pprof/cmdline", h.look(http.HandlerFunc(pprof.Cmdline)))
	}

	h.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      90 * time.Second, // a profile takes 30 seconds
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(opts.Log),
	}
	return h
}

func (h *HTTP) opts() *Options { return h.console.opts() }

// Serve answers on l until Shutdown; then it returns nil.
func (h *HTTP) Serve(l net.Listener) error {
	if h.opts().TLS != nil {
		l = tls.NewListener(l, h.opts().TLS)
	}
	if err := h.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown lets requests that are under way end until ctx is done, then
// closes what is left.
func (h *HTTP) Shutdown(ctx context.Context) error {
	if err := h.server.Shutdown(ctx); err != nil {
		return errors.Join(err, h.server.Close())
	}
	return nil
}

// Headers of the answer to /healthz, which pgpoold upgrade reads.
const (
	HeaderPID            = "Pgpoold-Pid"
	HeaderUpgradesFailed = "Pgpoold-Upgrades-Failed"
	HeaderUpgradeError   = "Pgpoold-Upgrade-Error" // for those who may look
)

// healthz says that the process lives, and which it is.
func (h *HTTP) healthz(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(HeaderPID, strconv.Itoa(os.Getpid()))
	if p := h.opts().Process; p != nil {
		failed, last := p.Upgrades()
		w.Header().Set(HeaderUpgradesFailed, strconv.Itoa(failed))
		if last != nil && h.mayLook(r) {
			w.Header().Set(HeaderUpgradeError, strings.Join(strings.Fields(last.Error()), " "))
		}
	}
	plain(w, http.StatusOK, "ok")
}

// readyz says whether clients are served; the reason is only for those who
// may look.
func (h *HTTP) readyz(w http.ResponseWriter, r *http.Request) {
	if ok, why := h.opts().Source.Ready(); !ok {
		line := "not ready"
		if h.mayLook(r) {
			line += ": " + why
		}
		plain(w, http.StatusServiceUnavailable, line)
		return
	}
	plain(w, http.StatusOK, "ready")
}

func plain(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, line)
}
