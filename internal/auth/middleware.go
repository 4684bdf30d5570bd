package auth

import (
	"encoding/json"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
)

// CookieName is the session's, as in Airflow.
const CookieName = "_token"

// Middleware authenticates requests: by Authorization: Bearer (a JSON Web Token or
// an API token), else by the session cookie, which for unsafe methods has to come
// from our own pages. The identity is in the request's context (From).
//
// Without a credential the answer is 401 {"detail": "Not authenticated"}, with one
// that is not valid 403 {"detail": "Invalid JWT token"}, as in Airflow; a cookie
// that is not valid counts as none. Requests for which open is true pass without an
// identity where they carry no valid one; nil: none do.
func (s *Service) Middleware(next http.Handler, open func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isOpen := open != nil && open(r)
		id, err := s.Authenticate(r)
		switch {
		case err == nil:
			next.ServeHTTP(w, r.WithContext(With(r.Context(), id)))
		case isOpen:
			next.ServeHTTP(w, r)
		case errors.Is(err, errNobody):
			w.Header().Set("WWW-Authenticate", "Bearer")
			Refuse(w, http.StatusUnauthorized, "Not authenticated")
		case errors.Is(err, errToken):
			s.log.Info("a request was refused", "source", s.Source(r), "path", r.URL.Path, "err", err)
			Refuse(w, http.StatusForbidden, "Invalid JWT token")
		case errors.Is(err, errCrossSite):
			s.log.Warn("a request of another site was refused", "source", s.Source(r), "path", r.URL.Path, "err", err)
			Refuse(w, http.StatusForbidden, err.Error())
		default:
			s.trouble(w, err)
		}
	})
}

// trouble answers what the store could not tell.
func (s *Service) trouble(w http.ResponseWriter, err error) {
	s.log.Error("sign-in: the store does not answer", "err", err)
	status := http.StatusServiceUnavailable
	if errors.Is(err, airflow.ErrThrottled) {
		status = http.StatusTooManyRequests
	}
	w.Header().Set("Retry-After", "1")
	Refuse(w, status, "The store does not answer; try again")
}

var (
	errNobody    = errors.New("no credential")
	errCrossSite = errors.New("CSRF check failed: a session may change something only from this server's own pages; scripts use a token")
)

// Authenticate returns who a request comes from.
func (s *Service) Authenticate(r *http.Request) (Identity, error) {
	id, err := s.authenticate(r)
	id.Source = s.Source(r)
	return id, err
}

func (s *Service) authenticate(r *http.Request) (Identity, error) {
	if given := r.Header.Get("Authorization"); given != "" {
		scheme, token, _ := strings.Cut(given, " ")
		token = strings.TrimSpace(token)
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			return Identity{}, errNobody
		}
		if strings.HasPrefix(token, apiTokenPrefix) {
			return s.identifyAPIToken(r.Context(), token)
		}
		return s.identify(r.Context(), token)
	}
	for _, c := range r.CookiesNamed(CookieName) {
		id, err := s.identify(r.Context(), c.Value)
		if errors.Is(err, errToken) {
			continue // an old session, or one of another path
		}
		if err != nil {
			return Identity{}, err
		}
		if err := s.ownPage(r, true); err != nil {
			return Identity{}, err
		}
		id.cookie = true
		return id, nil
	}
	return Identity{}, errNobody
}

// safe methods change nothing.
func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// ownPage refuses unsafe requests that a page of another origin made the browser
// send. Browsers say where a request comes from, and a page cannot change it:
// Sec-Fetch-Site, or Origin in older ones. A request with neither is no browser's
// and has no business with a cookie. With noForms, bodies that a form of another
// site can send without asking first are refused besides.
func (s *Service) ownPage(r *http.Request, noForms bool) error {
	if safe(r.Method) {
		return nil
	}
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	switch {
	case site != "" && site != "same-origin":
		return errCrossSite
	case origin != "" && !s.ownOrigin(r, origin):
		return errCrossSite
	case site == "" && origin == "":
		return errCrossSite
	}
	if ct := r.Header.Get("Content-Type"); noForms && ct != "" {
		switch kind, _, _ := mime.ParseMediaType(ct); kind {
		case "application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "":
			return errCrossSite
		}
	}
	return nil
}

// ownOrigin reports whether an Origin header names this server.
func (s *Service) ownOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // "null" too
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	b, err := url.Parse(s.o.BaseURL)
	return err == nil && b.Host != "" && strings.EqualFold(u.Host, b.Host) && strings.EqualFold(u.Scheme, b.Scheme)
}

// Source returns the address a request comes from: that of the connection, or what
// the last trusted proxy says. An IPv6 address stands for its /64, which one
// subscriber has.
func (s *Service) Source(r *http.Request) string {
	addr, err := remoteAddr(r)
	if err != nil {
		return r.RemoteAddr
	}
	if s.trusted(addr) {
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i := len(hops) - 1; i >= 0; i-- {
			a, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
			if err != nil {
				break
			}
			if addr = a; !s.trusted(a) {
				break
			}
		}
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() && !addr.IsLoopback() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Masked().String()
		}
	}
	return addr.String()
}

// remoteAddr is the address of the connection; in a function it has no port.
func remoteAddr(r *http.Request) (netip.Addr, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return netip.ParseAddr(host)
}

func (s *Service) trusted(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range s.o.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// https reports whether the user's browser speaks TLS to us or to our proxy.
func (s *Service) https(r *http.Request) bool {
	if s.o.HTTPS || r.TLS != nil || strings.HasPrefix(strings.ToLower(s.o.BaseURL), "https://") {
		return true
	}
	addr, err := remoteAddr(r)
	return err == nil && s.trusted(addr) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// contentSecurityPolicy lets a page load from this server only, run no inline
// script, be framed by nobody and send forms nowhere else.
const contentSecurityPolicy = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"

// SecurityHeaders sets what browsers are told with every answer.
func (s *Service) SecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		if s.https(r) {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// LimitBody refuses request bodies of more than n bytes with 413; handlers that read
// one of unknown length get *http.MaxBytesError.
func LimitBody(next http.Handler, n int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > n {
			w.Header().Set("Connection", "close")
			Refuse(w, http.StatusRequestEntityTooLarge, "The request body is larger than "+strconv.FormatInt(n, 10)+" bytes")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, n)
		next.ServeHTTP(w, r)
	})
}

// Refuse answers with Airflow's error body {"detail": text}.
func Refuse(w http.ResponseWriter, status int, detail string) {
	writeJSON(w, status, map[string]string{"detail": detail})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client has gone
}
