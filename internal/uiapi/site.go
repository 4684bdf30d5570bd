package uiapi

import (
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/web"
)

// Site puts together what a browser finds at one address: the REST API, the UI's
// own endpoints and its pages. Everything but pages and assets needs a sign-in.
type Site struct {
	Options
	// API serves /api/… and /openapi.json.
	API http.Handler
	// Auth authenticates requests of /ui (auth.Service.Middleware).
	Auth func(next http.Handler, open func(*http.Request) bool) http.Handler
	// BaseURL is where users reach the site ([api] base_url), "" = at the root.
	BaseURL string
}

// Handler returns the handler. The path of BaseURL may stand in front of a request's
// path or have been taken away by a proxy.
func (s Site) Handler() http.Handler {
	base := ""
	if u, err := url.Parse(s.BaseURL); err == nil {
		base = strings.TrimRight(u.Path, "/")
	}
	if s.MayRead == nil {
		s.MayRead = mayRead
	}
	if s.Abilities == nil {
		s.Abilities = abilities
	}
	if s.Serves == nil {
		s.Serves = sync.OnceValue(func() []string { return serves(s.API) })
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", s.API)
	mux.Handle("/openapi.json", s.API)
	mux.Handle(Prefix, s.Auth(Handler(s.Options), nil))
	mux.Handle("/", web.Handler(base))
	if base == "" {
		return mux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == base:
			http.Redirect(w, r, base+"/", http.StatusMovedPermanently)
		case strings.HasPrefix(r.URL.Path, base+"/"):
			http.StripPrefix(base, mux).ServeHTTP(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// mayRead asks the identity that the request was authenticated with.
func mayRead(r *http.Request, resource string, m *airflow.DagModel) bool {
	id, ok := auth.From(r.Context())
	if !ok {
		return false
	}
	if m == nil {
		return id.May(auth.Read, auth.Resource(resource), "", nil)
	}
	return id.May(auth.Read, auth.Resource(resource), string(m.DagID), m.Tags)
}

func abilities(r *http.Request) any {
	id, ok := auth.From(r.Context())
	if !ok {
		return nil
	}
	return map[string]any{"name": id.Name, "role": id.Role}
}

// subjects are the parts of the REST API that have pages of their own, by a path
// that tells whether the API has them.
var subjects = []struct{ name, path string }{
	{"variables", "/api/v2/variables"}, {"connections", "/api/v2/connections"}, {"pools", "/api/v2/pools"}, {"assets", "/api/v2/assets"},
	{"backfills", "/api/v2/backfills"}, {"required_actions", "/api/v2/dags/~/dagRuns/~/hitlDetails"}, {"import_errors", "/api/v2/importErrors"},
	{"events", "/api/v2/eventLogs"}, {"configs", "/api/v2/config"}, {"jobs", "/api/v2/jobs"}, {"providers", "/api/v2/providers"}, {"plugins", "/api/v2/plugins"},
	{"xcoms", "/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries"}, {"favorites", "/api/v2/dags/~/favorite"},
}

// serves asks an API, as nobody, which subjects it knows: an unknown route is 404
// for everybody, a known one needs a sign-in or another method.
func serves(api http.Handler) []string {
	out := []string{}
	for _, s := range subjects {
		r, err := http.NewRequest(http.MethodGet, s.path, nil)
		if err != nil {
			continue
		}
		w := &statusOnly{header: http.Header{}}
		api.ServeHTTP(w, r)
		if w.status != http.StatusNotFound {
			out = append(out, s.name)
		}
	}
	return out
}

// statusOnly is an answer of which only the status counts.
type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header         { return w.header }
func (w *statusOnly) Write(b []byte) (int, error) { w.WriteHeader(http.StatusOK); return len(b), nil }
func (w *statusOnly) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}
