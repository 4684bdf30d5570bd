package uiapi

import (
	"net/http"
	"net/url"
	"strings"

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
