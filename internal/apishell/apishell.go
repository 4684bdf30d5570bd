// Package apishell answers what every installation of Gust answers before the REST
// API is there: which version it is, and whether its parts are well. The local
// server and the function apiserver use the same handler.
package apishell

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/gustflow/gust/internal/version"
)

// The statuses of a part.
const (
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
)

// Part says how a part of the installation is. The zero value is a part that is not
// there, or of which nothing is known.
type Part struct {
	Status    string
	Heartbeat time.Time // zero = unknown
}

// Parts are those that Airflow's health check names.
type Parts struct{ Scheduler, Triggerer, DagProcessor Part }

// Options say whom to ask. Both are required.
type Options struct {
	// Store reports whether the store answers.
	Store func(ctx context.Context) error
	Parts func(ctx context.Context) Parts
}

// Handler returns the handler.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v2/version", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]any{"version": version.AirflowVersion, "git_version": nil, "gust_version": version.String()})
	})
	mux.HandleFunc("GET /api/v2/monitor/health", func(w http.ResponseWriter, r *http.Request) {
		db := Healthy
		if err := o.Store(r.Context()); err != nil {
			db = Unhealthy
		}
		ps := o.Parts(r.Context())
		write(w, http.StatusOK, map[string]any{
			"metadatabase": map[string]any{"status": db},
			"scheduler":    part("scheduler", ps.Scheduler), "triggerer": part("triggerer", ps.Triggerer), "dag_processor": part("dag_processor", ps.DagProcessor),
		})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusNotFound, map[string]string{"detail": "Not Found: this server answers /api/v2/version and /api/v2/monitor/health"})
	})
	return mux
}

func part(name string, p Part) map[string]any {
	out := map[string]any{"status": nil, "latest_" + name + "_heartbeat": nil}
	if p.Status != "" {
		out["status"] = p.Status
	}
	if !p.Heartbeat.IsZero() {
		out["latest_"+name+"_heartbeat"] = p.Heartbeat.UTC().Format(time.RFC3339Nano)
	}
	return out
}

func write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client has gone
}
