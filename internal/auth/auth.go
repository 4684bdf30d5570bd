package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/store"
)

// Role is one of Airflow's four roles; each includes those before it.
type Role string

// The roles, from least to most.
const (
	Viewer Role = "Viewer"
	User   Role = "User"
	Op     Role = "Op"
	Admin  Role = "Admin"
)

// Roles lists the roles, from least to most.
func Roles() []Role { return []Role{Viewer, User, Op, Admin} }

// rank is the place of a role; -1 for no role.
func (r Role) rank() int { return slices.Index(Roles(), r) }

// Includes reports whether r is other or more.
func (r Role) Includes(other Role) bool { return other.rank() >= 0 && r.rank() >= other.rank() }

// ParseRole reads a role in any case, as Airflow's two auth managers write them.
func ParseRole(s string) (Role, error) {
	for _, r := range Roles() {
		if strings.EqualFold(string(r), s) {
			return r, nil
		}
	}
	return "", fmt.Errorf("role %q: expected Viewer, User, Op or Admin", s)
}

// Kind says what an identity was shown by.
type Kind string

// The kinds of identity.
const (
	KindUser Kind = "user" // a session or a token of POST /auth/token
	KindCLI  Kind = "cli"  // a token of POST /auth/token/cli
	KindAPI  Kind = "token"
)

// Identity is who asks. Its zero value may nothing.
type Identity struct {
	Name string // the user's name; for an API token its owner's
	Role Role
	Kind Kind
	// Source is the address the request came from, as the limits count it.
	Source string
	// TokenName names the API token, "" for other kinds.
	TokenName string

	scopes []scope
	// ceiling is an API token's own right, within which its owner's counts.
	ceiling *ceiling

	cookie  bool
	jti     string
	expires time.Time
}

type ceiling struct {
	role   Role
	scopes []scope
}

type contextKey struct{}

// With returns a context in which id asks.
func With(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// From returns who asks; false where nobody has been authenticated.
func From(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(contextKey{}).(Identity)
	return id, ok
}

// Options configure a Service. Store is required.
type Options struct {
	Store *store.Store
	// BaseURL is where users reach the server ([api] base_url), "" where it is not
	// known: its path prefixes cookies and redirects, https makes cookies Secure.
	BaseURL string
	// Issuer and Audience are the claims iss and aud of tokens ([api_auth]
	// jwt_issuer, jwt_audience); defaults "gust" and "apache-airflow".
	Issuer, Audience string
	// TokenLife and CLITokenLife are how long tokens live ([api_auth]
	// jwt_expiration_time, jwt_cli_expiration_time); defaults 24 h and 1 h.
	TokenLife, CLITokenLife time.Duration
	// Leeway is the difference between clocks that is tolerated; default 10 s.
	Leeway time.Duration
	// HTTPS says that every request comes over TLS, as it does to a function URL,
	// though the handler cannot see it.
	HTTPS bool
	// FirstAdminPassword is asked for when FirstAdmin signs in and there are no users
	// yet, in a deployment. nil: the first admin is made otherwise.
	FirstAdminPassword func(ctx context.Context) (string, error)
	// TrustedProxies are the addresses whose X-Forwarded-For and X-Forwarded-Proto
	// are believed.
	TrustedProxies []netip.Prefix
	// InstanceName heads the login page; default Gust.
	InstanceName string
	// OIDC adds sign-in by an identity provider; nil: local users only.
	OIDC *OIDCOptions
	// Now is the clock; default time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Service authenticates requests and manages who may sign in.
type Service struct {
	o     Options
	store *store.Store
	base  string // path prefix, "" or "/x"
	log   *slog.Logger

	keyMu    sync.Mutex
	keys     []store.SigningKey
	keysRead time.Time

	hashing chan struct{} // bounds the memory of password hashes
	oidc    *oidcProvider
}

// New returns a Service. It reads and writes nothing yet.
func New(o Options) (*Service, error) {
	if o.Store == nil {
		return nil, errors.New("auth: a store is needed")
	}
	if o.Issuer == "" {
		o.Issuer = "gust"
	}
	if o.Audience == "" {
		o.Audience = "apache-airflow"
	}
	for _, d := range []struct {
		p   *time.Duration
		def time.Duration
	}{{&o.TokenLife, 24 * time.Hour}, {&o.CLITokenLife, time.Hour}, {&o.Leeway, 10 * time.Second}} {
		if *d.p == 0 {
			*d.p = d.def
		}
	}
	if o.InstanceName == "" {
		o.InstanceName = "Gust"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	base, err := basePath(o.BaseURL)
	if err != nil {
		return nil, err
	}
	s := &Service{o: o, store: o.Store, base: base, log: o.Log, hashing: make(chan struct{}, maxHashes)}
	if o.OIDC != nil {
		if s.oidc, err = newOIDC(*o.OIDC); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Service) now() time.Time { return s.o.Now().UTC() }

// BaseURL is where users reach the server, "" where it is not known.
func (s *Service) BaseURL() string { return s.o.BaseURL }

// Handler serves sign-in below <base path>/auth and everything else by rest, all of
// it with security headers. Rest authenticates by itself (Middleware) where it has
// to: pages and assets of a UI are open.
func (s *Service) Handler(rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	s.Routes(mux)
	mux.HandleFunc("/auth/", func(w http.ResponseWriter, _ *http.Request) { Refuse(w, http.StatusNotFound, "Not Found") })
	return s.SecurityHeaders(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := r.URL.Path
		if s.base != "" {
			at = strings.TrimPrefix(at, s.base) // a proxy in front may have taken it away
		}
		switch {
		case !strings.HasPrefix(at, "/auth/"):
			rest.ServeHTTP(w, r)
		case len(at) < len(r.URL.Path):
			http.StripPrefix(s.base, mux).ServeHTTP(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
}

// Routes adds the handlers below /auth to a mux that serves the base path's root.
//
//	POST   /auth/token       {"username","password"} -> 201 {"access_token"}
//	POST   /auth/token/cli   the same, shorter-lived
//	GET    /auth/login       the login page; POST takes its form
//	GET    /auth/logout      ends the session; POST too
//	GET    /auth/oidc/…      sign-in by the identity provider
//	GET    /auth/me          who one is
//	POST   /auth/password    {"current_password","new_password"} -> 204
//	GET    /auth/tokens      one's API tokens; POST {"name","role","scopes","days"} makes
//	                         one -> 201 with "token"; DELETE /auth/tokens/{id}
func (s *Service) Routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /auth/token", s.createToken(KindUser))
	mux.HandleFunc("POST /auth/token/cli", s.createToken(KindCLI))
	mux.HandleFunc("GET /auth/login", s.loginPage)
	mux.HandleFunc("POST /auth/login", s.login)
	mux.HandleFunc("GET /auth/logout", s.logoutPage)
	mux.HandleFunc("POST /auth/logout", s.logout)
	mux.HandleFunc("GET /auth/static/{name}", serveStatic)
	s.accountRoutes(mux)
	if s.oidc != nil {
		mux.HandleFunc("GET /auth/oidc/login", s.oidcLogin)
		mux.HandleFunc("GET /auth/oidc/callback", s.oidcCallback)
	}
}
