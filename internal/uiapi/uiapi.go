// Package uiapi answers what the web UI asks and Airflow's REST API v2 has no
// single call for: the DAG list with recent runs, the structure and states of the
// grid, the instances of a run in compact form, and the home page. As Airflow's
// /ui, these endpoints belong to the UI: they change with it and promise nothing
// to others.
//
// All are GET and read only. Answers carry an ETag, so that a poll of something
// that has not changed transfers nothing; grid states go further, see states.go.
package uiapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

// Prefix is where the endpoints live.
const Prefix = "/ui/"

// MaxDags bounds the DAGs that a list looks at, as of every list that no index answers.
const MaxDags = 5000

// Options say what to read and who may. All but Health are required.
type Options struct {
	Store  *store.Store
	Engine *engine.Engine
	Now    func() time.Time
	// MayRead reports whether who made the request may read a resource ("dag",
	// "dag_run", "task_instance", "import_error", "pool") of a DAG; m is nil where
	// the resource belongs to none.
	MayRead func(r *http.Request, resource string, m *airflow.DagModel) bool
	// Abilities lists what the caller may do, for the UI to offer no more than that.
	// nil = unknown, the UI offers everything and shows what is refused.
	Abilities func(r *http.Request) any
	// Serves lists the subjects that the REST API serves, for the UI to show no page
	// that cannot work. nil = unknown.
	Serves func() []string
	// Warn is told of failures that the caller does not see in full.
	Warn func(msg string, args ...any)
}

type api struct {
	Options
	columns columns
}

// Handler returns the handler of everything below Prefix.
func Handler(o Options) http.Handler {
	a := &api{Options: o}
	mux := http.NewServeMux()
	mux.Handle("GET /ui/session", a.json(a.session))
	mux.Handle("GET /ui/dags", a.json(a.dags))
	mux.Handle("GET /ui/dags/{dag_id}/structure", a.json(a.structure))
	mux.Handle("GET /ui/dags/{dag_id}/states", a.json(a.states))
	mux.Handle("GET /ui/dags/{dag_id}/runs/{run_id}/instances", a.json(a.instances))
	mux.Handle("GET /ui/dags/{dag_id}/days", a.json(a.days))
	mux.Handle("GET /ui/home", a.json(a.home))
	mux.HandleFunc("/ui/", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusNotFound, map[string]string{"detail": "Not Found"})
	})
	return mux
}

// problem is an answer other than 200.
type problem struct {
	status int
	detail string
}

func (p problem) Error() string { return p.detail }

var errForbidden = problem{http.StatusForbidden, "Forbidden"}

func invalid(detail string) error { return problem{http.StatusUnprocessableEntity, detail} }

// json answers with what f returns, or 304 if the client has just that.
func (a *api) json(f func(r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		b, err := json.Marshal(v)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		sum := sha256.Sum256(b)
		tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		h := w.Header()
		h.Set("ETag", tag)
		h.Set("Cache-Control", "private, no-cache")
		h.Set("Vary", "Cookie, Authorization")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
	})
}

func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p problem
	switch {
	case errors.As(err, &p):
		reply(w, p.status, map[string]string{"detail": p.detail})
	case errors.Is(err, airflow.ErrNotFound):
		reply(w, http.StatusNotFound, map[string]string{"detail": err.Error()})
	case errors.Is(err, airflow.ErrThrottled), errors.Is(err, airflow.ErrUnavailable):
		w.Header().Set("Retry-After", "1")
		reply(w, http.StatusServiceUnavailable, map[string]string{"detail": "the store does not answer in time; try again"})
	case errors.Is(err, context.Canceled):
	default:
		if a.Warn != nil {
			a.Warn("a request of the UI failed", "path", r.URL.Path, "err", err)
		}
		reply(w, http.StatusInternalServerError, map[string]string{"detail": "Internal Server Error: the server's log says more"})
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	b, _ := json.Marshal(v)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// dag returns the DAG of a path if the caller may read that resource of it. One
// that may not be seen is one that does not exist.
func (a *api) dag(r *http.Request, resource string) (airflow.DagModel, error) {
	id := airflow.DagID(r.PathValue("dag_id"))
	m, err := a.Store.GetDag(r.Context(), id)
	notFound := problem{http.StatusNotFound, "The Dag with ID: `" + string(id) + "` was not found"}
	if errors.Is(err, airflow.ErrNotFound) {
		return m, notFound
	}
	if err != nil {
		return m, err
	}
	if !a.MayRead(r, "dag", &m) {
		return m, notFound
	}
	if !a.MayRead(r, resource, &m) {
		return m, errForbidden
	}
	return m, nil
}

// session answers what frames every page: who is signed in, what there is, and
// whether something is wrong that everybody should see.
func (a *api) session(r *http.Request) (any, error) {
	out := map[string]any{}
	if a.Abilities != nil {
		out["user"] = a.Abilities(r)
	}
	if a.Serves != nil {
		out["serves"] = a.Serves()
	}
	if a.MayRead(r, "import_error", nil) {
		errs, err := a.Store.ListImportErrors(r.Context())
		if err != nil {
			return nil, err
		}
		out["import_errors"] = len(errs)
	}
	return out, nil
}

// number reads a query parameter between 0 and limit.
func number(r *http.Request, name string, def, limit int) (int, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, invalid(name + ": expected a number from 0 to " + strconv.Itoa(limit))
	}
	return min(n, limit), nil
}

func moment(r *http.Request, name string) (*time.Time, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, invalid(name + ": expected a time such as 2026-01-31T08:00:00Z")
	}
	return &t, nil
}

// contains reports whether a text holds another, in any case.
func contains(s, part string) bool { return strings.Contains(strings.ToLower(s), part) }
