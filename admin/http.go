package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// HTTP is the admin port.
type HTTP struct {
	opts    Options
	console *Console // makes the page's tables
	server  *http.Server
	checks  chan struct{} // holds a token while a password is checked: one at a time
}

// NewHTTP makes the admin port's server. It shows the console's tables on its
// page, so both are of one set of options.
func NewHTTP(opts Options, console *Console) *HTTP {
	h := &HTTP{opts: opts, console: console, checks: make(chan struct{}, 1)}
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		newCollector(opts.Source, opts.Version),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog:            zap.NewStdLog(opts.Log),
		MaxRequestsInFlight: 3,
		Timeout:             10 * time.Second,
	})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.Handle("GET /metrics", h.look(metrics))
	mux.Handle("GET /{$}", h.look(http.HandlerFunc(h.page)))
	mux.Handle("GET /api/v1/snapshot", h.look(http.HandlerFunc(h.snapshot)))
	mux.Handle("GET /api/v1/log_level", h.look(http.HandlerFunc(h.logLevel)))
	mux.Handle("POST /api/v1/log_level", h.change(http.HandlerFunc(h.setLogLevel)))

	h.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(opts.Log),
	}
	return h
}

// Serve answers on l until Shutdown; then it returns nil.
func (h *HTTP) Serve(l net.Listener) error {
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

// healthz says that the process lives; nothing else.
func (h *HTTP) healthz(w http.ResponseWriter, _ *http.Request) {
	plain(w, http.StatusOK, "ok")
}

func (h *HTTP) readyz(w http.ResponseWriter, _ *http.Request) {
	if ok, why := h.opts.Source.Ready(); !ok {
		plain(w, http.StatusServiceUnavailable, "not ready: "+why)
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
