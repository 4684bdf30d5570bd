package auth

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/store"
)

// maxCredentials is more than any body of a sign-in needs.
const maxCredentials = 16 << 10

//go:embed pages
var pages embed.FS

var pageTemplate = template.Must(template.ParseFS(pages, "pages/*.html"))

// basePath returns the path of a base URL without the slash at its end.
func basePath(base string) (string, error) {
	if base == "" {
		return "", nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("[api] base_url %q: expected a URL such as https://gust.example.com/path", base)
	}
	return strings.TrimRight(path.Clean("/"+u.Path), "/"), nil
}

// createToken answers POST /auth/token and /auth/token/cli.
func (s *Service) createToken(kind Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		username, password, err := readCredentials(w, r)
		if err != nil {
			Refuse(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		u, token, _, err := s.enter(r, username, password, kind)
		if err != nil {
			s.refuseSignIn(w, err)
			return
		}
		s.Audit(r.Context(), "sign_in", u.Username, s.Source(r), map[string]string{"how": "token", "kind": string(kind)})
		writeJSON(w, http.StatusCreated, map[string]string{"access_token": token})
	}
}

// readCredentials reads a closed JSON object with two texts. As in Airflow, what is
// wrong with it is one text.
func readCredentials(w http.ResponseWriter, r *http.Request) (username, password string, err error) {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if kind, _, _ := mime.ParseMediaType(ct); kind != "application/json" && !strings.HasSuffix(kind, "+json") {
			return "", "", fmt.Errorf("Content-Type %s: expected application/json", ct)
		}
	}
	var body struct {
		Username *string `json:"username"`
		Password *string `json:"password"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCredentials))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		return "", "", fmt.Errorf(`body: expected {"username": "…", "password": "…"}: %w`, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", "", errors.New("body: expected one JSON object and nothing behind it")
	}
	if body.Username == nil || body.Password == nil || *body.Username == "" || *body.Password == "" {
		return "", "", errors.New("username and password: both are required")
	}
	return *body.Username, *body.Password, nil
}

// enter checks a password and issues a token.
func (s *Service) enter(r *http.Request, username, password string, kind Kind) (u store.User, token string, expires time.Time, err error) {
	if u, err = s.SignIn(r.Context(), username, password, s.Source(r)); err != nil {
		return u, "", expires, err
	}
	token, expires, err = s.issue(r.Context(), u, kind)
	return u, token, expires, err
}

func (s *Service) refuseSignIn(w http.ResponseWriter, err error) {
	var limit *LimitError
	switch {
	case errors.Is(err, ErrCredentials):
		Refuse(w, http.StatusUnauthorized, ErrCredentials.Error())
	case errors.As(err, &limit):
		w.Header().Set("Retry-After", strconv.Itoa(int(limit.RetryAfter/time.Second)+1))
		Refuse(w, http.StatusTooManyRequests, limit.Error())
	default:
		s.trouble(w, err)
	}
}

type loginView struct {
	Instance, Base, Next, Username, Error string
	OIDC                                  string // the provider's name, "" for none
}

// Target returns where a sign-in leads: the path in next if it is one of this
// server, its home otherwise. Nothing in it can name another host.
func (s *Service) Target(r *http.Request, next string) string {
	home := s.base + "/"
	if next == "" || len(next) > 2048 || strings.ContainsFunc(next, func(c rune) bool { return c < 0x20 || c == 0x7f || c == '\\' }) {
		return home
	}
	u, err := url.Parse(next)
	if err != nil || u.Opaque != "" || u.User != nil {
		return home
	}
	if u.Host != "" || u.Scheme != "" {
		// Airflow's pages pass a whole URL.
		if u.Scheme != "http" && u.Scheme != "https" || !s.ownOrigin(r, u.Scheme+"://"+u.Host) {
			return home
		}
		u.Scheme, u.Host = "", ""
	}
	out := u.String()
	if !strings.HasPrefix(out, "/") || strings.HasPrefix(out, "//") || strings.HasPrefix(u.Path, "//") || strings.HasPrefix(u.Path, s.base+"/auth/") {
		return home
	}
	if s.base != "" && u.Path != s.base && !strings.HasPrefix(u.Path, s.base+"/") {
		return home
	}
	return out
}

func (s *Service) page(w http.ResponseWriter, status int, name string, v any) {
	var b strings.Builder
	if err := pageTemplate.ExecuteTemplate(&b, name, v); err != nil {
		s.log.Error("page not rendered", "page", name, "err", err)
		http.Error(w, "This page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, b.String()) // the client has gone
}

func (s *Service) view(next string) loginView {
	v := loginView{Instance: s.o.InstanceName, Base: s.base}
	if next != s.base+"/" {
		v.Next = next
	}
	if s.oidc != nil {
		v.OIDC = s.oidc.o.Name
	}
	return v
}

func (s *Service) loginPage(w http.ResponseWriter, r *http.Request) {
	next := s.Target(r, r.URL.Query().Get("next"))
	if _, err := s.session(r); err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	s.page(w, http.StatusOK, "login.html", s.view(next))
}

func (s *Service) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxCredentials)
	if err := s.ownPage(r, false); err != nil {
		Refuse(w, http.StatusForbidden, err.Error())
		return
	}
	if err := r.ParseForm(); err != nil {
		Refuse(w, http.StatusUnprocessableEntity, "body: expected a form with username and password")
		return
	}
	next := s.Target(r, r.PostForm.Get("next"))
	username := r.PostForm.Get("username")
	u, token, expires, err := s.enter(r, username, r.PostForm.Get("password"), KindUser)
	if err != nil {
		v, status := s.view(next), http.StatusUnauthorized
		v.Username = username
		var limit *LimitError
		switch {
		case errors.Is(err, ErrCredentials):
			v.Error = "The user name or the password is wrong."
		case errors.As(err, &limit):
			v.Error, status = limit.Error()+".", http.StatusTooManyRequests
			w.Header().Set("Retry-After", strconv.Itoa(int(limit.RetryAfter/time.Second)+1))
		default:
			s.log.Error("sign-in: the store does not answer", "err", err)
			v.Error, status = "The store does not answer. Try again.", http.StatusServiceUnavailable
		}
		s.page(w, status, "login.html", v)
		return
	}
	s.Audit(r.Context(), "sign_in", u.Username, s.Source(r), map[string]string{"how": "password"})
	s.setSession(w, r, token, expires)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// setSession sets the session's cookie; an empty token removes it.
func (s *Service) setSession(w http.ResponseWriter, r *http.Request, token string, expires time.Time) {
	c := &http.Cookie{Name: CookieName, Value: token, Path: s.base + "/", HttpOnly: true, Secure: s.https(r), SameSite: http.SameSiteLaxMode}
	if c.MaxAge = int(expires.Sub(s.now()) / time.Second); token == "" || c.MaxAge <= 0 {
		c.Value, c.MaxAge = "", -1
	}
	http.SetCookie(w, c)
}

// session returns who the request's cookie stands for, whatever page sent it.
func (s *Service) session(r *http.Request) (Identity, error) {
	for _, c := range r.CookiesNamed(CookieName) {
		if id, err := s.identify(r.Context(), c.Value); err == nil || !errors.Is(err, errToken) {
			return id, err
		}
	}
	return Identity{}, errNobody
}

// logoutPage ends the session, as Airflow's GET /auth/logout does, unless another
// site sent the browser here: then the user is asked.
func (s *Service) logoutPage(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); r.Method != http.MethodGet || site != "" && site != "same-origin" && site != "none" {
		s.page(w, http.StatusOK, "logout.html", s.view(""))
		return
	}
	s.endSession(w, r)
}

// logout takes the token of the request back, whether in a cookie or a header.
func (s *Service) logout(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		if err := s.ownPage(r, false); err != nil {
			Refuse(w, http.StatusForbidden, err.Error())
			return
		}
		s.endSession(w, r)
		return
	}
	id, err := s.Authenticate(r)
	if err == nil && id.Kind == KindAPI {
		Refuse(w, http.StatusBadRequest, "An API token has no session; revoke it with `gust tokens revoke`")
		return
	}
	if err == nil {
		err = s.revoke(r.Context(), id)
	}
	switch {
	case errors.Is(err, errToken):
		Refuse(w, http.StatusForbidden, "Invalid JWT token")
	case errors.Is(err, errNobody):
		Refuse(w, http.StatusUnauthorized, "Not authenticated")
	case err != nil:
		s.trouble(w, err)
	default:
		s.Audit(r.Context(), "sign_out", id.Name, id.Source, nil)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Service) endSession(w http.ResponseWriter, r *http.Request) {
	id, err := s.session(r)
	if err == nil {
		err = s.revoke(r.Context(), id)
	}
	if err != nil && !errors.Is(err, errNobody) {
		s.trouble(w, err) // still signed in: saying otherwise would be a lie
		return
	}
	if err == nil {
		s.Audit(r.Context(), "sign_out", id.Name, s.Source(r), nil)
	}
	s.setSession(w, r, "", time.Time{})
	http.Redirect(w, r, s.base+"/auth/login", http.StatusSeeOther)
}

// serveStatic serves what the pages need.
func serveStatic(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	b, err := pages.ReadFile("pages/" + name)
	if err != nil || path.Ext(name) != ".css" {
		Refuse(w, http.StatusNotFound, "Not Found")
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = w.Write(b)
}
